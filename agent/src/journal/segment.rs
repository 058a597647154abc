//! One segment: a SQLite file in WAL mode while it is written, a plain single file once it is closed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _, Transaction, params};

use super::row::{Row, nanoseconds};
use super::{JournalError, Loss};

/// `PRAGMA application_id` of a segment: "Cord".
const APPLICATION_ID: i64 = 0x436f_7264;
/// `PRAGMA user_version` of a segment.
pub(super) const SCHEMA: i64 = 1;
const PAGE_BYTES: u64 = 4096;

/// The tables. docs/journal.md explains them and a test holds the two together.
pub(super) const TABLES: &str = "\
CREATE TABLE record (
  row       INTEGER PRIMARY KEY,
  id        TEXT NOT NULL UNIQUE,
  continues TEXT,
  revision  INTEGER NOT NULL UNIQUE,
  time      INTEGER NOT NULL,
  last_time INTEGER NOT NULL,
  count     INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  verdict   TEXT NOT NULL,
  pid       INTEGER NOT NULL,
  exe       TEXT,
  path      TEXT,
  sha256    TEXT,
  ip        BLOB,
  ip_given  BLOB,
  port      INTEGER,
  domain    TEXT,
  record    TEXT NOT NULL
);
CREATE INDEX record_time ON record (time);
CREATE INDEX record_last_time ON record (last_time);
CREATE INDEX record_ip ON record (ip) WHERE ip IS NOT NULL;
CREATE INDEX record_continues ON record (continues) WHERE continues IS NOT NULL;
CREATE TABLE indicator (
  row    INTEGER NOT NULL,
  id     TEXT NOT NULL,
  value  TEXT NOT NULL,
  source TEXT NOT NULL
);
CREATE INDEX indicator_id ON indicator (id);
CREATE INDEX indicator_value ON indicator (value);
CREATE INDEX indicator_row ON indicator (row);
CREATE TABLE actor (
  row  INTEGER NOT NULL,
  name TEXT NOT NULL
);
CREATE INDEX actor_name ON actor (name);
CREATE TABLE loss (
  row       INTEGER PRIMARY KEY,
  reason    TEXT NOT NULL,
  count     INTEGER NOT NULL,
  from_time INTEGER NOT NULL,
  to_time   INTEGER NOT NULL
);
";

/// The file of the segment with that number.
pub(super) fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("hits-{sequence:010}.sqlite"))
}

/// The segments in `dir`, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<u64>> {
    let mut sequences = Vec::new();
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let number =
            name.to_str().and_then(|name| name.strip_prefix("hits-")?.strip_suffix(".sqlite")?.parse::<u64>().ok());
        sequences.extend(number);
    }
    sequences.sort_unstable();
    Ok(sequences)
}

/// The file that SQLite keeps beside a database: `-wal` or `-shm`.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Bytes on disk of a segment and what SQLite keeps beside it.
pub(super) fn bytes_on_disk(path: &Path) -> u64 {
    [path.to_owned(), beside(path, "-wal"), beside(path, "-shm")]
        .iter()
        .filter_map(|file| fs::metadata(file).ok())
        .map(|metadata| metadata.len())
        .sum()
}

/// Whether an error says that the file is not the database that it should be.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// Whether an error says that no space is left.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        // The index of the WAL cannot grow either, which SQLite does not call a full disk.
        || matches!(error, rusqlite::Error::SqliteFailure(code, _) if code.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE)
}

/// What is wrong with a closed segment, judged by its header alone: reading all of it would delay the start.
pub(super) fn damage_of_closed(path: &Path) -> io::Result<Option<String>> {
    let mut header = [0u8; 32];
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Some("the file is empty".to_owned()));
    }
    if let Err(error) = file.read_exact(&mut header) {
        return Ok(Some(format!("its header cannot be read: {error}")));
    }
    if !header.starts_with(b"SQLite format 3\0") {
        return Ok(Some("it is not a SQLite file".to_owned()));
    }
    let pages = u64::from(u32::from_be_bytes([header[28], header[29], header[30], header[31]]));
    Ok((length < pages * PAGE_BYTES).then(|| format!("it is cut: {length} of {} bytes", pages * PAGE_BYTES)))
}

/// A segment that is being written.
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    connection: Connection,
    revision: i64,
}

impl Segment {
    /// Opens the segment with that number for writing, and makes it if it is not there.
    pub(super) fn open(dir: &Path, sequence: u64) -> Result<Self, JournalError> {
        let path = path_of(dir, sequence);
        // SQLite gives -wal and -shm the mode of the database, so the mode has to be right from the start.
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&path)
            .map_err(|source| JournalError::file(&path, "create the segment", source))?;
        let sqlite = |source| match () {
            () if is_damage(&source) => JournalError::Damaged { path: path.clone(), detail: source.to_string() },
            () if is_full(&source) => JournalError::DiskFull { path: dir.to_owned() },
            () => JournalError::Sqlite { path: path.clone(), source },
        };
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(&path, flags).map_err(sqlite)?;
        connection.busy_timeout(std::time::Duration::from_secs(5)).map_err(sqlite)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
        if found > SCHEMA {
            return Err(JournalError::Newer { path, found, known: SCHEMA });
        }
        prepare(&mut connection).map_err(sqlite)?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if verdict != "ok" {
            return Err(JournalError::Damaged { path, detail: verdict });
        }
        let revision = connection
            .query_row("SELECT ifnull(max(revision), 0) FROM record", [], |row| row.get(0))
            .map_err(|source| JournalError::Damaged { path: path.clone(), detail: source.to_string() })?;
        Ok(Self { sequence, path, connection, revision })
    }

    /// Bytes of the database itself, pages that are still in the WAL included.
    pub(super) fn database_bytes(&self) -> u64 {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap_or(0);
        u64::try_from(pages).unwrap_or(0) * PAGE_BYTES
    }

    /// When the oldest record was written, in nanoseconds since 1970.
    pub(super) fn oldest(&self) -> rusqlite::Result<Option<i64>> {
        self.connection.query_row("SELECT min(time) FROM record", [], |row| row.get(0))
    }

    /// Writes all of `writes` in one transaction, synced to disk when this returns.
    pub(super) fn write(&mut self, writes: &[Write]) -> rusqlite::Result<()> {
        let mut revision = self.revision;
        let transaction = self.connection.transaction()?;
        for write in writes {
            match write {
                Write::Insert(row) => insert(&transaction, row, &mut revision)?,
                Write::Fold { row, repeats } => fold(&transaction, row, *repeats, &mut revision)?,
                Write::Loss(loss) => insert_loss(&transaction, loss)?,
            }
        }
        transaction.commit()?;
        self.revision = revision;
        Ok(())
    }

    /// Makes the segment a single file that can be read without write permission. A reader may prevent it; it is then tried
    /// again later.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        // Longer than a reader needs for one page of records, shorter than anybody minds at a rotation.
        self.connection.busy_timeout(std::time::Duration::from_millis(50))?;
        self.connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
    }
}

