//! Following from where an earlier follower left off.

use std::fs;
use std::sync::Arc;

use agent::attribute::Finding;
use agent::journal::{Cursor, Follow, Followed, Limits, Reader};

use crate::{SMALL, everything, finding, open, segments};

fn records(followed: Vec<Followed>) -> Vec<(String, u64)> {
    let record = |followed| match followed {
        Followed::Record(record) => Finding::clone(&record),
        Followed::Loss(loss) => panic!("{loss:?}"),
    };
    followed.into_iter().map(record).map(|record| (record.id, record.count)).collect()
}

fn from(dir: &std::path::Path, cursor: Cursor) -> Follow {
    Reader::open(dir).unwrap().follow_from(&everything(), cursor).unwrap()
}

#[test]
fn a_follower_that_comes_back_gets_the_rest_once_and_repeats_again() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits { total_bytes: 64 << 20, ..SMALL });
    journal.append(&[finding(0), finding(1)]).unwrap();
    let mut first = from(dir.path(), Cursor::default());
    assert_eq!(records(first.poll().unwrap()).len(), 2);
    assert!(!first.has_gap());
    let repeated = Arc::new(finding(1));
    journal.fold(&repeated, 4, repeated.time).unwrap();
    for n in 2..1500 {
        journal.append(&[finding(n)]).unwrap();
    }
    assert!(segments(dir.path()).len() > 1);
    let mut cursor = first.cursor();
    drop(first);
    let mut seen = Vec::new();
    loop {
        let mut follow = from(dir.path(), cursor);
        assert!(!follow.has_gap());
        let some = records(follow.poll_some().unwrap());
        if some.is_empty() {
            break;
        }
        assert!(some.len() <= 256);
        seen.extend(some);
        cursor = follow.cursor();
    }
    let expected: Vec<_> =
        std::iter::once(("id-00000001".to_owned(), 5)).chain((2..1500).map(|n| (finding(n).id, 1))).collect();
    assert_eq!(seen, expected);
}

#[test]
fn a_segment_that_is_gone_meanwhile_is_a_gap() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), SMALL);
    journal.append(&[finding(0)]).unwrap();
    let mut first = from(dir.path(), Cursor::default());
    first.poll().unwrap();
    let cursor = first.cursor();
    for n in 1..3000 {
        journal.append(&[finding(n)]).unwrap();
    }
    fs::remove_file(&segments(dir.path())[0]).ok();
    let mut second = from(dir.path(), cursor);
    assert!(second.has_gap());
    let seen = records(second.poll().unwrap());
    assert_eq!(seen.last().unwrap().0, "id-00002999");
    assert!(seen.len() < 2999);
}

#[test]
fn another_journal_in_its_place_is_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), SMALL);
    for n in 0..3000 {
        journal.append(&[finding(n)]).unwrap();
    }
    let mut first = from(dir.path(), Cursor::default());
    first.poll().unwrap();
    let other = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(other.path(), SMALL);
    journal.append(&[finding(7)]).unwrap();
    let mut second = from(other.path(), first.cursor());
    assert_eq!(records(second.poll().unwrap()), [("id-00000007".to_owned(), 1)]);
}
