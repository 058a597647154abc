//! Whether the journal is what was written: every record and loss against its entry of the chain, every entry against the one
//! before it, every segment against the one before it, and the end against the file that says where it is.

use std::path::Path;

use jiff::Timestamp;
use rusqlite::{Connection, Row as Found};
use serde::Serialize;

use super::JournalError;
use super::batch::{content, loss_content};
use super::chain::{self, Hash, READ_COLUMNS, START, WIDTH};
use super::head::Head;
use super::reader::{explain, open_if_there};
use super::row::timestamp;
use super::segment;

/// What is not as it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Break {
    /// A record or a loss is not what the chain says.
    Changed,
    /// The chain has an entry of a record or a loss that is not there.
    Removed,
    /// There is a record or a loss without an entry.
    Inserted,
    /// An entry does not follow from the one before it.
    Unlinked,
    /// A segment does not follow from the one before it.
    SegmentUnlinked,
    /// A segment is not there.
    SegmentMissing,
    /// A segment cannot be read.
    SegmentUnreadable,
    /// The newest entry that was written is not there.
    EndMissing,
}

/// A place where the journal is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breach {
    /// What is wrong.
    pub what: Break,
    /// File name of the segment.
    pub segment: String,
    /// Number of the change in the segment, from 1; `None` where it is about the segment.
    pub revision: Option<i64>,
    /// Id of the record; `None` where it is not about one.
    pub id: Option<String>,
    /// When the record was; of one that is gone, when its id was made.
    pub time: Option<Timestamp>,
    /// In words, where there is more to say.
    pub detail: Option<String>,
}

impl Breach {
    fn of_segment(what: Break, sequence: u64, detail: Option<String>) -> Self {
        Self { what, segment: segment::name_of(sequence), revision: None, id: None, time: None, detail }
    }
}

/// What was verified, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    /// Segments that are chained and were read to their end.
    pub segments: u64,
    /// Records in them.
    pub records: u64,
    /// Time of the oldest of these.
    pub from: Option<Timestamp>,
    /// Time of the newest of these.
    pub to: Option<Timestamp>,
    /// Segments from before records were chained, or of a newer Cordon: nobody can tell about these.
    pub not_chained: Vec<String>,
    /// Whether it is known where the journal ends; where not, the newest records may be gone.
    pub end_is_known: bool,
    /// The first that is wrong; `None` where all is as it was written.
    pub broken: Option<Breach>,
    /// How many are wrong.
    pub breaks: u64,
}

impl Verification {
    fn breach(&mut self, breach: Breach) {
        self.breaks += 1;
        // An entry that is not what it was says nothing about records any more.
        let is_first = self.broken.as_ref().is_none_or(|first| {
            breach.segment == first.segment
                && first.what != Break::Unlinked
                && breach.revision.is_some()
                && breach.revision < first.revision
        });
        if is_first {
            self.broken = Some(breach);
        }
    }

    fn spans(&mut self, time: Timestamp) {
        self.from = Some(self.from.map_or(time, |from| from.min(time)));
        self.to = Some(self.to.map_or(time, |to| to.max(time)));
    }
}

pub(super) fn verify(
    dir: &Path,
    list: impl Fn() -> Result<Vec<u64>, JournalError>,
) -> Result<Verification, JournalError> {
    // In this order: what the file says has been written when the segments are read.
    let head = Head::read(dir).ok().flatten();
    Ok(Walk::new(dir, head).run(&list()?))
}

/// What the next segment has to follow.
#[derive(Clone, Copy)]
enum Before {
    /// The oldest that there is follows what is gone.
    Nothing,
    /// Nobody can tell: it could not be read.
    Unknown,
    Hash(Hash),
}

struct Walk<'a> {
    dir: &'a Path,
    head: Option<Head>,
    before: Before,
    found: Verification,
}

impl<'a> Walk<'a> {
    fn new(dir: &'a Path, head: Option<Head>) -> Self {
        Self { dir, head, before: Before::Nothing, found: Verification::default() }
    }

    fn run(mut self, sequences: &[u64]) -> Verification {
        let oldest = self.head.map(|head| head.oldest).or(sequences.first().copied()).unwrap_or(1);
        let newest = self.head.map(|head| head.sequence).max(sequences.last().copied()).unwrap_or(0);
        self.found.end_is_known = self.head.is_some();
        // What is older than `oldest` and yet there was being given up. Gaps are told as such, for the head may be forged to be far off.
        let mut next = oldest;
        for &sequence in sequences {
            self.tell_missing(next..sequence);
            let before = self.found.clone();
            self.segment(sequence);
            // Of one that is being removed perhaps only a part was read.
            if self.is_given_up(sequence) {
                (self.found, self.before) = (before, Before::Unknown);
            }
            next = next.max(sequence.saturating_add(1));
        }
        self.tell_missing(next..newest.saturating_add(1));
        self.found
    }

