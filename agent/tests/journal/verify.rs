//! Whatever is changed afterwards shows.

use agent::journal::{Break, Verification};
use rusqlite::Connection;

use super::*;

/// A journal of some segments with repeats and losses in it.
fn journal(dir: &Path) -> Journal {
    let (mut journal, _) = open(dir, Limits { total_bytes: 16 << 20, ..SMALL });
    for batch in 0..60 {
        let records: Vec<_> = (batch * 40..(batch + 1) * 40).map(finding).collect();
        journal.append(&records).unwrap();
        journal.fold(&Arc::new(finding(batch * 40 + 7)), 3, base() + SignedDuration::from_hours(1)).unwrap();
        journal.fold(&Arc::new(finding(batch * 40 + 7)), 2, base() + SignedDuration::from_hours(2)).unwrap();
        let loss = Loss { reason: LossReason::QueueFull, count: 1 + batch, from: base(), to: base() };
        journal.write(&[Entry::Loss(loss)]).unwrap();
    }
    journal
}

fn verify(dir: &Path) -> Verification {
    Reader::open(dir).unwrap().verify().unwrap()
}

/// What is found after `change` of a copy of segment number `index` of the journal.
fn after(dir: &Path, index: usize, change: impl FnOnce(&Connection)) -> Verification {
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    change(&Connection::open(&segments(copy.path())[index]).unwrap());
    verify(copy.path())
}

fn run(sql: &str) -> impl FnOnce(&Connection) {
    move |connection: &Connection| assert!(connection.execute(sql, []).unwrap() > 0, "{sql}")
}

/// Id and revision of the record in the middle of a segment.
fn middle(segment: &Path) -> (String, i64) {
    let connection = Connection::open(segment).unwrap();
    let middle = "SELECT id, revision FROM record WHERE count = 1 ORDER BY revision LIMIT 1 OFFSET 40";
    connection.query_row(middle, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
}

#[test]
fn what_was_written_verifies_beside_the_writer_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = journal(dir.path());
    let beside = verify(dir.path());
    assert_eq!((beside.broken, beside.breaks), (None, 0));
    assert!(beside.segments > 3 && beside.end_is_known, "{}", beside.segments);
    assert_eq!(beside.records, all(dir.path(), &everything()).len() as u64);
    assert_eq!(beside.from, Some(base()));
    writer.append(&[finding(5000)]).unwrap();
    writer.close();
    let (mut writer, health) = open(dir.path(), Limits { total_bytes: 16 << 20, ..SMALL });
    assert!(health.faults().is_empty(), "{:?}", health.faults());
    writer.append(&[finding(5001)]).unwrap();
    let again = verify(dir.path());
    assert_eq!((again.broken, again.records), (None, beside.records + 2));
}

#[test]
fn a_journal_verifies_at_every_moment_while_it_is_written_and_given_up() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, health) = open(dir.path(), SMALL);
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (path, is_over) = (dir.path().to_owned(), Arc::clone(&done));
    let reader = std::thread::spawn(move || {
        let mut verified = 0;
        while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
            let found = verify(&path);
            assert_eq!(found.broken, None);
            verified += usize::from(found.records > 0);
        }
        verified
    });
    for batch in 0..120 {
        let records: Vec<_> = (batch * 20..(batch + 1) * 20).map(finding).collect();
        // As the writer does: one that opens or closes a segment may find it locked by the reader.
        journal.append(&records).or_else(|_| journal.append(&records)).unwrap();
        let of = Arc::new(finding(batch * 20));
        journal.fold(&of, 1, base()).or_else(|_| journal.fold(&of, 1, base())).unwrap();
    }
    done.store(true, std::sync::atomic::Ordering::Relaxed);
    assert!(reader.join().unwrap() > 3);
    assert!(health.counter("journal.segments_deleted").get() > 2);
}

