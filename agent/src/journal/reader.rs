//! Reading the journal: beside a live writer, or when none runs; with no more than permission to read.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use rusqlite::{Connection, ErrorCode, OpenFlags, params_from_iter};
use serde::{Deserialize, Serialize};

use super::packed;
use super::plan::Plan;
use super::query::{Filter, Order, Query};
use super::row::timestamp;
use super::segment;
use super::verify::{self, Verification};
use super::{JournalError, Loss, LossReason};
use crate::attribute::Finding;

/// Records fetched at a time. No transaction is open in between, so a slow reader never holds up the writer's checkpoints.
const PAGE: usize = 256;

/// The journal, open for reading.
#[derive(Clone, Debug)]
pub struct Reader {
    dir: PathBuf,
}

impl Reader {
    /// Opens the journal in `dir`.
    ///
    /// # Errors
    /// There is none, or it may not be read.
    pub fn open(dir: &Path) -> Result<Self, JournalError> {
        let reader = Self { dir: dir.to_owned() };
        reader.segments()?;
        Ok(reader)
    }

    /// The records that `query` finds. A segment that cannot be read is an error in its place; the records of the others
    /// follow.
    #[must_use]
    pub fn records(&self, query: &Query) -> Records {
        let (segments, failed) = match self.segments() {
            Ok(segments) => (segments, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let mut segments = VecDeque::from(segments);
        if query.order == Order::NewestFirst {
            segments.make_contiguous().reverse();
        }
        Records {
            dir: self.dir.clone(),
            query: query.clone(),
            segments,
            open: None,
            page: VecDeque::new(),
            failed,
            left: query.limit.unwrap_or(usize::MAX),
        }
    }

    /// The record with that id.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn find(&self, id: &str) -> Result<Option<Finding>, JournalError> {
        for sequence in self.segments()?.into_iter().rev() {
            let path = segment::path_of(&self.dir, sequence);
            let Some(connection) = open_if_there(&path)? else { continue };
            let mut filter = Filter::default();
            let number = filter.parameter(id.to_owned());
            filter.clause(format!("id = ?{number}"));
            let page = fetch(&connection, &path, &filter, "row", 1)?;
            if let Some(found) = page.into_iter().next() {
                return Ok(Some(found.finding));
            }
        }
        Ok(None)
    }

    /// Records known to be missing between two times, oldest first.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub fn losses(&self, since: Option<Timestamp>, until: Option<Timestamp>) -> Result<Vec<Loss>, JournalError> {
        let mut losses = Vec::new();
        for sequence in self.segments()? {
            let path = segment::path_of(&self.dir, sequence);
            if let Some(connection) = open_if_there(&path)? {
                let found = fetch_losses(&connection, &path, 0)?;
                losses.extend(found.into_iter().map(|(_, loss)| loss).filter(|loss| {
                    since.is_none_or(|since| loss.to >= since) && until.is_none_or(|until| loss.from <= until)
                }));
            }
        }
        Ok(losses)
    }

    /// What `query` finds from now on; [`Query::limit`] and [`Query::order`] do not apply.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn follow(&self, query: &Query) -> Result<Follow, JournalError> {
        let mut follow = Follow {
            reader: self.clone(),
            query: query.clone(),
            sequence: 0,
            connection: None,
            revision: 0,
            loss: 0,
            has_gap: false,
        };
        if let Some(newest) = self.segments()?.last() {
            // Should the newest be only just begun, all of it comes from now on.
            follow.sequence = newest.saturating_sub(1);
            follow.enter(*newest)?;
            follow.skip_to_end()?;
        }
        Ok(follow)
    }

    /// What `query` finds from `cursor` on. Where the segment of the cursor was given up meanwhile it is what follows; records
    /// in between are then gone, and [`Follow::has_gap`] says so.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn follow_from(&self, query: &Query, cursor: Cursor) -> Result<Follow, JournalError> {
        let Cursor { sequence, revision, loss } = cursor;
        let mut follow = Follow {
            reader: self.clone(),
            query: query.clone(),
            sequence,
            connection: open_if_there(&segment::path_of(&self.dir, sequence))?,
            revision,
            loss,
            has_gap: false,
        };
        if follow.connection.is_none() {
            follow.has_gap = sequence > 0;
            if self.segments()?.last().is_none_or(|newest| *newest < sequence) {
                // Another journal in its place: all of it is new.
                follow.sequence = 0;
            }
        }
        Ok(follow)
    }

    /// Compares all records with the hash chain.
    ///
    /// # Errors
    /// The directory cannot be read. A segment that cannot be is a break of the chain.
    pub fn verify(&self) -> Result<Verification, JournalError> {
        verify::verify(&self.dir, || self.segments())
    }

    fn segments(&self) -> Result<Vec<u64>, JournalError> {
        segment::list(&self.dir).map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => JournalError::Missing { path: self.dir.clone() },
            _ => JournalError::file(&self.dir, "list the directory", source),
        })
    }
}

