//! The only room that names aya, raw system calls or `unsafe`: load, attach, pin, publish, read rings.
//!
//! The order of a start is [`Kernel::load`] → [`Kernel::configure`] → [`Kernel::publish`] → [`Kernel::attach`]. Links and
//! maps are pinned, so a daemon that dies leaves everything blocking, and the next one adopts what it finds without a gap.
//! [`unpin_all`] removes Cordon from the kernel, with or without a running daemon.

mod attach;
pub mod attempt;
mod bpf;
mod btf;
pub mod clock;
mod contacts;
pub mod fanotify;
mod folds;
mod integrity;
mod layers;
mod load;
mod memory;
mod names;
mod pin;
pub mod probe;
mod protect;
mod publish;
mod remembered;
mod rings;
mod signal;
pub mod sock_diag;
pub mod stat;
mod verdicts;

use std::path::PathBuf;

use agent_common::wire::Counter;

pub use attach::{HookState, Report};
pub use layers::{Layers, SocketRules};
pub use load::{Bprm, Kernel, Options};
pub use memory::{give_back_large, give_back_small};
pub use names::{NAME_HOOKS, NameSettings};
pub use pin::{Removed, unpin_all};
pub use protect::{OwnProgram, Refusal, describe as describe_attempt};
pub use publish::MappedImage;
pub use remembered::borrow_socket;
pub use rings::{Batch, EventRing};
pub use signal::kill;
pub use verdicts::{DigestKinds, ExecHit, Verdicts, weightier};

/// Where the pins are when the settings say nothing.
pub const DEFAULT_PIN_DIR: &str = "/sys/fs/bpf/cordon";

/// What `Kernel::configure` writes into the kernel: all that the hooks ask besides the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// Whether `block` entries block.
    pub mode: agent_common::wire::Mode,
    /// Nanoseconds since boot until which every hook passes everything (break-glass); 0 for not.
    pub off_until_boot_ns: u64,
    /// Send every exec to the exec ring, not only hits.
    pub send_execs: bool,
    /// What the settings say of sockets.
    pub sockets: SocketRules,
}

/// The kernel's own counts, summed over the CPUs, in the order of [`Counter::ALL`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters([u64; Counter::COUNT as usize]);

impl Counters {
    /// One of them.
    #[must_use]
    pub fn get(&self, counter: Counter) -> u64 {
        self.0.get(counter as usize).copied().unwrap_or(0)
    }

    /// All of them by name.
    pub fn named(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Counter::ALL.iter().map(|&(counter, name)| (name, self.get(counter)))
    }
}

/// Why the kernel half could not be brought up, used or removed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The binary was built without its kernel half.
    #[error("this binary holds no eBPF object: build it with `cargo xtask build`, which makes the object first")]
    NoObject,
    /// The pin directory's file system is not bpffs.
    #[error("{path} is not on a bpf file system; mount one: mount -t bpf bpf {mount}")]
    NotBpffs {
        /// The pin directory.
        path: PathBuf,
        /// Its nearest existing parent.
        mount: PathBuf,
    },
    /// The cgroup is not a cgroup2 directory.
    #[error("{path} is not a directory of a cgroup2 file system; name one with --cgroup")]
    NotCgroup2 {
        /// What was named.
        path: PathBuf,
    },
    /// A file, directory or pin could not be used.
    #[error("{what} {path}: {source}")]
    Path {
        /// What was being done.
        what: &'static str,
        /// With what.
        path: PathBuf,
        /// The reason.
        source: std::io::Error,
    },
    /// A bpf(2) command failed.
    #[error("{what}: {source}")]
    Bpf {
        /// Which map, link or command, and what for.
        what: String,
        /// The kernel's answer.
        source: std::io::Error,
    },
    /// The kernel's type information is missing or damaged.
    #[error("/sys/kernel/btf/vmlinux: {0}; exec hooks need a kernel built with CONFIG_DEBUG_INFO_BTF=y")]
    Btf(String),
    /// The object does not load.
    #[error("the eBPF object does not load: {0}")]
    Object(Box<aya::EbpfError>),
    /// The object lacks something that this binary expects.
    #[error("the eBPF object has no {kind} {name}: it belongs to another build; run `cargo xtask build`")]
    Missing {
        /// `map` or `program`.
        kind: &'static str,
        /// Its name.
        name: &'static str,
    },
    /// A pinned map has another shape than this build's.
    #[error(
        "the pinned map {name} has {found}-byte elements where {expected} are expected: delete the pin directory, and the hooks with it, before starting this build"
    )]
    Shape {
        /// The map.
        name: String,
        /// Key and value bytes found.
        found: String,
        /// Key and value bytes expected.
        expected: String,
    },
    /// Another user of the maps, or a damaged read-back.
    #[error(
        "generation {generation} was written but the kernel shows another one: is a second agent using the same pins?"
    )]
    NotPublished {
        /// What was to be published.
        generation: u32,
    },
    /// The compiler of the image failed.
    #[error("generation {generation} could not be built: {reason}")]
    Build {
        /// What was to be published.
        generation: u32,
        /// The builder's own words.
        reason: String,
    },
    /// No generation has been published yet.
    #[error("no generation is loaded")]
    NoGeneration,
}