#[test]
fn giving_up_the_oldest_segments_is_no_break() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, health) = open(dir.path(), SMALL);
    for batch in 0..60 {
        let records: Vec<_> = (batch * 40..(batch + 1) * 40).map(finding).collect();
        journal.append(&records).unwrap();
    }
    assert!(health.counter("journal.segments_deleted").get() > 2);
    let found = verify(dir.path());
    assert_eq!(found.broken, None);
    assert!(found.from.unwrap() > base(), "says from when on it was verified");
    // Whoever else removes the oldest is seen.
    fs::remove_file(&segments(dir.path())[0]).unwrap();
    assert_eq!(verify(dir.path()).broken.unwrap().what, Break::SegmentMissing);
}

#[test]
fn every_change_of_a_record_or_a_loss_shows_with_its_place() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close();
    let (id, revision) = middle(&segments(dir.path())[1]);
    let at = |sql: &str| sql.replace("THIS", &format!("'{id}'"));
    let cases = [
        (
            Break::Changed,
            at("UPDATE record SET record = (SELECT record FROM record WHERE id <> THIS LIMIT 1) WHERE id = THIS"),
        ),
        (Break::Changed, at("UPDATE record SET record = substr(record, 1, length(record) - 1) WHERE id = THIS")),
        (Break::Changed, at("UPDATE record SET record = '{}' WHERE id = THIS")),
        (Break::Changed, at("UPDATE record SET verdict = 'reported' WHERE id = THIS")),
        (Break::Changed, at("UPDATE record SET ip = x'00' WHERE id = THIS")),
        (Break::Changed, at("UPDATE record SET count = 2 WHERE id = THIS")),
        (Break::Changed, at("UPDATE record SET time = time + 1 WHERE id = THIS")),
        (Break::Changed, at("UPDATE record SET id = 'another' WHERE id = THIS")),
        (Break::Changed, at("UPDATE indicator SET source = 'x' WHERE row = (SELECT row FROM record WHERE id = THIS)")),
        (Break::Changed, at("DELETE FROM indicator WHERE row = (SELECT row FROM record WHERE id = THIS)")),
        (Break::Changed, at("INSERT INTO actor SELECT row, 1, 'x' FROM record WHERE id = THIS")),
        (Break::Removed, at("DELETE FROM record WHERE id = THIS")),
        (Break::Removed, at("UPDATE record SET revision = 1000000 WHERE id = THIS")),
        (Break::Unlinked, at("UPDATE chain SET content = zeroblob(32) WHERE id = THIS")),
        (Break::Unlinked, at("UPDATE chain SET hash = zeroblob(32) WHERE id = THIS")),
        (Break::Unlinked, at("UPDATE chain SET supersedes = revision - 1 WHERE id = THIS")),
    ];
    for (what, sql) in cases {
        let broken = after(dir.path(), 1, run(&sql)).broken.unwrap();
        assert_eq!(
            (broken.what, broken.revision, broken.id.as_deref()),
            (what, Some(revision), Some(id.as_str())),
            "{sql}"
        );
        assert_eq!(broken.segment, "hits-0000000002.sqlite");
    }
    for (what, sql) in [
        (Break::Changed, "UPDATE loss SET count = count - 1"),
        (Break::Removed, "DELETE FROM loss"),
        (Break::Changed, "UPDATE dictionary SET content = zeroblob(length(content))"),
        (Break::Inserted, "INSERT INTO loss SELECT 1000000, reason, count, from_time, to_time FROM loss LIMIT 1"),
        (Break::SegmentUnlinked, "UPDATE chain SET hash = zeroblob(32) WHERE revision = 0"),
        (Break::SegmentUnlinked, "DELETE FROM chain"),
    ] {
        let found = after(dir.path(), 1, run(sql));
        assert!(found.breaks > 0 && found.broken.is_some(), "{sql}");
        if what != Break::SegmentUnlinked {
            assert_eq!(found.broken.unwrap().what, what, "{sql}");
        }
    }
}

