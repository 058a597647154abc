//! Contacts: which process reached what, counted where the settings ask for it.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of the map `CONTACTS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ContactKey {
    /// `start_boot_ns` of the process.
    pub start_boot_ns: u64,
    /// Upper half of the address in host order.
    pub high: u64,
    /// Lower half; IPv4 in its mapped form.
    pub low: u64,
    /// Process.
    pub pid: u32,
    /// Destination port, host order.
    pub port: u16,
    /// Protocol number of the socket (`sock.sk_protocol`).
    pub protocol: u16,
}

/// How often, since user space last took it.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Contact {
    /// Connects, or datagrams with an address of their own.
    pub count: u64,
    /// The first, nanoseconds since boot.
    pub first_boot_ns: u64,
    /// The latest.
    pub last_boot_ns: u64,
}
