//! `cargo xtask run`: shows Cordon at work in a sandbox of its own, or, with arguments, is `cordon run`.
//!
//! The sandbox is a network namespace that leads nowhere (the indicators' addresses are on its `lo`), a mount namespace
//! whose BPF file system ends with it, a cgroup that alone is enforced, and a temporary root.

mod act;
mod demo;
mod intelligence;
mod sandbox;

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub use self::demo::harmless_program;
use self::sandbox::Sandbox;
use crate::tool;
use crate::workspace::Workspace;
use crate::{build, debian};

/// What to run.
#[derive(clap::Args)]
pub struct Arguments {
    /// Real intelligence to show Cordon with, instead of the example that comes with it
    #[arg(long, value_name = "DIR")]
    intel: Option<PathBuf>,
    /// Arguments of `cordon run`: then there is no sandbox, and this is the daemon
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<String>,
}

/// What xtask starts of itself inside the sandbox.
#[derive(clap::Subcommand)]
pub enum Hidden {
    /// The demonstration, inside its namespaces
    #[command(name = "sandbox-demo", hide = true)]
    Demo(demo::Arguments),
    /// One act of a process under enforcement
    #[command(name = "sandbox-act", hide = true)]
    Act(act::Arguments),
    /// Something to connect to
    #[command(name = "sandbox-listen", hide = true)]
    Listen(act::ListenArguments),
}

/// Runs one of those.
pub fn hidden(hidden: Hidden) -> Result<()> {
    match hidden {
        Hidden::Demo(arguments) => demo::run(&arguments),
        Hidden::Act(arguments) => act::run(&arguments),
        Hidden::Listen(arguments) => act::listen(&arguments),
    }
}

/// Builds, then shows or runs.
pub fn run(workspace: &Workspace, arguments: Arguments) -> Result<()> {
    if let Some(folder) = &arguments.intel
        && !folder.exists()
    {
        bail!("--intel {}: there is no such file or folder", folder.display());
    }
    build::run(workspace)?;
    if !arguments.rest.is_empty() {
        let mut command = Command::new(workspace.binary());
        return tool::run(command.arg("run").args(&arguments.rest), "`cordon run`");
    }
    if !tool::is_root() {
        bail!("hooking the kernel needs root, also in a sandbox: run `sudo -E env PATH=\"$PATH\" cargo xtask run`");
    }
    if tool::find("ip").is_none() {
        debian::ensure_installed(&["iproute2"], "the sandbox's network")?;
    }
    for program in ["unshare", "setpriv", "mount", "ip"] {
        tool::find(program).with_context(|| format!("the sandbox needs the program `{program}`, which is not here"))?;
    }
    let sandbox = Sandbox::make()?;
    let outcome = sandbox.run(&workspace.binary(), arguments.intel.as_deref());
    sandbox.remove().and(outcome)
}