/// Opens a segment for reading.
///
/// A segment in WAL mode has an index in shared memory, which a reader who may not write makes do without only where the files
/// `-wal` and `-shm` exist. Where they do not, nobody is writing, and the file alone is all there is: it is then opened as one
/// that does not change.
pub(super) fn open_read_only(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connect = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        connection.query_row("SELECT 1 FROM record LIMIT 1", [], |_| Ok(())).or_else(|error| match error {
            rusqlite::Error::QueryReturnedNoRows => Ok(()),
            error => Err(error),
        })?;
        packed::install(&connection)?;
        Ok(connection)
    };
    let error = match connect() {
        Ok(connection) => return Ok(connection),
        Err(error) => error,
    };
    let needs_write = matches!(error.sqlite_error_code(), Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly));
    let wal_bytes = std::fs::metadata(segment::beside(path, "-wal")).map_or(0, |metadata| metadata.len());
    if !needs_write || wal_bytes > 0 || may_read(path).is_err() {
        return Err(error);
    }
    let mut uri = String::from("file:");
    for byte in std::os::unix::ffi::OsStrExt::as_bytes(path.as_os_str()) {
        match byte {
            b'/' | b'.' | b'-' | b'_' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => uri.push(char::from(*byte)),
            _ => uri.push_str(&format!("%{byte:02X}")),
        }
    }
    uri.push_str("?immutable=1");
    let connection = Connection::open_with_flags(uri, flags | OpenFlags::SQLITE_OPEN_URI)?;
    packed::install(&connection)?;
    Ok(connection)
}

/// Whether the file may be read. It is not opened for that: closing it again would drop the locks that SQLite holds on it in this
/// process (fcntl(2), advisory record locking), and the agent reads what it writes.
fn may_read(path: &Path) -> io::Result<()> {
    Ok(rustix::fs::access(path, rustix::fs::Access::READ_OK)?)
}

/// `None` where the segment is gone (the writer gives up old ones) or was only just begun.
pub(super) fn open_if_there(path: &Path) -> Result<Option<Connection>, JournalError> {
    // Before it is opened: the writer may be done with its making a moment later.
    let was_begun = std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > segment::PAGE_BYTES);
    match open_read_only(path) {
        Ok(connection) => Ok(Some(connection)),
        Err(_) if !path.exists() => Ok(None),
        // No table yet: the writer is just making it.
        Err(error) if !was_begun && error.to_string().contains("no such table") => Ok(None),
        Err(error) => Err(explain(path, error)),
    }
}

pub(super) fn explain(path: &Path, source: rusqlite::Error) -> JournalError {
    if segment::is_damage(&source) {
        return JournalError::Damaged { path: path.to_owned(), detail: source.to_string() };
    }
    match (source.sqlite_error_code(), may_read(path).map_err(|error| error.kind())) {
        (Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly | ErrorCode::PermissionDenied), _)
        | (_, Err(io::ErrorKind::PermissionDenied)) => JournalError::NotPermitted { path: path.to_owned() },
        _ => JournalError::Sqlite { path: path.to_owned(), source },
    }
}

struct Found {
    row: i64,
    revision: i64,
    time: i64,
    finding: Finding,
}

