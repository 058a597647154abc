//! The journal through its public API: durability, bounds, filters, following, and reading beside a writer.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod cursor;
mod process;
mod trouble;
mod verify;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use agent::attribute::Finding;
use agent::attribute::finding::{Kind, Verdict};
use agent::health::{Fault, Health};
use agent::journal::{
    Entry, Followed, Journal, JournalError, Limits, Loss, LossReason, MirrorSettings, Offered, Order, Query, Reader,
    Sink, Writer,
};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

/// Without a bound of age that matters: the records have a fixed date.
const SMALL: Limits = Limits { segment_bytes: 256 << 10, total_bytes: 1 << 20, max_age_hours: 100 * 365 * 24 };

fn base() -> Timestamp {
    "2026-11-23T12:00:00.123456789Z".parse().unwrap()
}

/// Record number `n`: one second after the one before.
fn finding(n: u64) -> Finding {
    let time = base() + SignedDuration::from_secs(i64::try_from(n).unwrap());
    serde_json::from_value(json!({
        "schema": 1, "id": format!("id-{n:08}"), "time": time, "kind": "connect", "verdict": "blocked",
        "enforced_by": "cgroup_connect4",
        "process": {"pid": 1000 + n % 7, "ppid": 1, "uid": 33, "user": "www-data", "exe": "/usr/bin/curl", "comm": "curl",
                    "args": ["curl", "https://c2.example/"], "sha256": null, "unit": "nginx.service", "container": null,
                    "ancestors": [{"pid": 1, "exe": "/usr/lib/systemd/systemd"}]},
        "destination": {"ip": "203.0.113.7", "port": 443, "protocol": "tcp", "domain": null},
        "file": null,
        "indicator": {"id": "indicator--1", "type": "ipv4", "value": "203.0.113.7", "source": "example", "confidence": 85,
                      "tlp": "green", "valid_until": null},
        "attribution": {"actors": ["Example Bear"], "campaigns": [], "malware": [], "techniques": [], "reports": [],
                        "references": []},
        "policy": {"generation": 1, "serial": null, "rule": "feeds.example"},
        "count": 1, "last_time": time
    }))
    .unwrap()
}

fn open(dir: &Path, limits: Limits) -> (Journal, Health) {
    let health = Health::new();
    (Journal::open(dir, limits, &health).unwrap(), health)
}

fn all(dir: &Path, query: &Query) -> Vec<Finding> {
    Reader::open(dir).unwrap().records(query).collect::<Result<_, _>>().unwrap()
}

fn everything() -> Query {
    Query { order: Order::OldestFirst, ..Query::default() }
}

fn ids(findings: &[Finding]) -> Vec<&str> {
    findings.iter().map(|finding| finding.id.as_str()).collect()
}

fn segments(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut found: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sqlite"))
        .filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("hits-"))
        .collect();
    found.sort();
    found
}

fn bytes(dir: &Path) -> u64 {
    // A segment that is being finished loses its WAL meanwhile.
    fs::read_dir(dir).unwrap().filter_map(|entry| entry.unwrap().metadata().ok()).map(|metadata| metadata.len()).sum()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn what_is_written_is_read_back_whole_and_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits::default());
    let written: Vec<_> = (0..1000).map(finding).collect();
    for batch in written.chunks(64) {
        journal.append(batch).unwrap();
    }
    assert_eq!(all(dir.path(), &everything()), written);
    let newest = all(dir.path(), &Query { limit: Some(3), ..Query::default() });
    assert_eq!(ids(&newest), ["id-00000999", "id-00000998", "id-00000997"]);
    let found = Reader::open(dir.path()).unwrap().find("id-00000500").unwrap().unwrap();
    assert_eq!(found, written[500]);
    assert_eq!(Reader::open(dir.path()).unwrap().find("nobody").unwrap(), None);
}

#[test]
fn the_same_record_again_is_one_record() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits::default());
    journal.append(&[finding(1)]).unwrap();
    journal.append(&[finding(1), finding(2)]).unwrap();
    assert_eq!(ids(&all(dir.path(), &everything())), ["id-00000001", "id-00000002"]);
}

