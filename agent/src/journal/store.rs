//! The journal as a whole: which segment is written, which are given up, what is done when a file is not what it should be.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use jiff::Timestamp;

use super::batch::Write;
use super::chain::START;
use super::head::Head;
use super::packed::Recent;
use super::row::{Row, nanoseconds, timestamp};
use super::segment::{self, Beginning, Segment};
use super::{Entry, JournalError, Limits, Loss, LossReason, WriteError};
use crate::attribute::Finding;
use crate::health::{Counter, Fault, Health};

/// The journal, open for writing. One process at a time writes a directory.
pub struct Journal {
    dir: PathBuf,
    limits: Limits,
    health: Health,
    /// `None` only while a new one could not be made.
    live: Option<Segment>,
    /// Bytes of each closed segment; of an unfinished one as many as it may take meanwhile.
    closed: BTreeMap<u64, u64>,
    /// Closed segments that lack their indexes, or are not a single file yet.
    unfinished: BTreeSet<u64>,
    /// Finishes them.
    finishing: Option<JoinHandle<()>>,
    /// Records as the next segment will have some.
    recent: Recent,
    /// What damaged segments took with them, which is not told in the journal yet.
    owed: Vec<Loss>,
    /// Where the chain ends.
    head: Head,
    /// Whether the file says so; told once, not with every batch.
    head_is_kept: bool,
    written: Counter,
    folded: Counter,
    deleted: Counter,
    /// Held for as long as the journal is open; the lock goes with the file.
    _lock: File,
}

impl Journal {
    /// Opens the journal in `dir` and makes the directory (mode 0750) if it is not there. A damaged segment is set aside
    /// with a fault; that is no error.
    ///
    /// # Errors
    /// Limits too small, another writer, or a directory that cannot be made or written.
    pub fn open(dir: &Path, limits: Limits, health: &Health) -> Result<Self, JournalError> {
        limits.check()?;
        DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(dir)
            .map_err(|source| JournalError::file(dir, "create the directory", source))?;
        let lock = lock(dir)?;
        let sequences = segment::list(dir).map_err(|source| JournalError::file(dir, "list the directory", source))?;
        let first = sequences.first().copied().unwrap_or(1);
        let head = Head::read(dir).unwrap_or_else(|error| {
            tracing::warn!(%error, path = %dir.display(), "it is not known where the journal ended");
            None
        });
        let mut journal = Self {
            dir: dir.to_owned(),
            limits,
            health: health.clone(),
            live: None,
            closed: BTreeMap::new(),
            unfinished: BTreeSet::new(),
            finishing: None,
            recent: Recent::new(),
            owed: Vec::new(),
            head: head.unwrap_or(Head { oldest: first, sequence: 0, revision: 0, hash: START }),
            head_is_kept: true,
            written: health.counter("journal.written"),
            folded: health.counter("journal.folded"),
            deleted: health.counter("journal.segments_deleted"),
            _lock: lock,
        };
        if let Some((newest, older)) = sequences.split_last() {
            for sequence in older {
                journal.adopt_closed(*sequence)?;
            }
            journal.resume(*newest)?;
        }
        journal.retain(Timestamp::now())?;
        if journal.live.is_none() {
            journal.begin()?;
        }
        journal.keep_head();
        journal.finish();
        if !journal.owed.is_empty() {
            // What cannot be told now is told with the next records.
            let _told = journal.write(&[]);
        }
        Ok(journal)
    }