    /// Whether the writer has given the segment up since the walk began: then it proves nothing how much of it is there.
    fn is_given_up(&self, sequence: u64) -> bool {
        Head::read(self.dir).ok().flatten().is_some_and(|now| sequence < now.oldest)
    }

    /// However many segments in a row are missing is one break.
    fn tell_missing(&mut self, missing: std::ops::Range<u64>) {
        if missing.is_empty() {
            return;
        }
        self.before = Before::Unknown;
        if self.is_given_up(missing.end - 1) {
            return;
        }
        let aside = segment::set_aside_path(self.dir, missing.start);
        let detail = match (missing.end - missing.start, aside.exists()) {
            (1, false) => None,
            (1, true) => Some(format!("it was damaged and is kept as {}", aside.display())),
            (count, _) => Some(format!("so are the {} after it", count - 1)),
        };
        self.found.breach(Breach::of_segment(Break::SegmentMissing, missing.start, detail));
    }

    fn segment(&mut self, sequence: u64) {
        let path = segment::path_of(self.dir, sequence);
        let read = match open_if_there(&path) {
            Ok(Some(connection)) => self.read(&connection, &path, sequence),
            // Gone since it was listed, or only just begun.
            Ok(None) if path.exists() => return,
            Ok(None) => return self.tell_missing(sequence..sequence + 1),
            Err(error) => Err(error),
        };
        if let Err(error) = read {
            self.before = Before::Unknown;
            self.found.breach(Breach::of_segment(Break::SegmentUnreadable, sequence, Some(error.to_string())));
        }
    }

    fn read(&mut self, connection: &Connection, path: &Path, sequence: u64) -> Result<(), JournalError> {
        let sqlite = |source| explain(path, source);
        // One transaction: a record that is folded into meanwhile is seen before or after that, with its entry.
        let transaction = connection.unchecked_transaction().map_err(sqlite)?;
        let schema: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
        if !(segment::CHAINED..=segment::SCHEMA).contains(&schema) {
            self.found.not_chained.push(segment::name_of(sequence));
            self.before = if schema < segment::CHAINED { Before::Hash(START) } else { Before::Unknown };
            return Ok(());
        }
        let mut reading =
            Reading { connection: &transaction, sequence, schema, superseded: Vec::new(), found: &mut self.found };
        let (first, last, has_end) = reading.entries(self.head).map_err(sqlite)?;
        reading.records().map_err(sqlite)?;
        reading.inserted().map_err(sqlite)?;
        match (self.before, first) {
            (Before::Hash(before), Some(first)) if before != first => {
                let detail = Some("it does not begin where the one before it ends".to_owned());
                self.found.breach(Breach::of_segment(Break::SegmentUnlinked, sequence, detail));
            }
            (_, None) => self.found.breach(Breach::of_segment(Break::SegmentUnlinked, sequence, None)),
            _ => {}
        }
        if !has_end {
            let mut breach = Breach::of_segment(Break::EndMissing, sequence, None);
            breach.revision = self.head.map(|head| head.revision);
            self.found.breach(breach);
        }
        self.before = last.map_or(Before::Unknown, Before::Hash);
        self.found.segments += 1;
        Ok(())
    }
}

/// One chained segment.
struct Reading<'a> {
    connection: &'a Connection,
    sequence: u64,
    schema: i64,
    /// By revision, whether a later entry is of the same record.
    superseded: Vec<bool>,
    found: &'a mut Verification,
}

