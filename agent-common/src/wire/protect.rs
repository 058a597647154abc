//! Self-protection: what is protected, against whom, and what was refused.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::{COMM_LEN, PROGRAM_LEN};
use crate::wire::header::from_integer;

/// The one element of the `PROTECTION` array; all zero while nothing is protected.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Protection {
    /// Key of the path of the program that may do everything, see [`crate::image::NameHasher`]: a path and not an inode,
    /// so that an upgrade may, too, whether or not an agent runs meanwhile.
    pub program: u64,
    /// Seed of that key.
    pub seed: [u64; 2],
    /// `super_block.s_dev` of the file system that the program lies on: elsewhere, as in a container's image, the same path
    /// is another program.
    pub program_device: u64,
    /// `super_block.s_dev` of the pins' bpf file system.
    pub pins_device: u64,
    /// `inode.i_ino` of the pin directory.
    pub pins_inode: u64,
    /// When the agent started, in `USER_HZ` ticks since boot (field 22 of proc_pid_stat(5)). With `agent_pid` it names the
    /// agent, and nobody once that is gone.
    pub agent_start_ticks: u64,
    /// Thread group id of the agent in the initial pid namespace.
    pub agent_pid: u32,
    /// Number of the mount namespace of process 1 (`/proc/1/ns/mnt`); 0 when unknown.
    pub host_mounts: u32,
}

/// Nanoseconds of a `USER_HZ` tick, which is 10 ms on every architecture that Cordon runs on.
pub const TICK_NS: u64 = 10_000_000;

/// What kind of BPF object an id is of.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ObjectKind {
    /// A map.
    Map = 1,
    /// A program.
    Program = 2,
    /// A link.
    Link = 3,
}

/// Key of the `PROTECTED` table: a BPF object that is Cordon's.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ObjectKey {
    /// An [`ObjectKind`].
    pub kind: u32,
    /// The kernel's id.
    pub id: u32,
}

/// What self-protection refuses.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attempt {
    /// Removing or renaming a pin, or putting another in its place.
    RemovePin = 1,
    /// Unmounting the pins' file system.
    Unmount = 2,
    /// A descriptor of a map.
    OpenMap = 3,
    /// A descriptor of a program.
    OpenProgram = 4,
    /// A descriptor of a link, by its id.
    OpenLink = 5,
    /// Detaching a link, or putting another program behind it.
    ChangeLink = 6,
    /// A signal to the agent.
    Signal = 7,
    /// Tracing the agent, or reaching into its memory or its descriptors.
    Trace = 8,
    /// A limit on the agent's resources.
    Limit = 9,
}

from_integer!(
    Attempt, from_u32, u32: RemovePin, Unmount, OpenMap, OpenProgram, OpenLink, ChangeLink, Signal, Trace, Limit
);

/// Key of the `REFUSALS` table: who tried what.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct RefusalKey {
    /// As in [`crate::wire::Process`].
    pub start_boot_ns: u64,
    /// Thread group id.
    pub pid: u32,
    /// An [`Attempt`].
    pub attempt: u32,
}

/// How often, and by which program.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Refusal {
    /// Times.
    pub count: u64,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Thread group id of `real_parent`.
    pub ppid: u32,
    /// The task's name, NUL-padded.
    pub comm: [u8; COMM_LEN],
    /// Name of the program's file without the folders above it, NUL-terminated, cut when longer.
    pub program: [u8; PROGRAM_LEN],
}
