//! The sightings on disk: folded from the journal, kept through outages, bounded.
//!
//! The place in the journal and what was folded up to it change in one transaction: each hit counts exactly once, whatever is
//! killed when. What was sent is noted after it was sent, so that it may be sent twice, but never not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, Transaction, params};
use serde::Serialize;
use uuid::Uuid;

use super::{Observed, Sighting, Withheld};
use crate::attribute::Finding;
use crate::attribute::finding::IndicatorRef;
use crate::intel::Tlp;
use crate::journal::Cursor;

/// Sightings kept; the oldest go first.
const MAX_SIGHTINGS: i64 = 50_000;
/// How long a sighting is kept after its window, once everybody was told.
const KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Of what was seen, for one sighting.
const MAX_OBSERVED: usize = 16;
/// Refusals of one sighting by one destination until it is not sent again.
const MAX_ATTEMPTS: u32 = 5;

const TABLES: &str = "\
CREATE TABLE IF NOT EXISTS fact (name TEXT PRIMARY KEY, value TEXT NOT NULL);
-- Hits of records that may still grow: those of the segment being read.
CREATE TABLE IF NOT EXISTS record (id TEXT PRIMARY KEY, sequence INTEGER NOT NULL, count INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS sighting (
  number    INTEGER PRIMARY KEY,
  indicator TEXT NOT NULL,
  window    INTEGER NOT NULL,
  kind      TEXT NOT NULL,
  value     TEXT NOT NULL,
  sources   TEXT NOT NULL,
  tlp       TEXT NOT NULL,
  count     INTEGER NOT NULL,
  first     INTEGER NOT NULL,
  last      INTEGER NOT NULL,
  created   INTEGER NOT NULL,
  modified  INTEGER NOT NULL,
  observed  TEXT NOT NULL,
  UNIQUE (indicator, window)
);
CREATE TABLE IF NOT EXISTS delivery (
  destination TEXT NOT NULL,
  sighting    INTEGER NOT NULL REFERENCES sighting (number) ON DELETE CASCADE,
  modified    INTEGER NOT NULL,
  state       TEXT NOT NULL,
  attempts    INTEGER NOT NULL,
  PRIMARY KEY (destination, sighting)
);
CREATE TABLE IF NOT EXISTS tally (
  destination TEXT NOT NULL,
  what        TEXT NOT NULL,
  count       INTEGER NOT NULL,
  PRIMARY KEY (destination, what)
);
";

/// Why the spool cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// SQLite failed.
    #[error("{path}: {source}")]
    Sqlite {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
}

/// What became of one sighting at one destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It has it.
    Sent,
    /// It is not told.
    Withheld(Withheld),
    /// It would not take it this time.
    Refused,
}

/// How a destination stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Versions of sightings that it took.
    pub sent: u64,
    /// Sightings kept back, by reason.
    pub withheld: BTreeMap<String, u64>,
    /// Sightings that wait to be sent.
    pub waiting: u64,
    /// Sightings that it would not take.
    pub refused: u64,
    /// Sightings given up because the spool was full.
    pub dropped: u64,
}

/// The file. It may be used from several threads.
#[derive(Debug)]
pub struct Spool {
    path: PathBuf,
    connection: Mutex<Connection>,
    salt: String,
}

impl Spool {
    /// Opens or makes the file.
    ///
    /// # Errors
    /// It cannot be made, or is damaged.
    pub fn open(path: &Path) -> Result<Self, SpoolError> {
        let failed = |source| SpoolError::Sqlite { path: path.to_owned(), source };
        let connection = Connection::open(path).map_err(failed)?;
        let salt = prepare(&connection).map_err(failed)?;
        Ok(Self { path: path.to_owned(), connection: Mutex::new(connection), salt })
    }

    /// Random, made with the file: keeps apart the hosts that report as one identity.
    pub(super) fn salt(&self) -> &str {
        &self.salt
    }

