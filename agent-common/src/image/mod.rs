//! The indicator image: an immutable array of 64-byte blocks that user space compiles and both sides read.
//!
//! One image holds every key space of one generation, so that a switch of one pointer switches all of them and no
//! decision sees half of each. [`layout`] says what is where; the functions here look things up.
//!
//! # What a lookup returns
//! The most specific *live* entry. Every entry belongs to a class: until when it lives, what to do, and which entry takes
//! its place when it has expired: another one for the same key, or one that covers it. So, at any moment:
//! - an address inside prefixes gets the longest of them that is live; a live endpoint (address and port) comes before
//!   its address; a domain before its parents;
//! - where several indicators share one key, `Block` comes before `Report` as long as one that blocks is live;
//! - an `Allow` entry never expires and is final: the compiler leaves out all that lies inside it.
//!
//! # In the kernel
//! Nothing here can panic, whatever the blocks hold, and every loop is bounded: an image that is damaged is an
//! [`Damaged`] error or a wrong entry, never a crash. `now` is wall-clock time in whole seconds since the epoch.

mod class;
mod domain;
mod ipv4;
mod ipv6;
mod key;
pub mod layout;
mod siphash;
pub mod table;

pub use domain::{LABEL_WORDS, Labels, MessageWalk, NameSearch, Octets, TextWalk, Unreadable, find_name, lower_case};
pub use key::{DigestKind, NameHasher, Seed, digest_tag, endpoint_tag, ipv6_tag};
pub use layout::Space;
pub use siphash::SipHasher13;

pub use crate::image::class::CHAIN_MAX;
pub use crate::image::ipv4::{alternate as ipv4_alternate, hash as ipv4_hash, primary as ipv4_primary};

use crate::canon;
use crate::image::layout::{HEADER, SPACES_HEADER};
use crate::image::table::Table;

/// 64 bytes: one cache line, one element of the image's array map.
pub type Block = [u64; 8];

/// Reads block `index` of an image. In the kernel this is an array map lookup, on the host a slice.
pub trait Blocks {
    /// The block, or `None` past the end.
    fn block(&self, index: u32) -> Option<&Block>;
}

impl Blocks for [Block] {
    #[inline(always)]
    fn block(&self, index: u32) -> Option<&Block> {
        self.get(index as usize)
    }
}

/// What the policy says of an entry.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Never block, never report: an exception inside something broader.
    Allow = 0,
    /// Let pass and report.
    Report = 1,
    /// Block.
    Block = 2,
}

/// What the policy says of an entry, by who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Actions {
    /// When this host does.
    pub outbound: Action,
    /// When the other end does: it connects to this host, or sends it a datagram.
    pub inbound: Action,
}

impl Actions {
    /// The same either way.
    #[must_use]
    pub const fn both(action: Action) -> Self {
        Self { outbound: action, inbound: action }
    }
}

/// The most specific live entry for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index into the generation's provenance.
    pub entry: u32,
    /// What to do.
    pub action: Action,
    /// What to do when the other end begins.
    pub inbound: Action,
}

/// A block that the image refers to does not exist, or holds what no compiler writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Damaged;

#[inline(always)]
fn read<B: Blocks + ?Sized>(image: &B, index: u32) -> Result<&Block, Damaged> {
    match image.block(index) {
        Some(block) => Ok(block),
        None => Err(Damaged),
    }
}

/// The generation of an image. An error also for an image of another [`crate::ABI_VERSION`].
#[inline(always)]
pub fn generation<B: Blocks + ?Sized>(image: &B) -> Result<u32, Damaged> {
    generation_of(read(image, HEADER)?)
}

#[inline(always)]
fn generation_of(header: &Block) -> Result<u32, Damaged> {
    if header[layout::IDENTITY] == layout::identity() {
        Ok(layout::low(header[layout::GENERATION]))
    } else {
        Err(Damaged)
    }
}

/// Whether a key space holds anything: one read of a block that is always hot.
#[inline(always)]
pub fn holds<B: Blocks + ?Sized>(image: &B, space: Space) -> Result<bool, Damaged> {
    Ok(layout::has(read(image, HEADER)?, space))
}

/// Whether there is any digest of a kind; without one that kind need not be computed.
#[inline(always)]
pub fn holds_digest<B: Blocks + ?Sized>(image: &B, kind: DigestKind) -> Result<bool, Damaged> {
    Ok(read(image, SPACES_HEADER + 1)?[layout::DIGEST_KINDS] >> kind as u8 & 1 != 0)
}

/// What the keys of this image are hashed with.
#[inline(always)]
pub fn seed<B: Blocks + ?Sized>(image: &B) -> Result<Seed, Damaged> {
    let header = read(image, HEADER)?;
    Ok(Seed(header[layout::SEED], header[layout::SEED + 1]))
}

/// An entry, dead or alive, and the generation that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// The image's generation.
    pub generation: u32,
    /// Index into its provenance; what it comes to now is [`resolve`]'s to say.
    pub entry: u32,
}

