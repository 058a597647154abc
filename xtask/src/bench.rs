//! `cargo xtask bench`: what SPECIFICATION.md promises, measured on this machine.

use anyhow::Result;

use crate::ebpf;
use crate::tool::{self, progress};
use crate::workspace::Workspace;

/// Which benches.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only benches whose name contains this, and options of the benches
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the agent's benches, which leave target/bench/kernel.json. They hook the kernel, which needs root.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ebpf::run(workspace)?;
    progress("building the benches (release)");
    let mut cargo = tool::cargo();
    cargo.args(["bench", "--locked", "--package", "agent", "--bench", "kernel", "--"]).args(&arguments.rest);
    tool::run(cargo.current_dir(workspace.root()), "`cargo bench`")
}
