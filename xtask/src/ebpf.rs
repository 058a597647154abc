//! `cargo xtask ebpf`: the kernel half, with its own toolchain and its own lock file, into one object.

use std::env;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::setup::{self, Toolchain};
use crate::tool::{self, progress};
use crate::workspace::Workspace;

const TARGET: &str = "bpfel-unknown-none";

/// Builds the object.
pub fn run(workspace: &Workspace) -> Result<()> {
    let toolchain = setup::ensure(workspace)?;
    progress("building the kernel half");
    tool::run(cargo(workspace, &toolchain, "build")?.arg("--release"), "building agent-ebpf")?;
    let built = built_object(workspace)?;
    let bytes = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
    let object = workspace.ebpf_object();
    // Left alone when nothing changed, so that the agent, which embeds it, is not built again.
    if fs::read(&object).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(&object, &bytes).with_context(|| format!("cannot write {}", object.display()))?;
    progress(format_args!("target/ebpf/cordon.o: {} KiB", bytes.len() / 1024));
    Ok(())
}

/// Lints the kernel half for the target that it runs on; `false` when this toolchain has no clippy.
pub fn clippy(workspace: &Workspace) -> Result<bool> {
    let toolchain = setup::ensure(workspace)?;
    let has_clippy = match &toolchain {
        Toolchain::Debian => has_debian_clippy(),
        Toolchain::Rustup { name } => has_rustup_clippy(name),
    };
    if !has_clippy {
        return Ok(false);
    }
    let mut command = cargo(workspace, &toolchain, "clippy")?;
    tool::run(command.args(["--release", "--", "-D", "warnings"]), "clippy on agent-ebpf")?;
    Ok(true)
}

/// rust-web-clippy brings both programs.
fn has_debian_clippy() -> bool {
    crate::debian::ensure_installed(&["rust-web-clippy"], "linting the kernel half").is_ok()
        && PathBuf::from("/usr/bin/cargo-clippy").exists()
}

fn has_rustup_clippy(name: &str) -> bool {
    tool::succeeds(Command::new("rustup").args(["component", "add", "clippy", "--toolchain", name]))
}

fn cargo(workspace: &Workspace, toolchain: &Toolchain, verb: &str) -> Result<Command> {
    let manifest = workspace.path("agent-ebpf/Cargo.toml");
    if !manifest.exists() {
        bail!("{} is missing: this checkout has no kernel half", manifest.display());
    }
    let mut command = toolchain.cargo(workspace)?;
    command.arg(verb).arg("--locked").arg("--manifest-path").arg(&manifest).args(["--target", TARGET]);
    command.arg("--target-dir").arg(workspace.target("ebpf/build"));
    if let Toolchain::Rustup { .. } = toolchain {
        command.arg("-Zbuild-std=core");
    }
    // Relative names only: the object must be the same whoever builds it wherever. The linker is found in PATH.
    let mut flags: Vec<String> =
        ["-Clinker=bpf-linker", "-Cpanic=abort", "-Clink-arg=--btf", "-Cdebuginfo=2", "-Ctarget-cpu=v3"]
            .map(str::to_owned)
            .into();
    flags.push(format!("--remap-path-prefix={}=/cordon", workspace.root().display()));
    if let Some(home) = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo"))) {
        flags.push(format!("--remap-path-prefix={}=/cargo", home.display()));
    }
    command.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}")).current_dir(workspace.path("agent-ebpf"));
    Ok(command)
}

fn built_object(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target("ebpf/build").join(TARGET).join("release");
    for name in ["cordon", "agent-ebpf"] {
        let path = folder.join(name);
        if path.is_file() {
            return Ok(path);
        }
    }
    bail!(
        "agent-ebpf built, and left neither `cordon` nor `agent-ebpf` in {}: what is its [[bin]] called?",
        folder.display()
    )
}
