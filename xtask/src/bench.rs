//! `cargo xtask bench`: what SPECIFICATION.md promises, measured on this machine.

use anyhow::Result;

use crate::ebpf;
use crate::tool::{self, progress};
use crate::workspace::Workspace;

/// The benches that hook nothing.
const UNHOOKED: [&str; 3] = ["memory", "journal", "python"];

/// Which benches.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only benches whose name contains this, and options of the benches; `memory` for the memory that intelligence takes,
    /// `journal` for the speed of the journal, `python` for the speed beside stix2 and PyMISP (`--data DIR`: on these files)
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// Runs the agent's benches, which leave kernel.json, memory.json, journal.json and python.json in target/bench. Those of the kernel half
/// hook the kernel, which needs root.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ebpf::run(workspace)?;
    progress("building the benches (release)");
    if let Some((first, rest)) = arguments.rest.split_first()
        && let Some(name) = UNHOOKED.into_iter().find(|name| name == first)
    {
        return bench(workspace, name, rest);
    }
    bench(workspace, "kernel", &arguments.rest)?;
    // A name is that of a bench of the kernel half.
    if arguments.rest.first().is_none_or(|first| first.starts_with("--")) {
        for name in UNHOOKED {
            bench(workspace, name, &arguments.rest)?;
        }
    }
    Ok(())
}

/// Runs one of them.
pub fn bench(workspace: &Workspace, name: &str, rest: &[String]) -> Result<()> {
    let mut cargo = tool::cargo();
    cargo.args(["bench", "--locked", "--package", "agent", "--bench", name, "--"]).args(rest);
    tool::run(cargo.current_dir(workspace.root()), "`cargo bench`")
}
