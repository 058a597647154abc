//! What one transaction does to a segment: records, repeats and losses, each linked into the chain.

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{OptionalExtension as _, Row as Found, Transaction, params, params_from_iter};

use super::Loss;
use super::chain::{self, COLUMNS, Content, Hash, WIDTH};
use super::row::{Row, nanoseconds, timestamp};

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

/// A transaction, and how far it brought the chain.
pub(super) struct Batch<'c> {
    pub(super) transaction: Transaction<'c>,
    /// Of the newest change.
    pub(super) revision: i64,
    /// Hash of the newest entry.
    pub(super) head: Hash,
}

impl Batch<'_> {
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
        let inserted = self
            .transaction
            .prepare_cached(&format!(
                "INSERT INTO record (revision, {COLUMNS})
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17)
                 ON CONFLICT (id) DO NOTHING"
            ))?
            .execute(params_from_iter(values))?;
        if inserted == 0 {
            // The same record again: a batch is retried as a whole.
            return Ok(());
        }
        let number = self.transaction.last_insert_rowid();
        let mut indicators = self
            .transaction
            .prepare_cached("INSERT INTO indicator (row, time, id, value, source) VALUES (?1, ?2, ?3, ?4, ?5)")?;
        for (id, value, source) in &row.indicators {
            indicators.execute(params![number, row.time, id, value, source])?;
        }
        drop(indicators);
        let mut actors = self.transaction.prepare_cached("INSERT INTO actor (row, name) VALUES (?1, ?2)")?;
        for actor in &row.actors {
            actors.execute(params![number, actor])?;
        }
        drop(actors);
        self.link(Some(&row.id), None, &Content::of(row))
    }

    fn fold(&mut self, row: &Row, repeats: i64) -> rusqlite::Result<()> {
        let of = row.continues.as_deref().unwrap_or(&row.id);
        let found: Option<(i64, i64, i64, i64)> = self
            .transaction
            .prepare_cached("SELECT row, revision, count, last_time FROM record WHERE id = ?1 OR continues = ?1")?
            .query_row([of], |found| Ok((found.get(0)?, found.get(1)?, found.get(2)?, found.get(3)?)))
            .optional()?;
        let Some((number, revision, count, last_time)) = found else { return self.insert(row) };
        let count = count.saturating_add(repeats);
        let last_time = last_time.max(row.last_time);
        self.transaction
            .prepare_cached(
                "UPDATE record SET count = ?2, last_time = ?3, revision = ?4,
                   record = json_set(record, '$.count', ?2, '$.last_time', ?5)
                 WHERE row = ?1",
            )?
            .execute(params![number, count, last_time, self.revision + 1, timestamp(last_time).to_string()])?;
        let (id, content) = self
            .transaction
            .prepare_cached(&format!("SELECT {COLUMNS}, row FROM record WHERE row = ?1"))?
            .query_row([number], |found| Ok((found.get::<_, String>(0)?, content(&self.transaction, found)?)))?;
        self.link(Some(&id), Some(revision), &content)
    }

    fn insert_loss(&mut self, loss: &Loss) -> rusqlite::Result<()> {
        let reason = loss.reason.name();
        let numbers = [i64::try_from(loss.count).unwrap_or(i64::MAX), nanoseconds(loss.from), nanoseconds(loss.to)];
        let [count, from, to] = numbers;
        self.transaction
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
        self.transaction
            .prepare_cached("INSERT INTO chain (revision, id, supersedes, content, hash) VALUES (?1, ?2, ?3, ?4, ?5)")?
            .execute(params![revision, id, supersedes, content, hash])?;
        (self.revision, self.head) = (revision, hash);
        Ok(())
    }
}

/// The content of a record as it is in the file: `found` has [`COLUMNS`], then `row`.
pub(super) fn content(connection: &rusqlite::Connection, found: &Found<'_>) -> rusqlite::Result<Hash> {
    let number: i64 = found.get(WIDTH)?;
    let mut content = Content::new();
    for column in 0..WIDTH {
        content.add(found.get_ref(column)?);
    }
    for (table, columns) in [("indicator", "id, value, source"), ("actor", "name")] {
        let count = format!("SELECT count(*) FROM {table} WHERE row = ?1");
        content.integer(connection.prepare_cached(&count)?.query_row([number], |count| count.get(0))?);
        let select = format!("SELECT {columns} FROM {table} WHERE row = ?1 ORDER BY rowid");
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
