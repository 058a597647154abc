//! One segment: a SQLite file in WAL mode while it is written, a plain single file once it is closed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension as _};

use super::JournalError;
use super::batch::{Batch, Write};
use super::chain::Hash;
use super::packed;

/// `PRAGMA application_id` of a segment: "Cord".
const APPLICATION_ID: i64 = 0x436f_7264;
/// `PRAGMA user_version` of a segment.
pub(super) const SCHEMA: i64 = 3;
/// The first whose records are chained.
pub(super) const CHAINED: i64 = 2;
pub(super) const PAGE_BYTES: u64 = 4096;
/// The least and the most pages of the WAL after which what it holds is moved into the segment. Each time costs a sync.
const WAL_PAGES: (i64, i64) = (64, 1024);

/// The tables, and the indexes that whoever writes or verifies needs. docs/journal.md explains them and a test holds the two together.
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
CREATE INDEX record_repeated ON record (last_time) WHERE last_time > time;
CREATE INDEX record_continues ON record (continues) WHERE continues IS NOT NULL;
CREATE TABLE indicator (
  row    INTEGER NOT NULL,
  n      INTEGER NOT NULL,
  time   INTEGER NOT NULL,
  id     TEXT NOT NULL,
  value  TEXT NOT NULL,
  source TEXT NOT NULL,
  PRIMARY KEY (row, n)
) WITHOUT ROWID;
CREATE TABLE actor (
  row  INTEGER NOT NULL,
  n    INTEGER NOT NULL,
  name TEXT NOT NULL,
  PRIMARY KEY (row, n)
) WITHOUT ROWID;
CREATE TABLE loss (
  row       INTEGER PRIMARY KEY,
  reason    TEXT NOT NULL,
  count     INTEGER NOT NULL,
  from_time INTEGER NOT NULL,
  to_time   INTEGER NOT NULL
);
CREATE TABLE chain (
  revision   INTEGER PRIMARY KEY,
  id         TEXT,
  supersedes INTEGER,
  content    BLOB NOT NULL,
  hash       BLOB NOT NULL
);
CREATE TABLE dictionary (
  content BLOB NOT NULL
);
";

/// The indexes that a segment gets when it is closed, each in a transaction of its own, [`LAST_INDEX`] last. Into a segment that is
/// written each record would go at as many places; made of all of them at once they cost a fraction.
pub(super) const INDEXES: [&str; 10] = [
    "CREATE INDEX IF NOT EXISTS record_pid ON record (pid, time)",
    "CREATE INDEX IF NOT EXISTS record_exe ON record (exe, time) WHERE exe IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS record_path ON record (path, time) WHERE path IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS record_sha256 ON record (sha256, time) WHERE sha256 IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS record_ip ON record (ip, time) WHERE ip IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS record_ip_given ON record (ip_given, time) WHERE ip_given IS NOT NULL",
    "CREATE INDEX IF NOT EXISTS indicator_id ON indicator (id, time, row)",
    "CREATE INDEX IF NOT EXISTS indicator_value ON indicator (value, time, row)",
    "CREATE INDEX IF NOT EXISTS actor_name ON actor (name)",
    "CREATE INDEX IF NOT EXISTS record_domain ON record (domain, time) WHERE domain IS NOT NULL",
];
/// A segment that has this one has all.
const LAST_INDEX: &str = "record_domain";

/// The file name of the segment with that number.
pub(super) fn name_of(sequence: u64) -> String {
    format!("hits-{sequence:010}.sqlite")
}

/// The file of the segment with that number.
pub(super) fn path_of(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(name_of(sequence))
}

/// Begins the name of a segment that could not be read as what it should be.
pub(super) const SET_ASIDE: &str = "damaged-";

/// The name under which the segment with that number is set aside.
pub(super) fn set_aside_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{SET_ASIDE}{}", name_of(sequence)))
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

/// What a segment takes at the most while [`finish`] works on it: its indexes, two thirds of what it has, are in the WAL and in the
/// database at once, and the WAL has an index of its own (at least 32 KiB: sqlite.org/walformat.html).
pub(super) fn bytes_to_finish(path: &Path) -> u64 {
    bytes_on_disk(path) / 2 * 5 + (32 << 10)
}

/// `PRAGMA user_version` of a file that is there: 0 for one without tables.
pub(super) fn schema_of(path: &Path) -> rusqlite::Result<i64> {
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Whether the segment has the indexes of [`INDEXES`].
pub(super) fn is_indexed(connection: &Connection) -> rusqlite::Result<bool> {
    let schema: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let has_last = "SELECT 1 FROM sqlite_schema WHERE type = 'index' AND name = ?1";
    Ok(schema >= CHAINED && connection.prepare(has_last)?.exists([LAST_INDEX])?)
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

/// How many changes a damaged segment had, as far as it still says; 0 where it says nothing.
pub(super) fn changes_of(path: &Path) -> i64 {
    let newest = super::reader::open_read_only(path)
        .and_then(|connection| connection.query_row("SELECT max(revision) FROM chain", [], |row| row.get(0)));
    newest.unwrap_or(0)
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

/// What a segment begins with.
pub(super) struct Beginning<'a> {
    /// The hash of the last entry of the segment before it.
    pub(super) before: &'a Hash,
    /// What its records are compressed with.
    pub(super) dictionary: &'a str,
    /// Bytes at which it is closed.
    pub(super) bytes: u64,
}

impl Beginning<'_> {
    /// A sixteenth of the segment, within bounds.
    fn wal_pages(&self) -> i64 {
        let (least, most) = WAL_PAGES;
        i64::try_from(self.bytes / 16 / PAGE_BYTES).unwrap_or(most).clamp(least, most)
    }
}

/// A segment that is being written.
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) path: PathBuf,
    connection: Connection,
    /// Of the newest change.
    pub(super) revision: i64,
    /// Hash of the newest entry of the chain.
    pub(super) head: Hash,
}

