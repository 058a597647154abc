//! What SPECIFICATION.md promises about the kernel half, measured: `cargo xtask bench`.
//!
//! Everything happens in a network namespace, a mount namespace and cgroups of its own. What is compared is measured in
//! alternating rounds of one process and given as a ratio within each round, because the machine is never quiet. A bench
//! reports and never fails on a number: the reader compares.

mod blocked;
mod connect;
mod intelligence;
mod packet;
mod publish;
mod report;
mod sample;
mod sandbox;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Parser;

use crate::report::Report;
use crate::sandbox::Sandbox;

/// Benches of the kernel half.
#[derive(Parser)]
struct Arguments {
    /// Only benches whose name contains this: connect, packet, blocked, publish
    only: Option<String>,
    /// Folder for kernel.json
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    output: PathBuf,
    /// Fewer rounds and smaller sets: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// cargo says this to every bench, and not to one that `cargo test` starts
    #[arg(long, hide = true)]
    bench: bool,
    /// Set by the bench for itself, inside its namespaces
    #[arg(long, hide = true)]
    inside: bool,
    /// Set by the bench for the processes that it blocks
    #[arg(long, hide = true)]
    flood: Option<blocked::Flood>,
}

/// A bench: its name, and what it adds to the report.
type Bench = (&'static str, fn(&Sandbox, bool, &mut Report) -> Result<()>);

const BENCHES: [Bench; 4] =
    [("connect", connect::run), ("packet", packet::run), ("blocked", blocked::run), ("publish", publish::run)];

fn main() -> ExitCode {
    report::outcome("kernel", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(flood) = &arguments.flood {
        return flood.run();
    }
    if !arguments.bench && !arguments.inside {
        println!("NOT RUN bench kernel: it measures only when `cargo bench` starts it");
        return Ok(());
    }
    if !sandbox::is_root() {
        println!("NOT RUN bench kernel: hooking the kernel needs root");
        return Ok(());
    }
    if !arguments.inside {
        return sandbox::enter_namespaces();
    }
    let sandbox = Sandbox::new()?;
    let mut report = Report::new()?;
    let wanted = |name: &str| arguments.only.as_deref().is_none_or(|part| name.contains(part));
    let mut any = false;
    for (name, bench) in BENCHES.iter().filter(|(name, _)| wanted(name)) {
        any = true;
        eprintln!("bench: {name}");
        bench(&sandbox, arguments.quick, &mut report)?;
    }
    if !any {
        bail!("no bench has that in its name; there are {}", BENCHES.map(|(name, _)| name).join(", "));
    }
    report.finish(&arguments.output, "kernel")
}
