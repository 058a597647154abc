//! `cargo xtask fleet-sim`: how fast policies and orders reach a fleet, with simulated and real hosts on this machine.

use anyhow::Result;

use crate::tool::progress;
use crate::workspace::Workspace;
use crate::{bench, ebpf};

/// How large a fleet.
#[derive(clap::Args)]
pub struct Arguments {
    /// `--hosts N` that are simulated, `--real N` with a kernel's tables, `--rounds N`, `--server PATH` of nats-server, `--quick`: a few
    /// hosts, to see whether it works
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the bench of the fleet, which leaves fleet.json in target/bench.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ebpf::run(workspace)?;
    progress("building the bench of the fleet (release)");
    bench::bench(workspace, "fleet", &arguments.rest)
}
