//! Tests that need a process of their own: to be killed, to see a full disk, to have fewer rights.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::Instant;

use super::*;

const CHILD: &str = "CORDON_JOURNAL_TEST_DIR";

/// This test program again, running only `test`, told where by [`CHILD`].
fn child(test: &str, dir: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]).env(CHILD, dir).stdin(Stdio::null());
    command
}

fn written_by_child(dir: &Path) -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(dir.join("acknowledged")).ok()?;
    // The last line may be cut by the kill.
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    Some(whole.lines().map(str::to_owned).collect())
}

#[test]
fn killing_the_writer_loses_nothing_that_was_acknowledged() {
    use std::io::Write as _;
    if let Some(dir) = std::env::var_os(CHILD) {
        let dir = Path::new(&dir);
        let (mut journal, _) = open(&dir.join("log"), Limits { total_bytes: 64 << 20, ..SMALL });
        let mut acknowledged = fs::OpenOptions::new().create(true).append(true).open(dir.join("acknowledged")).unwrap();
        let start = written_by_child(dir).unwrap_or_default().len() as u64 + 1_000_000 * u64::from(std::process::id());
        for n in start..start + 100_000 {
            let mut record = finding(n % 1000);
            record.id = format!("id-{n}");
            journal.append(&[record]).unwrap();
            acknowledged.write_all(format!("id-{n}\n").as_bytes()).unwrap();
        }
        panic!("never killed");
    }
    let dir = tempfile::tempdir().unwrap();
    let mut kills = 0;
    for round in 0..12u64 {
        let mut writer = child("process::killing_the_writer_loses_nothing_that_was_acknowledged", dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let before = written_by_child(dir.path()).map_or(0, |ids| ids.len());
        let deadline = Instant::now() + Duration::from_secs(20);
        while written_by_child(dir.path()).map_or(0, |ids| ids.len()) <= before && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(1));
        }
        // A different moment each round, over more than one rotation.
        std::thread::sleep(Duration::from_micros(700 * (1 + round * 37 % 61)));
        writer.kill().unwrap();
        writer.wait().unwrap();
        let acknowledged = written_by_child(dir.path()).unwrap();
        kills += usize::from(acknowledged.len() > before);
        let (_journal, health) = open(&dir.path().join("log"), Limits { total_bytes: 64 << 20, ..SMALL });
        assert!(health.faults().is_empty(), "{:?}", health.faults());
        let found: BTreeMap<_, _> = all(&dir.path().join("log"), &everything())
            .into_iter()
            .map(|finding| (finding.id.clone(), finding))
            .collect();
        for id in &acknowledged {
            assert!(found.contains_key(id), "round {round}: {id} was acknowledged and is gone");
        }
        let verified = Reader::open(&dir.path().join("log")).unwrap().verify().unwrap();
        assert_eq!((verified.broken, verified.end_is_known), (None, true), "round {round}");
    }
    assert_eq!(kills, 12, "in every round something was written before the kill");
}

#[test]
fn a_full_disk_gives_up_the_oldest_then_counts_and_goes_on() {
    if let Some(dir) = std::env::var_os(CHILD) {
        full_disk(Path::new(&dir));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // A file system of 1 MiB in a mount namespace of its own.
    let script = r#"mount -t tmpfs -o size=1m tmpfs "$CORDON_JOURNAL_TEST_DIR" && exec "$@""#;
    let inner = child("process::a_full_disk_gives_up_the_oldest_then_counts_and_goes_on", dir.path());
    let output = Command::new("unshare")
        .args(["--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"])
        .arg(inner.get_program())
        .args(inner.get_args())
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("full disk: shown"), "{said}");
}