/// Closes a segment that an earlier [`Segment::close`] could not.
pub(super) fn close_later(path: &Path) -> rusqlite::Result<()> {
    if !beside(path, "-wal").exists() && !beside(path, "-shm").exists() {
        return Ok(());
    }
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.busy_timeout(std::time::Duration::ZERO)?;
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
}

/// One change to a segment.
pub(super) enum Write {
    /// A new record.
    Insert(Row),
    /// Repeats of a record: added to it, or to the one that continues it, or else `row` is inserted to continue it.
    Fold {
        /// The record that would continue it; its `count` and `last_time` are those of the repeats.
        row: Row,
        /// How many.
        repeats: i64,
    },
    /// Records known to be missing.
    Loss(Loss),
}

impl Write {
    /// Bytes that it will take, estimated high.
    pub(super) fn estimate(&self) -> u64 {
        match self {
            Self::Insert(row) | Self::Fold { row, .. } => row.estimate(),
            Self::Loss(_) => 64,
        }
    }
}

fn prepare(connection: &mut Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // In WAL mode FULL syncs at every commit: what was acknowledged survives a power cut, not only a crash.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", 64, |_| Ok(()))?;
    connection.pragma_update_and_check(None, "journal_size_limit", 64 * PAGE_BYTES as i64, |_| Ok(()))?;
    let transaction = connection.transaction()?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
    }
    transaction.commit()
}

fn insert(transaction: &Transaction<'_>, row: &Row, revision: &mut i64) -> rusqlite::Result<()> {
    let inserted = transaction
        .prepare_cached(
            "INSERT INTO record (id, continues, revision, time, last_time, count, kind, verdict, pid, exe, path, sha256,
               ip, ip_given, port, domain, record)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
             ON CONFLICT (id) DO NOTHING",
        )?
        .execute(params![
            row.id,
            row.continues,
            *revision + 1,
            row.time,
            row.last_time,
            row.count,
            row.kind,
            row.verdict,
            row.pid,
            row.exe,
            row.path,
            row.sha256,
            row.ip.as_ref().map(<[u8; 16]>::as_slice),
            row.ip_given.as_ref().map(<[u8; 16]>::as_slice),
            row.port,
            row.domain,
            row.json
        ])?;
    if inserted == 0 {
        // The same record again: a batch is retried as a whole.
        return Ok(());
    }
    *revision += 1;
    let number = transaction.last_insert_rowid();
    let mut indicators =
        transaction.prepare_cached("INSERT INTO indicator (row, id, value, source) VALUES (?1, ?2, ?3, ?4)")?;
    for (id, value, source) in &row.indicators {
        indicators.execute(params![number, id, value, source])?;
    }
    let mut actors = transaction.prepare_cached("INSERT INTO actor (row, name) VALUES (?1, ?2)")?;
    for actor in &row.actors {
        actors.execute(params![number, actor])?;
    }
    Ok(())
}

fn fold(transaction: &Transaction<'_>, row: &Row, repeats: i64, revision: &mut i64) -> rusqlite::Result<()> {
    let of = row.continues.as_deref().unwrap_or(&row.id);
    let found: Option<(i64, i64, i64)> = transaction
        .prepare_cached("SELECT row, count, last_time FROM record WHERE id = ?1 OR continues = ?1")?
        .query_row([of], |found| Ok((found.get(0)?, found.get(1)?, found.get(2)?)))
        .optional()?;
    let Some((number, count, last_time)) = found else {
        return insert(transaction, row, revision);
    };
    let count = count.saturating_add(repeats);
    let last_time = last_time.max(row.last_time);
    *revision += 1;
    transaction
        .prepare_cached(
            "UPDATE record SET count = ?2, last_time = ?3, revision = ?4,
               record = json_set(record, '$.count', ?2, '$.last_time', ?5)
             WHERE row = ?1",
        )?
        .execute(params![number, count, last_time, *revision, super::row::timestamp(last_time).to_string()])?;
    Ok(())
}

fn insert_loss(transaction: &Transaction<'_>, loss: &Loss) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO loss (reason, count, from_time, to_time) VALUES (?1, ?2, ?3, ?4)")?
        .execute(params![
            loss.reason.name(),
            i64::try_from(loss.count).unwrap_or(i64::MAX),
            nanoseconds(loss.from),
            nanoseconds(loss.to)
        ])?;
    Ok(())
}