fn fetch(
    connection: &Connection,
    path: &Path,
    filter: &Filter,
    order: &str,
    limit: usize,
) -> Result<Vec<Found>, JournalError> {
    let sql = format!(
        "SELECT row, revision, time, id, unpacked(record) AS text FROM record WHERE {} ORDER BY {order} LIMIT {limit}",
        filter.sql()
    );
    let explain = |source| explain(path, source);
    let mut statement = connection.prepare_cached(&sql).map_err(explain)?;
    let mut rows = statement.query(params_from_iter(&filter.parameters)).map_err(explain)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        let text = row.get_ref("text").map_err(explain)?;
        let parsed = text.as_str().map_err(serde::de::Error::custom).and_then(serde_json::from_str);
        let finding = parsed.map_err(|source: serde_json::Error| JournalError::Record {
            path: path.to_owned(),
            id: row.get("id").unwrap_or_default(),
            source,
        })?;
        found.push(Found {
            row: row.get("row").map_err(explain)?,
            revision: row.get("revision").map_err(explain)?,
            time: row.get("time").map_err(explain)?,
            finding,
        });
    }
    Ok(found)
}

fn fetch_losses(connection: &Connection, path: &Path, after: i64) -> Result<Vec<(i64, Loss)>, JournalError> {
    let explain = |source| explain(path, source);
    let mut statement = connection
        .prepare_cached("SELECT row, reason, count, from_time, to_time FROM loss WHERE row > ?1 ORDER BY row")
        .map_err(explain)?;
    let mut rows = statement.query([after]).map_err(explain)?;
    let mut losses = Vec::new();
    while let Some(row) = rows.next().map_err(explain)? {
        let reason: String = row.get("reason").map_err(explain)?;
        let Some(reason) = LossReason::from_name(&reason) else { continue };
        let count: i64 = row.get("count").map_err(explain)?;
        let loss = Loss {
            reason,
            count: u64::try_from(count).unwrap_or(0),
            from: timestamp(row.get("from_time").map_err(explain)?),
            to: timestamp(row.get("to_time").map_err(explain)?),
        };
        losses.push((row.get("row").map_err(explain)?, loss));
    }
    Ok(losses)
}

struct OpenSegment {
    path: PathBuf,
    connection: Connection,
    /// `None` for one without the indexes: the one that is written, and those from before there were any.
    plan: Option<Plan>,
    /// Time and row of the last record fetched.
    after: Option<(i64, i64)>,
}

impl OpenSegment {
    fn new(path: PathBuf, connection: Connection, query: &Query) -> Result<Self, JournalError> {
        let plan = segment::is_indexed(&connection)
            .and_then(|is_indexed| is_indexed.then(|| Plan::new(query, &connection)).transpose())
            .map_err(|source| explain(&path, source))?;
        Ok(Self { path, connection, plan, after: None })
    }
}

/// The records that a query finds; made by [`Reader::records`].
pub struct Records {
    dir: PathBuf,
    query: Query,
    segments: VecDeque<u64>,
    open: Option<OpenSegment>,
    page: VecDeque<Finding>,
    failed: Option<JournalError>,
    left: usize,
}

impl Records {
    /// Fetches the next page of the open segment; an empty page closes it.
    fn fetch(&mut self) -> Result<(), JournalError> {
        let Some(open) = &mut self.open else { return Ok(()) };
        let limit = PAGE.min(self.left);
        let (comparison, direction) = match self.query.order {
            Order::NewestFirst => ("<", "DESC"),
            Order::OldestFirst => (">", "ASC"),
        };
        let filter = match (&open.plan, open.after) {
            (Some(plan), _) if plan.is_empty() => {
                self.open = None;
                return Ok(());
            }
            (Some(plan), after) => plan.filter(self.query.order, after, limit),
            (None, None) => self.query.filter(),
            (None, Some((time, row))) => {
                let mut filter = self.query.filter();
                let (time, row) = (filter.parameter(time), filter.parameter(row));
                filter.clause(format!("(time, row) {comparison} (?{time}, ?{row})"));
                filter
            }
        };
        let order = format!("time {direction}, row {direction}");
        let found = fetch(&open.connection, &open.path, &filter, &order, limit)?;
        match found.last() {
            Some(last) => open.after = Some((last.time, last.row)),
            None => self.open = None,
        }
        self.page.extend(found.into_iter().map(|found| found.finding));
        Ok(())
    }
}

