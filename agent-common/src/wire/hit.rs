//! Hit counters, which are the truth, and the folding of repeats, which keeps events few.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Key of the hit counters: an entry means nothing without its generation.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct HitKey {
    /// Generation of the image.
    pub generation: u32,
    /// Entry in it.
    pub entry: u32,
}

/// Hits that differ in nothing a reader cares about are one record with a count.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FoldKey {
    /// `start_boot_ns` of the process.
    pub start_boot_ns: u64,
    /// [`FoldKey::destination`] of a connect or send; 0 for an exec.
    pub destination: u64,
    /// Generation of the image.
    pub generation: u32,
    /// Entry in it.
    pub entry: u32,
    /// Process.
    pub pid: u32,
    /// Destination port, host order; 0 for an exec.
    pub port: u16,
    /// A [`crate::wire::Hook`].
    pub hook: u8,
    /// A [`crate::wire::Verdict`].
    pub verdict: u8,
}

impl FoldKey {
    /// A destination as one word: an IPv4 address whole, of an IPv6 address what tells it from its neighbours.
    #[inline(always)]
    #[must_use]
    pub const fn destination(halves: (u64, u64)) -> u64 {
        halves.0.rotate_left(32) ^ halves.1
    }
}

/// Repeats of a hit since its record was sent. User space takes and removes these once a second; until then they wait here.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Fold {
    /// Hits after the one whose record was sent.
    pub repeats: u64,
    /// When that record was sent, its `header.boot_ns`.
    pub first_boot_ns: u64,
    /// The latest repeat.
    pub last_boot_ns: u64,
}
