//! `cargo xtask`: everything that is done to the project, one file per verb.
//! They stand on [`workspace`] (where things are), [`tool`] (running programs), [`debian`] (packages), [`cgroup`] and [`tally`] (counting).

mod abi;
mod bench;
mod build;
mod cgroup;
mod check;
mod coverage;
mod debian;
mod ebpf;
mod fleet_sim;
mod fuzz;
mod layers;
mod man;
mod nspawn;
mod package;
mod run;
mod setup;
mod tally;
mod test;
mod tool;
mod verb;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::Parser;

use crate::verb::Verb;
use crate::workspace::Workspace;

/// Builds, runs, tests and checks Cordon.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = line.verb.run(&Workspace::find());
    if let Err(error) = outcome {
        eprintln!("cargo xtask: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
