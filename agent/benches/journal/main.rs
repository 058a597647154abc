//! What docs/journal.md says about the speed of the journal, measured: `cargo xtask bench journal`.
//!
//! Distinct hits are written in batches as the writer takes them, each batch synced. Then the newest records of each kind of
//! query are asked for, in a journal as large as `--records` says.

#[path = "../kernel/report.rs"]
mod report;
#[expect(dead_code, reason = "the benches of the kernel half use all of it")]
#[path = "../kernel/sample.rs"]
mod sample;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use agent::attribute::Finding;
use agent::health::Health;
use agent::journal::{Entry, Journal, Limits, Query, Reader};
use anyhow::{Context, Result, ensure};
use clap::Parser;
use jiff::{SignedDuration, Timestamp};
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

/// Bench of the journal.
#[derive(Parser)]
struct Arguments {
    /// Records in the journal that queries are asked of
    #[arg(long, default_value_t = 1_000_000)]
    records: u64,
    /// Bytes of a segment
    #[arg(long, default_value_t = 32 << 20)]
    segment_bytes: u64,
    /// Folder for journal.json, and for the journal while the bench runs: some 4 KiB a record
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
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench journal: {error:#}");
            ExitCode::FAILURE
        }
    }
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
    write(&mut report, folder.path(), records, arguments.segment_bytes)?;
    query(&mut report, folder.path(), records)?;
    report.finish(&arguments.output, "journal")
}

/// Record number `n`: of some dozens of programs, thousands of destinations and hundreds of indicators.
fn finding(n: u64) -> Result<Finding> {
    let time = start() + SignedDuration::from_micros(i64::try_from(20 * n)?);
    let ip = format!("10.{}.{}.{}", n % 7, n / 7 % 251, n % 241);
    let exe = format!("/usr/lib/service-{}/bin/worker-{}", n % 24, n % 24);
    let indicator = n % 997;
    Ok(serde_json::from_value(json!({
        "schema": 1, "id": uuid::Uuid::now_v7().to_string(), "time": time, "kind": "connect", "verdict": "blocked",
        "enforced_by": "cgroup_connect4",
        "process": {"pid": 1000 + n % 30_011, "ppid": 1, "uid": 33, "user": "www-data", "exe": exe, "comm": "worker",
                    "args": [exe, "--upstream", ip], "sha256": format!("{:064x}", n % 24), "unit": "worker.service",
                    "container": null, "ancestors": [{"pid": 1, "exe": "/usr/lib/systemd/systemd"}]},
        "destination": {"ip": ip, "port": 443, "protocol": "tcp", "domain": null},
        "file": null,
        "indicator": {"id": format!("indicator--{indicator:036}"), "type": "ipv4", "value": format!("10.9.{}.{}", indicator / 256, indicator % 256),
                      "source": "example", "confidence": 85, "tlp": "green", "valid_until": null},
        "attribution": {"actors": ["Example Bear"], "campaigns": [], "malware": [], "techniques": ["T1071.001"],
                        "reports": [], "references": ["https://example.org/report"]},
        "policy": {"generation": 1, "serial": null, "rule": "feeds.example"},
        "count": 1, "last_time": time
    }))?)
}

fn start() -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 50)
}

fn write(report: &mut Report, folder: &Path, records: u64, segment_bytes: u64) -> Result<()> {
    let total_bytes = (records * 8192).max(8 * segment_bytes);
    let limits = Limits { segment_bytes, total_bytes, max_age_hours: 24 * 365 * 100 };
    let health = Health::new();
    let mut journal = Journal::open(folder, limits, &health)?;
    let (mut by_clock, mut by_cpu) = (Sample::default(), Sample::default());
    for round in 0..records.div_ceil(ROUND) {
        let (mut clock, mut cpu) = (0.0, 0.0);
        for batch in 0..ROUND / BATCH {
            let first = round * ROUND + batch * BATCH;
            let entries: Vec<_> =
                (first..first + BATCH).map(|n| Ok(Entry::Hit(Arc::new(finding(n)?)))).collect::<Result<_>>()?;
            let (began, spent) = (Instant::now(), thread_time());
            journal.write(&entries)?;
            clock += began.elapsed().as_secs_f64();
            cpu += (thread_time() - spent).as_secs_f64();
        }
        by_clock.push(ROUND as f64 / clock);
        by_cpu.push(ROUND as f64 / cpu);
        eprintln!("bench: {} of {records} records", (round + 1) * ROUND);
    }
    journal.close();
    ensure!(health.counter("journal.segments_deleted").get() == 0, "the limits are too small for the bench");
    let title = "writing distinct hits, a batch of 1,024 synced at a time";
    report.measured(title, "records a second", "by the clock", by_clock.spread(), Some(Target::AtLeast(RATE)));
    report.measured(title, "records a second", "of CPU", by_cpu.spread(), None);
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