/// Looks up the destination of a connect or a send: first the address with its `port`, then the address. `high` and `low`
/// are the halves of the IPv6 address in host order, for IPv4 of its mapped form ([`canon::mapped`]). Spellings of IPv4
/// addresses in IPv6 are those IPv4 addresses, and after that may match an IPv6 prefix that covers the spelling.
///
/// Nothing here asks what time it is: nearly every connect is to something that is not listed.
#[inline(always)]
pub fn find_destination<B: Blocks + ?Sized>(
    image: &B,
    high: u64,
    low: u64,
    port: u16,
) -> Result<Option<Found>, Damaged> {
    let header = read(image, HEADER)?;
    let generation = generation_of(header)?;
    let canonical = canon::destination(high, low);
    let mut found = NONE;
    if layout::has(header, Space::Endpoint) {
        let tag = endpoint_tag(key_seed(header), canonical.high, canonical.low, port);
        found = number(find_keyed(image, Space::Endpoint, tag)?);
    }
    if let (NONE, Some(address)) = (found, canonical.ipv4) {
        found = number(ipv4::find(image, header, address)?);
    }
    let native = canonical.ipv4.is_none();
    if found == NONE && (native || high != 0) {
        let (high, low) = if native { (canonical.high, canonical.low) } else { (high, low) };
        found = number(ipv6::find(image, header, high, low)?);
    }
    if found == NONE { Ok(None) } else { Ok(Some(Found { generation, entry: found as u32 })) }
}

/// No entry, as [`number`] has it.
const NONE: u64 = u64::MAX;

/// An entry as a number that is always set.
// verifier: of an `Option` that is carried from step to step one branch leaves a register unset ("R3 !read_ok"), seen on 6.18.
#[inline(always)]
const fn number(found: Option<u32>) -> u64 {
    match found {
        Some(entry) => entry as u64,
        None => NONE,
    }
}

/// [`find_destination`], and what it comes to at `now`.
#[inline(always)]
pub fn destination<B: Blocks + ?Sized>(
    image: &B,
    high: u64,
    low: u64,
    port: u16,
    now: u32,
) -> Result<Option<Hit>, Damaged> {
    let found = find_destination(image, high, low, port)?;
    resolve(image, found.map(|found| found.entry), now)
}

/// Looks up an IPv4 address in host order, as it is: see [`destination`] for what a connect means.
#[inline(always)]
pub fn ipv4<B: Blocks + ?Sized>(image: &B, address: u32, now: u32) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    class::resolve(image, header, ipv4::find(image, header, address)?, now)
}

/// Looks up an IPv6 address by its halves in host order, as it is.
#[inline(always)]
pub fn ipv6<B: Blocks + ?Sized>(image: &B, high: u64, low: u64, now: u32) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    class::resolve(image, header, ipv6::find(image, header, high, low)?, now)
}

/// Looks up an address with a port, and nothing else; IPv4 in its mapped form. An endpoint that has expired still leads
/// to its address.
#[inline(always)]
pub fn endpoint<B: Blocks + ?Sized>(
    image: &B,
    high: u64,
    low: u64,
    port: u16,
    now: u32,
) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    keyed(image, header, Space::Endpoint, endpoint_tag(key_seed(header), high, low, port), now)
}

/// Looks up the SHA-256 of a file.
#[inline(always)]
pub fn sha256<B: Blocks + ?Sized>(image: &B, digest: &[u8; 32], now: u32) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    keyed(image, header, Space::Digest, digest_tag(key_seed(header), DigestKind::Sha256, digest), now)
}

/// Looks up the SHA-1 of a file.
#[inline(always)]
pub fn sha1<B: Blocks + ?Sized>(image: &B, digest: &[u8; 20], now: u32) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    keyed(image, header, Space::Digest, digest_tag(key_seed(header), DigestKind::Sha1, digest), now)
}

/// Looks up the MD5 of a file.
#[inline(always)]
pub fn md5<B: Blocks + ?Sized>(image: &B, digest: &[u8; 16], now: u32) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    keyed(image, header, Space::Digest, digest_tag(key_seed(header), DigestKind::Md5, digest), now)
}

/// Looks up a path by the key that a [`NameHasher::path`] makes of its components, leaf first.
#[inline(always)]
pub fn path<B: Blocks + ?Sized>(image: &B, key: u64, now: u32) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    keyed(image, header, Space::Path, key, now)
}

/// Looks up a key of any kind by its tag, for a caller that goes through several: [`digest_tag`], or a path's key.
#[inline(always)]
pub fn by_tag<B: Blocks + ?Sized>(image: &B, space: Space, tag: u64, now: u32) -> Result<Option<Hit>, Damaged> {
    let header = read(image, HEADER)?;
    keyed(image, header, space, tag, now)
}

/// What an entry that was found comes to at `now`.
#[inline(always)]
pub fn resolve<B: Blocks + ?Sized>(image: &B, entry: Option<u32>, now: u32) -> Result<Option<Hit>, Damaged> {
    class::resolve(image, read(image, HEADER)?, entry, now)
}

#[inline(always)]
fn key_seed(header: &Block) -> Seed {
    Seed(header[layout::SEED], header[layout::SEED + 1])
}

#[inline(always)]
fn keyed<B: Blocks + ?Sized>(
    image: &B,
    header: &Block,
    space: Space,
    tag: u64,
    now: u32,
) -> Result<Option<Hit>, Damaged> {
    if !layout::has(header, space) {
        return Ok(None);
    }
    class::resolve(image, header, find_keyed(image, space, tag)?, now)
}

/// The entry of a key in one of the keyed spaces.
#[inline(always)]
pub(crate) fn find_keyed<B: Blocks + ?Sized>(image: &B, space: Space, tag: u64) -> Result<Option<u32>, Damaged> {
    let (block, word) = layout::descriptor(space);
    let spaces = read(image, block)?;
    table::find(image, Table::unpack([spaces[word & 7], spaces[(word + 1) & 7]]), tag)
}
