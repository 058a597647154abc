//! What this kernel allows this process: each capability is tried, with a program or map of a few bytes that changes nothing,
//! because versions, configurations and privileges say less than an attempt.

mod advice;
mod plan;
mod program;

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::path::{Path, PathBuf};

use super::btf::Structures;
use super::load::{NO_LOOPS, Offsets, VMLINUX};
use super::pin::BPF_FS_MAGIC;
use super::{bpf, fanotify, sock_diag};

pub use advice::{Capability, State, advise};
pub use plan::{ExecPath, Plan, plan};
pub use program::{attach_empty_connect4, attach_empty_egress};

/// Where bpffs is mounted everywhere.
const BPFFS: &str = "/sys/fs/bpf";

/// Why something was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The kernel's answer, where it was asked.
    pub errno: Option<i32>,
    /// In words.
    pub why: String,
}

impl Refusal {
    fn new(why: impl Into<String>) -> Self {
        Self { errno: None, why: why.into() }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self { errno: error.raw_os_error(), why: error.to_string() }
    }
}

/// Whether it was allowed.
pub type Attempt = Result<(), Refusal>;

/// Capabilities that matter, by their bits in `CapEff` (capabilities(7)).
pub const CAPABILITIES: [(&str, u32); 8] = [
    ("CAP_DAC_READ_SEARCH", 2),
    ("CAP_KILL", 5),
    ("CAP_NET_ADMIN", 12),
    ("CAP_SYS_PTRACE", 19),
    ("CAP_SYS_ADMIN", 21),
    ("CAP_LEASE", 28),
    ("CAP_PERFMON", 38),
    ("CAP_BPF", 39),
];

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `uname -r`.
    pub kernel: String,
    /// `CapEff`.
    pub capabilities: u64,
    /// The kernel's type information can be read.
    pub btf: Attempt,
    /// `structure.member` that it lacks and records go without.
    pub missing_fields: Vec<String>,
    /// `structure.member` that it lacks and no exec can be judged without.
    pub missing_exec_fields: Vec<String>,
    /// Where cgroup2 is mounted.
    pub cgroup2: Option<PathBuf>,
    /// bpffs is mounted at its place.
    pub bpffs: Attempt,
    /// Ring buffers.
    pub ring_buffer: Attempt,
    /// Maps in maps, of different sizes, that can be mapped into memory: what images are published with.
    pub image_maps: Attempt,
    /// `cgroup/connect4`, `connect6`, `sendmsg4`, `sendmsg6`.
    pub network: [Attempt; 4],
    /// `cgroup/setsockopt`, `cgroup/sock_create`, `cgroup_skb/egress`, `cgroup_skb/ingress`.
    pub layers: [Attempt; 4],
    /// `cgroup_skb/egress` may read packets and the current task, in loops.
    pub names: Attempt,
    /// Open flows can be closed.
    pub sock_destroy: Attempt,
    /// `tp_btf/sched_process_exec` loads and attaches.
    pub exec_tracing: Attempt,
    /// A program there may call `bpf_send_signal`.
    pub send_signal: Attempt,
    /// `lsm/bprm_check_security` loads and attaches.
    pub lsm: Attempt,
    /// `bpf` is among the active security modules, so that such a program is called; `None` when that cannot be told.
    pub lsm_is_active: Option<bool>,
    /// The active security modules, as the kernel lists them.
    pub lsm_list: Option<String>,
    /// A sleepable one may call `bpf_ima_file_hash`.
    pub lsm_ima: Attempt,
    /// IMA is in the kernel, so that the call gives a digest; `None` when that cannot be told.
    pub ima_is_built_in: Option<bool>,
    /// fanotify asks before an exec.
    pub fanotify: Attempt,
    /// The chosen lockdown mode, `none` for none; `None` when that cannot be told.
    pub lockdown: Option<String>,
    /// Bytes of memory that are free for use.
    pub memory_available: Option<u64>,
}

/// connect4, connect6, sendmsg4, sendmsg6 in `enum bpf_attach_type`.
const NETWORK_HOOKS: [u32; 4] = [10, 11, 14, 15];

