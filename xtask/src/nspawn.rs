//! `cargo xtask nspawn`: the service under a real systemd, in a container of Debian's, driven by `nspawn/driver.sh`.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, process};

use anyhow::{Context, Result, bail};

use crate::cgroup::Cgroup;
use crate::debian::{self, Mirrors};
use crate::package::{self, Kind, Order, Purpose};
use crate::tally::{Output, Tally};
use crate::tool::{self, progress};
use crate::workspace::Workspace;
use crate::{ebpf, run, vm};

const DRIVER: &str = include_str!("nspawn/driver.sh");
const UNIT: &str = "[Unit]\nDescription=Drive the tests\nAfter=multi-user.target\n[Service]\nType=oneshot\nExecStart=/bin/sh /driver/run\n\
                    StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/console\n";
const TARGET: &str =
    "[Unit]\nDescription=Tests\nRequires=basic.target driver.service\nAfter=basic.target\nAllowIsolate=yes\n";
/// strace makes one thread stand still, which nothing else can from outside.
const PACKAGES: &str = "systemd,systemd-sysv,dbus,iproute2,procps,rpm,strace";
/// The driver ends with `systemctl exit`: so much plus the number of its failures, capped at one.
const END_REACHED: [i32; 2] = [10, 11];
const LIMIT: &str = "300";

/// Runs the tests of the kind `systemd`.
pub fn run(workspace: &Workspace) -> Result<()> {
    ebpf::run(workspace)?;
    let tally = test(workspace);
    println!("\n{tally}");
    if tally.failed > 0 {
        bail!("the service does not hold what it promises under systemd; see above");
    }
    Ok(())
}

/// What came of it; a machine that cannot start a container says so.
pub fn test(workspace: &Workspace) -> Tally {
    if !tool::is_root() {
        return Tally::not_run("systemd", "starting a container needs root");
    }
    let base = match prepare(workspace) {
        Ok(base) => base,
        Err(error) => return Tally::not_run("systemd", &format!("{error:#}")),
    };
    drive(workspace, &base).unwrap_or_else(|error| Tally::failure("systemd", &format!("{error:#}")))
}

/// Debian's smallest system with systemd, made once; the mirrors are the machine's own.
fn prepare(workspace: &Workspace) -> Result<PathBuf> {
    debian::ensure_installed(&["systemd-container", "mmdebstrap"], "tests under systemd")?;
    package::ensure_tools(workspace)?;
    let release = debian::release()?;
    let base = workspace.target("nspawn").join(&release);
    let made_of = base.with_extension("packages");
    if fs::read_to_string(&made_of).is_ok_and(|packages| packages == PACKAGES) {
        return Ok(base);
    }
    if base.exists() {
        fs::remove_dir_all(&base).with_context(|| format!("cannot remove {}", base.display()))?;
    }
    fs::create_dir_all(workspace.target("nspawn")).context("cannot make target/nspawn")?;
    let sources = workspace.target("nspawn/sources.list");
    let suites = [release.clone(), format!("{release}-security")];
    let suites: Vec<&str> = suites.iter().map(String::as_str).collect();
    fs::write(&sources, Mirrors::of_this_system()?.sources(&suites))
        .context("cannot write target/nspawn/sources.list")?;
    progress("making a Debian system with systemd (about two minutes, once)");
    let mut command = Command::new("mmdebstrap");
    command.args(["--quiet", "--variant=minbase", "--include", PACKAGES, "--aptopt=Acquire::Languages \"none\""]);
    command.args(["--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/man/*"]);
    command.arg(&release).arg(&base).arg(&sources);
    tool::run(command.stdin(Stdio::null()), "`mmdebstrap`")?;
    fs::write(&made_of, PACKAGES).with_context(|| format!("cannot write {}", made_of.display()))?;
    Ok(base)
}

