//! Bytes → [`Event`]: total, never panics.

mod decode;
mod name;

use std::net::IpAddr;

pub use agent_common::wire::{Behaviour, FileKey, FileStamp, Hook, Verdict};
pub use decode::{DecodeError, decode};

/// A process by what does not get reused: its pid together with its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessKey {
    /// Thread group id in the initial pid namespace.
    pub pid: u32,
    /// Nanoseconds since boot; 0 when unknown.
    pub start_boot_ns: u64,
}

/// Who acted, as the kernel saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Task {
    /// Identity.
    pub key: ProcessKey,
    /// Thread.
    pub tid: u32,
    /// Parent.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// The user that logged in.
    pub loginuid: Option<u32>,
    /// cgroup2 id.
    pub cgroup_id: u64,
    /// Task name.
    pub comm: String,
}

impl Task {
    /// One of which only this is known; nobody has pid 0.
    #[must_use]
    pub const fn known_by(key: ProcessKey) -> Self {
        Self { key, tid: key.pid, ppid: 0, uid: 0, gid: 0, loginuid: None, cgroup_id: 0, comm: String::new() }
    }
}

/// Which entry of which generation matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Match {
    /// Generation of the image.
    pub generation: u32,
    /// Entry in it.
    pub entry: u32,
}

impl Match {
    /// The behaviour that the settings judged, where no indicator matched.
    #[must_use]
    pub const fn behaviour(self) -> Option<Behaviour> {
        Behaviour::from_entry(self.entry)
    }
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// A connect or a send.
    Network {
        /// As the program gave it.
        address: IpAddr,
        /// Destination port.
        port: u16,
        /// Of what arrives, the port that it arrives at: `address` and `port` are then the other end's. 0 for what leaves.
        local_port: u16,
        /// IP protocol number.
        protocol: u16,
        /// `SOCK_*`.
        socket_type: u16,
    },
    /// A socket was made that has no destination yet.
    Socket {
        /// `AF_*`.
        family: u16,
        /// IP protocol number or, of a packet socket, Ethernet protocol number.
        protocol: u16,
        /// `SOCK_*`.
        socket_type: u16,
    },
    /// A packet that names a host: a question for it, or the begin of a conversation with it.
    Name {
        /// As it was written, a DNS name in the presentation form of RFC 1035 §5.1; empty when not known.
        name: String,
        /// Type of a DNS question (RFC 1035 §3.2.2).
        query_type: Option<u16>,
        /// Where the packet goes.
        address: IpAddr,
        /// Destination port.
        port: u16,
        /// IP protocol number.
        protocol: u16,
    },
    /// A program was executed.
    Exec {
        /// Which file.
        file: FileKey,
        /// Which contents.
        stamp: FileStamp,
        /// Its SHA-256, where the kernel knew it.
        sha256: Option<[u8; 32]>,
        /// Whether the kernel knew its SHA-1 too.
        has_sha1: bool,
        /// Whether the kernel knew its MD5 too.
        has_md5: bool,
        /// As given to `execve(2)`.
        path: String,
        /// The arguments.
        args: Vec<String>,
        /// The path or the arguments were cut.
        cut: bool,
    },
}

/// One record of the kernel half, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    /// The hook that saw it.
    pub hook: Hook,
    /// What the kernel did.
    pub verdict: Verdict,
    /// The entry that matched, if any.
    pub matched: Option<Match>,
    /// Who.
    pub task: Task,
    /// What.
    pub action: Action,
}
