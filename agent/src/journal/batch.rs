//! What one transaction does to a segment: records, repeats and losses, each linked into the chain.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{CachedStatement, Connection, OptionalExtension as _, Row as Found, params, params_from_iter};

use super::Loss;
use super::chain::{self, COLUMNS, Content, Hash, READ_COLUMNS, WIDTH};
use super::row::{Row, nanoseconds, timestamp};
use super::segment::SCHEMA;

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
            Self::Loss(_) => 256,
        }
    }
}

/// What a transaction does, each prepared once, and how far it brought the chain.
pub(super) struct Batch<'c> {
    connection: &'c Connection,
    record: CachedStatement<'c>,
    indicator: CachedStatement<'c>,
    actor: CachedStatement<'c>,
    entry: CachedStatement<'c>,
    /// Of the newest change.
    pub(super) revision: i64,
    /// Hash of the newest entry.
    pub(super) head: Hash,
}

impl<'c> Batch<'c> {
    /// `connection` has a transaction open.
    pub(super) fn new(connection: &'c Connection, revision: i64, head: Hash) -> rusqlite::Result<Self> {
        let record = format!(
            "INSERT INTO record (revision, {COLUMNS})
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, packed(?17))
             ON CONFLICT (id) DO NOTHING"
        );
        Ok(Self {
            connection,
            record: connection.prepare_cached(&record)?,
            indicator: connection.prepare_cached(
                "INSERT INTO indicator (row, n, time, id, value, source) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
            )?,
            actor: connection.prepare_cached("INSERT INTO actor (row, n, name) VALUES (?1, ?2, ?3)")?,
            entry: connection.prepare_cached(
                "INSERT INTO chain (revision, id, supersedes, content, hash) VALUES (?1, ?2, ?3, ?4, ?5)",
            )?,
            revision,
            head,
        })
    }

    pub(super) fn apply(&mut self, write: &Write) -> rusqlite::Result<()> {
        match write {
            Write::Insert(row) => self.insert(row),
            Write::Fold { row, repeats } => self.fold(row, *repeats),
            Write::Loss(loss) => self.insert_loss(loss),
        }
    }

    fn insert(&mut self, row: &Row) -> rusqlite::Result<()> {
        let revision = ToSqlOutput::Owned(Value::Integer(self.revision + 1));
        let values = std::iter::once(revision).chain(row.values().into_iter().map(ToSqlOutput::Borrowed));
        if self.record.execute(params_from_iter(values))? == 0 {
            // The same record again: a batch is retried as a whole.
            return Ok(());
        }
        let number = self.connection.last_insert_rowid();
        for (n, (id, value, source)) in row.indicators.iter().enumerate() {
            self.indicator.execute(params![number, n as i64, row.time, id, value, source])?;
        }
        for (n, actor) in row.actors.iter().enumerate() {
            self.actor.execute(params![number, n as i64, actor])?;
        }
        self.link(Some(&row.id), None, &row.content)
    }

    fn fold(&mut self, row: &Row, repeats: i64) -> rusqlite::Result<()> {
        let of = row.continues.as_deref().unwrap_or(&row.id);
        let found: Option<(i64, i64, i64, i64)> = self
            .connection
            .prepare_cached("SELECT row, revision, count, last_time FROM record WHERE id = ?1 OR continues = ?1")?
            .query_row([of], |found| Ok((found.get(0)?, found.get(1)?, found.get(2)?, found.get(3)?)))
            .optional()?;
        let Some((number, revision, count, last_time)) = found else { return self.insert(row) };
        let count = count.saturating_add(repeats);
        let last_time = last_time.max(row.last_time);
        self.connection
            .prepare_cached(
                "UPDATE record SET count = ?2, last_time = ?3, revision = ?4,
                   record = packed(json_set(unpacked(record), '$.count', ?2, '$.last_time', ?5))
                 WHERE row = ?1",
            )?
            .execute(params![number, count, last_time, self.revision + 1, timestamp(last_time).to_string()])?;
        let (id, content) = self
            .connection
            .prepare_cached(&format!("SELECT {READ_COLUMNS}, row FROM record WHERE row = ?1"))?
            .query_row([number], |found| Ok((found.get::<_, String>(0)?, content(self.connection, found, SCHEMA)?)))?;
        self.link(Some(&id), Some(revision), &content)
    }

    fn insert_loss(&mut self, loss: &Loss) -> rusqlite::Result<()> {
        let reason = loss.reason.name();
        let numbers = [i64::try_from(loss.count).unwrap_or(i64::MAX), nanoseconds(loss.from), nanoseconds(loss.to)];
        let [count, from, to] = numbers;
        self.connection
            .prepare_cached("INSERT INTO loss (row, reason, count, from_time, to_time) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![self.revision + 1, reason, count, from, to])?;
        let mut content = Content::new();
        content.add(ValueRef::Text(reason.as_bytes()));
        numbers.into_iter().for_each(|number| content.integer(number));
        self.link(None, None, &content.finish())
    }

    /// Makes the change that was just done the newest entry of the chain.
    fn link(&mut self, id: Option<&str>, supersedes: Option<i64>, content: &Hash) -> rusqlite::Result<()> {
        let revision = self.revision + 1;
        let hash = chain::link(&self.head, revision, id, supersedes, content);
        self.entry.execute(params![revision, id, supersedes, content, hash])?;
        (self.revision, self.head) = (revision, hash);
        Ok(())
    }
}

/// The content of a record as it is in a file of that schema: `found` has [`READ_COLUMNS`], then `row`.
pub(super) fn content(connection: &Connection, found: &Found<'_>, schema: i64) -> rusqlite::Result<Hash> {
    let number: i64 = found.get(WIDTH)?;
    let order = if schema < SCHEMA { "rowid" } else { "n" };
    let mut content = Content::new();
    for column in 0..WIDTH {
        content.add(found.get_ref(column)?);
    }
    for (table, columns) in [("indicator", "id, value, source"), ("actor", "name")] {
        let count = format!("SELECT count(*) FROM {table} WHERE row = ?1");
        content.integer(connection.prepare_cached(&count)?.query_row([number], |count| count.get(0))?);
        let select = format!("SELECT {columns} FROM {table} WHERE row = ?1 ORDER BY {order}");
        let mut statement = connection.prepare_cached(&select)?;
        let width = statement.column_count();
        let mut rows = statement.query([number])?;
        while let Some(row) = rows.next()? {
            for column in 0..width {
                content.add(row.get_ref(column)?);
            }
        }
    }
    Ok(content.finish())
}

/// The content of a loss as it is in the file: `found` has `reason`, `count`, `from_time` and `to_time`.
pub(super) fn loss_content(found: &Found<'_>, first: usize) -> rusqlite::Result<Hash> {
    let mut content = Content::new();
    for column in first..first + 4 {
        content.add(found.get_ref(column)?);
    }
    Ok(content.finish())
}