    /// Its directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes new records. They are synced to disk when this returns. A record whose id is in the segment already is not
    /// written again, so a failed call may be repeated.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn append(&mut self, findings: &[Finding]) -> Result<(), WriteError> {
        let entries: Vec<_> = findings.iter().map(|finding| Entry::Hit(Arc::new(finding.clone()))).collect();
        self.write(&entries)
    }

    /// Adds `repeats` of `of`, the latest at `last_time`, to its record; where that is no longer in the segment being written,
    /// to a new record that continues it.
    ///
    /// # Errors
    /// As [`Journal::write`].
    pub fn fold(&mut self, of: &Arc<Finding>, repeats: u64, last_time: Timestamp) -> Result<(), WriteError> {
        self.write(&[Entry::Repeat { of: Arc::clone(of), repeats, last_time }])
    }

    /// Writes entries in their order, one transaction for as many as fit a quarter of a segment. When the disk is full the
    /// oldest segments are given up; when the segment turns out to be damaged it is set aside and the next one taken.
    ///
    /// # Errors
    /// The disk is full and no older segment is left, or writing fails otherwise; entries of transactions before are written.
    pub fn write(&mut self, entries: &[Entry]) -> Result<(), WriteError> {
        let mut pending = Vec::new();
        let (mut estimate, mut written) = (0, 0);
        let owed: Vec<_> = self.owed.iter().map(|loss| Write::Loss(*loss)).collect();
        if !owed.is_empty() {
            self.commit(&owed, owed.iter().map(Write::estimate).sum())
                .map_err(|source| WriteError { written, source })?;
            self.owed.drain(..owed.len());
        }
        for planned in plan_all(entries, &self.dir) {
            let write = planned.map_err(|source| WriteError { written, source })?;
            let bytes = write.estimate();
            if estimate + bytes > self.limits.segment_bytes / 4 && !pending.is_empty() {
                self.commit(&pending, estimate).map_err(|source| WriteError { written, source })?;
                written += pending.len();
                pending.clear();
                estimate = 0;
            }
            estimate += bytes;
            pending.push(write);
        }
        if pending.is_empty() {
            return Ok(());
        }
        self.commit(&pending, estimate).map_err(|source| WriteError { written, source })
    }

    /// Gives up segments that are older than [`Limits::max_age_hours`] at `now`; called by the writer about once a minute. A
    /// quiet host's segment is closed after an eighth of that time, so that it can be given up at all.
    ///
    /// # Errors
    /// A segment cannot be deleted.
    pub fn retain(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let max_age = self.limits.max_age();
        if let Some(oldest) = self.live.as_ref().and_then(|live| live.oldest().ok().flatten())
            && now.duration_since(timestamp(oldest)).unsigned_abs() > max_age / 8
            && oldest < nanoseconds(now)
        {
            self.rotate()?;
        }
        let sequences: Vec<_> = self.closed.keys().copied().collect();
        for sequence in sequences {
            let path = segment::path_of(&self.dir, sequence);
            let Some(newest) = newest_of(&path) else { continue };
            if nanoseconds(now).saturating_sub(newest) <= i64::try_from(max_age.as_nanos()).unwrap_or(i64::MAX) {
                break;
            }
            self.delete(sequence)?;
        }
        Ok(())
    }

    /// Closes the segment, so that it can be read by whoever may read the file. It is gone on with at the next start, and gets its
    /// indexes later.
    pub fn close(mut self) {
        self.await_finishing();
        if let Some(live) = self.live.take() {
            // A reader may have it open; the next start tries again.
            let _still_read = live.close();
        }
    }

    fn commit(&mut self, writes: &[Write], estimate: u64) -> Result<(), JournalError> {
        // Once in the database, once in the WAL.
        self.make_room(2 * estimate)?;
        let mut set_aside = false;
        loop {
            let live = self.live()?;
            let Err(error) = live.write(writes) else { break };
            let path = live.path.clone();
            if segment::is_full(&error) {
                if !self.delete_oldest()? {
                    return Err(JournalError::DiskFull { path: self.dir.clone() });
                }
            } else if segment::is_damage(&error) && !set_aside {
                set_aside = true;
                let sequence = live.sequence;
                self.live = None;
                self.set_aside(sequence, &path, &error.to_string())?;
                self.begin_at(sequence + 1)?;
            } else {
                // A connection may be left in a state that only a new one gets out of (a stale file handle, say).
                self.live = None;
                return Err(JournalError::Sqlite { path, source: error });
            }
        }
        self.keep_head();
        for write in writes {
            match write {
                Write::Insert(row) => {
                    self.recent.add(&row.json);
                    self.written.add(1);
                }
                Write::Fold { .. } => self.folded.add(1),
                Write::Loss(_) => {}
            }
        }
        // Its indexes, which it gets when it is closed, take about two thirds of what it has by then.
        if self.live.as_ref().is_some_and(|live| live.database_bytes() >= self.limits.segment_bytes / 5 * 3) {
            self.rotate()?;
        }
        Ok(())
    }

    /// The segment to write; a new one if the file was taken away from under it.
    fn live(&mut self) -> Result<&mut Segment, JournalError> {
        if self.live.as_ref().is_some_and(|live| !live.path.exists()) {
            self.live = None;
        }
        if self.live.is_none() {
            let sequences = segment::list(&self.dir)
                .map_err(|source| JournalError::file(&self.dir, "list the directory", source))?;
            match sequences.last() {
                Some(newest) if !self.closed.contains_key(newest) => self.resume(*newest)?,
                _ => {}
            }
            if self.live.is_none() {
                self.begin()?;
            }
        }
        self.live.as_mut().ok_or_else(|| JournalError::Missing { path: self.dir.clone() })
    }

    fn rotate(&mut self) -> Result<(), JournalError> {
        let Some(live) = self.live.take() else { return Ok(()) };
        let (sequence, path) = (live.sequence, live.path.clone());
        drop(live);
        self.adopt_unfinished(sequence, &path);
        self.begin_at(sequence + 1)?;
        self.finish();
        Ok(())
    }

    fn adopt_unfinished(&mut self, sequence: u64, path: &Path) {
        self.closed.insert(sequence, segment::bytes_to_finish(path));
        self.unfinished.insert(sequence);
    }

    /// Finishes what is unfinished on a thread of its own, which is waited for the next time. What cannot be finished now, because of a
    /// reader or a full disk, is tried again then; it can be read meanwhile.
    fn finish(&mut self) {
        self.await_finishing();
        if self.unfinished.is_empty() {
            return;
        }
        let paths: Vec<_> = self.unfinished.iter().map(|sequence| segment::path_of(&self.dir, *sequence)).collect();
        let thread = std::thread::Builder::new().name("journal-index".to_owned()).spawn(move || {
            for path in paths {
                if let Err(error) = segment::finish(&path) {
                    tracing::debug!(%error, path = %path.display(), "a closed segment of the journal is not finished yet");
                }
            }
        });
        match thread {
            Ok(thread) => self.finishing = Some(thread),
            Err(error) => tracing::warn!(%error, "no thread to finish closed segments of the journal"),
        }
    }

    fn await_finishing(&mut self) {
        let Some(thread) = self.finishing.take() else { return };
        if thread.join().is_err() {
            tracing::error!("finishing closed segments of the journal ended by a panic");
        }
        let (dir, closed) = (&self.dir, &mut self.closed);
        self.unfinished.retain(|sequence| {
            let path = segment::path_of(dir, *sequence);
            let is_unfinished = segment::is_unfinished(&path);
            if !is_unfinished {
                closed.insert(*sequence, segment::bytes_on_disk(&path));
            }
            is_unfinished
        });
    }

    fn begin(&mut self) -> Result<(), JournalError> {
        let newest = segment::list(&self.dir)
            .map_err(|source| JournalError::file(&self.dir, "list the directory", source))?
            .last()
            .copied()
            .max(self.closed.last_key_value().map(|(sequence, _)| *sequence));
        let is_gone = newest.is_none_or(|newest| newest < self.head.sequence);
        if is_gone && !segment::set_aside_path(&self.dir, self.head.sequence).exists() {
            self.tell_shortened("its newest segments are gone");
        }
        self.begin_at(newest.unwrap_or(0).max(self.head.sequence).saturating_add(1))
    }

    /// Says where the chain ends. A file that cannot be written stays behind, which is no break of the chain.
    fn keep_head(&mut self) {
        if let Some(live) = &self.live {
            self.head = Head { sequence: live.sequence, revision: live.revision, hash: live.head, ..self.head };
        }
        let kept = self.head.write(&self.dir);
        if let Err(error) = &kept
            && self.head_is_kept
        {
            tracing::warn!(%error, path = %self.dir.display(), "it cannot be kept where the journal ends");
        }
        self.head_is_kept = kept.is_ok();
    }

    fn tell_shortened(&self, how: &str) {
        if self.head.sequence > 0 {
            let name = segment::path_of(&self.dir, self.head.sequence);
            let detail = format!("{how}; it ended in {} at change {}", name.display(), self.head.revision);
            self.health.raise(Fault::JournalShortened, "", detail);
        }
    }

    fn begin_at(&mut self, sequence: u64) -> Result<(), JournalError> {
        self.make_room(64 << 10)?;
        loop {
            match Segment::open(&self.dir, sequence, &self.beginning()) {
                Ok(segment) => {
                    self.live = Some(segment);
                    self.keep_head();
                    return Ok(());
                }
                Err(JournalError::DiskFull { .. }) if self.delete_oldest()? => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn beginning(&self) -> Beginning<'_> {
        Beginning { before: &self.head.hash, dictionary: self.recent.dictionary(), bytes: self.limits.segment_bytes }
    }

    /// Goes on with the segment that was being written when the agent last ended.
    fn resume(&mut self, sequence: u64) -> Result<(), JournalError> {
        let path = segment::path_of(&self.dir, sequence);
        if segment::schema_of(&path).is_ok_and(|schema| (1..segment::SCHEMA).contains(&schema)) {
            self.adopt_closed(sequence)?;
            return self.begin();
        }
        match Segment::open(&self.dir, sequence, &self.beginning()) {
            Ok(segment) if self.follows(&segment) => self.live = Some(segment),
            Ok(segment) => {
                self.tell_shortened("its newest records are gone");
                drop(segment);
                self.adopt_unfinished(sequence, &path);
                // It begins with the hash that was there, so that the break shows for as long as both are kept.
                self.begin_at(sequence.max(self.head.sequence) + 1)?;
            }
            Err(JournalError::Damaged { detail, .. }) => {
                self.set_aside(sequence, &path, &detail)?;
                self.begin_at(sequence + 1)?;
            }
            Err(JournalError::Newer { .. }) => {
                self.closed.insert(sequence, segment::bytes_on_disk(&path));
                self.begin_at(sequence + 1)?;
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Whether the segment, the newest, holds all that was written.
    fn follows(&self, segment: &Segment) -> bool {
        match segment.sequence.cmp(&self.head.sequence) {
            Ordering::Less => false,
            Ordering::Equal => segment.has(self.head.revision, &self.head.hash).unwrap_or(false),
            Ordering::Greater => true,
        }
    }

    fn adopt_closed(&mut self, sequence: u64) -> Result<(), JournalError> {
        let path = segment::path_of(&self.dir, sequence);
        let damage = segment::damage_of_closed(&path)
            .map_err(|source| JournalError::file(&path, "read the header of the segment", source))?;
        if let Some(damage) = damage {
            return self.set_aside(sequence, &path, &damage);
        }
        if segment::is_unfinished(&path) {
            self.adopt_unfinished(sequence, &path);
        } else {
            self.closed.insert(sequence, segment::bytes_on_disk(&path));
        }
        Ok(())
    }

    /// Renames a damaged segment, and what SQLite keeps beside it, to a name that the journal does not use.
    fn set_aside(&mut self, sequence: u64, path: &Path, detail: &str) -> Result<(), JournalError> {
        self.owe(sequence, path);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let stamp = nanoseconds(Timestamp::now());
        let mut aside = path.with_file_name(format!("{}{name}", segment::SET_ASIDE));
        if aside.exists() {
            aside = self.dir.join(format!("{}{stamp}-{name}", segment::SET_ASIDE));
        }
        fs::rename(path, &aside).map_err(|source| JournalError::file(path, "set the damaged segment aside", source))?;
        for suffix in ["-wal", "-shm"] {
            let from = segment::beside(path, suffix);
            if from.exists() {
                fs::rename(&from, segment::beside(&aside, suffix))
                    .map_err(|source| JournalError::file(from, "set the damaged segment aside", source))?;
            }
        }
        self.health.raise(Fault::JournalSegmentDamaged, &name, format!("{detail}; kept as {}", aside.display()));
        Ok(())
    }

    /// Remembers to tell what a damaged segment took with it: as many records as can still be read off it, one at the least, between
    /// the newest record before it and the file's last change.
    fn owe(&mut self, sequence: u64, path: &Path) {
        let modified = fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
        let to = modified.and_then(|time| Timestamp::try_from(time).ok()).unwrap_or_else(Timestamp::now);
        let before = self.closed.range(..sequence).next_back();
        let from =
            before.and_then(|(before, _)| newest_of(&segment::path_of(&self.dir, *before))).map_or(to, timestamp);
        let changes = if sequence == self.head.sequence { self.head.revision } else { segment::changes_of(path) };
        let count = u64::try_from(changes).unwrap_or(0).max(1);
        self.health.counter(&format!("journal.lost.{}", LossReason::SegmentDamaged.name())).add(count);
        self.owed.push(Loss { reason: LossReason::SegmentDamaged, count, from: from.min(to), to });
    }

    /// Gives up the oldest segments until `bytes` more fit [`Limits::total_bytes`].
    fn make_room(&mut self, bytes: u64) -> Result<(), JournalError> {
        loop {
            let live = self.live.as_ref().map_or(0, Segment::bytes_checkpointed);
            let used = live + self.closed.values().sum::<u64>();
            if used + bytes <= self.limits.total_bytes || !self.delete_oldest()? {
                return Ok(());
            }
        }
    }

    /// Whether there was one.
    fn delete_oldest(&mut self) -> Result<bool, JournalError> {
        let Some(oldest) = self.closed.first_key_value().map(|(sequence, _)| *sequence) else { return Ok(false) };
        self.delete(oldest)?;
        Ok(true)
    }

    fn delete(&mut self, sequence: u64) -> Result<(), JournalError> {
        if self.unfinished.contains(&sequence) {
            self.await_finishing();
        }
        let path = segment::path_of(&self.dir, sequence);
        self.closed.remove(&sequence);
        self.unfinished.remove(&sequence);
        // Before it goes: what is older than this the journal itself gave up.
        self.head.oldest = self.head.oldest.max(sequence + 1);
        self.keep_head();
        for file in [segment::beside(&path, "-wal"), segment::beside(&path, "-shm"), path] {
            match fs::remove_file(&file) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => {
                    return Err(JournalError::file(file, "delete the oldest segment", source));
                }
                _ => {}
            }
        }
        self.deleted.add(1);
        Ok(())
    }
}

impl Drop for Journal {
    /// Whoever opens the journal next is the only one who writes it.
    fn drop(&mut self) {
        self.await_finishing();
    }
}

/// Entries from which on planning them is shared between two threads.
const MANY: usize = 256;

/// What each entry does to a segment; `dir` is named in errors only.
fn plan_all(entries: &[Entry], dir: &Path) -> Vec<Result<Write, JournalError>> {
    let plan = |entries: &[Entry]| entries.iter().map(|entry| plan(entry, dir)).collect::<Vec<_>>();
    if entries.len() < MANY {
        return plan(entries);
    }
    let (first, second) = entries.split_at(entries.len() / 2);
    std::thread::scope(|scope| {
        let other = scope.spawn(|| plan(second));
        let mut planned = plan(first);
        // A panic there is one here.
        planned.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        planned
    })
}

fn plan(entry: &Entry, dir: &Path) -> Result<Write, JournalError> {
    match entry {
        Entry::Hit(finding) => Ok(Write::Insert(Row::new(finding, None, dir)?)),
        Entry::Repeat { of, repeats, last_time } => {
            let mut continuing = Finding::clone(of);
            continuing.id = uuid::Uuid::now_v7().to_string();
            (continuing.time, continuing.last_time) = (*last_time, *last_time);
            continuing.count = *repeats;
            let row = Row::new(&continuing, Some(of.id.clone()), dir)?;
            Ok(Write::Fold { row, repeats: i64::try_from(*repeats).unwrap_or(i64::MAX) })
        }
        Entry::Loss(loss) => Ok(Write::Loss(*loss)),
    }
}

fn lock(dir: &Path) -> Result<File, JournalError> {
    let path = dir.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o640)
        .open(&path)
        .map_err(|source| JournalError::file(&path, "open the lock file", source))?;
    // A predecessor that was just killed may take a moment to let go.
    for _ in 0..20 {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(50)),
            Err(TryLockError::Error(source)) => return Err(JournalError::file(path, "lock the journal", source)),
        }
    }
    Err(JournalError::Locked { path: dir.to_owned() })
}

/// Nanoseconds since 1970 of the newest record; of the file's last change where it cannot be read, so that a damaged segment
/// does not stay for ever.
fn newest_of(path: &Path) -> Option<i64> {
    let in_file = || {
        let connection = super::reader::open_read_only(path).ok()?;
        // Each by an index: only of records that were repeated the newest time is another.
        let newest = "SELECT max((SELECT max(time) FROM record),
                        ifnull((SELECT max(last_time) FROM record WHERE last_time > time), 0))";
        connection.query_row(newest, [], |row| row.get::<_, Option<i64>>(0)).ok()?
    };
    in_file().or_else(|| {
        let modified = fs::metadata(path).ok()?.modified().ok()?;
        Timestamp::try_from(modified).ok().map(nanoseconds)
    })
}
