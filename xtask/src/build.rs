//! `cargo xtask build`: one self-contained binary.

use anyhow::Result;

use crate::ebpf;
use crate::tool::{self, progress};
use crate::workspace::Workspace;

/// Builds both halves in release mode.
pub fn run(workspace: &Workspace) -> Result<()> {
    ebpf::run(workspace)?;
    progress("building the agent (release)");
    let mut cargo = tool::cargo();
    cargo.args(["build", "--release", "--locked", "--package", "agent", "--bin", "cordon"]);
    tool::run(cargo.current_dir(workspace.root()), "building cordon")?;
    progress("done: target/release/cordon");
    Ok(())
}
