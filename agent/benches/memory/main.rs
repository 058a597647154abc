//! What SPECIFICATION.md promises about the memory that intelligence takes, measured: `cargo xtask bench memory`.
//!
//! Each input is read, ruled on and compiled by a process of its own, whose peak is compared with the size of the input. What
//! such a process takes for a list of one line is taken off: that is the same for all.

mod inputs;
#[expect(dead_code, reason = "the benches of the kernel half use all of it")]
#[path = "../kernel/report.rs"]
mod report;
#[expect(dead_code, reason = "the benches of the kernel half use all of it")]
#[path = "../kernel/sample.rs"]
mod sample;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use agent::intel::{Source, source};
use agent::kernel::give_back_large;
use agent::policy::{Rules, Supply, rule};
use agent::tables::Compilation;
use agent_common::image::Seed;
use anyhow::{Context, Result, ensure};
use clap::Parser;
use jiff::Timestamp;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

use crate::inputs::INPUTS;
use crate::report::{Report, Target};
use crate::sample::Sample;

/// Peak memory over the size of the input.
const RATIO: f64 = 4.0;
/// CPU seconds from the million lines of a list to the image.
const SECONDS: f64 = 1.5;

/// Bench of the memory that intelligence takes.
#[derive(Parser)]
struct Arguments {
    /// Only inputs whose name contains this
    only: Option<String>,
    /// Folder for memory.json
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    output: PathBuf,
    /// Small inputs and one round: whether it works, not how much it takes
    #[arg(long)]
    quick: bool,
    /// cargo says this to every bench, and not to one that `cargo test` starts
    #[arg(long, hide = true)]
    bench: bool,
    /// Set by the bench for the process that reads this file
    #[arg(long, hide = true)]
    read: Option<PathBuf>,
}

/// What reading took.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Taken {
    /// Bytes resident at the most.
    peak: u64,
    /// CPU seconds.
    cpu: f64,
    /// Values in the image.
    entries: u64,
}

fn main() -> ExitCode {
    report::outcome("memory", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(file) = &arguments.read {
        println!("{}", serde_json::to_string(&read(file)?)?);
        return Ok(());
    }
    if !arguments.bench {
        println!("NOT RUN bench memory: it measures only when `cargo bench` starts it");
        return Ok(());
    }
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    let least = folder.path().join("least.txt");
    fs::write(&least, "198.51.100.7\n").with_context(|| format!("cannot write {}", least.display()))?;
    let mut report = Report::new()?;
    let (items, rounds) = if arguments.quick { (10_000, 1) } else { (1_000_000, 3) };
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|part| name.contains(part));
    for (name, write) in INPUTS.iter().filter(|(name, _)| wanted(name)) {
        eprintln!("bench: {name}");
        let file = folder.path().join("input");
        let mut out = BufWriter::new(File::create(&file).with_context(|| format!("cannot make {}", file.display()))?);
        write(&mut out, items)
            .and_then(|()| out.flush())
            .with_context(|| format!("cannot write {}", file.display()))?;
        drop(out);
        let size = fs::metadata(&file)?.len();
        let (mut ratio, mut peak, mut cpu) = (Sample::default(), Sample::default(), Sample::default());
        for _ in 0..rounds {
            let (base, taken) = (apart(&least)?, apart(&file)?);
            ensure!(taken.entries > items / 6, "{name}: {} values came out", taken.entries);
            ratio.push(taken.peak.saturating_sub(base.peak) as f64 / size as f64);
            peak.push(taken.peak as f64 / f64::from(1 << 20));
            cpu.push(taken.cpu);
        }
        let what = format!("{name}, {:.1} MiB", size as f64 / f64::from(1 << 20));
        let title = "from a file to an image";
        report.measured(title, &what, "peak over its size", ratio.spread(), Some(Target::AtMost(RATIO)));
        report.measured(title, &what, "peak in all, MiB", peak.spread(), None);
        let target = (*name == inputs::LINES && !arguments.quick).then_some(Target::AtMost(SECONDS));
        report.measured(title, &what, "CPU seconds", cpu.spread(), target);
    }
    report.finish(&arguments.output, "memory")
}

/// Reads in a process of its own.
fn apart(file: &Path) -> Result<Taken> {
    let own = std::env::current_exe().context("cannot find the bench itself")?;
    let output = Command::new(own).arg("--read").arg(file).output().context("cannot start the bench itself")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(serde_json::from_slice(&output.stdout)?)
}

/// The whole way from a file to an image, as the daemon goes it.
fn read(file: &Path) -> Result<Taken> {
    give_back_large();
    let source = Source { allow_reserved: true, ..Source::new("bench", file) };
    let load = source::load(&source, Timestamp::now()).map_err(|failed| failed.error)?;
    let supply = Supply::new(&source, &load.indicators);
    let ruling = rule(&[supply], &Rules::default(), Timestamp::now());
    let compilation = Compilation::new(ruling, 1, Seed(1, 7))?;
    let mut image = vec![[0; 8]; compilation.blocks()];
    let (_provenance, summary) = compilation.write(&mut image)?;
    let status = fs::read_to_string("/proc/self/status").context("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix(" kB")?.parse().ok());
    let cpu = clock_gettime(ClockId::ProcessCPUTime);
    Ok(Taken {
        peak: peak.map(|kilobytes: u64| kilobytes << 10).context("no VmHWM in /proc/self/status")?,
        cpu: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
        entries: summary.entries(),
    })
}