fn full_disk(dir: &Path) {
    // The limits allow more than the disk holds.
    let limits = Limits { total_bytes: 64 << 20, ..SMALL };
    let (journal, health) = open(&dir.join("log"), limits);
    let (sink, writer) = Writer::start(journal, None, 16_384, &health).unwrap();
    let offer = |sink: &Sink, n: u64| assert_eq!(sink.offer(Entry::Hit(Arc::new(finding(n)))), Offered::Taken);
    runtime().block_on(async {
        for n in 0..2000 {
            offer(&sink, n);
            if n % 20 == 0 {
                sink.flush().await;
            }
        }
        sink.flush().await;
        assert!(health.counter("journal.segments_deleted").get() > 0, "the oldest went");
        let newest = all(&dir.join("log"), &Query { limit: Some(1), ..Query::default() });
        assert_eq!(ids(&newest), ["id-00001999"], "the newest is there: {:?}", health.snapshot());

        // Now somebody else fills what is left, again after each segment that is given up.
        let mut lost_before = 0;
        for round in 0..40u64 {
            let _until_full = fs::write(dir.join(format!("ballast-{round}")), vec![1; 2 << 20]);
            for n in 0..20 {
                offer(&sink, 10_000 + round * 20 + n);
            }
            sink.flush().await;
            lost_before = health.counter("journal.lost.disk_full").get();
        }
        assert!(health.is_raised(Fault::JournalDiskFull), "{:?}", health.snapshot());
        assert!(lost_before > 0);
        for round in 0..40 {
            fs::remove_file(dir.join(format!("ballast-{round}"))).unwrap();
        }
        offer(&sink, 20_000);
        sink.flush().await;
        assert!(!health.is_raised(Fault::JournalDiskFull), "{:?}", health.snapshot());
        sink.flush().await;
        writer.stop().await;
    });
    let reader = Reader::open(&dir.join("log")).unwrap();
    assert!(reader.find("id-00020000").unwrap().is_some(), "it goes on by itself");
    let told: u64 = reader.losses(None, None).unwrap().iter().map(|loss| loss.count).sum();
    assert_eq!(told, health.counter("journal.lost.disk_full").get(), "the journal says what is missing");
    println!("full disk: shown");
}

#[test]
fn whoever_may_only_read_can_read_with_or_without_a_writer() {
    if let Some(dir) = std::env::var_os(CHILD) {
        let log = Path::new(&dir).join("log");
        let count = |query: &Query| Reader::open(&log).unwrap().records(query).filter(|record| record.is_ok()).count();
        assert!(fs::write(log.join("probe"), b"").is_err(), "this reader must not be able to write");
        println!("read {} of them", count(&everything()));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("log");
    let (mut journal, _) = open(&log, SMALL);
    let records: Vec<_> = (0..300).map(finding).collect();
    journal.append(&records).unwrap();
    assert!(segments(&log).len() > 1);
    let program = dir.path().join("reader");
    fs::copy(std::env::current_exe().unwrap(), &program).unwrap();
    let is_root = fs::metadata("/proc/self").is_ok_and(|me| std::os::unix::fs::MetadataExt::uid(&me) == 0);
    let reads = || {
        // Readable for everybody, writable for nobody but root.
        for entry in fs::read_dir(&log).unwrap() {
            fs::set_permissions(entry.unwrap().path(), fs::Permissions::from_mode(0o444)).unwrap();
        }
        fs::set_permissions(&log, fs::Permissions::from_mode(0o555)).unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let inner = child("process::whoever_may_only_read_can_read_with_or_without_a_writer", dir.path());
        let mut command = Command::new(&program);
        command.args(inner.get_args()).env(CHILD, dir.path()).current_dir(dir.path());
        if is_root {
            command.uid(65_534).gid(65_534);
        }
        let output = command.output().unwrap();
        fs::set_permissions(&log, fs::Permissions::from_mode(0o755)).unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
        said
    };
    let said = reads();
    assert!(said.contains("read 300 of them"), "beside a writer: {said}");
    journal.close();
    let said = reads();
    assert!(said.contains("read 300 of them"), "after a clean stop: {said}");
    // A reader kept the writer from making its last segment a single file, and went away.
    let last = segments(&log).pop().unwrap();
    fs::set_permissions(&last, fs::Permissions::from_mode(0o644)).unwrap();
    let connection = rusqlite::Connection::open(&last).unwrap();
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())).unwrap();
    drop(connection);
    let said = reads();
    assert!(said.contains("read 300 of them"), "WAL mode without a WAL: {said}");
}