#[test]
fn fifty_thousand_records_go_in_and_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, health) = open(dir.path(), Limits { segment_bytes: 16 << 20, ..Limits::default() });
    let records: Vec<_> = (0..50_000).map(finding).collect();
    journal.append(&records).unwrap();
    assert_eq!(health.counter("journal.written").get(), 50_000);
    assert_eq!(Reader::open(dir.path()).unwrap().records(&everything()).filter(Result::is_ok).count(), 50_000);
    assert!(segments(dir.path()).len() > 1, "fifty thousand records do not fit one segment of 16 MiB");
}

#[test]
fn files_are_not_for_everybody() {
    let dir = tempfile::tempdir().unwrap();
    let journal_dir = dir.path().join("log");
    let (mut journal, _) = open(&journal_dir, Limits::default());
    journal.append(&[finding(1)]).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&journal_dir) & 0o027, 0);
    for entry in fs::read_dir(&journal_dir).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(mode(&path) & 0o137, 0, "{}", path.display());
    }
}

#[test]
fn one_writer_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, health) = open(dir.path(), Limits::default());
    assert!(matches!(Journal::open(dir.path(), Limits::default(), &health), Err(JournalError::Locked { .. })));
    journal.close();
    Journal::open(dir.path(), Limits::default(), &health).unwrap();
}

#[test]
fn rotation_and_retention_keep_the_bounds() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, health) = open(dir.path(), SMALL);
    let mut largest = 0;
    for batch in 0..100 {
        let records: Vec<_> = (batch * 50..(batch + 1) * 50).map(finding).collect();
        journal.append(&records).unwrap();
        largest = largest.max(bytes(dir.path()));
    }
    assert!(largest <= SMALL.total_bytes, "{largest}");
    assert!(largest > SMALL.total_bytes / 2, "{largest}: the space that is given is used");
    for segment in segments(dir.path()) {
        let length = fs::metadata(&segment).unwrap().len();
        assert!(length <= SMALL.segment_bytes * 3 / 2, "{} has {length} bytes", segment.display());
    }
    assert!(health.counter("journal.segments_deleted").get() > 0);
    let left = all(dir.path(), &everything());
    let first = 5000 - left.len();
    let expected: Vec<_> = (first as u64..5000).map(|n| finding(n).id).collect();
    assert_eq!(ids(&left), expected, "the newest are left, without a gap");
}

#[test]
fn what_is_too_old_goes() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits { total_bytes: 16 << 20, max_age_hours: 24, ..SMALL });
    let records: Vec<_> = (0..1000).map(finding).collect();
    journal.append(&records).unwrap();
    let before = segments(dir.path()).len();
    assert!(before > 1);
    journal.retain(base() + SignedDuration::from_hours(1)).unwrap();
    assert_eq!(all(dir.path(), &everything()).len(), 1000, "nothing is old yet");
    journal.retain(base() + SignedDuration::from_hours(26)).unwrap();
    assert_eq!(all(dir.path(), &everything()), []);
    journal.append(&[finding(2000)]).unwrap();
    assert_eq!(ids(&all(dir.path(), &everything())), ["id-00002000"]);
}

#[test]
fn repeats_are_added_to_their_record() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, health) = open(dir.path(), Limits::default());
    let first = Arc::new(finding(1));
    journal.append(&[finding(1), finding(2)]).unwrap();
    let later = base() + SignedDuration::from_secs(60);
    journal.fold(&first, 5, later).unwrap();
    journal.fold(&first, 7, base()).unwrap();
    let found = all(dir.path(), &everything());
    assert_eq!((found[0].count, found[0].last_time, found[0].time), (13, later, first.time));
    assert_eq!(found[1], finding(2));
    assert_eq!(health.counter("journal.folded").get(), 2);
    let since = Query { since: Some(base() + SignedDuration::from_secs(30)), ..everything() };
    assert_eq!(ids(&all(dir.path(), &since)), ["id-00000001"], "a hit that still repeats is found by when it last did");
}

