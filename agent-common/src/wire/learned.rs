//! Addresses that responses gave for listed names.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Who was told of which address.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct LearnedKey {
    /// High half of the address, host order; IPv4 in its mapped form.
    pub high: u64,
    /// Low half.
    pub low: u64,
    /// `start_boot_ns` of the process that asked.
    pub start_boot_ns: u64,
    /// Its id.
    pub pid: u32,
    /// Zero.
    pub reserved: u32,
}

/// For which listed name, and for how long.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Learned {
    /// When the response is stale, in nanoseconds since boot.
    pub until_boot_ns: u64,
    /// Generation of the image that lists the name.
    pub generation: u32,
    /// Entry in it.
    pub entry: u32,
}
