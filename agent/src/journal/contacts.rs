//! Whom this host's programs have reached and what ran on it, whether or not anybody lists it: what is looked back at when
//! intelligence arrives (docs/journal.md). One SQLite file of bounded size beside the journal; the longest unseen go first.

use std::fs::OpenOptions;
use std::net::{IpAddr, Ipv6Addr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row, params};

use super::JournalError;
use super::row::{address_bytes, canonical, nanoseconds, timestamp};

/// File name in the journal's directory.
const FILE: &str = "contacts.sqlite";
/// `PRAGMA application_id`: "CrdC".
const APPLICATION_ID: i64 = 0x4372_6443;
const SCHEMA: i64 = 1;
/// Of what is kept, the part that goes at a time.
const FORGET_PART: i64 = 8;

/// The tables. docs/journal.md explains them and a test holds the two together.
pub(super) const TABLES: &str = "\
CREATE TABLE contact (
  ip         BLOB NOT NULL,
  port       INTEGER NOT NULL,
  protocol   INTEGER NOT NULL,
  exe        TEXT NOT NULL,
  pid        INTEGER NOT NULL,
  first_time INTEGER NOT NULL,
  last_time  INTEGER NOT NULL,
  count      INTEGER NOT NULL,
  PRIMARY KEY (ip, port, protocol, exe)
) WITHOUT ROWID;
CREATE INDEX contact_last_time ON contact (last_time);
CREATE TABLE executable (
  sha256     TEXT NOT NULL,
  path       TEXT NOT NULL,
  pid        INTEGER NOT NULL,
  first_time INTEGER NOT NULL,
  last_time  INTEGER NOT NULL,
  count      INTEGER NOT NULL,
  PRIMARY KEY (sha256, path)
) WITHOUT ROWID;
CREATE INDEX executable_path ON executable (path);
CREATE INDEX executable_last_time ON executable (last_time);
CREATE TABLE told (
  indicator TEXT NOT NULL,
  what      TEXT NOT NULL,
  time      INTEGER NOT NULL,
  PRIMARY KEY (indicator, what)
) WITHOUT ROWID;
";

/// What was reached, or run.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Met {
    /// A program reached a destination.
    Contact {
        /// Canonical address.
        ip: IpAddr,
        /// Port.
        port: u16,
        /// IP protocol number.
        protocol: u16,
        /// Path of the program; empty for unknown.
        exe: String,
    },
    /// A file was executed.
    Executable {
        /// SHA-256, hexadecimal; empty for unknown.
        sha256: String,
        /// Its path.
        path: String,
    },
}

/// How often, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What.
    pub met: Met,
    /// The process that did it last.
    pub pid: u32,
    /// At first.
    pub first: Timestamp,
    /// At last.
    pub last: Timestamp,
    /// At least so often.
    pub count: u64,
}

/// The file, open for reading or for both.
pub struct Contacts {
    path: PathBuf,
    connection: Connection,
    max_bytes: u64,
}