#[test]
fn an_older_state_a_record_from_elsewhere_and_a_swap_show() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close();
    let folded = "SELECT chain.revision FROM chain JOIN record ON record.id = chain.id WHERE count = 6 ORDER BY 1";
    // The first of a record's three entries, with the record as it was then.
    let rollback = |connection: &Connection| {
        let oldest: i64 = connection.query_row(folded, [], |row| row.get(0)).unwrap();
        let id: String =
            connection.query_row("SELECT id FROM chain WHERE revision = ?1", [oldest], |row| row.get(0)).unwrap();
        let as_it_was = finding(id.trim_start_matches("id-").parse().unwrap());
        let sql = "UPDATE record SET count = 1, last_time = time, revision = ?1, record = ?2 WHERE id = ?3";
        let text = serde_json::to_string(&as_it_was).unwrap();
        assert_eq!(connection.execute(sql, (oldest, text, id)).unwrap(), 1);
    };
    let broken = after(dir.path(), 1, rollback).broken.unwrap();
    assert_eq!(broken.what, Break::Changed);
    let insert = "INSERT INTO record SELECT 1000000, 'new', NULL, 1000000, time, last_time, count, kind, verdict, pid, exe, path,
                    sha256, ip, ip_given, port, domain, record FROM record LIMIT 1";
    let broken = after(dir.path(), 1, run(insert)).broken.unwrap();
    assert_eq!((broken.what, broken.id.as_deref()), (Break::Inserted, Some("new")));
    let swap = |connection: &Connection| {
        for sql in [
            "UPDATE record SET (id, record) = ('spare', (SELECT record FROM record WHERE revision = 20)) WHERE revision = 25",
            "UPDATE record SET (id, record) = (SELECT id, record FROM chain JOIN saved USING (id) WHERE revision = 25) WHERE revision = 20",
            "UPDATE record SET id = (SELECT id FROM chain WHERE revision = 20) WHERE revision = 25",
        ] {
            let save = "CREATE TEMP TABLE IF NOT EXISTS saved AS SELECT id, record FROM record";
            connection.execute_batch(save).unwrap();
            assert_eq!(connection.execute(sql, []).unwrap(), 1, "{sql}");
        }
    };
    let found = after(dir.path(), 0, swap);
    assert_eq!((found.broken.unwrap().revision, found.breaks), (Some(20), 2));
}

#[test]
fn a_segment_taken_away_exchanged_or_cut_shows() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close();
    let files = segments(dir.path());
    let (first, second, third) =
        (fs::read(&files[0]).unwrap(), fs::read(&files[1]).unwrap(), fs::read(&files[2]).unwrap());
    fs::remove_file(&files[1]).unwrap();
    let found = verify(dir.path());
    let broken = found.broken.unwrap();
    assert_eq!((broken.what, broken.segment.as_str()), (Break::SegmentMissing, "hits-0000000002.sqlite"));
    assert_eq!(found.breaks, 1);
    fs::write(&files[1], &third).unwrap();
    fs::write(&files[2], &second).unwrap();
    assert_eq!(verify(dir.path()).broken.unwrap().what, Break::SegmentUnlinked);
    fs::write(&files[1], &first).unwrap();
    assert_eq!(verify(dir.path()).broken.unwrap().what, Break::SegmentUnlinked);
    fs::write(&files[1], b"nothing of it".repeat(1000)).unwrap();
    fs::write(&files[2], &third).unwrap();
    let broken = verify(dir.path()).broken.unwrap();
    assert_eq!((broken.what, broken.segment.as_str()), (Break::SegmentUnreadable, "hits-0000000002.sqlite"));
}

/// Changes one byte somewhere in what a segment holds of a record, in the file itself.
#[test]
fn one_byte_changed_in_the_file_shows() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close();
    let file = &segments(dir.path())[1];
    let (id, _) = middle(file);
    let packed: Vec<u8> = Connection::open(file)
        .unwrap()
        .query_row("SELECT record FROM record WHERE id = ?1", [&id], |row| row.get(0))
        .unwrap();
    let mut content = fs::read(file).unwrap();
    let at = content.windows(packed.len()).position(|window| window == packed).unwrap();
    content[at + packed.len() / 2] ^= 1;
    fs::write(file, content).unwrap();
    let broken = verify(dir.path()).broken.unwrap();
    assert_eq!((broken.what, broken.id), (Break::Changed, Some(id)));
}