    /// How far the journal was folded; `None` before anything was.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn cursor(&self) -> Result<Option<Cursor>, SpoolError> {
        let text: Option<String> = self.with(|connection| {
            connection.query_row("SELECT value FROM fact WHERE name = 'cursor'", [], |row| row.get(0)).optional()
        })?;
        Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
    }

    /// Folds records that were read up to `cursor`.
    ///
    /// # Errors
    /// The file cannot be written; nothing was folded then.
    pub fn fold(
        &self,
        findings: &[Finding],
        cursor: Cursor,
        window: Duration,
        now: Timestamp,
    ) -> Result<(), SpoolError> {
        let cursor_text = serde_json::to_string(&cursor).unwrap_or_default();
        let sequence = i64::try_from(cursor.sequence).unwrap_or(i64::MAX);
        self.change(|transaction| {
            transaction.execute("DELETE FROM record WHERE sequence < ?1", [sequence])?;
            for finding in findings {
                let hits = new_hits(transaction, finding, sequence)?;
                let mut told = BTreeSet::new();
                for indicator in std::iter::once(&finding.indicator).chain(&finding.also) {
                    if hits > 0 && indicator.source != "unknown" {
                        // Whoever else lists the same indicator counts no further hit, and has a say in who may be told.
                        let hits = if told.insert(&indicator.id) { hits } else { 0 };
                        add(transaction, finding, indicator, hits, window, now)?;
                    }
                }
            }
            transaction.execute("INSERT OR REPLACE INTO fact VALUES ('cursor', ?1)", [&cursor_text])?;
            Ok(())
        })
    }

    /// The sightings that `destination` has not been told of in their latest version, oldest first; with `ended_before` only
    /// those whose window begins earlier.
    pub(super) fn due(
        &self,
        destination: &str,
        ended_before: Option<Timestamp>,
        limit: usize,
    ) -> Result<Vec<Sighting>, SpoolError> {
        let before = ended_before.map_or(i64::MAX, Timestamp::as_second);
        self.with(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT sighting.* FROM sighting LEFT JOIN delivery ON sighting = number AND destination = ?1
                 WHERE window < ?2 AND (state IS NULL OR state = 'refused' AND attempts < ?3
                   OR state = 'sent' AND delivery.modified < sighting.modified)
                 ORDER BY number LIMIT ?4",
            )?;
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            statement.query_map(params![destination, before, MAX_ATTEMPTS, limit], sighting)?.collect()
        })
    }

    /// Notes what became of sightings, each in the version that was judged.
    pub(super) fn settle(&self, destination: &str, outcomes: &[(&Sighting, Outcome)]) -> Result<(), SpoolError> {
        self.change(|transaction| {
            for (sighting, outcome) in outcomes {
                let (state, attempts) = match outcome {
                    Outcome::Sent => ("sent", 0),
                    Outcome::Withheld(why) => (why.name(), 0),
                    Outcome::Refused => ("refused", 1),
                };
                transaction
                    .prepare_cached(
                        "INSERT INTO delivery VALUES (?1, ?2, ?3, ?4, ?5)
                         ON CONFLICT DO UPDATE SET modified = ?3, state = ?4, attempts = ?5 * (attempts + 1)",
                    )?
                    .execute(params![destination, sighting.number, millis(sighting.modified), state, attempts])?;
                if *outcome == Outcome::Sent {
                    count(transaction, destination, "sent", 1)?;
                }
            }
            Ok(())
        })
    }

    /// Forgets what was kept back or refused, so that it is judged anew: the settings may be others now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn judge_anew(&self) -> Result<(), SpoolError> {
        self.change(|transaction| transaction.execute("DELETE FROM delivery WHERE state != 'sent'", []).map(drop))
    }

    /// Removes what everybody in `destinations` was told of long ago; and the oldest when there are too many, which is then
    /// counted for those who were not. Returns how many were given up.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn trim(&self, destinations: &[&str], window: Duration, now: Timestamp) -> Result<u64, SpoolError> {
        let old = now.as_second().saturating_sub_unsigned((window + KEPT).as_secs());
        self.change(|transaction| {
            for destination in destinations {
                transaction.execute(
                    "INSERT INTO told SELECT sighting, destination FROM delivery JOIN sighting ON number = sighting
                     WHERE destination = ?1 AND (state != 'refused' OR attempts >= ?2)
                       AND (state != 'sent' OR delivery.modified >= sighting.modified)",
                    params![destination, MAX_ATTEMPTS],
                )?;
            }
            let everybody = i64::try_from(destinations.len()).unwrap_or(i64::MAX);
            let mut given_up = 0;
            if !destinations.is_empty() {
                transaction.execute(
                    "DELETE FROM sighting WHERE window < ?1
                       AND (SELECT count(*) FROM told WHERE told.number = sighting.number) = ?2",
                    params![old, everybody],
                )?;
                for destination in destinations {
                    let lost: i64 = transaction.query_row(
                        "SELECT count(*) FROM (SELECT number FROM sighting ORDER BY window DESC, number DESC LIMIT -1 OFFSET ?1)
                         WHERE number NOT IN (SELECT number FROM told WHERE destination = ?2)",
                        params![MAX_SIGHTINGS, destination],
                        |row| row.get(0),
                    )?;
                    count(transaction, destination, "dropped", lost)?;
                    given_up += u64::try_from(lost).unwrap_or(0);
                }
                transaction.execute("DELETE FROM told", [])?;
            }
            transaction.execute(
                "DELETE FROM sighting WHERE number IN
                   (SELECT number FROM sighting ORDER BY window DESC, number DESC LIMIT -1 OFFSET ?1)",
                [MAX_SIGHTINGS],
            )?;
            Ok(given_up)
        })
    }

    /// How a destination stands.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn standing(&self, destination: &str) -> Result<Standing, SpoolError> {
        self.with(|connection| {
            let mut standing = Standing::default();
            let mut tallies = connection.prepare_cached("SELECT what, count FROM tally WHERE destination = ?1")?;
            for tally in
                tallies.query_map([destination], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?
            {
                let (what, count) = tally?;
                let count = u64::try_from(count).unwrap_or(0);
                match what.as_str() {
                    "sent" => standing.sent = count,
                    "dropped" => standing.dropped = count,
                    _ => {}
                }
            }
            let mut states = connection.prepare_cached(
                "SELECT CASE WHEN state IS NULL OR state = 'sent' AND delivery.modified < sighting.modified
                          OR state = 'refused' AND attempts < ?2 THEN 'waiting' ELSE state END, count(*)
                 FROM sighting LEFT JOIN delivery ON sighting = number AND destination = ?1 GROUP BY 1",
            )?;
            let rows = states.query_map(params![destination, MAX_ATTEMPTS], |row| {
                Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?))
            })?;
            for row in rows {
                let (state, count) = row?;
                let count = u64::try_from(count).unwrap_or(0);
                match state.as_str() {
                    "sent" => {}
                    "waiting" => standing.waiting = count,
                    "refused" => standing.refused = count,
                    _ => {
                        standing.withheld.insert(state, count);
                    }
                }
            }
            Ok(standing)
        })
    }

    fn with<T>(&self, ask: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, SpoolError> {
        ask(&self.lock()).map_err(|source| SpoolError::Sqlite { path: self.path.clone(), source })
    }

    fn change<T>(&self, change: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, SpoolError> {
        let mut connection = self.lock();
        let changed = connection.transaction().and_then(|transaction| {
            let value = change(&transaction)?;
            transaction.commit()?;
            Ok(value)
        });
        changed.map_err(|source| SpoolError::Sqlite { path: self.path.clone(), source })
    }

    /// A transaction that was cut short by a panic is rolled back when it is dropped.
    fn lock(&self) -> MutexGuard<'_, Connection> {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Makes the tables; returns the salt.
fn prepare(connection: &Connection) -> rusqlite::Result<String> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.execute_batch(TABLES)?;
    connection.execute_batch("CREATE TEMP TABLE told (number INTEGER, destination TEXT)")?;
    connection.execute("INSERT OR IGNORE INTO fact VALUES ('salt', ?1)", [Uuid::new_v4().to_string()])?;
    connection.query_row("SELECT value FROM fact WHERE name = 'salt'", [], |row| row.get(0))
}

/// Hits of a record that were not counted before: its count grows while its segment is written.
fn new_hits(transaction: &Transaction<'_>, finding: &Finding, sequence: i64) -> rusqlite::Result<i64> {
    let count = i64::try_from(finding.count).unwrap_or(i64::MAX);
    let known: Option<i64> = transaction
        .prepare_cached("SELECT count FROM record WHERE id = ?1")?
        .query_row([&finding.id], |row| row.get(0))
        .optional()?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO record VALUES (?1, ?2, ?3)")?
        .execute(params![finding.id, sequence, count])?;
    Ok((count - known.unwrap_or(0)).max(0))
}

fn add(
    transaction: &Transaction<'_>,
    finding: &Finding,
    indicator: &IndicatorRef,
    hits: i64,
    window: Duration,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let seconds = i64::try_from(window.as_secs()).unwrap_or(i64::MAX).max(1);
    let begins = finding.last_time.as_second().div_euclid(seconds) * seconds;
    let (first, last) = (millis(finding.time).max(begins * 1000), millis(finding.last_time));
    let known = transaction
        .prepare_cached("SELECT * FROM sighting WHERE indicator = ?1 AND window = ?2")?
        .query_row(params![indicator.id, begins], sighting)
        .optional()?;
    let mut sources = known.as_ref().map(|known| known.sources.clone()).unwrap_or_default();
    sources.insert(indicator.source.clone());
    let mut observed = known.as_ref().map(|known| known.observed.clone()).unwrap_or_default();
    observed.extend(seen(finding).into_iter().take(MAX_OBSERVED.saturating_sub(observed.len())));
    // What is marked with nothing that we know may be anything.
    let tlp = indicator.tlp.unwrap_or(Tlp::Red).max(known.as_ref().map_or(Tlp::Clear, |known| known.tlp));
    // Later than the version before, even where the clock was set back.
    let modified = known.as_ref().map_or(millis(now), |known| millis(now).max(millis(known.modified) + 1));
    transaction
        .prepare_cached(
            "INSERT INTO sighting (indicator, window, kind, value, sources, tlp, count, first, last, created, modified, observed)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11)
             ON CONFLICT DO UPDATE SET sources = ?5, tlp = ?6, count = count + ?7, first = min(first, ?8),
               last = max(last, ?9), modified = ?10, observed = ?11",
        )?
        .execute(params![
            indicator.id,
            begins,
            indicator.kind,
            indicator.value,
            json(&sources),
            json(&tlp),
            hits,
            first,
            last.max(first),
            modified,
            json(&observed)
        ])?;
    Ok(())
}

/// What a record says was seen, and nothing of who did it.
fn seen(finding: &Finding) -> Vec<Observed> {
    let address = finding.destination.as_ref().map(|to| Observed::Address(to.ip));
    let domain = finding.destination.as_ref().and_then(|to| to.domain.clone()).map(Observed::Domain);
    let digest = finding.file.as_ref().and_then(|file| file.sha256.clone()).map(Observed::Sha256);
    [address, domain, digest].into_iter().flatten().collect()
}

fn count(transaction: &Transaction<'_>, destination: &str, what: &str, more: i64) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("INSERT INTO tally VALUES (?1, ?2, ?3) ON CONFLICT DO UPDATE SET count = count + ?3")?
        .execute(params![destination, what, more])?;
    Ok(())
}

fn sighting(row: &Row<'_>) -> rusqlite::Result<Sighting> {
    let text = |name| row.get::<_, String>(name);
    let time = |name| Ok::<_, rusqlite::Error>(Timestamp::from_millisecond(row.get(name)?).unwrap_or_default());
    Ok(Sighting {
        number: row.get("number")?,
        indicator: text("indicator")?,
        kind: text("kind")?,
        value: text("value")?,
        sources: serde_json::from_str(&text("sources")?).unwrap_or_default(),
        tlp: serde_json::from_str(&text("tlp")?).unwrap_or(Tlp::Red),
        window: Timestamp::from_second(row.get("window")?).unwrap_or_default(),
        count: u64::try_from(row.get::<_, i64>("count")?).unwrap_or(1),
        first: time("first")?,
        last: time("last")?,
        created: time("created")?,
        modified: time("modified")?,
        observed: serde_json::from_str(&text("observed")?).unwrap_or_default(),
    })
}

fn millis(time: Timestamp) -> i64 {
    time.as_millisecond()
}

fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}
