//! What docs/journal.md says about the speed of the journal, measured: `cargo xtask bench journal`.
//!
//! Distinct hits are written in batches as the writer takes them, each batch synced; the CPU time is that of all threads, what makes the
//! closed segments' indexes included. Then they are offered to the running writer at the promised rate, to see whether it loses one. Then the
//! newest records of each kind of query are asked for, in a journal as large as `--records` says.

#[path = "../kernel/report.rs"]
mod report;
#[expect(dead_code, reason = "the benches of the kernel half use all of it")]
#[path = "../kernel/sample.rs"]
mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use agent::attribute::Finding;
use agent::health::Health;
use agent::journal::{Entry, Journal, Limits, Offered, QUEUE, Query, Reader, Writer};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use crate::report::{Report, Target};
use crate::sample::{Sample, thread_time};

/// Entries that the writer takes at once.
const BATCH: u64 = 1024;
/// Records a second.
const RATE: f64 = 50_000.0;
/// Milliseconds of a query.
const LATENCY: f64 = 200.0;
/// What `cordon log` shows unless told otherwise.
const SHOWN: usize = 50;
/// A round of writing.
const ROUND: u64 = 100 * BATCH;
/// Between two offers of hits.
const PACE: Duration = Duration::from_millis(10);

/// Bench of the journal.
#[derive(Parser)]
struct Arguments {
    /// Records in the journal that queries are asked of
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Bytes of a segment
    #[arg(long, default_value_t = 32 << 20)]
    segment_bytes: u64,
    /// Seconds for which hits are offered to the running writer
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Folder for journal.json, and for the journal while the bench runs: some 1 KiB a record
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    output: PathBuf,
    /// A small journal: whether it works, not how fast it is
    #[arg(long)]
    quick: bool,
    /// cargo says this to every bench, and not to one that `cargo test` starts
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    report::outcome("journal", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.bench {
        println!("NOT RUN bench journal: it measures only when `cargo bench` starts it");
        return Ok(());
    }
    std::fs::create_dir_all(&arguments.output)
        .with_context(|| format!("cannot make {}", arguments.output.display()))?;
    let folder = tempfile::tempdir_in(&arguments.output).context("cannot make a temporary directory")?;
    let mut report = Report::new()?;
    let records = if arguments.quick { ROUND } else { arguments.records };
    let journal = folder.path().join("journal");
    write(&mut report, &journal, records, arguments.segment_bytes)?;
    query(&mut report, &journal, records)?;
    let seconds = if arguments.quick { 1 } else { arguments.seconds };
    offer(&mut report, &folder.path().join("offered"), seconds, arguments.segment_bytes)?;
    report.finish(&arguments.output, "journal")
}

/// What all records have in common.
fn usual() -> Result<Finding> {
    let time = start();
    Ok(serde_json::from_value(json!({
        "schema": 1, "id": "", "time": time, "kind": "connect", "verdict": "blocked", "enforced_by": "cgroup_connect4",
        "process": {"pid": 1, "ppid": 1, "uid": 33, "user": "www-data", "exe": "", "comm": "worker", "args": [], "sha256": "",
                    "unit": "worker.service", "container": null, "ancestors": [{"pid": 1, "exe": "/usr/lib/systemd/systemd"}]},
        "destination": {"ip": "10.0.0.0", "port": 443, "protocol": "tcp", "domain": null},
        "file": null,
        "indicator": {"id": "", "type": "ipv4", "value": "", "source": "example", "confidence": 85, "tlp": "green", "valid_until": null},
        "attribution": {"actors": ["Example Bear"], "campaigns": [], "malware": [], "techniques": ["T1071.001"],
                        "reports": [], "references": ["https://example.org/report"]},
        "policy": {"generation": 1, "serial": null, "rule": "feeds.example"},
        "count": 1, "last_time": time
    }))?)
}

/// Record number `n`: of some dozens of programs, thousands of destinations and hundreds of indicators.
fn finding(usual: &Finding, n: u64) -> Result<Finding> {
    let mut finding = usual.clone();
    finding.id = uuid::Uuid::now_v7().to_string();
    finding.time = start() + SignedDuration::from_micros(i64::try_from(20 * n)?);
    finding.last_time = finding.time;
    let ip = format!("10.{}.{}.{}", n % 7, n / 7 % 251, n % 241);
    let exe = format!("/usr/lib/service-{}/bin/worker-{}", n % 24, n % 24);
    if let Some(process) = &mut finding.process {
        process.pid = u32::try_from(1000 + n % 30_011)?;
        process.args = vec![exe.clone(), "--upstream".to_owned(), ip.clone()];
        process.exe = Some(exe);
        process.sha256 = Some(format!("{:064x}", n % 24));
    }
    if let Some(destination) = &mut finding.destination {
        destination.ip = ip.parse()?;
    }
    let indicator = n % 997;
    finding.indicator.id = format!("indicator--{indicator:036}");
    finding.indicator.value = format!("10.9.{}.{}", indicator / 256, indicator % 256);
    Ok(finding)
}

/// CPU time of all threads.
fn process_time() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// Bytes of all files in a folder.
fn bytes_in(folder: &Path) -> Result<u64> {
    let files = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    files.sum()
}

fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 50)
}