#[test]
fn newest_records_that_are_gone_show_and_stay_shown() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close();
    let newest = segments(dir.path()).pop().unwrap();
    let connection = Connection::open(&newest).unwrap();
    let last = "(SELECT max(revision) FROM chain)";
    connection.execute(&format!("DELETE FROM loss WHERE row = {last}"), []).unwrap();
    connection.execute(&format!("DELETE FROM chain WHERE revision = {last}"), []).unwrap();
    drop(connection);
    let broken = verify(dir.path()).broken.unwrap();
    assert_eq!(broken.what, Break::EndMissing);
    let (mut writer, health) = open(dir.path(), Limits { total_bytes: 16 << 20, ..SMALL });
    assert!(health.is_raised(Fault::JournalShortened), "{:?}", health.faults());
    writer.append(&[finding(9000)]).unwrap();
    let found = verify(dir.path());
    assert_eq!((found.broken.unwrap().what, found.breaks), (Break::SegmentUnlinked, 1));
    writer.close();

    fs::remove_file(segments(dir.path()).pop().unwrap()).unwrap();
    let (_writer, health) = open(dir.path(), Limits { total_bytes: 16 << 20, ..SMALL });
    assert!(health.is_raised(Fault::JournalShortened), "{:?}", health.faults());
    let found = verify(dir.path());
    assert_eq!(found.broken.unwrap().what, Break::SegmentMissing);
}

/// The table of records has not changed since version 1.
const RECORD: &str = "CREATE TABLE record (
    row INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, continues TEXT, revision INTEGER NOT NULL UNIQUE, time INTEGER NOT NULL,
    last_time INTEGER NOT NULL, count INTEGER NOT NULL, kind TEXT NOT NULL, verdict TEXT NOT NULL, pid INTEGER NOT NULL, exe TEXT,
    path TEXT, sha256 TEXT, ip BLOB, ip_given BLOB, port INTEGER, domain TEXT, record TEXT NOT NULL);
  CREATE INDEX record_time ON record (time);";

/// Records as text, as versions before 3 have them.
fn unpack(connection: &Connection, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let record = finding(n);
        let text = serde_json::to_string(&record).unwrap();
        let updated = connection.execute("UPDATE record SET record = ?1 WHERE id = ?2", (text, record.id)).unwrap();
        assert_eq!(updated, 1, "{n}");
    }
}

#[test]
fn a_journal_with_records_as_text_is_read_and_goes_on_with_compressed_ones() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), SMALL);
    writer.append(&(0..20).map(finding).collect::<Vec<_>>()).unwrap();
    writer.close();
    let connection = Connection::open(&segments(dir.path())[0]).unwrap();
    unpack(&connection, 0..20);
    // What version 2 was.
    connection
        .execute_batch(
            "ALTER TABLE indicator RENAME TO indicator_3; ALTER TABLE actor RENAME TO actor_3;
             CREATE TABLE indicator (row INTEGER NOT NULL, time INTEGER NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, source TEXT NOT NULL);
             INSERT INTO indicator SELECT row, time, id, value, source FROM indicator_3 ORDER BY row, n;
             CREATE TABLE actor (row INTEGER NOT NULL, name TEXT NOT NULL);
             INSERT INTO actor SELECT row, name FROM actor_3 ORDER BY row, n;
             DROP TABLE indicator_3; DROP TABLE actor_3; DROP TABLE dictionary;
             CREATE INDEX record_pid ON record (pid, time);
             CREATE INDEX record_exe ON record (exe, time) WHERE exe IS NOT NULL;
             CREATE INDEX record_ip ON record (ip, time) WHERE ip IS NOT NULL;
             CREATE INDEX record_domain ON record (domain, time) WHERE domain IS NOT NULL;
             CREATE INDEX indicator_id ON indicator (id, time, row);
             CREATE INDEX indicator_value ON indicator (value, time, row);
             CREATE INDEX indicator_row ON indicator (row); CREATE INDEX actor_row ON actor (row);
             PRAGMA user_version = 2;",
        )
        .unwrap();
    drop(connection);
    let found = verify(dir.path());
    assert_eq!((found.broken, found.segments, found.records), (None, 1, 20));
    let (mut writer, health) = open(dir.path(), SMALL);
    assert!(health.faults().is_empty(), "{:?}", health.faults());
    writer.append(&(20..30).map(finding).collect::<Vec<_>>()).unwrap();
    let found = verify(dir.path());
    assert_eq!((found.broken, found.segments, found.records), (None, 2, 30), "one chain over both");
    let query = Query { indicator: Some("indicator--1".to_owned()), ..everything() };
    assert_eq!(all(dir.path(), &query), (0..30).map(finding).collect::<Vec<_>>(), "both are searched");
}