#[test]
fn repeats_of_a_record_in_an_older_or_deleted_segment_are_not_lost() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), SMALL);
    let first = Arc::new(finding(0));
    journal.append(&[finding(0)]).unwrap();
    let mut repeats = 0;
    for batch in 1..120 {
        let records: Vec<_> = (batch * 50..(batch + 1) * 50).map(finding).collect();
        journal.append(&records).unwrap();
        if batch > 114 {
            journal.fold(&first, 3, base() + SignedDuration::from_secs(9000 + batch as i64)).unwrap();
            repeats += 3;
        }
    }
    let found = all(dir.path(), &everything());
    assert!(!ids(&found).contains(&"id-00000000"), "its segment is long gone");
    let continuing: Vec<_> =
        found.iter().filter(|finding| finding.time > base() + SignedDuration::from_secs(8000)).collect();
    assert_eq!(continuing.iter().map(|finding| finding.count).sum::<u64>(), repeats);
    assert!(continuing.len() < 5, "they are folded again where they are");
    assert!(continuing.iter().all(|finding| finding.indicator == first.indicator && finding.process == first.process));
}

/// Records that differ in everything there is a filter for.
fn assorted() -> Vec<Finding> {
    let mut findings: Vec<_> = (0..8).map(finding).collect();
    findings[1].verdict = Verdict::Reported;
    findings[1].kind = Kind::Send;
    findings[1].process.as_mut().unwrap().pid = 7777;
    findings[2].verdict = Verdict::Killed;
    findings[2].kind = Kind::Exec;
    findings[2].destination = None;
    findings[2].process.as_mut().unwrap().exe = Some("/opt/tools/evil".to_owned());
    findings[2].file = Some(agent::attribute::finding::File {
        path: Some("/opt/tools/evil".to_owned()),
        sha256: Some("ab".repeat(32)),
        size: Some(17),
    });
    findings[2].indicator.kind = "sha256".to_owned();
    findings[2].indicator.value = "ab".repeat(32);
    findings[2].indicator.id = "indicator--2".to_owned();
    findings[3].verdict = Verdict::WouldBlock;
    findings[3].attribution.actors = vec!["Fictional Árvíztűrő".to_owned(), "Second Name".to_owned()];
    let ip = |finding: &mut Finding, ip: &str, port, domain: Option<&str>| {
        let destination = finding.destination.as_mut().unwrap();
        destination.ip = ip.parse().unwrap();
        destination.port = port;
        destination.domain = domain.map(str::to_owned);
    };
    ip(&mut findings[4], "::ffff:203.0.113.7", 80, None);
    ip(&mut findings[5], "64:ff9b::203.0.113.9", 443, Some("Sub.C2.Example"));
    ip(&mut findings[6], "2001:db8::5", 8443, Some("notc2.example"));
    let mut second = findings[7].indicator.clone();
    second.id = "indicator--9".to_owned();
    second.source = "second".to_owned();
    findings[7].also = vec![second];
    findings
}