impl Segment {
    /// Opens the segment with that number for writing, and makes it as `beginning` says if it is not there.
    pub(super) fn open(dir: &Path, sequence: u64, beginning: &Beginning<'_>) -> Result<Self, JournalError> {
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
        prepare(&mut connection, beginning).map_err(sqlite)?;
        let verdict: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if verdict != "ok" {
            return Err(JournalError::Damaged { path, detail: verdict });
        }
        let (revision, head) = connection
            .query_row("SELECT revision, hash FROM chain ORDER BY revision DESC LIMIT 1", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .map_err(|source| JournalError::Damaged { path: path.clone(), detail: source.to_string() })?;
        Ok(Self { sequence, path, connection, revision, head })
    }

    /// Bytes of the database itself, pages that are still in the WAL included.
    pub(super) fn database_bytes(&self) -> u64 {
        let pages: i64 = self.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap_or(0);
        u64::try_from(pages).unwrap_or(0) * PAGE_BYTES
    }

    /// Bytes on disk as of the next checkpoint: all pages in the database, and what is in the WAL there still.
    pub(super) fn bytes_checkpointed(&self) -> u64 {
        let in_file = fs::metadata(&self.path).map_or(0, |metadata| metadata.len());
        bytes_on_disk(&self.path) + self.database_bytes().saturating_sub(in_file)
    }

    /// When the oldest record was written, in nanoseconds since 1970.
    pub(super) fn oldest(&self) -> rusqlite::Result<Option<i64>> {
        self.connection.query_row("SELECT min(time) FROM record", [], |row| row.get(0))
    }

    /// Writes all of `writes` in one transaction, synced to disk when this returns.
    pub(super) fn write(&mut self, writes: &[Write]) -> rusqlite::Result<()> {
        let transaction = self.connection.unchecked_transaction()?;
        let mut batch = Batch::new(&self.connection, self.revision, self.head)?;
        for write in writes {
            batch.apply(write)?;
        }
        let (revision, head) = (batch.revision, batch.head);
        drop(batch);
        transaction.commit()?;
        (self.revision, self.head) = (revision, head);
        Ok(())
    }

    /// Whether the chain has that entry.
    pub(super) fn has(&self, revision: i64, hash: &Hash) -> rusqlite::Result<bool> {
        self.connection
            .query_row("SELECT hash = ?2 FROM chain WHERE revision = ?1", (revision, hash), |row| row.get(0))
            .optional()
            .map(|is_same| is_same == Some(true))
    }

    /// Makes the segment a single file that can be read without write permission. A reader may prevent it; it is then tried
    /// again later.
    pub(super) fn close(self) -> rusqlite::Result<()> {
        make_single(&self.connection)
    }
}

fn make_single(connection: &Connection) -> rusqlite::Result<()> {
    // Longer than a reader needs for one page of records, shorter than anybody minds.
    connection.busy_timeout(std::time::Duration::from_millis(50))?;
    connection.pragma_update_and_check(None, "journal_mode", "DELETE", |_| Ok(()))
}

/// Gives a segment that is written no more its indexes, and makes it a single file. What is done already is not done again.
pub(super) fn finish(path: &Path) -> rusqlite::Result<()> {
    // Not made anew should it be gone.
    let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    let schema: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if schema == SCHEMA && !is_indexed(&connection)? {
        connection.busy_timeout(std::time::Duration::from_secs(5))?;
        // As it was written: readers go on meanwhile.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        INDEXES.iter().try_for_each(|index| connection.execute_batch(index))?;
    }
    make_single(&connection)
}

/// Whether [`finish`] has something to do.
pub(super) fn is_unfinished(path: &Path) -> bool {
    let lacks_indexes = || {
        let connection = super::reader::open_read_only(path)?;
        let schema: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        Ok::<_, rusqlite::Error>(schema == SCHEMA && !is_indexed(&connection)?)
    };
    beside(path, "-wal").exists() || beside(path, "-shm").exists() || lacks_indexes().unwrap_or(false)
}

fn prepare(connection: &mut Connection, beginning: &Beginning<'_>) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES as i64)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // In WAL mode FULL syncs at every commit: what was acknowledged survives a power cut, not only a crash.
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update_and_check(None, "wal_autocheckpoint", beginning.wal_pages(), |_| Ok(()))?;
    let wal_bytes = beginning.wal_pages() * PAGE_BYTES as i64;
    connection.pragma_update_and_check(None, "journal_size_limit", wal_bytes, |_| Ok(()))?;
    let transaction = connection.transaction()?;
    let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        transaction.execute_batch(TABLES)?;
        transaction.execute("INSERT INTO chain (revision, content, hash) VALUES (0, x'', ?1)", [beginning.before])?;
        transaction.execute("INSERT INTO dictionary (content) VALUES (?1)", [beginning.dictionary.as_bytes()])?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID)?;
        transaction.pragma_update(None, "user_version", SCHEMA)?;
    }
    transaction.commit()?;
    packed::install(connection)
}