#[test]
fn a_journal_from_before_the_chain_is_read_and_goes_on_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let (mut writer, _) = open(dir.path(), SMALL);
    writer.append(&(0..20).map(finding).collect::<Vec<_>>()).unwrap();
    writer.close();
    let connection = Connection::open(&segments(dir.path())[0]).unwrap();
    unpack(&connection, 0..20);
    // What version 1 was.
    connection
        .execute_batch(&format!(
            "ALTER TABLE record RENAME TO record_3; DROP INDEX record_time; {RECORD} INSERT INTO record SELECT * FROM record_3;
             DROP TABLE record_3; DROP TABLE chain; DROP TABLE dictionary;
             ALTER TABLE indicator RENAME TO indicator_3; ALTER TABLE actor RENAME TO actor_3;
             CREATE TABLE indicator (row INTEGER NOT NULL, id TEXT NOT NULL, value TEXT NOT NULL, source TEXT NOT NULL);
             INSERT INTO indicator SELECT row, id, value, source FROM indicator_3 ORDER BY row, n;
             CREATE TABLE actor (row INTEGER NOT NULL, name TEXT NOT NULL);
             INSERT INTO actor SELECT row, name FROM actor_3 ORDER BY row, n;
             DROP TABLE indicator_3; DROP TABLE actor_3;
             CREATE INDEX indicator_id ON indicator (id); CREATE INDEX indicator_value ON indicator (value);
             CREATE INDEX actor_name ON actor (name); PRAGMA user_version = 1;"
        ))
        .unwrap();
    drop(connection);
    fs::remove_file(dir.path().join("head")).unwrap();
    let found = verify(dir.path());
    assert_eq!((found.broken, found.segments, found.end_is_known), (None, 0, false));
    assert_eq!(found.not_chained, ["hits-0000000001.sqlite"]);
    let (mut writer, health) = open(dir.path(), SMALL);
    assert!(health.faults().is_empty(), "{:?}", health.faults());
    writer.append(&(20..30).map(finding).collect::<Vec<_>>()).unwrap();
    let found = verify(dir.path());
    assert_eq!((found.broken, found.segments, found.records), (None, 1, 10));
    let query = Query { indicator: Some("indicator--1".to_owned()), ..everything() };
    assert_eq!(all(dir.path(), &query).len(), 30, "both are searched");
    // Nobody gets around the chain by calling a segment old.
    writer.close();
    let second = &segments(dir.path())[1];
    Connection::open(second).unwrap().execute_batch("PRAGMA user_version = 1").unwrap();
    assert_eq!(verify(dir.path()).not_chained.len(), 2);
}

#[test]
fn a_forged_head_is_a_break_and_takes_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    journal(dir.path()).close();
    let hash = "5".repeat(64);
    let forged = format!("{{\"oldest\":1,\"sequence\":{},\"revision\":1,\"hash\":\"{hash}\"}}", u64::MAX);
    fs::write(dir.path().join("head"), forged).unwrap();
    let found = verify(dir.path());
    assert_eq!(found.broken.unwrap().what, Break::SegmentMissing);
}
