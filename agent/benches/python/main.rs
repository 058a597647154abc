//! How much faster files are read than by the reference libraries, stix2 and PyMISP: `cargo xtask bench python`.
//!
//! In alternating rounds, each side reads the same files from disk, as far as it goes: the library to objects with parsed
//! patterns, Cordon to packed, normalised indicators. CPU time of one thread is compared, because the machine is never quiet. A
//! file that the library refuses is left out on both sides.

#[path = "../memory/inputs.rs"]
mod inputs;
#[path = "../../tests/python/mod.rs"]
mod packages;
mod reference;
#[expect(dead_code, reason = "the benches of the kernel half use all of it")]
#[path = "../kernel/report.rs"]
mod report;
#[expect(dead_code, reason = "the benches of the kernel half use all of it")]
#[path = "../kernel/sample.rs"]
mod sample;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use agent::intel::parse::{Reading, ToIds};
use agent::intel::source;
use anyhow::{Context, Result, ensure};
use clap::Parser;

use crate::inputs::INPUTS;
use crate::reference::{Answer, Reference};
use crate::report::{Report, Target};
use crate::sample::{Sample, thread_time};

/// CPU time of the library over that of Cordon.
const RATIO: f64 = 50.0;
/// Readings of Cordon in a round, which are much shorter than the library's one.
const READINGS: u32 = 5;

/// Bench beside the reference libraries.
#[derive(Parser)]
struct Arguments {
    /// Only libraries whose name contains this: stix2, PyMISP
    only: Option<String>,
    /// Read the files below this directory instead of generated ones
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Folder for python.json
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    output: PathBuf,
    /// Small files and one round: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// cargo says this to every bench, and not to one that `cargo test` starts
    #[arg(long, hide = true)]
    bench: bool,
}

/// A library, and the files that it is for.
struct Library {
    name: &'static str,
    /// As what Cordon reads them.
    format: &'static str,
    /// Such a file, if none is given.
    input: &'static str,
}

const LIBRARIES: [Library; 2] = [
    Library { name: "stix2", format: "stix", input: inputs::STIX },
    Library { name: "PyMISP", format: "misp", input: inputs::MISP },
];

fn main() -> ExitCode {
    report::outcome("python", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    if !arguments.bench {
        println!("NOT RUN bench python: it measures only when `cargo bench` starts it");
        return Ok(());
    }
    let Some(environment) = packages::environment("bench python", "taxii", "stix") else { return Ok(()) };
    let folder = tempfile::tempdir().context("cannot make a temporary directory")?;
    let mut reference = Reference::start(&environment)?;
    let mut report = Report::new()?;
    let rounds = if arguments.quick { 1 } else { 7 };
    let wanted = |library: &&Library| arguments.only.as_deref().is_none_or(|part| library.name.contains(part));
    for library in LIBRARIES.iter().filter(wanted) {
        eprintln!("bench: {}", library.name);
        let files = match &arguments.data {
            Some(data) => found(data, library.format)?,
            None => generated(folder.path(), library, if arguments.quick { 500 } else { 10_000 })?,
        };
        let files = both_read(files, library.name, &mut reference)?;
        ensure!(!files.is_empty(), "no file that {} and Cordon both read", library.name);
        compare(library, &files, rounds, &mut reference, &mut report)?;
    }
    report.finish(&arguments.output, "python")
}

/// Everything is normalised, also what the publisher does not call an indicator.
fn reading() -> Reading {
    Reading { to_ids: ToIds::Ignore, ..Reading::default() }
}

/// The files below a directory that Cordon reads as `format`.
fn found(directory: &Path, format: &str) -> Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut waiting = vec![directory.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for entry in fs::read_dir(&directory).with_context(|| format!("cannot read {}", directory.display()))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "json")
                && source::read(&path, &path, &reading()).is_ok_and(|parsed| parsed.read_as.starts_with(format))
            {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}

/// One file with so many items.
fn generated(folder: &Path, library: &Library, items: u64) -> Result<Vec<PathBuf>> {
    let file = folder.join(library.name).with_extension("json");
    let (_, write) = INPUTS.iter().find(|(name, _)| *name == library.input).context("no such input")?;
    let mut out = BufWriter::new(File::create(&file).with_context(|| format!("cannot make {}", file.display()))?);
    write(&mut out, items).and_then(|()| out.flush()).with_context(|| format!("cannot write {}", file.display()))?;
    Ok(vec![file])
}

/// Those that the library does not refuse; that both see the same in them is made sure of.
fn both_read(files: Vec<PathBuf>, library: &str, reference: &mut Reference) -> Result<Vec<PathBuf>> {
    let mut both = Vec::new();
    for file in files {
        match reference.read(library, &file)? {
            Answer::Read { read, .. } => {
                let parsed = source::read(&file, &file, &reading())?;
                let own = parsed.read + parsed.superseded;
                if own != read {
                    eprintln!("bench: {}: {own} in it, {read} by {library}", file.display());
                }
                both.push(file);
            }
            Answer::Refused { error } => eprintln!("bench: left out, {library} refuses {}: {error}", file.display()),
        }
    }
    Ok(both)
}

fn compare(
    library: &Library,
    files: &[PathBuf],
    rounds: usize,
    reference: &mut Reference,
    report: &mut Report,
) -> Result<()> {
    let sizes = files.iter().map(|file| Ok(fs::metadata(file)?.len())).collect::<Result<Vec<u64>>>()?;
    let megabytes = sizes.iter().sum::<u64>() as f64 / 1e6;
    // Megabytes a second.
    let (mut theirs, mut json, mut ours) = (Sample::default(), Sample::default(), Sample::default());
    for _ in 0..rounds {
        theirs.push(megabytes / referred(library.name, files, reference)?);
        ours.push(megabytes / own(files)?);
        json.push(megabytes / referred("json", files, reference)?);
    }
    let of = format!("{} files, {megabytes:.1} MB", files.len());
    let title = format!("the same files read by {} and by Cordon", library.name);
    report.measured(
        &title,
        &of,
        "its CPU time over Cordon's",
        ours.over(&theirs).spread(),
        Some(Target::AtLeast(RATIO)),
    );
    report.measured(&title, &of, "Python's json alone over Cordon's", ours.over(&json).spread(), None);
    report.measured(&title, &of, "it, MB/s", theirs.spread(), None);
    report.measured(&title, &of, "Cordon, MB/s", ours.spread(), None);
    Ok(())
}

/// CPU seconds of Python for all files.
fn referred(library: &str, files: &[PathBuf], reference: &mut Reference) -> Result<f64> {
    let mut total = 0.0;
    for file in files {
        match reference.read(library, file)? {
            Answer::Read { seconds, .. } => total += seconds,
            Answer::Refused { error } => anyhow::bail!("{}: {error}", file.display()),
        }
    }
    Ok(total)
}

/// CPU seconds of Cordon for all files.
fn own(files: &[PathBuf]) -> Result<f64> {
    let start = thread_time();
    for _ in 0..READINGS {
        for file in files {
            std::hint::black_box(source::read(file, file, &reading())?);
        }
    }
    Ok((thread_time() - start).as_secs_f64() / f64::from(READINGS))
}
