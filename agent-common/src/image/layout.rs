//! What is where in an image. Every number is in blocks of 64 bytes, counted from the start of the image.
//!
//! | blocks | content |
//! |---|---|
//! | 0 | identity, generation, seed, the IPv4 segments, the class index, a bit for each space that holds anything |
//! | 1, 2 | the IPv6 prefixes and a [`super::table::Table`] for each keyed space |
//! | 3… | classes: one word each, see [`class_word`] |
//! | … | IPv4 directory: a `u32` per /17, the block of its top (0: nothing there); left out when almost all /17s are in use |
//! | … | IPv4 tops, one per /17 in use, equal neighbours shared: see [`TOP_LOW`] |
//! | … | IPv4 leaves, one per /24 that a prefix longer than /24 divides: 256 run starts and the first run |
//! | … | IPv4 runs, `u32` each: 1 + entry, or 0 for nothing |
//! | … | IPv4 exact: 16 addresses per block, each in one of two blocks; its entry is its slot |
//! | … | a table for each keyed space |
//! | … | IPv6 prefixes: sorted starts of ranges, then their runs |
//! | … | class index: the class of each entry in 0, 1, 2 or 4 bytes |
//!
//! Entries are numbered through: slots of the IPv4 exact segment from 0, then the slots of each table, then prefixes and
//! those that take the place of expired ones.

use crate::ABI_VERSION;
use crate::image::{Actions, Block};

/// The block with everything that an IPv4 lookup needs to start.
pub const HEADER: u32 = 0;
/// The first of two blocks that describe the other spaces.
pub const SPACES_HEADER: u32 = 1;
/// The first class.
pub const CLASSES: u32 = 3;

/// Word of [`HEADER`]: [`identity`].
pub const IDENTITY: usize = 0;
/// Word of [`HEADER`]: generation, and above it how many blocks the image has.
pub const GENERATION: usize = 1;
/// First of two words of [`HEADER`]: what keys are hashed with.
pub const SEED: usize = 2;
/// Word of [`HEADER`]: block of the IPv4 directory or, in [`DIRECT`] form, of the tops; above it the form.
pub const DIRECTORY: usize = 4;
/// Word of [`HEADER`]: block of the IPv4 exact segment, and above it how many blocks it has.
pub const EXACT: usize = 5;
/// Word of [`HEADER`]: block of the IPv4 runs, and above it block of the leaves.
pub const RUNS: usize = 6;
/// Word of [`HEADER`]: block of the class index, above it the base-2 logarithm of the bits per class (0 when all entries
/// are of class 0) in 8 bits, above that a bit for each [`Space`] that holds anything.
pub const CLASS_INDEX: usize = 7;
/// Word of the first of [`SPACES_HEADER`]: block of the IPv6 range starts, and above it how many there are.
pub const IPV6_STARTS: usize = 0;
/// Word of the first of [`SPACES_HEADER`]: block of the IPv6 runs.
pub const IPV6_RUNS: usize = 1;
/// Word of the second of [`SPACES_HEADER`]: most labels of any domain.
pub const DOMAIN_LABELS: usize = 6;
/// Word of the second of [`SPACES_HEADER`]: a bit for each [`crate::image::DigestKind`] of which there is any digest.
pub const DIGEST_KINDS: usize = 7;

/// Form of the IPv4 directory: there is none, because there are no IPv4 entries.
pub const NO_DIRECTORY: u32 = 0;
/// Form of the IPv4 directory: a `u32` per /17.
pub const ROOTED: u32 = 1;
/// Form of the IPv4 directory: none, because there is a top for each /17.
pub const DIRECT: u32 = 2;
/// How many /17s there are.
pub const TOPS: u32 = 1 << 17;

/// First of two words of a top with a bit per /24: together with [`TOP_HIGH`], 00 nothing, 01 single addresses only, to
/// be found in the exact segment, 11 covered as a whole by one run, 10 (high only) divided: a leaf.
pub const TOP_LOW: usize = 0;
/// First of two words of a top: the high bit per /24.
pub const TOP_HIGH: usize = 2;
/// First of two words of a top: where runs of equally covered /24s start.
pub const TOP_STARTS: usize = 4;
/// Word of a top: index of its first run, and above it of its first leaf.
pub const TOP_BASES: usize = 6;
/// Word of a top: 0, or in plain form [`PLAIN`] and the last of its bits.
pub const TOP_FORM: usize = 7;
/// Bit of [`TOP_FORM`]: no prefix touches this /17, so all of the block says which addresses to look for in the exact segment:
/// those whose [`place_bit`] and [`hash_bit`] are both set. Listed addresses that crowd together set few of the former, and
/// ones that are spread few of both, so what is not listed is seldom looked for.
pub const PLAIN: u64 = 1 << 63;
/// Word of a leaf, after its four words of run starts: index of its first run.
pub const LEAF_BASE: usize = 4;

