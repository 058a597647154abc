//! `cargo xtask`: everything that is done to the project, one file per verb.
//!
//! # Layout
//! Verbs: [`setup`], [`ebpf`], [`build`], [`run`], [`test`], [`vm`], [`nspawn`], [`check`], [`layers`], [`abi`], [`man`],
//! [`bench`]. They stand on [`workspace`] (where things are), [`tool`] (running other programs), [`debian`] (packages) and
//! [`tally`] (what a test run came to).

mod abi;
mod bench;
mod build;
mod check;
mod debian;
mod ebpf;
mod layers;
mod man;
mod nspawn;
mod run;
mod setup;
mod tally;
mod test;
mod tool;
mod vm;
mod workspace;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::workspace::Workspace;

/// Builds, runs, tests and checks Cordon.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct CommandLine {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install the toolchain of the kernel half; every other verb calls this by itself
    Setup,
    /// Build the kernel half into target/ebpf/cordon.o
    Ebpf,
    /// Build target/release/cordon: one self-contained binary
    Build,
    /// Show Cordon at work in a sandbox of its own; with arguments of `cordon run`, run the daemon
    Run(run::Arguments),
    /// Run every test that this machine can run, and say loudly which it cannot
    Test(test::Arguments),
    /// Boot other kernels and run the kernel and end-to-end tests there
    Vm(vm::Arguments),
    /// Run the service under a real systemd, in a container
    Nspawn,
    /// Everything about the sources that a machine can judge
    Check(check::Arguments),
    /// Hold the sources to the rooms, import directions and sizes that ARCHITECTURE.md prints
    Layers(layers::Arguments),
    /// Hold the records shared with the kernel to their blessed picture
    Abi(abi::Arguments),
    /// Write packaging/man/cordon.1 from the command line's own help
    Man(man::Arguments),
    /// Measure, in release mode
    Bench(bench::Arguments),
    #[command(flatten)]
    Sandbox(run::Hidden),
}

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let workspace = Workspace::find();
    let outcome = match line.verb {
        Verb::Setup => setup::run(&workspace),
        Verb::Ebpf => ebpf::run(&workspace),
        Verb::Build => build::run(&workspace),
        Verb::Run(arguments) => run::run(&workspace, arguments),
        Verb::Test(arguments) => test::run(&workspace, &arguments),
        Verb::Vm(arguments) => vm::run(&workspace, &arguments),
        Verb::Nspawn => nspawn::run(&workspace),
        Verb::Check(arguments) => check::run(&workspace, &arguments),
        Verb::Layers(arguments) => layers::run(&workspace, &arguments),
        Verb::Abi(arguments) => abi::run(&workspace, &arguments),
        Verb::Man(arguments) => man::run(&workspace, &arguments),
        Verb::Bench(arguments) => bench::run(&workspace, &arguments),
        Verb::Sandbox(hidden) => run::hidden(hidden),
    };
    if let Err(error) = outcome {
        eprintln!("cargo xtask: {error:#}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