#[test]
fn every_filter_finds_what_it_names_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits::default());
    journal.append(&assorted()).unwrap();
    let dest = |text: &str| Query { destination: Some(text.parse().unwrap()), ..everything() };
    let exe = |text: &str| Query { exe: Some(text.to_owned()), ..everything() };
    let indicator = |text: &str| Query { indicator: Some(text.to_owned()), ..everything() };
    let actor = |text: &str| Query { actor: Some(text.to_owned()), ..everything() };
    let source = |text: &str| Query { source: Some(text.to_owned()), ..everything() };
    let at = |n: i64| Some(base() + SignedDuration::from_secs(n));
    let cases: Vec<(&str, Query, &[u64])> = vec![
        ("all", everything(), &[0, 1, 2, 3, 4, 5, 6, 7]),
        ("since", Query { since: at(6), ..everything() }, &[6, 7]),
        ("until", Query { until: at(1), ..everything() }, &[0, 1]),
        ("since and until", Query { since: at(2), until: at(3), ..everything() }, &[2, 3]),
        ("verdict", Query { verdicts: vec![Verdict::Reported, Verdict::Killed], ..everything() }, &[1, 2]),
        ("monitor", Query { verdicts: vec![Verdict::WouldBlock], ..everything() }, &[3]),
        ("kind", Query { kinds: vec![Kind::Exec], ..everything() }, &[2]),
        ("kinds", Query { kinds: vec![Kind::Exec, Kind::Send], ..everything() }, &[1, 2]),
        ("pid", Query { pid: Some(7777), ..everything() }, &[1]),
        ("no pid", Query { pid: Some(1), ..everything() }, &[]),
        ("exe path", exe("/opt/tools/evil"), &[2]),
        ("exe name", exe("evil"), &[2]),
        ("exe glob", exe("/opt/*"), &[2]),
        ("exe name glob", exe("cur?"), &[0, 1, 3, 4, 5, 6, 7]),
        ("exe other", exe("url"), &[]),
        ("address", dest("203.0.113.7"), &[0, 1, 3, 4, 7]),
        ("mapped address", dest("::ffff:203.0.113.7"), &[0, 1, 3, 4, 7]),
        ("translated address", dest("203.0.113.9"), &[5]),
        ("translated spelling", dest("64:ff9b::203.0.113.9"), &[5]),
        ("address and port", dest("203.0.113.7:80"), &[4]),
        ("prefix", dest("203.0.113.0/24"), &[0, 1, 3, 4, 5, 7]),
        ("prefix by half", dest("203.0.113.8/29"), &[5]),
        ("translation prefix", dest("64:ff9b::/96"), &[5]),
        ("IPv6 prefix", dest("2001:db8::/32"), &[6]),
        ("IPv6 and port", dest("[2001:db8::5]:8443"), &[6]),
        ("port", dest(":443"), &[0, 1, 3, 5, 7]),
        ("domain and below", dest("c2.example"), &[5]),
        ("domain itself", dest("NOTC2.example"), &[6]),
        ("domain with port", dest("c2.example:80"), &[]),
        ("indicator id", indicator("indicator--2"), &[2]),
        ("indicator value", indicator(&"AB".repeat(32)), &[2]),
        ("indicator spelled otherwise", indicator("::ffff:203.0.113.7"), &[0, 1, 3, 4, 5, 6, 7]),
        ("second indicator", indicator("indicator--9"), &[7]),
        ("hash", Query { hash: Some("AB".repeat(32)), ..everything() }, &[2]),
        ("hash and pid", Query { hash: Some("ab".repeat(32)), pid: Some(1), ..everything() }, &[]),
        ("prefix since", Query { since: at(4), ..dest("203.0.113.0/24") }, &[4, 5, 7]),
        ("indicator since until", Query { since: at(3), until: at(6), ..indicator("203.0.113.7") }, &[3, 4, 5, 6]),
        ("actor", actor("example bear"), &[0, 1, 2, 4, 5, 6, 7]),
        ("actor beyond ASCII", actor("fictional ÁRVÍZTŰRŐ"), &[3]),
        ("actor glob", actor("*second*"), &[3]),
        ("source", source("second"), &[7]),
        ("two at once", Query { pid: Some(7777), verdicts: vec![Verdict::Reported], ..everything() }, &[1]),
        ("two that exclude", Query { pid: Some(7777), verdicts: vec![Verdict::Killed], ..everything() }, &[]),
        ("limit", Query { limit: Some(2), ..everything() }, &[0, 1]),
        ("newest", Query { limit: Some(2), ..Query::default() }, &[7, 6]),
    ];
    for (name, query, expected) in cases {
        let expected: Vec<_> = expected.iter().map(|n| format!("id-{n:08}")).collect();
        assert_eq!(ids(&all(dir.path(), &query)), expected, "{name}");
    }
}

