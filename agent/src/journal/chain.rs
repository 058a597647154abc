//! The hash chain over a journal (pure): whoever changes, removes or adds a record afterwards breaks it (docs/journal.md).
//!
//! Each change of a segment is an entry: what it left as [`Content`], linked to the entry before it. The first entry of a
//! segment holds the hash of the last one of the segment before.

use rusqlite::types::ValueRef;
use sha2::{Digest as _, Sha256};

use super::row::Row;

/// SHA-256.
pub(super) type Hash = [u8; 32];

/// What the first segment follows.
pub(super) const START: Hash = [0; 32];

/// The columns of `record` that are hashed, in this order. Not `row`, which only ties tables together, and `revision`, which
/// the entry itself has.
pub(super) const COLUMNS: &str =
    "id, continues, time, last_time, count, kind, verdict, pid, exe, path, sha256, ip, ip_given, port, domain, record";
/// The same as they are read: the content is of the text, however it is kept.
pub(super) const READ_COLUMNS: &str = "record.id, record.continues, record.time, record.last_time, record.count, record.kind, \
     record.verdict, record.pid, record.exe, record.path, record.sha256, record.ip, record.ip_given, record.port, record.domain, \
     unpacked(record.record)";
/// How many these are.
pub(super) const WIDTH: usize = 16;

/// Hashes values so that no other values give the same bytes: each with its type and, where that varies, its length.
pub(super) struct Content(Sha256);

impl Content {
    pub(super) fn new() -> Self {
        Self(Sha256::new())
    }

    pub(super) fn add(&mut self, value: ValueRef<'_>) {
        match value {
            ValueRef::Null => self.0.update(b"n"),
            ValueRef::Integer(number) => self.integer(number),
            // No column is declared so, but SQLite lets anything be stored.
            ValueRef::Real(number) => self.sized(b'r', &number.to_be_bytes()),
            ValueRef::Text(text) => self.sized(b't', text),
            ValueRef::Blob(bytes) => self.sized(b'b', bytes),
        }
    }

    pub(super) fn integer(&mut self, number: i64) {
        self.0.update(b"i");
        self.0.update(number.to_be_bytes());
    }

    fn sized(&mut self, tag: u8, bytes: &[u8]) {
        self.0.update([tag]);
        self.0.update((bytes.len() as u64).to_be_bytes());
        self.0.update(bytes);
    }

    pub(super) fn finish(self) -> Hash {
        self.0.finalize().into()
    }

    /// Of a record that is about to be written.
    pub(super) fn of(row: &Row) -> Hash {
        let mut content = Self::new();
        for value in row.values() {
            content.add(value);
        }
        content.integer(row.indicators.len() as i64);
        for (id, value, source) in &row.indicators {
            for text in [id, value, source] {
                content.add(ValueRef::Text(text.as_bytes()));
            }
        }
        content.integer(row.actors.len() as i64);
        for actor in &row.actors {
            content.add(ValueRef::Text(actor.as_bytes()));
        }
        content.finish()
    }
}

/// The hash of an entry: of a record if it has an `id`, else of a loss.
pub(super) fn link(before: &Hash, revision: i64, id: Option<&str>, supersedes: Option<i64>, content: &Hash) -> Hash {
    let mut entry = Content::new();
    entry.sized(b'b', before);
    entry.integer(revision);
    entry.add(id.map_or(ValueRef::Null, |id| ValueRef::Text(id.as_bytes())));
    entry.add(supersedes.map_or(ValueRef::Null, ValueRef::Integer));
    entry.sized(b'b', content);
    entry.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_differ_have_contents_that_differ() {
        let of = |values: &[ValueRef<'_>]| {
            let mut content = Content::new();
            values.iter().for_each(|value| content.add(*value));
            content.finish()
        };
        let (a, b, ab) = (ValueRef::Text(b"a"), ValueRef::Text(b"b"), ValueRef::Text(b"ab"));
        let empty = ValueRef::Text(b"");
        let all = [
            of(&[]),
            of(&[ValueRef::Null]),
            of(&[empty]),
            of(&[ValueRef::Blob(b"")]),
            of(&[ab]),
            of(&[a, b]),
            of(&[b, a]),
            of(&[ab, empty]),
            of(&[empty, ab]),
            of(&[ValueRef::Blob(b"ab")]),
            of(&[ValueRef::Integer(1)]),
            of(&[ValueRef::Real(1.0)]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(!all[..n].contains(one), "{n}");
        }
    }

    #[test]
    fn an_entry_depends_on_each_of_its_parts() {
        let hash = link(&START, 1, Some("a"), None, &[1; 32]);
        assert_eq!(hash, link(&START, 1, Some("a"), None, &[1; 32]));
        for other in [
            link(&[1; 32], 1, Some("a"), None, &[1; 32]),
            link(&START, 2, Some("a"), None, &[1; 32]),
            link(&START, 1, Some("b"), None, &[1; 32]),
            link(&START, 1, None, None, &[1; 32]),
            link(&START, 1, Some("a"), Some(1), &[1; 32]),
            link(&START, 1, Some("a"), None, &[2; 32]),
        ] {
            assert_ne!(hash, other);
        }
    }
}