impl Reading<'_> {
    /// Follows the entries. Hash of the first, hash of the last, and whether the one that `head` names is among them, if it
    /// should be.
    fn entries(&mut self, head: Option<Head>) -> rusqlite::Result<(Option<Hash>, Option<Hash>, bool)> {
        let mut statement =
            self.connection.prepare("SELECT revision, id, supersedes, content, hash FROM chain ORDER BY revision")?;
        let mut rows = statement.query([])?;
        let (mut first, mut before): (Option<Hash>, Option<(i64, Hash)>) = (None, None);
        let mut has_end = head.is_none_or(|head| head.sequence != self.sequence);
        while let Some(row) = rows.next()? {
            let revision: i64 = row.get(0)?;
            let hash = bytes(row, 4)?;
            match before {
                None if revision == 0 => first = Some(hash),
                _ => {
                    let id: Option<String> = row.get(1)?;
                    let supersedes: Option<i64> = row.get(2)?;
                    let expected = before.filter(|(last, _)| last + 1 == revision).map(|(_, before)| {
                        bytes(row, 3).map(|content| chain::link(&before, revision, id.as_deref(), supersedes, &content))
                    });
                    if expected.transpose()? != Some(hash) {
                        self.breach(Break::Unlinked, revision, id, None);
                    }
                    self.supersede(supersedes);
                }
            }
            has_end |= head.is_some_and(|head| head.revision == revision && head.hash == hash);
            before = Some((revision, hash));
        }
        Ok((first, before.map(|(_, hash)| hash), has_end))
    }

    fn supersede(&mut self, revision: Option<i64>) {
        let Some(index) = revision.and_then(|revision| usize::try_from(revision).ok()) else { return };
        // A revision that is not of this segment would be a break of the chain, not a reason for so much memory.
        if index >= self.superseded.len() && index < self.superseded.len() + (1 << 20) {
            self.superseded.resize(index + 1, false);
        }
        if let Some(superseded) = self.superseded.get_mut(index) {
            *superseded = true;
        }
    }

    /// Compares what each entry left with what is there.
    fn records(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(&format!(
            "SELECT {READ_COLUMNS}, record.row, chain.revision, chain.id, chain.content,
               loss.reason, loss.count, loss.from_time, loss.to_time
             FROM chain LEFT JOIN record ON record.revision = chain.revision LEFT JOIN loss ON loss.row = chain.revision
             WHERE chain.revision > 0 ORDER BY chain.revision"
        ))?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let revision: i64 = row.get(WIDTH + 1)?;
            let id: Option<String> = row.get(WIDTH + 2)?;
            let expected = bytes(row, WIDTH + 3)?;
            let number: Option<i64> = row.get(WIDTH)?;
            let is_superseded =
                usize::try_from(revision).is_ok_and(|index| self.superseded.get(index).is_some_and(|is| *is));
            let found = match (&id, number) {
                (Some(_), Some(_)) => {
                    self.found.records += 1;
                    self.found.spans(timestamp(row.get(2)?));
                    Some(content(self.connection, row, self.schema)?)
                }
                (None, _) if row.get::<_, Option<String>>(WIDTH + 4)?.is_some() => Some(loss_content(row, WIDTH + 4)?),
                _ => None,
            };
            match (found, is_superseded) {
                (None, true) => {}
                (Some(found), false) if found == expected => {}
                (None, false) => {
                    let time = id.as_deref().and_then(time_of_id);
                    self.breach(Break::Removed, revision, id, time);
                }
                // Of the same content as an entry that was superseded: an older state was put back.
                (Some(_), _) => {
                    let time = number.map(|_| row.get(2)).transpose()?.map(timestamp);
                    self.breach(Break::Changed, revision, id, time);
                }
            }
        }
        Ok(())
    }

    fn inserted(&mut self) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT revision, id, time FROM record
               WHERE NOT EXISTS (SELECT 1 FROM chain WHERE chain.revision = record.revision AND chain.id NOT NULL)
             UNION ALL SELECT row, NULL, from_time FROM loss
               WHERE NOT EXISTS (SELECT 1 FROM chain WHERE chain.revision = loss.row AND chain.id IS NULL)
             ORDER BY 1",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            self.breach(Break::Inserted, row.get(0)?, row.get(1)?, Some(timestamp(row.get(2)?)));
        }
        Ok(())
    }

    fn breach(&mut self, what: Break, revision: i64, id: Option<String>, time: Option<Timestamp>) {
        let segment = segment::name_of(self.sequence);
        self.found.breach(Breach { what, segment, revision: Some(revision), id, time, detail: None });
    }
}

/// A hash as it is in the file; one of another length equals none.
fn bytes(row: &Found<'_>, column: usize) -> rusqlite::Result<Hash> {
    let value = row.get_ref(column)?;
    Ok(value.as_blob().ok().and_then(|bytes| Hash::try_from(bytes).ok()).unwrap_or_default())
}

/// When a UUID of version 7 was made.
fn time_of_id(id: &str) -> Option<Timestamp> {
    let (seconds, nanoseconds) = uuid::Uuid::parse_str(id).ok()?.get_timestamp()?.to_unix();
    Timestamp::new(i64::try_from(seconds).ok()?, i32::try_from(nanoseconds).ok()?).ok()
}