#[test]
fn filters_and_limits_hold_across_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits { total_bytes: 16 << 20, ..SMALL });
    let records: Vec<_> = (0..2000).map(finding).collect();
    journal.append(&records).unwrap();
    assert!(segments(dir.path()).len() > 3);
    let query = Query { pid: Some(1003), ..everything() };
    let expected: Vec<_> =
        records.iter().filter(|record| record.process.as_ref().unwrap().pid == 1003).cloned().collect();
    assert_eq!(all(dir.path(), &query), expected);
    let newest = Query { limit: Some(100), order: Order::NewestFirst, ..query };
    let expected: Vec<_> = expected.into_iter().rev().take(100).collect();
    assert_eq!(all(dir.path(), &newest), expected);
}

#[test]
fn following_sees_everything_once_across_rotation() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits { total_bytes: 16 << 20, ..SMALL });
    journal.append(&[finding(0)]).unwrap();
    let mut follow = Reader::open(dir.path()).unwrap().follow(&everything()).unwrap();
    let mut seen = Vec::new();
    for batch in 0..40 {
        let records: Vec<_> = (1 + batch * 50..1 + (batch + 1) * 50).map(finding).collect();
        journal.append(&records).unwrap();
        if batch % 3 == 0 {
            seen.extend(follow.poll().unwrap());
        }
    }
    seen.extend(follow.poll().unwrap());
    assert!(follow.poll().unwrap().is_empty());
    assert!(segments(dir.path()).len() > 3);
    let seen: Vec<_> = seen
        .into_iter()
        .map(|followed| match followed {
            Followed::Record(finding) => finding.id,
            Followed::Loss(loss) => panic!("{loss:?}"),
        })
        .collect();
    let expected: Vec<_> = (1..=2000).map(|n| finding(n).id).collect();
    assert_eq!(seen, expected);
}

#[test]
fn following_shows_repeats_and_losses() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits::default());
    journal.append(&[finding(0)]).unwrap();
    let query = Query { verdicts: vec![Verdict::Blocked], ..everything() };
    let mut follow = Reader::open(dir.path()).unwrap().follow(&query).unwrap();
    journal.fold(&Arc::new(finding(0)), 4, base()).unwrap();
    let loss = Loss { reason: LossReason::RingFull, count: 12, from: base(), to: base() };
    journal.write(&[Entry::Loss(loss)]).unwrap();
    let mut reported = finding(1);
    reported.verdict = Verdict::Reported;
    journal.append(&[reported]).unwrap();
    let seen = follow.poll().unwrap();
    assert_eq!(seen.len(), 2, "{seen:?}");
    assert!(seen.iter().any(|item| matches!(item, Followed::Record(finding) if finding.count == 5)));
    assert!(seen.iter().any(|item| matches!(item, Followed::Loss(found) if *found == loss)));
    assert_eq!(Reader::open(dir.path()).unwrap().losses(None, None).unwrap(), [loss]);
    let after = Some(base() + SignedDuration::from_secs(1));
    assert_eq!(Reader::open(dir.path()).unwrap().losses(after, None).unwrap(), []);
}

#[test]
fn readers_beside_a_writer_see_whole_batches() {
    let dir = tempfile::tempdir().unwrap();
    let (mut journal, _) = open(dir.path(), Limits { total_bytes: 16 << 20, ..SMALL });
    let path = dir.path().to_owned();
    let reader = std::thread::spawn(move || {
        let mut counts = Vec::new();
        while counts.last() != Some(&2000) {
            counts.push(all(&path, &everything()).len());
        }
        counts
    });
    for batch in 0..40 {
        let records: Vec<_> = (batch * 50..(batch + 1) * 50).map(finding).collect();
        journal.append(&records).unwrap();
    }
    let counts = reader.join().unwrap();
    assert!(counts.is_sorted(), "{counts:?}");
}

#[test]
fn no_journal_is_said_so() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Reader::open(&dir.path().join("none")), Err(JournalError::Missing { .. })));
}