/// The bit of a top in plain form for an address's /25: 0..=255.
#[inline(always)]
#[must_use]
pub const fn place_bit(address: u32) -> u32 {
    (address >> 7) & 255
}

/// The bit of a top in plain form for the hash of an address: 256..=510.
#[inline(always)]
#[must_use]
pub const fn hash_bit(hash: u64) -> u32 {
    256 + (((hash as u32 & 0xffff) * 255) >> 16)
}

/// A key space: what can be looked up on its own.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Space {
    /// IPv4 addresses and prefixes.
    Ipv4 = 0,
    /// Single IPv6 addresses.
    Ipv6 = 1,
    /// IPv6 prefixes.
    Ipv6Prefix = 2,
    /// Addresses with a port.
    Endpoint = 3,
    /// SHA-256, SHA-1 and MD5 of files.
    Digest = 4,
    /// Paths of files.
    Path = 5,
    /// Domains.
    Domain = 6,
}

impl Space {
    /// All of them.
    pub const ALL: [Self; 7] =
        [Self::Ipv4, Self::Ipv6, Self::Ipv6Prefix, Self::Endpoint, Self::Digest, Self::Path, Self::Domain];
    /// Those that are a table of keyed hashes, in the order of their entries.
    pub const KEYED: [Self; 5] = [Self::Ipv6, Self::Endpoint, Self::Digest, Self::Path, Self::Domain];
}

/// Block and first word of the two that describe a keyed space's table.
#[inline(always)]
#[must_use]
pub const fn descriptor(space: Space) -> (u32, usize) {
    match space {
        Space::Ipv4 | Space::Ipv6Prefix | Space::Ipv6 => (SPACES_HEADER, 4),
        Space::Endpoint => (SPACES_HEADER, 6),
        Space::Digest => (SPACES_HEADER + 1, 0),
        Space::Path => (SPACES_HEADER + 1, 2),
        Space::Domain => (SPACES_HEADER + 1, 4),
    }
}

/// What marks an image of this [`ABI_VERSION`].
#[inline(always)]
#[must_use]
pub const fn identity() -> u64 {
    pack(u32::from_le_bytes(*b"CRDN"), ABI_VERSION)
}

/// Two numbers in a word.
#[inline(always)]
#[must_use]
pub const fn pack(low: u32, high: u32) -> u64 {
    low as u64 | (high as u64) << 32
}

/// The lower number of a word.
#[inline(always)]
#[must_use]
pub const fn low(word: u64) -> u32 {
    word as u32
}

/// The upper number of a word.
#[inline(always)]
#[must_use]
pub const fn high(word: u64) -> u32 {
    (word >> 32) as u32
}

/// The number at `index & 15` of a block of 16.
#[inline(always)]
#[must_use]
pub const fn element(block: &Block, index: u32) -> u32 {
    (block[((index >> 1) & 7) as usize] >> ((index & 1) << 5)) as u32
}

/// Whether a space holds anything, by the word [`CLASS_INDEX`] of the [`HEADER`].
#[inline(always)]
#[must_use]
pub const fn has(header: &Block, space: Space) -> bool {
    header[CLASS_INDEX] >> (40 + space as u8) & 1 != 0
}

/// Most entries of an image: what a class can name as a substitute.
pub const ENTRIES_MAX: u32 = (1 << 28) - 1;

/// A class: expiry in seconds since the epoch (0: never), above it 2 bits of [`crate::image::Action`] for each of [`Actions`], outbound
/// first, above them 1 + the entry that takes over from then on (0: none).
#[inline(always)]
#[must_use]
pub const fn class_word(expires: u32, actions: Actions, substitute: Option<u32>) -> u64 {
    let next = match substitute {
        Some(entry) => entry as u64 + 1,
        None => 0,
    };
    expires as u64 | (actions.outbound as u64) << 32 | (actions.inbound as u64) << 34 | next << 36
}