fn write(report: &mut Report, folder: &Path, records: u64, segment_bytes: u64) -> Result<()> {
    let health = Health::new();
    let mut journal = Journal::open(folder, limits(records, segment_bytes), &health)?;
    let usual = usual()?;
    let (mut by_clock, mut by_cpu) = (Sample::default(), Sample::default());
    let rounds = records.div_ceil(ROUND);
    for round in 0..rounds {
        let (mut clock, mut making) = (0.0, Duration::ZERO);
        let spent = process_time();
        for batch in 0..ROUND / BATCH {
            let first = round * ROUND + batch * BATCH;
            let made = thread_time();
            let entries: Vec<_> =
                (first..first + BATCH).map(|n| Ok(Entry::Hit(Arc::new(finding(&usual, n)?)))).collect::<Result<_>>()?;
            making += thread_time() - made;
            let began = Instant::now();
            journal.write(&entries)?;
            clock += began.elapsed().as_secs_f64();
        }
        by_clock.push(ROUND as f64 / clock);
        by_cpu.push(ROUND as f64 / (process_time() - spent).saturating_sub(making).as_secs_f64());
        eprintln!("bench: {} of {records} records", (round + 1) * ROUND);
    }
    journal.close();
    ensure!(health.counter("journal.segments_deleted").get() == 0, "the limits are too small for the bench");
    let title = "writing distinct hits, a batch of 1,024 synced at a time";
    report.measured(title, "records a second", "by the clock", by_clock.spread(), Some(Target::AtLeast(RATE)));
    report.measured(title, "records a second", "of CPU, all threads", by_cpu.spread(), None);
    let mut size = Sample::default();
    size.push(bytes_in(folder)? as f64 / (rounds * ROUND) as f64);
    report.measured(title, "a record with its indexes", "bytes on disk", size.spread(), None);
    Ok(())
}

fn limits(records: u64, segment_bytes: u64) -> Limits {
    let total_bytes = (records * 8192).max(8 * segment_bytes);
    Limits { segment_bytes, total_bytes, max_age_hours: 24 * 365 * 100 }
}

/// Offers hits to the running writer at the promised rate, and counts those that it does not take or loses.
fn offer(report: &mut Report, folder: &Path, seconds: u64, segment_bytes: u64) -> Result<()> {
    let health = Health::new();
    let offered = seconds * RATE as u64;
    let journal = Journal::open(folder, limits(offered, segment_bytes), &health)?;
    let (sink, writer) = Writer::start(journal, None, QUEUE, &health)?;
    let usual = usual()?;
    let each = RATE * PACE.as_secs_f64();
    let (began, spent) = (Instant::now(), process_time());
    let (mut making, mut refused, mut next) = (Duration::ZERO, 0_u64, 0_u64);
    while next < offered {
        let made = thread_time();
        let hits: Vec<_> =
            (next..next + each as u64).map(|n| Ok(Arc::new(finding(&usual, n)?))).collect::<Result<_>>()?;
        making += thread_time() - made;
        std::thread::sleep(Duration::from_secs_f64(next as f64 / RATE).saturating_sub(began.elapsed()));
        next += each as u64;
        refused += hits.into_iter().map(|hit| u64::from(sink.offer(Entry::Hit(hit)) == Offered::Refused)).sum::<u64>();
    }
    let offering = began.elapsed().as_secs_f64();
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    runtime.block_on(writer.stop());
    let lost: u64 = ["queue_full", "write_failed", "disk_full"]
        .map(|reason| health.counter(&format!("journal.lost.{reason}")).get())
        .iter()
        .sum();
    ensure!(refused <= lost && health.counter("journal.written").get() + lost == offered, "a hit was lost uncounted");
    let one = |value: f64| {
        let mut sample = Sample::default();
        sample.push(value);
        sample.spread()
    };
    let title = format!("{offered} distinct hits offered to the running writer");
    report.measured(&title, "offered", "a second", one(offered as f64 / offering), None);
    report.measured(&title, "lost", "hits", one(lost as f64), Some(Target::AtMost(0.0)));
    let busy = (process_time() - spent).saturating_sub(making).as_secs_f64();
    report.measured(&title, "CPUs that the journal takes", "of 2", one(busy / began.elapsed().as_secs_f64()), None);
    Ok(())
}

fn query(report: &mut Report, folder: &Path, records: u64) -> Result<()> {
    let newest = || Query { limit: Some(SHOWN), ..Query::default() };
    let middle = start() + SignedDuration::from_micros(i64::try_from(20 * (records / 2))?);
    let queries = [
        ("newest", newest()),
        ("indicator's value", Query { indicator: Some("10.9.1.7".to_owned()), ..newest() }),
        ("indicator's id", Query { indicator: Some(format!("indicator--{:036}", 5)), ..newest() }),
        ("unknown indicator", Query { indicator: Some("192.0.2.1".to_owned()), ..newest() }),
        ("address", Query { destination: Some("10.3.17.99".parse()?), ..newest() }),
        ("prefix", Query { destination: Some("10.3.17.0/24".parse()?), ..newest() }),
        ("process id", Query { pid: Some(7_777), ..newest() }),
        ("executable's name", Query { exe: Some("worker-7".to_owned()), ..newest() }),
        ("unknown executable", Query { exe: Some("nobody".to_owned()), ..newest() }),
        (
            "a second in the middle",
            Query { since: Some(middle), until: Some(middle + SignedDuration::from_secs(1)), ..newest() },
        ),
    ];
    let reader = Reader::open(folder)?;
    for (name, query) in queries {
        let mut latency = Sample::default();
        for _ in 0..9 {
            let began = Instant::now();
            let found = reader.records(&query).collect::<Result<Vec<_>, _>>()?;
            latency.push(began.elapsed().as_secs_f64() * 1e3);
            ensure!(found.len() <= SHOWN, "{name}");
        }
        let title = format!("the newest {SHOWN} of {records} records by a query");
        report.measured(&title, name, "milliseconds", latency.spread(), Some(Target::AtMost(LATENCY)));
    }
    Ok(())
}