/// Tries everything. Nothing stays behind.
#[must_use]
pub fn probe() -> Facts {
    bpf::lift_memlock_limit();
    let vmlinux = fs::read(VMLINUX);
    let structures = match &vmlinux {
        Ok(bytes) => Structures::parse(bytes).map_err(Refusal::new),
        Err(error) => Err(Refusal { errno: error.raw_os_error(), why: format!("{VMLINUX}: {error}") }),
    };
    let offsets = structures.as_ref().ok().map(Offsets::read);
    let exec = |attempt: fn(&Structures<'_>) -> Attempt| match (&structures, &offsets) {
        (Ok(_), Some(offsets)) if !offsets.has_loops => Err(Refusal::new(NO_LOOPS)),
        (Ok(structures), _) => attempt(structures),
        (Err(refusal), _) => Err(refusal.clone()),
    };
    let lsm_list = text("/sys/kernel/security/lsm");
    Facts {
        kernel: kernel_release(),
        capabilities: capabilities().unwrap_or(0),
        missing_fields: offsets.as_ref().map(|found| found.missing.clone()).unwrap_or_default(),
        missing_exec_fields: offsets.as_ref().map(|found| found.fatal_for_exec.clone()).unwrap_or_default(),
        cgroup2: cgroup2(),
        bpffs: bpffs(),
        ring_buffer: ring_buffer(),
        image_maps: image_maps(),
        network: NETWORK_HOOKS.map(program::network),
        layers: program::layers(),
        names: exec(|_| program::names()),
        sock_destroy: sock_diag::probe().map_err(Refusal::from),
        exec_tracing: exec(program::exec_tracing),
        send_signal: exec(program::send_signal),
        lsm: exec(program::lsm),
        lsm_is_active: lsm_list
            .as_ref()
            .map(|list| list.split(',').any(|name| name == "bpf"))
            .or_else(program::lsm_is_listed),
        lsm_list,
        lsm_ima: exec(program::lsm_ima),
        ima_is_built_in: ima_is_built_in(),
        fanotify: fanotify::probe().map_err(Refusal::from),
        lockdown: lockdown(),
        memory_available: memory_available(),
        btf: structures.map(drop),
    }
}

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    text("/proc/sys/kernel/osrelease").unwrap_or_default()
}

fn text(path: &str) -> Option<String> {
    fs::read_to_string(path).ok().map(|text| text.trim().to_owned())
}

fn capabilities() -> Option<u64> {
    let status = text("/proc/self/status")?;
    u64::from_str_radix(status.lines().find_map(|line| line.strip_prefix("CapEff:"))?.trim(), 16).ok()
}

fn cgroup2() -> Option<PathBuf> {
    let mounts = procfs::process::Process::myself().ok()?.mountinfo().ok()?;
    mounts.into_iter().find(|mount| mount.fs_type == "cgroup2" && mount.root == "/").map(|mount| mount.mount_point)
}

fn bpffs() -> Attempt {
    match bpf::file_system(Path::new(BPFFS)) {
        Ok(BPF_FS_MAGIC) => Ok(()),
        Ok(_) => Err(Refusal::new(format!("{BPFFS} is not a bpf file system"))),
        Err(error) => Err(error.into()),
    }
}

fn ring_buffer() -> Attempt {
    const RINGBUF: u32 = 27;
    const ONE_PAGE: u32 = 4096;
    bpf::create(RINGBUF, 0, 0, ONE_PAGE, 0, "cordon_probe").map(drop).map_err(Refusal::from)
}

/// The very maps of a publication: an outer slot that takes an inner array of another size than its template.
fn image_maps() -> Attempt {
    const ARRAY_OF_MAPS: u32 = 12;
    const INNER_MAP_FD: usize = 20;
    let template = bpf::create_image(1)?;
    let larger = bpf::create_image(2)?;
    let attr = bpf::Attr::new().u32(0, ARRAY_OF_MAPS).u32(4, 4).u32(8, 4).u32(12, 1);
    // SAFETY: BPF_MAP_CREATE (0) follows no address of the attribute and returns a descriptor.
    let outer = unsafe { attr.fd(INNER_MAP_FD, template.as_fd()).open(0) }?;
    let outer = bpf::Table::<u32, u32>::open(outer, "outer").map_err(|error| Refusal::new(error.to_string()))?;
    outer.set(&0, &larger.as_raw_fd().cast_unsigned()).map_err(Refusal::from)
}

/// The symbol is there exactly when CONFIG_IMA is set; without it the call is an inline that returns `EOPNOTSUPP`.
fn ima_is_built_in() -> Option<bool> {
    if Path::new("/sys/kernel/security/ima").exists() {
        return Some(true);
    }
    let symbols = fs::read("/proc/kallsyms").ok()?;
    let mut lines = symbols.split(|byte| *byte == b'\n');
    Some(lines.any(|line| line.ends_with(b" ima_file_hash")))
}

/// `none [integrity] confidentiality`, the chosen one in brackets.
fn lockdown() -> Option<String> {
    let modes = text("/sys/kernel/security/lockdown")?;
    Some(modes.split_once('[')?.1.split_once(']')?.0.to_owned())
}

fn memory_available() -> Option<u64> {
    let text = text("/proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix(" kB")?.parse::<u64>().ok().map(|kibibytes| kibibytes << 10)
}

#[cfg(test)]
mod tests;