#[test]
fn the_writer_writes_all_it_took_and_stops_when_told() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, health) = open(dir.path(), Limits::default());
    let mirror = dir.path().join("hits.jsonl");
    let settings = MirrorSettings { path: mirror.clone(), max_bytes: 1 << 20, keep: 1 };
    let (sink, writer) = Writer::start(journal, Some(settings), 4096, &health).unwrap();
    runtime().block_on(async {
        for n in 0..500 {
            assert_eq!(sink.offer(Entry::Hit(Arc::new(finding(n)))), Offered::Taken);
        }
        sink.flush().await;
        assert_eq!(all(dir.path(), &everything()).len(), 500, "flushed is on disk");
        let of = Arc::new(finding(1));
        assert_eq!(sink.offer(Entry::Repeat { of, repeats: 2, last_time: base() }), Offered::Taken);
        sink.lost(LossReason::RingFull, 3);
        assert!(health.stalled(Duration::from_secs(5)).is_empty());
        writer.stop().await;
    });
    assert_eq!(sink.offer(Entry::Hit(Arc::new(finding(501)))), Offered::Refused);
    assert_eq!(health.counter("journal.lost.write_failed").get(), 1);
    assert_eq!(health.counter("journal.lost.ring_full").get(), 3);
    let found = all(dir.path(), &everything());
    assert_eq!((found.len(), found[1].count), (500, 3));
    let losses = Reader::open(dir.path()).unwrap().losses(None, None).unwrap();
    assert_eq!(losses.iter().map(|loss| (loss.reason, loss.count)).collect::<Vec<_>>(), [(LossReason::RingFull, 3)]);
    let lines = fs::read_to_string(&mirror).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 502);
    assert_eq!(lines[0]["id"], "id-00000000");
    assert_eq!(lines.iter().filter(|line| line["repeat_of"] == "id-00000001" && line["repeats"] == 2).count(), 1);
    assert!(
        !segments(dir.path()).iter().any(|path| path.with_extension("sqlite-wal").exists()),
        "closed: single files"
    );
}

#[test]
fn a_full_queue_refuses_counts_and_tells() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, health) = open(dir.path(), Limits::default());
    let (sink, writer) = Writer::start(journal, None, 8, &health).unwrap();
    // Each sync takes longer than many offers, so a burst overruns a queue of eight.
    let offered: Vec<_> = (0..20_000).map(|n| sink.offer(Entry::Hit(Arc::new(finding(n))))).collect();
    let refused = offered.iter().filter(|offered| **offered == Offered::Refused).count() as u64;
    assert!(refused > 0);
    assert!(health.is_raised(Fault::JournalOverrun));
    runtime().block_on(writer.stop());
    assert_eq!(health.counter("journal.lost.queue_full").get(), refused);
    assert_eq!(all(dir.path(), &everything()).len() as u64, 20_000 - refused);
    let losses = Reader::open(dir.path()).unwrap().losses(None, None).unwrap();
    assert_eq!(losses.iter().map(|loss| loss.count).sum::<u64>(), refused, "the journal itself says so");
}

#[test]
fn the_mirror_rotates_and_mends_a_torn_line() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = dir.path().join("out").join("hits.jsonl");
    fs::create_dir(mirror.parent().unwrap()).unwrap();
    fs::write(&mirror, b"{\"cut\":").unwrap();
    let (journal, health) = open(&dir.path().join("log"), Limits::default());
    let settings = MirrorSettings { path: mirror.clone(), max_bytes: 64 << 10, keep: 2 };
    let (sink, writer) = Writer::start(journal, Some(settings), 4096, &health).unwrap();
    runtime().block_on(async {
        for n in 0..500 {
            assert_eq!(sink.offer(Entry::Hit(Arc::new(finding(n)))), Offered::Taken);
            if n % 10 == 0 {
                sink.flush().await;
            }
        }
        writer.stop().await;
    });
    let mut names: Vec<_> = fs::read_dir(mirror.parent().unwrap())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["hits.jsonl", "hits.jsonl.1", "hits.jsonl.2"]);
    let mut last = 0;
    for name in names.iter().rev() {
        for line in fs::read_to_string(mirror.with_file_name(name)).unwrap().lines() {
            let value: serde_json::Value = serde_json::from_str(line).unwrap();
            let number: u64 = value["id"].as_str().unwrap().trim_start_matches("id-").parse().unwrap();
            assert!(number > last || last == 0);
            last = number;
        }
    }
    assert_eq!(last, 499);
}
