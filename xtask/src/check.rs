//! `cargo xtask check`: everything about the sources that a machine can judge. All checks run, so that one look shows all
//! that is wrong.

use std::process::Command;
use std::time::Instant;

use anyhow::{Result, bail};

use crate::tool::{self, progress};
use crate::workspace::Workspace;
use crate::{abi, ebpf, layers, man};

/// The licence checker's version.
const DENY_VERSION: &str = "0.20.2";

/// Which checks.
#[derive(clap::Args)]
pub struct Arguments {
    /// Leave out the check of dependencies' licences and sources, whose tool takes minutes to build the first time
    #[arg(long)]
    no_deny: bool,
}

type Check = fn(&Workspace) -> Result<()>;

/// Runs all checks and fails with the names of those that failed.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    // First of all, since the agent embeds the object and everything below would be built twice.
    ebpf::run(workspace)?;
    let mut checks: Vec<(&str, Check)> = vec![
        ("format", format),
        ("layers", |workspace| layers::run(workspace, &layers::Arguments::default())),
        ("clippy", clippy),
        ("clippy without the message bus", clippy_without_bus),
        ("clippy, kernel half", clippy_kernel_half),
        ("abi", |workspace| abi::run(workspace, &abi::Arguments::default())),
        ("documentation", documentation),
        ("manual page", |workspace| man::run(workspace, &man::Arguments::check())),
    ];
    if !arguments.no_deny {
        checks.push(("licences and sources of dependencies", deny));
    }
    let mut failed = Vec::new();
    for (name, check) in &checks {
        let start = Instant::now();
        progress(format_args!("checking: {name}"));
        match check(workspace) {
            Ok(()) => progress(format_args!("checked: {name} ({:.1} s)", start.elapsed().as_secs_f32())),
            Err(error) => {
                eprintln!("\n*** {name}: {error:#}\n");
                failed.push(*name);
            }
        }
    }
    if !failed.is_empty() {
        bail!("{} of {} checks failed: {}", failed.len(), checks.len(), failed.join("; "));
    }
    progress(format_args!("all {} checks passed", checks.len()));
    Ok(())
}

fn cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = tool::cargo();
    command.args(arguments).current_dir(workspace.root());
    command
}

fn format(workspace: &Workspace) -> Result<()> {
    let fix = "`cargo fmt --check`: run `cargo fmt` (and again with --manifest-path agent-ebpf/Cargo.toml);  it";
    tool::run(&mut cargo(workspace, &["fmt", "--all", "--check"]), fix)?;
    let manifest = "agent-ebpf/Cargo.toml";
    tool::run(&mut cargo(workspace, &["fmt", "--check", "--manifest-path", manifest]), fix)
}

fn clippy(workspace: &Workspace) -> Result<()> {
    let mut command = cargo(workspace, &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"]);
    tool::run(&mut command, "clippy")
}

fn clippy_without_bus(workspace: &Workspace) -> Result<()> {
    let core = ["clippy", "--package", "agent", "--lib", "--bins", "--no-default-features", "--locked"];
    tool::run(cargo(workspace, &core).args(["--", "-D", "warnings"]), "clippy without the message bus")
}

fn clippy_kernel_half(workspace: &Workspace) -> Result<()> {
    if !ebpf::clippy(workspace)? {
        eprintln!("\n*** NOT RUN: clippy on the kernel half: its toolchain has no clippy (Debian: rust-web-clippy)\n");
    }
    Ok(())
}

fn documentation(workspace: &Workspace) -> Result<()> {
    let mut command = cargo(workspace, &["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"]);
    tool::run(command.env("RUSTDOCFLAGS", "-D warnings"), "the documentation")
}

/// Advisories are left out: they come from a git host that a build machine may not reach. deny.toml says how to run them.
fn deny(workspace: &Workspace) -> Result<()> {
    let program = tool::installed(workspace, "cargo-deny", DENY_VERSION)?;
    for manifest in ["Cargo.toml", "agent-ebpf/Cargo.toml"] {
        let mut command = Command::new(&program);
        command.current_dir(workspace.root()).args(["--manifest-path", manifest, "--locked", "--config"]);
        command.arg(workspace.path("deny.toml")).args(["check", "licenses", "bans", "sources"]);
        tool::run(&mut command, &format!("cargo-deny on {manifest}"))?;
    }
    Ok(())
}
