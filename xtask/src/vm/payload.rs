//! What runs inside: the tests that hook a kernel and `cordon`, linked statically so that no distribution is needed.

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
/// What the tests and /init start by name.
const APPLETS: [&str; 13] = [
    "cat",
    "cp",
    "insmod",
    "ip",
    "kill",
    "md5sum",
    "mount",
    "nsenter",
    "sh",
    "sha1sum",
    "sha256sum",
    "umount",
    "unshare",
];

/// The static binaries, by what they are for.
#[derive(Debug, Default)]
struct Binaries {
    /// The daemon; where cargo left it, which is where the tests look for it.
    cordon: PathBuf,
    /// `/init` of the guest.
    guest: PathBuf,
    /// Test binaries with their names.
    tests: Vec<(String, PathBuf)>,
}

/// Builds the static binaries: `cordon`, the guest's init and the named tests of `agent`, which stay in this order.
fn binaries(workspace: &Workspace, tests: &[&str]) -> Result<Binaries> {
    progress("building the static test binaries");
    let mut found = Binaries::default();
    collect(&mut static_cargo(workspace, &["build", "--package", "xtask", "--bin", "guest"]), &mut found)?;
    collect(&mut static_cargo(workspace, &["build", "--package", "agent", "--bin", "cordon"]), &mut found)?;
    let mut command = static_cargo(workspace, &["test", "--no-run", "--package", "agent"]);
    command.args(tests.iter().flat_map(|test| ["--test", test]));
    collect(&mut command, &mut found)?;
    found.tests.sort_by_key(|(name, _)| tests.iter().position(|test| test == name));
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
    // What takes a blink here takes seconds under emulation.
    command.env("CARGO_PROFILE_DEV_OPT_LEVEL", "1");
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
pub fn build(workspace: &Workspace, tests: &[&str], arguments: &[String]) -> Result<PathBuf> {
    let binaries = binaries(workspace, tests)?;
    let mut archive = Archive::default();
    for folder in ["dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"] {
        archive.folder(folder)?;
    }
    archive.copy("init", &binaries.guest)?;
    programs(workspace, &mut archive)?;
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

/// Writes the archive with a kernel's modules behind it into that kernel's folder: the kernel takes several as one.
pub fn with_modules(archive: &Path, modules: &Path, folder: &Path) -> Result<PathBuf> {
    let mut own = Archive::default();
    own.copy_folder("modules", modules)?;
    let mut bytes = fs::read(archive).with_context(|| format!("cannot read {}", archive.display()))?;
    bytes.extend(own.finish()?);
    let path = folder.join("initramfs.cpio");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path)
}

fn path_text(path: &Path) -> Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}

/// Programs for the tests to start, from Debian's archive like the kernels. A copy of an applet of busybox would ask which
/// applet it is, so what tests copy is coreutils' own, with the C library that it is linked with.
fn programs(workspace: &Workspace, archive: &mut Archive) -> Result<()> {
    let busybox = debian(workspace, "busybox-static")?.join("bin/busybox");
    let listed = Command::new(&busybox).arg("--list").stdin(Stdio::null()).output().context("cannot run busybox")?;
    let listed = String::from_utf8_lossy(&listed.stdout);
    archive.copy("bin/busybox", &busybox)?;
    for applet in APPLETS {
        ensure!(listed.lines().any(|line| line == applet), "Debian's busybox has no `{applet}` any more");
        archive.link(&format!("bin/{applet}"), "busybox")?;
    }
    archive.link("usr/bin/env", "/bin/busybox")?;
    for (package, file, place) in [
        ("coreutils", "true", "bin"),
        ("coreutils", "sleep", "bin"),
        ("libc6", "libc.so.6", "lib/x86_64-linux-gnu"),
        ("libc6", "ld-linux-x86-64.so.2", "lib64"),
    ] {
        let found = tool::find_file(&debian(workspace, package)?, |name| name == file)?;
        let found = found.with_context(|| format!("Debian's {package} has no `{file}` any more"))?;
        archive.copy(&format!("{place}/{file}"), &found)?;
    }
    Ok(())
}

/// Where a package of this machine's own release is unpacked, not installed.
fn debian(workspace: &Workspace, package: &str) -> Result<PathBuf> {
    let folder = workspace.target("vm").join(package);
    if folder.exists() {
        return Ok(folder);
    }
    let (suite, part) = (debian::release()?, folder.with_extension("part"));
    PrivateApt::open(&workspace.target("vm/apt").join(&suite), &[&suite])?.unpack(package, &part)?;
    fs::rename(&part, &folder).with_context(|| format!("cannot rename {}", part.display()))?;
    Ok(folder)
}
