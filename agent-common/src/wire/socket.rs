//! What the hooks remember of a socket: the value of the kernel's socket storage.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::wire::Process;

/// What the hooks remember of a socket for as long as it lives.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct SocketMemory {
    /// Who made it; all zero when it was made before the agent came, or by the kernel.
    pub process: Process,
    /// High half of the listed address that was told of last, host order.
    pub high: u64,
    /// Low half.
    pub low: u64,
    /// Generation that it was listed in; 0 for nothing told yet.
    pub generation: u32,
    /// Port.
    pub port: u16,
    /// The [`crate::wire::Verdict`] that was told.
    pub verdict: u8,
    /// [`SocketMemory::INBOUND`], [`SocketMemory::ASKED`].
    pub flags: u8,
    /// The latest segment sent that was judged by a name: its sequence number, and above it what it came to.
    pub sent: u64,
    /// The same, of what was received.
    pub received: u64,
    /// When what is held back of `sent` had become more, in nanoseconds since boot.
    pub grown_boot_ns: u64,
}

impl SocketMemory {
    /// The other end began: set on a listening socket, and passed on to what it accepts.
    pub const INBOUND: u8 = 1;
    /// It asked for a name: what comes to a socket that did not is no response, whatever it looks like.
    pub const ASKED: u8 = 2;
}