impl Iterator for Records {
    type Item = Result<Finding, JournalError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(error) = self.failed.take() {
                return Some(Err(error));
            }
            if self.left == 0 {
                return None;
            }
            if let Some(finding) = self.page.pop_front() {
                self.left -= 1;
                return Some(Ok(finding));
            }
            if self.open.is_some() {
                if let Err(error) = self.fetch() {
                    self.open = None;
                    self.failed = Some(error);
                }
                continue;
            }
            let path = segment::path_of(&self.dir, self.segments.pop_front()?);
            match open_if_there(&path) {
                Ok(Some(connection)) => match OpenSegment::new(path, connection, &self.query) {
                    Ok(open) => self.open = Some(open),
                    Err(error) => self.failed = Some(error),
                },
                Ok(None) => {}
                Err(error) => self.failed = Some(error),
            }
        }
    }
}

/// What [`Follow::poll`] finds.
#[derive(Clone, Debug)]
pub enum Followed {
    /// A new record, or one that repeats were folded into: the same id with a higher count.
    Record(Box<Finding>),
    /// Records known to be missing.
    Loss(Loss),
}

/// How far the journal was followed, to go on from there after a restart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// The segment; records of a segment before it change no more.
    pub sequence: u64,
    revision: i64,
    loss: i64,
}

/// The tail of the journal; made by [`Reader::follow`] or [`Reader::follow_from`].
pub struct Follow {
    reader: Reader,
    query: Query,
    /// The segment being read; 0 before there is any.
    sequence: u64,
    connection: Option<Connection>,
    revision: i64,
    loss: i64,
    has_gap: bool,
}

impl Follow {
    /// What came since the last call, in the order it was written; does not wait. Call it every 200 ms or so.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn poll(&mut self) -> Result<Vec<Followed>, JournalError> {
        let mut followed = Vec::new();
        loop {
            let mut some = self.poll_some()?;
            if some.is_empty() {
                return Ok(followed);
            }
            followed.append(&mut some);
        }
    }

    /// The next of what [`Follow::poll`] gives, at most some hundred records of one segment; empty when there is no more yet.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub fn poll_some(&mut self) -> Result<Vec<Followed>, JournalError> {
        loop {
            // Listed before reading, so that what was written to the old segment before the new one began is not missed.
            let next = self.reader.segments()?.into_iter().find(|sequence| *sequence > self.sequence);
            let followed = self.page()?;
            match next {
                Some(next) if followed.is_empty() => self.enter(next)?,
                _ => return Ok(followed),
            }
            if self.connection.is_none() {
                return Ok(followed);
            }
        }
    }

    /// How far it got: what was given by the last call counts as taken.
    #[must_use]
    pub const fn cursor(&self) -> Cursor {
        Cursor { sequence: self.sequence, revision: self.revision, loss: self.loss }
    }

    /// Whether records between the cursor it was made from and the first it gives are gone.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.has_gap
    }

    fn enter(&mut self, sequence: u64) -> Result<(), JournalError> {
        self.connection = open_if_there(&segment::path_of(&self.reader.dir, sequence))?;
        if self.connection.is_some() {
            (self.sequence, self.revision, self.loss) = (sequence, 0, 0);
        }
        Ok(())
    }

    fn skip_to_end(&mut self) -> Result<(), JournalError> {
        let Some(connection) = &self.connection else { return Ok(()) };
        let path = segment::path_of(&self.reader.dir, self.sequence);
        (self.revision, self.loss) = connection
            .query_row(
                "SELECT (SELECT ifnull(max(revision), 0) FROM record), (SELECT ifnull(max(row), 0) FROM loss)",
                [],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .map_err(|source| explain(&path, source))?;
        Ok(())
    }

    fn page(&mut self) -> Result<Vec<Followed>, JournalError> {
        let mut followed = Vec::new();
        let Some(connection) = &self.connection else { return Ok(followed) };
        let path = segment::path_of(&self.reader.dir, self.sequence);
        for (row, loss) in fetch_losses(connection, &path, self.loss)? {
            self.loss = row;
            followed.push(Followed::Loss(loss));
        }
        let mut filter = self.query.filter();
        let number = filter.parameter(self.revision);
        filter.clause(format!("revision > ?{number}"));
        for found in fetch(connection, &path, &filter, "revision", PAGE)? {
            self.revision = found.revision;
            followed.push(Followed::Record(Box::new(found.finding)));
        }
        Ok(followed)
    }
}
