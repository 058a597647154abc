//! Namespaces and cgroups of its own, which end with the bench.

use std::env;
use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{self, Command};
use std::thread;
use std::time::{Duration, Instant};

use agent::host::cgroup;
use agent::kernel::{Bprm, EventRing, Kernel, Layers, Options, SocketRules, Switches};
use agent::policy::Ruling;
use agent::tables::Compilation;
use agent_common::image::Seed;
use agent_common::wire::Mode;
use anyhow::{Context, Result, ensure};

/// Whether this process is root.
pub fn is_root() -> bool {
    fs::read_to_string("/proc/self/status").is_ok_and(|status| status.lines().any(|line| line.starts_with("Uid:\t0\t")))
}

/// Runs this bench again in namespaces of its own.
pub fn enter_namespaces() -> Result<()> {
    let myself = env::current_exe().context("cannot find the bench's own program")?;
    let mut command = Command::new("unshare");
    command.args(["--net", "--mount", "--propagation", "private", "--"]).arg(myself).arg("--inside");
    run(command.args(env::args_os().skip(1)))
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start {}", command.get_program().display()))?;
    ensure!(status.success(), "{} ended with {status}", command.get_program().display());
    Ok(())
}

/// A network in which every address is this host, a bpf file system, and a cgroup to make others in.
pub struct Sandbox {
    home: PathBuf,
    root: PathBuf,
    files: tempfile::TempDir,
    runtime: tokio::runtime::Runtime,
}

impl Sandbox {
    /// Makes them.
    pub fn new() -> Result<Self> {
        run(Command::new("ip").args(["link", "set", "lo", "up"]))?;
        // No packet leaves: there is no other interface, and a connect of a datagram socket sends none.
        run(Command::new("ip").args(["route", "add", "local", "default", "dev", "lo"]))?;
        let files = tempfile::tempdir().context("cannot make a temporary folder")?;
        run(Command::new("mount").args(["-t", "bpf", "bpf"]).arg(files.path()))?;
        let mount = cgroup::mount_point()?;
        let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
        let own = own.lines().find_map(|line| line.strip_prefix("0::/")).context("this process is in no cgroup2")?;
        let home = mount.join(own);
        let root = mount.join(format!("cordon-bench-{}", process::id()));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        fs::create_dir(&root).with_context(|| format!("cannot make the cgroup {}", root.display()))?;
        Ok(Self { home, root, files, runtime })
    }

    /// A cgroup of that name.
    pub fn cgroup(&self, name: &str) -> Result<PathBuf> {
        let path = self.root.join(name);
        fs::create_dir(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
        Ok(path)
    }

    /// Cordon as the daemon has it, in a cgroup of its own, with its hooks attached to what `ruling` says.
    pub fn cordon(&self, name: &str, ruling: Ruling) -> Result<Cordon> {
        let cgroup = self.cgroup(name)?;
        let options = Options {
            pin_dir: self.files.path().join(name),
            cgroup: cgroup.clone(),
            bprm: Bprm::None,
            ima_max_bytes: 0,
            exec_hooks: false,
            layers: Layers::default(),
            contacts: false,
            protection: None,
        };
        let guard = self.runtime.enter();
        let mut kernel = Kernel::load(options)?;
        let hits = kernel.take_hits()?.context("the ring of hits is taken")?;
        drop(guard);
        kernel.configure(&Switches {
            mode: Mode::Enforce,
            off_until_boot_ns: 0,
            send_execs: false,
            sockets: SocketRules::default(),
        })?;
        let compilation = Compilation::new(ruling, GENERATION, Seed(process::id().into(), 1))?;
        let blocks = u32::try_from(compilation.blocks())?;
        kernel.publish(blocks, GENERATION, |image| compilation.write(image).map(drop))?;
        kernel.attach()?;
        Ok(Cordon { kernel, hits, cgroup })
    }

    /// A datagram socket of a cgroup: its programs judge the socket's connects from now on, whoever makes them.
    pub fn socket(&self, cgroup: &Path) -> Result<UdpSocket> {
        enter(cgroup)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot make a socket")?;
        enter(&self.home)?;
        Ok(socket)
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let end = Instant::now() + Duration::from_secs(5);
        let _left = enter(&self.home);
        let folders = || fs::read_dir(&self.root).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
        while Instant::now() < end {
            folders().for_each(|folder| drop(fs::remove_dir(folder.path())));
            if fs::remove_dir(&self.root).is_ok() {
                break;
            }
            thread::sleep(Duration::from_millis(20));
        }
        let _unmounted = Command::new("umount").arg("--lazy").arg(self.files.path()).status();
    }
}

/// The only generation of a [`Cordon`].
pub const GENERATION: u32 = 1;

/// Cordon, loaded and attached.
pub struct Cordon {
    /// The kernel half.
    pub kernel: Kernel,
    /// Its hits.
    pub hits: EventRing,
    /// What it enforces in.
    pub cgroup: PathBuf,
}

/// Moves this process.
pub fn enter(cgroup: &Path) -> Result<()> {
    let file = cgroup.join("cgroup.procs");
    fs::write(&file, process::id().to_string()).with_context(|| format!("cannot write {}", file.display()))
}
