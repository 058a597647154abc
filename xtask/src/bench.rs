//! `cargo xtask bench`: what SPECIFICATION.md promises, measured on this machine.

use anyhow::Result;

use crate::ebpf;
use crate::tool::{self, progress};
use crate::workspace::Workspace;

/// The bench that hooks nothing.
const MEMORY: &str = "memory";

/// Which benches.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only benches whose name contains this, and options of the benches; `memory` for the memory that intelligence takes
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the agent's benches, which leave kernel.json and memory.json in target/bench. Those of the kernel half hook the
/// kernel, which needs root.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ebpf::run(workspace)?;
    progress("building the benches (release)");
    let (is_of_memory, rest) = match arguments.rest.split_first() {
        Some((first, rest)) if first == MEMORY => (true, rest),
        _ => (false, arguments.rest.as_slice()),
    };
    if !is_of_memory {
        bench(workspace, "kernel", rest)?;
    }
    // A name is that of a bench of the kernel half.
    if is_of_memory || rest.first().is_none_or(|first| first.starts_with("--")) {
        bench(workspace, MEMORY, rest)?;
    }
    Ok(())
}

fn bench(workspace: &Workspace, name: &str, rest: &[String]) -> Result<()> {
    let mut cargo = tool::cargo();
    cargo.args(["bench", "--locked", "--package", "agent", "--bench", name, "--"]).args(rest);
    tool::run(cargo.current_dir(workspace.root()), "`cargo bench`")
}
