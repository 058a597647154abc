//! By which indexes a query is answered. An index on a value and the time holds the records of that value in order of time, so
//! that a page of the newest takes as many steps as it has records, however many there are. A query is the union of such lists.

use rusqlite::Connection;
use rusqlite::types::Value;

use super::query::{Filter, Order, Query, bounds, canonical_text, domain_clause, exe_clause, path_clause};
use super::row::{address_bytes, canonical, nanoseconds};

/// Lists that are merged; when a pattern is of more values, the records are tried one by one.
const MOST_KEYS: usize = 32;

/// One list.
#[derive(Clone, Debug, PartialEq)]
enum Key {
    /// All records.
    All,
    /// Those that have the value in the column.
    Column(&'static str, Value),
    /// Those whose address in the column is of the prefix that the query asks for.
    Prefix(&'static str),
    /// Those with an indicator that has the value in the column.
    Indicator(&'static str, String),
}

/// How a query is answered in one segment.
pub(super) struct Plan {
    keys: Vec<Key>,
    query: Query,
    /// What the keys and the time leave of it.
    rest: Query,
}

impl Plan {
    /// Looks into the segment for what a pattern is of, and which of an indicator's spellings there are.
    pub(super) fn new(query: &Query, connection: &Connection) -> rusqlite::Result<Self> {
        let mut rest = Query { since: None, ..query.clone() };
        let keys = keys(&mut rest, connection)?;
        Ok(Self { keys, query: query.clone(), rest })
    }

    /// Whether the segment cannot hold anything that the query finds.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// A condition on `row` that at most `limit` records of each list meet: those that come first after the one that `after`
    /// names by its time and row.
    pub(super) fn filter(&self, order: Order, after: Option<(i64, i64)>, limit: usize) -> Filter {
        let mut filter = self.rest.filter();
        let has_prefix = self.keys.iter().any(|key| matches!(key, Key::Prefix(_)));
        let net = self.query.destination.as_ref().and_then(|destination| destination.net).filter(|_| has_prefix);
        let mut lists = Lists {
            order,
            after: after.map(|(time, row)| (filter.parameter(time), filter.parameter(row))),
            until: self.query.until.map(|until| filter.parameter(nanoseconds(until))),
            since: self.query.since.map(|since| filter.parameter(nanoseconds(since))),
            net: net.map(|net| bounds(net, &mut filter)),
            rest: filter.sql(),
            limit,
            found: Vec::new(),
        };
        for key in &self.keys {
            lists.add(key, &mut filter);
        }
        filter.only(format!("row IN ({})", lists.found.join(" UNION ")))
    }
}

/// The lists of a page, as SQL with numbered parameters.
struct Lists {
    order: Order,
    /// Time and row.
    after: Option<(usize, usize)>,
    until: Option<usize>,
    since: Option<usize>,
    /// First and last address of the prefix.
    net: Option<(usize, usize)>,
    /// What has to be met besides the key and the time.
    rest: String,
    limit: usize,
    found: Vec<String>,
}

impl Lists {
    fn add(&mut self, key: &Key, filter: &mut Filter) {
        let condition = match key {
            Key::All => "1".to_owned(),
            Key::Column(column, value) => format!("{column} = ?{}", filter.parameter(value.clone())),
            Key::Prefix(column) => match self.net {
                Some((low, high)) => format!("{column} BETWEEN ?{low} AND ?{high}"),
                None => "0".to_owned(),
            },
            Key::Indicator(column, value) => format!("{column} = ?{}", filter.parameter(value.clone())),
        };
        let begun = self.since.map(|since| format!(" AND {} >= ?{since}", names(key).0)).unwrap_or_default();
        match key {
            Key::Indicator(..) => self.push(
                key,
                &format!(
                    "(SELECT row AS named, time AS named_at FROM indicator WHERE {condition})
                     CROSS JOIN record ON row = named WHERE 1{begun}"
                ),
            ),
            _ => self.push(key, &format!("record WHERE {condition}{begun}")),
        }
        // What began before but was repeated since: few, and in an index of their own.
        let Some(since) = self.since else { return };
        let condition = match key {
            Key::Indicator(..) => {
                format!("EXISTS (SELECT 1 FROM indicator WHERE indicator.row = record.row AND indicator.{condition})")
            }
            _ => condition,
        };
        let repeated = "record INDEXED BY record_repeated WHERE last_time > time";
        self.push(&Key::All, &format!("{repeated} AND last_time >= ?{since} AND +time < ?{since} AND {condition}"));
    }

    fn push(&mut self, key: &Key, from: &str) {
        let (time, row) = names(key);
        let (comparison, direction) = match self.order {
            Order::NewestFirst => ("<", "DESC"),
            Order::OldestFirst => (">", "ASC"),
        };
        let mut list = format!("SELECT row FROM (SELECT row FROM {from} AND {}", self.rest);
        if let Some((after_time, after_row)) = self.after {
            list.push_str(&format!(" AND ({time}, {row}) {comparison} (?{after_time}, ?{after_row})"));
        }
        if let Some(until) = self.until {
            list.push_str(&format!(" AND {time} <= ?{until}"));
        }
        // Of a prefix the index has no order of time: sorting what it finds is better than trying all records.
        let plus = if matches!(key, Key::Prefix(_)) { "+" } else { "" };
        list.push_str(&format!(" ORDER BY {plus}{time} {direction}, {row} {direction} LIMIT {})", self.limit));
        self.found.push(list);
    }
}

/// What time and row are called in the list of a key.
const fn names(key: &Key) -> (&'static str, &'static str) {
    match key {
        Key::Indicator(..) => ("named_at", "named"),
        Key::All | Key::Column(..) | Key::Prefix(_) => ("time", "row"),
    }
}

/// Takes what lists can answer out of `rest`.
fn keys(rest: &mut Query, connection: &Connection) -> rusqlite::Result<Vec<Key>> {
    if let Some(indicator) = rest.indicator.take() {
        let canonical = canonical_text(&indicator);
        let mut keys = vec![Key::Indicator("id", indicator.clone()), Key::Indicator("value", indicator)];
        keys.push(Key::Indicator("value", canonical));
        keys.dedup();
        return existing(keys, connection);
    }
    if let Some(hash) = rest.hash.take() {
        let hash = hash.to_lowercase();
        let keys = vec![Key::Column("sha256", hash.clone().into()), Key::Indicator("value", hash)];
        return existing(keys, connection);
    }
    if let Some(exe) = &rest.exe {
        let mut keys = matching("exe", exe, &exe_clause("exe", exe, 1), connection)?;
        keys.extend(matching("path", exe, &path_clause(exe, 1), connection)?);
        if keys.len() <= MOST_KEYS {
            rest.exe = None;
            return Ok(keys);
        }
    }
    if let Some(destination) = &mut rest.destination {
        if let Some(net) = destination.net.take() {
            if net.prefix_len() < net.max_prefix_len() {
                return Ok(vec![Key::Prefix("ip"), Key::Prefix("ip_given")]);
            }
            return Ok(vec![Key::Column("ip", address_bytes(canonical(net.addr())).to_vec().into())]);
        }
        if let Some(domain) = &destination.domain {
            let keys = matching("domain", domain, &domain_clause(1), connection)?;
            if keys.len() <= MOST_KEYS {
                destination.domain = None;
                return Ok(keys);
            }
        }
    }
    if let Some(pid) = rest.pid.take() {
        return Ok(vec![Key::Column("pid", pid.into())]);
    }
    Ok(vec![Key::All])
}

fn existing(keys: Vec<Key>, connection: &Connection) -> rusqlite::Result<Vec<Key>> {
    let mut found = Vec::new();
    for key in keys {
        let (table, column, value) = match &key {
            Key::Indicator(column, value) => ("indicator", column, value.clone().into()),
            Key::Column(column, value) => ("record", column, value.clone()),
            Key::All | Key::Prefix(_) => continue,
        };
        let sql = format!("SELECT 1 FROM {table} WHERE {column} = ?1 LIMIT 1");
        if connection.prepare_cached(&sql)?.exists([value])? {
            found.push(key);
        }
    }
    Ok(found)
}

/// The distinct values of a column that meet a condition on them, found by going from one to the next in the column's index.
fn matching(column: &'static str, text: &str, condition: &str, connection: &Connection) -> rusqlite::Result<Vec<Key>> {
    let sql = format!(
        "WITH RECURSIVE known ({column}) AS (
           SELECT min({column}) FROM record WHERE {column} IS NOT NULL
           UNION ALL SELECT (SELECT min(record.{column}) FROM record WHERE record.{column} > known.{column})
             FROM known WHERE known.{column} IS NOT NULL)
         SELECT {column} FROM known WHERE {column} IS NOT NULL AND {condition} LIMIT {}",
        MOST_KEYS + 1
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let values = statement.query_map([text], |row| row.get::<_, Value>(0))?;
    values.map(|value| Ok(Key::Column(column, value?))).collect()
}

#[cfg(test)]
mod tests;