/// What the container gets to install, by the name that the driver knows it by: each package and what it is upgraded with.
type Packages = [(PathBuf, &'static str); 4];

/// Makes them of the binary that is built for the tests, since a release takes minutes.
fn packages(workspace: &Workspace) -> Result<Packages> {
    let binary = vm::static_cordon(workspace)?;
    progress("making the packages");
    let made = |kind, revision| {
        package::make(workspace, kind, &Order { binary: binary.clone(), revision, purpose: Purpose::Test })
    };
    Ok([
        (made(Kind::Deb, 1)?, "cordon.deb"),
        (made(Kind::Deb, 2)?, "upgrade.deb"),
        (made(Kind::Rpm, 1)?, "cordon.rpm"),
        (made(Kind::Rpm, 2)?, "upgrade.rpm"),
    ])
}

fn drive(workspace: &Workspace, base: &Path) -> Result<Tally> {
    let packages = packages(workspace)?;
    let name = format!("cordon-tests-{}", process::id());
    let place = workspace.target("nspawn").join(&name);
    tool::run(Command::new("cp").args(["-a", "--reflink=auto"]).arg(base).arg(&place), "copying the Debian system")?;
    let outcome = furnish(&packages, &place).and_then(|()| contain(workspace, &place, &name));
    fs::remove_dir_all(&place).with_context(|| format!("cannot remove {}", place.display()))?;
    outcome
}

/// Boots in cgroups of its own, below which the container sees nothing of the machine's, and cleans up behind systemd-nspawn.
fn contain(workspace: &Workspace, place: &Path, name: &str) -> Result<Tally> {
    let cgroups = Cgroup::make_for_systemd(name)?;
    let outcome = boot(workspace, place, &cgroups);
    let removed = cgroups.into_iter().try_for_each(Cgroup::remove);
    // systemd-nspawn leaves this behind where /run is no tmpfs; elsewhere it is gone already.
    let _ = fs::remove_dir(Path::new("/run/systemd/nspawn/propagate").join(name));
    removed.and(outcome)
}

/// The packages, the driver and what it acts with.
fn furnish(packages: &Packages, place: &Path) -> Result<()> {
    let driver = place.join("driver");
    for (package, name) in packages {
        copy(package, &driver.join(name))?;
    }
    copy(&env::current_exe().context("cannot find xtask's own program")?, &driver.join("act"))?;
    executable(&driver.join("act"))?;
    let digest = run::harmless_program(&driver.join("implant"))?;
    write(&driver.join("driver.txt"), format!("203.0.113.7\n{digest}\n").as_bytes())?;
    let settings = "[never_block]\nhost = false\n[[source]]\nname = \"driver\"\n\
                    path = \"/etc/cordon/driver.txt\"\nformat = \"auto\"\naction = \"block\"\nallow_reserved = true\n";
    write(&driver.join("driver.toml"), settings.as_bytes())?;
    write(&driver.join("run"), DRIVER.as_bytes())?;
    write(&place.join("etc/systemd/system/driver.service"), UNIT.as_bytes())?;
    write(&place.join("etc/systemd/system/tests.target"), TARGET.as_bytes())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    write(to, &fs::read(from).with_context(|| format!("cannot read {}", from.display()))?)
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
    }
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}

fn executable(path: &Path) -> Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot change {}", path.display()))
}

fn boot(workspace: &Workspace, place: &Path, cgroups: &[Cgroup]) -> Result<Tally> {
    progress("booting systemd in a container");
    let mut command = Command::new("sh");
    // The shell enters each cgroup and becomes the command after `--`.
    command.args([
        "-ec",
        "until [ \"$1\" = -- ]; do echo $$ > \"$1/cgroup.procs\"; shift; done; shift; exec \"$@\"",
        "sh",
    ]);
    command.args(cgroups.iter().map(Cgroup::path)).args(["--", "timeout", "--kill-after=10", LIMIT, "systemd-nspawn"]);
    command.args(["--quiet", "--boot", "--register=no", "--keep-unit", "--private-network", "--capability=all"]);
    // The driver prints on the console, which must be a terminal for that: not `pipe`.
    command.args(["--console=read-only", "--directory"]).arg(place);
    command.arg("--system-call-filter=bpf fanotify_init fanotify_mark");
    command.args(["systemd.unit=tests.target", "systemd.show_status=no"]);
    let mut output = Output::default();
    let mut whole = String::new();
    let status = tool::lines(command.stderr(Stdio::inherit()), "systemd-nspawn", |line| {
        whole.push_str(line);
        whole.push('\n');
        output.line(line);
        println!("    {line}");
    })?;
    let folder = workspace.target("test");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    fs::write(folder.join("systemd.log"), whole).context("cannot write target/test/systemd.log")?;
    if !status.code().is_some_and(|code| END_REACHED.contains(&code)) {
        bail!("the container ended with {status} before its tests did");
    }
    Ok(output.tally())
}