impl Contacts {
    /// Opens the file in `dir` for writing and makes it (mode 0640) if it is not there. It takes no more than some 5 % over
    /// `max_bytes`.
    ///
    /// # Errors
    /// It cannot be made or written, or a newer Cordon has made it.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Self, JournalError> {
        let path = dir.join(FILE);
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o640)
            .open(&path)
            .map_err(|source| JournalError::file(&path, "create the file", source))?;
        let sqlite = |source| JournalError::Sqlite { path: path.clone(), source };
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_WRITE).map_err(sqlite)?;
        prepare(&connection).map_err(sqlite)?;
        let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(sqlite)?;
        if found > SCHEMA {
            return Err(JournalError::Newer { path, found, known: SCHEMA });
        }
        Ok(Self { path, connection, max_bytes })
    }

    /// Opens the file in `dir` for reading; `None` where nothing was ever kept.
    ///
    /// # Errors
    /// It may not be read, or is damaged.
    pub fn read(dir: &Path) -> Result<Option<Self>, JournalError> {
        let path = dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let connection = Connection::open_with_flags(&path, OpenFlags::SQLITE_OPEN_READ_ONLY)
            .and_then(|connection| connection.busy_timeout(Duration::from_secs(5)).map(|()| connection))
            .map_err(|source| super::reader::explain(&path, source))?;
        Ok(Some(Self { path, connection, max_bytes: 0 }))
    }

    fn sqlite(&self, source: rusqlite::Error) -> JournalError {
        super::reader::explain(&self.path, source)
    }

    /// Adds to what is kept, in one transaction. How many of the longest unseen were forgotten for it.
    ///
    /// # Errors
    /// The file cannot be written; nothing of this was added then.
    pub fn add(&mut self, seen: &[Seen]) -> Result<u64, JournalError> {
        let added = self.try_add(seen);
        added.map_err(|source| self.sqlite(source))
    }

    fn try_add(&mut self, seen: &[Seen]) -> rusqlite::Result<u64> {
        let transaction = self.connection.transaction()?;
        for one in seen {
            let (first, last) = (nanoseconds(one.first), nanoseconds(one.last));
            let count = i64::try_from(one.count).unwrap_or(i64::MAX);
            let again = "DO UPDATE SET pid = excluded.pid, first_time = min(first_time, excluded.first_time),
                           last_time = max(last_time, excluded.last_time), count = count + excluded.count";
            match &one.met {
                Met::Contact { ip, port, protocol, exe } => transaction
                    .prepare_cached(&format!(
                        "INSERT INTO contact (ip, port, protocol, exe, pid, first_time, last_time, count)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT (ip, port, protocol, exe) {again}"
                    ))?
                    .execute(params![address_bytes(*ip), port, protocol, exe, one.pid, first, last, count])?,
                Met::Executable { sha256, path } => transaction
                    .prepare_cached(&format!(
                        "INSERT INTO executable (sha256, path, pid, first_time, last_time, count)
                         VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT (sha256, path) {again}"
                    ))?
                    .execute(params![sha256, path, one.pid, first, last, count])?,
            };
        }
        let used: i64 = transaction.query_row(
            "SELECT (page_count - freelist_count) * page_size
             FROM pragma_page_count, pragma_freelist_count, pragma_page_size",
            [],
            |row| row.get(0),
        )?;
        let mut forgotten = 0;
        if u64::try_from(used).unwrap_or(0) > self.max_bytes {
            for (table, key) in [("contact", "ip, port, protocol, exe"), ("executable", "sha256, path")] {
                forgotten += transaction.execute(
                    &format!(
                        "DELETE FROM {table} WHERE ({key}) IN (SELECT {key} FROM {table} ORDER BY last_time
                         LIMIT (SELECT count(*) / {FORGET_PART} + 1 FROM {table}))"
                    ),
                    [],
                )?;
            }
            transaction.execute(
                &format!("DELETE FROM told WHERE (indicator, what) IN (SELECT indicator, what FROM told ORDER BY time LIMIT (SELECT count(*) / {FORGET_PART} FROM told))"),
                [],
            )?;
        }
        transaction.commit()?;
        Ok(forgotten as u64)
    }

    /// Gives all that is kept to `each`, as long as it says so.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn each(&self, each: impl FnMut(Seen)) -> Result<(), JournalError> {
        self.try_each(each).map_err(|source| self.sqlite(source))
    }

    fn try_each(&self, mut each: impl FnMut(Seen)) -> rusqlite::Result<()> {
        let mut statement = self.connection.prepare(
            "SELECT pid, first_time, last_time, count, ip, port, protocol, exe FROM contact ORDER BY ip, port",
        )?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            let ip = canonical(IpAddr::V6(Ipv6Addr::from(row.get::<_, [u8; 16]>(4)?)));
            let met = Met::Contact { ip, port: row.get(5)?, protocol: row.get(6)?, exe: row.get(7)? };
            each(seen(row, met)?);
        }
        let mut statement =
            self.connection.prepare("SELECT pid, first_time, last_time, count, sha256, path FROM executable")?;
        let mut rows = statement.query([])?;
        while let Some(row) = rows.next()? {
            each(seen(row, Met::Executable { sha256: row.get(4)?, path: row.get(5)? })?);
        }
        Ok(())
    }

    /// Whether it was told that `met` is what `indicator` lists.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_told(&self, indicator: &str, met: &Met) -> Result<bool, JournalError> {
        let told = self.connection.prepare_cached("SELECT 1 FROM told WHERE indicator = ?1 AND what = ?2");
        told.and_then(|mut told| told.exists(params![indicator, format!("{met:?}")]))
            .map_err(|source| self.sqlite(source))
    }

    /// Remembers that it was told.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn note_told(&self, indicator: &str, met: &Met, now: Timestamp) -> Result<(), JournalError> {
        let told = "INSERT INTO told (indicator, what, time) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING";
        let told = self.connection.prepare_cached(told);
        told.and_then(|mut told| told.execute(params![indicator, format!("{met:?}"), nanoseconds(now)]))
            .map(drop)
            .map_err(|source| self.sqlite(source))
    }
}

