//! `cargo xtask man`: the manual page, written from the command line's own help so that the two cannot differ.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::tool;
use crate::workspace::Workspace;

const PAGE: &str = "packaging/man/cordon.1";

/// How to treat a page that differs.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Fail when the page is not fresh, instead of writing it
    #[arg(long)]
    check: bool,
}

impl Arguments {
    /// For `cargo xtask check`.
    pub fn check() -> Self {
        Self { check: true }
    }
}

/// Writes the page, or compares it.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut cargo = tool::cargo();
    cargo.args(["run", "--quiet", "--locked", "--package", "agent", "--bin", "cordon", "--", "manual"]);
    let page = tool::output(cargo.current_dir(workspace.root()), "`cordon manual`")?;
    let path = workspace.path(PAGE);
    if fs::read_to_string(&path).is_ok_and(|old| old == page) {
        return Ok(());
    }
    if arguments.check {
        bail!("{PAGE} is not what `cordon manual` prints: run `cargo xtask man` and commit it");
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))?;
    tool::progress(format_args!("wrote {PAGE}"));
    Ok(())
}
