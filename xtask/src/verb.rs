//! The verbs: each is a file, and a line in each of the two lists here.

use anyhow::Result;
use clap::Subcommand;

use crate::workspace::Workspace;
use crate::{
    abi, bench, build, check, coverage, ebpf, fleet_sim, fuzz, layers, man, nspawn, package, run, setup, test, vm,
};

/// What can be asked of xtask.
#[derive(Subcommand)]
pub enum Verb {
    /// Find or install the toolchain of the kernel half; every other verb calls this by itself
    Setup,
    /// Build the kernel half into target/ebpf/cordon.o
    Ebpf,
    /// Build target/release/cordon: one self-contained binary
    Build,
    /// Make the .deb and the .rpm in target/package
    Package(package::Arguments),
    /// Show Cordon at work in a sandbox of its own; with arguments of `cordon run`, run the daemon
    Run(run::Arguments),
    /// Run every test that this machine can run, and say loudly which it cannot
    Test(test::Arguments),
    /// Boot other kernels and run the kernel and end-to-end tests there
    Vm(vm::Arguments),
    /// Write docs/coverage.md: what `cordon selftest` finds in each kernel series
    Coverage(coverage::Arguments),
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
    /// Feed the parsers of untrusted bytes what nobody thought of
    Fuzz(fuzz::Arguments),
    /// Measure, in release mode
    Bench(bench::Arguments),
    /// Measure how fast policies and orders reach a fleet of simulated and real hosts
    FleetSim(fleet_sim::Arguments),
    #[command(flatten)]
    Sandbox(run::Hidden),
}

impl Verb {
    /// Does it.
    pub fn run(self, workspace: &Workspace) -> Result<()> {
        match self {
            Self::Setup => setup::run(workspace),
            Self::Ebpf => ebpf::run(workspace),
            Self::Build => build::run(workspace),
            Self::Package(arguments) => package::run(workspace, &arguments),
            Self::Run(arguments) => run::run(workspace, arguments),
            Self::Test(arguments) => test::run(workspace, &arguments),
            Self::Vm(arguments) => vm::run(workspace, &arguments),
            Self::Coverage(arguments) => coverage::run(workspace, &arguments),
            Self::Nspawn => nspawn::run(workspace),
            Self::Check(arguments) => check::run(workspace, &arguments),
            Self::Layers(arguments) => layers::run(workspace, &arguments),
            Self::Abi(arguments) => abi::run(workspace, &arguments),
            Self::Man(arguments) => man::run(workspace, &arguments),
            Self::Fuzz(arguments) => fuzz::run(workspace, &arguments),
            Self::Bench(arguments) => bench::run(workspace, &arguments),
            Self::FleetSim(arguments) => fleet_sim::run(workspace, &arguments),
            Self::Sandbox(hidden) => run::hidden(hidden),
        }
    }
}
