//! Running other programs: found or missing, done or failed, and within a time.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};
use std::{env, thread};

use anyhow::{Context, Result, bail};

use crate::workspace::Workspace;

/// Says what is being done, so that nobody waits in the dark.
pub fn progress(what: impl std::fmt::Display) {
    eprintln!("xtask: {what}");
}

/// The program in `PATH` or where administrators' programs live.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let administrators = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    env::split_paths(&path).chain(administrators).map(|folder| folder.join(program)).find(|file| is_executable(file))
}

fn is_executable(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// Whether this process runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0)
}

/// The cargo that started xtask.
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs to the end with this terminal; fails with `what` and the exit status.
pub fn run(command: &mut Command, what: &str) -> Result<()> {
    let status = start(command, what)?.wait().with_context(|| format!("{what}: cannot wait for it"))?;
    check(status, what)
}

/// Starts it; a program that is not there is an error with its name.
pub fn start(command: &mut Command, what: &str) -> Result<Child> {
    let program = command.get_program().to_os_string();
    command.spawn().with_context(|| format!("{what}: cannot start {}", Path::new(&program).display()))
}

/// Runs to the end and returns what it printed; its diagnostics stay on this terminal.
pub fn output(command: &mut Command, what: &str) -> Result<String> {
    let output = start(command.stdin(Stdio::null()).stdout(Stdio::piped()), what)?
        .wait_with_output()
        .with_context(|| format!("{what}: cannot read what it printed"))?;
    check(output.status, what)?;
    String::from_utf8(output.stdout).with_context(|| format!("{what}: it printed something that is not UTF-8"))
}

/// Runs quietly and says only whether it succeeded.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// Runs to the end, giving each line of its standard output to `take`.
pub fn lines(command: &mut Command, what: &str, mut take: impl FnMut(&str)) -> Result<ExitStatus> {
    let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()), what)?;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line.with_context(|| format!("{what}: cannot read what it printed"))?;
            take(String::from_utf8_lossy(&line).trim_end_matches('\r'));
        }
    }
    child.wait().with_context(|| format!("{what}: cannot wait for it"))
}

/// Waits for a child until `limit` has passed; `None` when it still runs then.
pub fn wait_within(child: &mut Child, limit: Duration) -> Result<Option<ExitStatus>> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= end {
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn check(status: ExitStatus, what: &str) -> Result<()> {
    if !status.success() {
        bail!("{what} failed ({status}); its own words are above");
    }
    Ok(())
}

/// A program of crates.io: the one that is installed, or one built into target/toolchain.
pub fn installed(workspace: &Workspace, program: &str, version: &str) -> Result<PathBuf> {
    let folder = workspace.target("toolchain");
    let own = folder.join("bin").join(program);
    if let Some(found) = [Some(own.clone()), find(program)].into_iter().flatten().find(|file| file.exists()) {
        return Ok(found);
    }
    progress(format_args!("building {program} {version} (a few minutes, once)"));
    let mut install = cargo();
    install.args(["install", program, "--version", version, "--locked", "--root"]).arg(&folder);
    install.env("CARGO_TARGET_DIR", folder.join("build")).current_dir(workspace.root());
    run(&mut install, &format!("`cargo install {program}`"))
        .with_context(|| format!("put {program} {version} on the PATH, or let cargo reach its registry"))?;
    fs::remove_dir_all(folder.join("build")).context("cannot remove target/toolchain/build")?;
    Ok(own)
}

/// `PATH` with folders put before it.
pub fn path_with(before: &[PathBuf]) -> Result<std::ffi::OsString> {
    let old = env::var_os("PATH").unwrap_or_default();
    let folders = before.iter().cloned().chain(env::split_paths(&old));
    env::join_paths(folders).context("PATH cannot be extended: a folder's name holds a colon")
}

/// The first file, not a link to one, below `folder` whose name `is_wanted`.
pub fn find_file(folder: &Path, is_wanted: impl Fn(&str) -> bool + Copy) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            if let Some(found) = find_file(&path, is_wanted)? {
                return Ok(Some(found));
            }
        } else if is_wanted(&name(&path)) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

/// A file's name as text, for messages.
pub fn name(path: &Path) -> String {
    path.file_name().map(OsStr::to_string_lossy).unwrap_or_default().into_owned()
}
