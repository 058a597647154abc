//! `cargo xtask test`: every kind of test, each counted, and what cannot run here said loudly.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tally::{Output, Summary, Tally};
use crate::tool::{self, progress};
use crate::workspace::Workspace;
use crate::{ebpf, nspawn, vm};

/// The integration tests of `agent` that hook a kernel: they need root here, and run again in other kernels.
pub const KERNEL_TESTS: [&str; 3] = ["kernel", "exec_guard", "end_to_end"];

/// Which tests.
#[derive(clap::Args)]
pub struct Arguments {
    /// Folder of real intelligence that the importer is held against
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Only this kind; may be given several times
    #[arg(long, value_name = "KIND")]
    only: Vec<Kind>,
    /// Kernel series for the kind `vm`
    #[arg(long, value_name = "SERIES", num_args = 1.., default_value = vm::DEFAULT_SERIES)]
    vm: Vec<String>,
}

/// What a test needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Kind {
    /// Nothing; with --data, also the intelligence there
    Unit,
    /// The hooks of this machine's kernel, and root
    Kernel,
    /// fanotify in this machine's kernel, and root
    ExecGuard,
    /// The whole daemon on this machine's kernel, and root
    EndToEnd,
    /// The service under a real systemd, in a container
    Systemd,
    /// The kernel, exec guard and end-to-end tests in other kernels
    Vm,
}

/// Runs them all and ends with the sum.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let data = arguments.data.as_deref().map(real_folder).transpose()?;
    ebpf::run(workspace)?;
    let mut summary = Summary::default();
    let wanted = |kind: Kind| arguments.only.is_empty() || arguments.only.contains(&kind);
    if wanted(Kind::Unit) {
        summary.record("unit", unit(workspace, data.as_deref())?);
    }
    if wanted(Kind::Kernel) {
        summary.record("kernel", hooking(workspace, "kernel", data.as_deref())?);
    }
    if wanted(Kind::ExecGuard) {
        summary.record("exec guard", hooking(workspace, "exec_guard", data.as_deref())?);
    }
    if wanted(Kind::EndToEnd) {
        summary.record("end to end", hooking(workspace, "end_to_end", data.as_deref())?);
    }
    if wanted(Kind::Systemd) {
        summary.record("systemd", nspawn::test(workspace));
    }
    if wanted(Kind::Vm) {
        let wanted = vm::Arguments { series: arguments.vm.clone(), ..vm::Arguments::default() };
        vm::test(workspace, &wanted, &mut summary);
    }
    println!("\n{summary}");
    if summary.total().failed > 0 {
        bail!("tests failed; whole outputs are in target/test");
    }
    Ok(())
}

fn real_folder(path: &Path) -> Result<PathBuf> {
    let real = path.canonicalize().with_context(|| format!("--data {}: cannot be read", path.display()))?;
    if !real.is_dir() {
        bail!("--data {}: not a folder", path.display());
    }
    Ok(real)
}

fn unit(workspace: &Workspace, data: Option<&Path>) -> Result<Tally> {
    let mut command = cargo_test(workspace, data);
    command.args(["--workspace", "--lib", "--bins"]);
    for test in integration_tests(workspace)? {
        command.args(["--test", &test]);
    }
    count(workspace, "unit", command.args(["--", "--show-output"]))
}

fn hooking(workspace: &Workspace, test: &str, data: Option<&Path>) -> Result<Tally> {
    if !exists(workspace, test) {
        return Ok(Tally::failure(test, &format!("agent/tests/{test} is missing")));
    }
    if !tool::is_root() {
        return Ok(Tally::not_run(test, "hooking the kernel needs root: run `sudo -E cargo xtask test`"));
    }
    let mut command = cargo_test(workspace, data);
    command.args(["--package", "agent", "--test", test, "--", "--test-threads=1", "--show-output"]);
    count(workspace, test, &mut command)
}

fn cargo_test(workspace: &Workspace, data: Option<&Path>) -> Command {
    let mut command = tool::cargo();
    command.args(["test", "--locked", "--no-fail-fast"]).current_dir(workspace.root());
    if let Some(data) = data {
        command.env("CORDON_DATA", data);
    }
    command
}

/// Runs libtest binaries; shows what failed or could not run, and keeps the rest in target/test.
fn count(workspace: &Workspace, kind: &str, command: &mut Command) -> Result<Tally> {
    progress(format_args!("testing: {kind}"));
    let mut output = Output::default();
    let mut whole = String::new();
    let status = tool::lines(command, "cargo test", |line| {
        whole.push_str(line);
        whole.push('\n');
        if output.line(line) {
            println!("{line}");
        }
    })?;
    let mut tally = output.tally();
    let folder = workspace.target("test");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let log = folder.join(format!("{kind}.log"));
    fs::write(&log, whole).with_context(|| format!("cannot write {}", log.display()))?;
    if !status.success() && tally.failed == 0 {
        tally.add(Tally::failure(kind, &format!("cargo test ended with {status} and no test says it failed")));
    }
    if tally == Tally::default() {
        return Ok(Tally::failure(kind, "not one test ran"));
    }
    progress(format_args!("tested: {kind}: {tally}"));
    Ok(tally)
}

/// Whether `agent` has an integration test of this name.
fn exists(workspace: &Workspace, test: &str) -> bool {
    let folder = workspace.path("agent/tests");
    folder.join(format!("{test}.rs")).is_file() || folder.join(test).join("main.rs").is_file()
}

/// The integration tests of all crates that need no kernel hooks.
fn integration_tests(workspace: &Workspace) -> Result<Vec<String>> {
    let mut tests = Vec::new();
    for name in ["agent", "agent-common", "xtask"] {
        let folder = workspace.path(name).join("tests");
        if !folder.is_dir() {
            continue;
        }
        for entry in fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))? {
            let path = entry?.path();
            let is_test = path.extension().is_some_and(|extension| extension == "rs") || path.join("main.rs").is_file();
            let test = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
            if is_test && !KERNEL_TESTS.contains(&test.as_str()) {
                tests.push(test);
            }
        }
    }
    tests.sort();
    tests.dedup();
    Ok(tests)
}
