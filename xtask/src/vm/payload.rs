//! What runs inside: the two kernel test binaries and `cordon`, linked statically so that no distribution is needed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use super::archive::Archive;
use crate::debian::{self, PrivateApt};
use crate::tool::{self, progress};
use crate::workspace::Workspace;

const TARGET: &str = "x86_64-unknown-linux-gnu";
/// Where busybox is known to a shell script.
const APPLETS: [&str; 16] = [
    "sh", "cat", "cp", "echo", "env", "false", "grep", "id", "ip", "ls", "mkdir", "mount", "nc", "rm", "sleep", "true",
];

/// The static binaries, by what they are for.
#[derive(Debug, Default)]
pub struct Binaries {
    /// The daemon; where cargo left it, which is where the tests look for it.
    pub cordon: PathBuf,
    /// `/init` of the guest.
    pub guest: PathBuf,
    /// Test binaries with their names.
    pub tests: Vec<(String, PathBuf)>,
}

/// Builds the static binaries: `cordon`, the guest's init and the tests that hook a kernel, as far as there are any.
pub fn binaries(workspace: &Workspace) -> Result<Binaries> {
    progress("building the static test binaries");
    let mut found = Binaries::default();
    collect(&mut static_cargo(workspace, &["build", "--package", "xtask", "--bin", "guest"]), &mut found)?;
    collect(&mut static_cargo(workspace, &["build", "--package", "agent", "--bin", "cordon"]), &mut found)?;
    let mut command = static_cargo(workspace, &["test", "--no-run", "--package", "agent"]);
    let mut any = false;
    for test in crate::test::KERNEL_TESTS {
        if crate::test::exists(workspace, test) {
            any = true;
            command.args(["--test", test]);
        }
    }
    ensure!(any, "agent has none of the tests {:?}", crate::test::KERNEL_TESTS);
    collect(&mut command, &mut found)?;
    Ok(found)
}

/// The static `cordon` alone.
pub fn cordon(workspace: &Workspace) -> Result<PathBuf> {
    let mut found = Binaries::default();
    collect(&mut static_cargo(workspace, &["build", "--package", "agent", "--bin", "cordon"]), &mut found)?;
    Ok(found.cordon)
}

fn static_cargo(workspace: &Workspace, arguments: &[&str]) -> Command {
    let mut command = tool::cargo();
    command.args(arguments).args(["--locked", "--target", TARGET, "--message-format", "json-render-diagnostics"]);
    // Naming the target keeps build scripts and procedural macros dynamic, which they must be.
    command.env("RUSTFLAGS", "-C target-feature=+crt-static").env("CARGO_PROFILE_DEV_DEBUG", "false");
    command.current_dir(workspace.root());
    command
}

fn collect(command: &mut Command, found: &mut Binaries) -> Result<()> {
    for line in tool::output(command, "building the static test binaries")?.lines() {
        let Ok(message) = serde_json::from_str::<Value>(line) else { continue };
        let (Some(program), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str()) else {
            continue;
        };
        match (message["profile"]["test"].as_bool(), name) {
            (Some(true), name) => found.tests.push((name.to_owned(), program.into())),
            (_, "cordon") => found.cordon = program.into(),
            (_, "guest") => found.guest = program.into(),
            _ => {}
        }
    }
    Ok(())
}

/// Writes target/vm/initramfs.cpio.
pub fn build(workspace: &Workspace, arguments: &[String]) -> Result<PathBuf> {
    let binaries = binaries(workspace)?;
    let mut archive = Archive::default();
    for folder in ["dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"] {
        archive.folder(folder)?;
    }
    archive.copy("init", &binaries.guest)?;
    busybox(workspace, &mut archive)?;
    archive.file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n")?;
    archive.file("etc/group", 0o644, b"root:x:0:\nnogroup:x:65534:\n")?;
    // Tests know the binary and their data by the paths that cargo compiled into them.
    let cordon = path_text(&binaries.cordon)?;
    archive.copy(cordon, &binaries.cordon)?;
    archive.link("usr/bin/cordon", cordon)?;
    let data = workspace.path("agent/tests");
    archive.copy_folder(path_text(&data)?, &data)?;
    let mut list = format!("{}\n{}\n", path_text(&workspace.path("agent"))?, arguments.join(" "));
    for (name, program) in &binaries.tests {
        archive.copy(&format!("tests/{name}"), program)?;
        list.push_str(&format!("/tests/{name}\n"));
    }
    archive.file("tests/list", 0o644, list.as_bytes())?;
    let path = workspace.target("vm/initramfs.cpio");
    fs::write(&path, archive.finish()?).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// A shell for tests that start one; taken from Debian's archive like the kernels, not installed.
fn busybox(workspace: &Workspace, archive: &mut Archive) -> Result<()> {
    let folder = workspace.target("vm/busybox");
    let program = folder.join("bin/busybox");
    if !program.exists() {
        let suite = debian::release()?;
        PrivateApt::open(&workspace.target("vm/apt").join(&suite), &[&suite])?.unpack("busybox-static", &folder)?;
    }
    let listed = Command::new(&program).arg("--list").stdin(Stdio::null()).output().context("cannot run busybox")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    archive.copy("bin/busybox", &program)?;
    for applet in APPLETS {
        ensure!(listed.lines().any(|line| line == applet), "Debian's busybox has no `{applet}` any more");
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    Ok(())
}