fn prepare(connection: &Connection) -> rusqlite::Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    // What a power cut takes is the last seconds; the file stays whole.
    connection.pragma_update(None, "synchronous", "NORMAL")?;
    connection.pragma_update_and_check(None, "journal_size_limit", 1 << 20, |_| Ok(()))?;
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
    if tables == 0 {
        connection.execute_batch(&format!(
            "BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {SCHEMA}; COMMIT;"
        ))?;
    }
    Ok(())
}

fn seen(row: &Row<'_>, met: Met) -> rusqlite::Result<Seen> {
    Ok(Seen {
        met,
        pid: row.get(0)?,
        first: timestamp(row.get(1)?),
        last: timestamp(row.get(2)?),
        count: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + second).unwrap()
    }

    fn contact(n: u32, second: i64) -> Seen {
        let ip = IpAddr::V4(std::net::Ipv4Addr::from_bits(0xcb00_7100 + n));
        let met = Met::Contact { ip, port: 443, protocol: 6, exe: "/usr/bin/curl".to_owned() };
        Seen { met, pid: 7, first: at(second), last: at(second), count: 1 }
    }

    fn all(contacts: &Contacts) -> Vec<Seen> {
        let mut found = Vec::new();
        contacts.each(|seen| found.push(seen)).unwrap();
        found
    }

    #[test]
    fn what_comes_again_is_counted_and_what_differs_is_kept_apart() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Contacts::read(dir.path()).unwrap().is_none());
        let mut contacts = Contacts::open(dir.path(), 1 << 20).unwrap();
        let program =
            Seen { met: Met::Executable { sha256: String::new(), path: "/bin/true".to_owned() }, ..contact(0, 1) };
        contacts.add(&[contact(1, 5), contact(2, 6), program.clone()]).unwrap();
        drop(contacts);
        let mut contacts = Contacts::open(dir.path(), 1 << 20).unwrap();
        contacts.add(&[Seen { pid: 9, count: 3, ..contact(1, 9) }]).unwrap();
        let expected = [Seen { pid: 9, last: at(9), count: 4, ..contact(1, 5) }, contact(2, 6), program];
        assert_eq!(all(&contacts), expected);
        assert_eq!(all(&Contacts::read(dir.path()).unwrap().unwrap()), expected);
    }

    #[test]
    fn the_file_stays_within_its_bound_and_the_longest_unseen_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let bound = 512 << 10;
        let mut contacts = Contacts::open(dir.path(), bound).unwrap();
        let mut forgotten = 0;
        for batch in 0..60_u32 {
            let seen: Vec<_> = (0..250).map(|n| contact(batch * 250 + n, i64::from(batch))).collect();
            forgotten += contacts.add(&seen).unwrap();
        }
        assert!(forgotten > 0);
        let kept = all(&contacts);
        assert_eq!(kept.len() as u64 + forgotten, 60 * 250);
        assert!(kept.iter().any(|seen| seen.last == at(59)) && !kept.iter().any(|seen| seen.last == at(0)));
        let size = std::fs::metadata(dir.path().join(FILE)).unwrap().len();
        assert!(size < bound * 21 / 20, "{size}");
    }

    #[test]
    fn an_indicator_and_a_contact_are_news_once_after_a_restart_too() {
        let dir = tempfile::tempdir().unwrap();
        let met = contact(1, 1).met;
        for expected in [false, true] {
            let contacts = Contacts::open(dir.path(), 1 << 20).unwrap();
            for indicator in ["feed 203.0.113.1", "feed 203.0.113.0/24"] {
                assert_eq!(contacts.is_told(indicator, &met).unwrap(), expected);
                contacts.note_told(indicator, &met, at(1)).unwrap();
            }
        }
    }

    #[test]
    fn the_page_for_people_shows_the_tables() {
        let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/journal.md");
        assert!(
            std::fs::read_to_string(page).unwrap().contains(TABLES),
            "docs/journal.md must hold exactly:\n{TABLES}"
        );
    }
}
