//! From an observable to the key under which an image holds it, or the reason why it cannot.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use agent_common::canon::{self, COMPONENT_LEN, PATH_DEPTH};
use agent_common::image::{DigestKind, NameHasher, Seed, Space, digest_tag, endpoint_tag, ipv6_tag};
use agent_common::limits::DOMAIN_DEPTH;
use serde::{Deserialize, Serialize};

use crate::intel::Observable;

/// What an image is asked for. The order is that in which keys are compiled: a prefix comes before what lies in it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    /// First address and length.
    Ipv4(u32, u8),
    /// First address and length.
    Ipv6(u128, u8),
    /// Canonical destination and port.
    Endpoint(u128, u16),
    /// Zero-padded.
    Digest(DigestKind, [u8; 32]),
    /// Labels, and the name without a trailing dot, in lower case.
    Domain(u32, Arc<str>),
    /// Components joined by `/`, without `.` and empty ones.
    Path(Arc<str>),
}

/// Why an observable is in no image. All are counted, none is dropped in silence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnenforcedReason {
    /// No hook sees values of this type.
    NoHook,
    /// A file name that an indicator gives beside a digest: the digest names the file.
    NameBesideDigest,
    /// Of what must hold of a program, 512 patterns are tried at each exec; this one is beyond them.
    TooManyConditions,
    /// A regular expression that takes more than 128 KiB compiled.
    ExpressionTooLarge,
    /// An IPv6 prefix that is nothing but spellings of every IPv4 address (`::ffff:0:0/96`).
    SpellsAllIpv4,
    /// A path that does not begin at the root, or is the root.
    NotAbsolutePath,
    /// A path with `..`, which means what the links on the way make of it.
    ParentInPath,
    /// A path of more than 32 components, or with one of more than 255 bytes.
    PathTooLong,
    /// A domain with a label of more than 63 bytes, or of more than 255 bytes in all (RFC 1035 §2.3.4), or none at all.
    NotADomain,
    /// A domain of more than 16 labels, which is as far as names are looked up.
    DomainTooDeep,
    /// It lies so deep in prefixes of which each expires later than the next longer one that, once 16 of them have
    /// expired, those beyond are not reached.
    ChainTooLong,
}

impl Key {
    pub(super) fn of(observable: &Observable) -> Result<Self, UnenforcedReason> {
        match observable {
            Observable::Ipv4(address) => Ok(Self::Ipv4(u32::from(*address), 32)),
            Observable::Ipv4Prefix(prefix) => Ok(Self::Ipv4(u32::from(prefix.network()), prefix.prefix_len())),
            Observable::Ipv6(address) => Ok(Self::ipv6(*address)),
            Observable::Ipv6Prefix(prefix) => Self::ipv6_prefix(prefix.network(), prefix.prefix_len()),
            Observable::Endpoint(address, port) => {
                let address = match address {
                    IpAddr::V4(address) => address.to_ipv6_mapped(),
                    IpAddr::V6(address) => *address,
                };
                let (high, low) = halves(address.into());
                let canonical = canon::destination(high, low);
                Ok(Self::Endpoint(join(canonical.high, canonical.low), *port))
            }
            Observable::Sha256(digest) => Ok(Self::Digest(DigestKind::Sha256, *digest)),
            Observable::Sha1(digest) => Ok(Self::Digest(DigestKind::Sha1, padded(digest))),
            Observable::Md5(digest) => Ok(Self::Digest(DigestKind::Md5, padded(digest))),
            Observable::Path(path) => Self::path(path),
            Observable::Domain(name) => Self::domain(name),
            Observable::Url(_) | Observable::FileName(_) | Observable::Process(_) => Err(UnenforcedReason::NoHook),
        }
    }

    fn ipv6(address: Ipv6Addr) -> Self {
        let (high, low) = halves(address.into());
        match canon::embedded_ipv4(high, low) {
            Some(ipv4) => Self::Ipv4(ipv4, 32),
            None => Self::Ipv6(address.into(), 128),
        }
    }

    /// A prefix inside a range that spells IPv4 addresses is a prefix of those. One that covers such a range stays what it
    /// is, since all of IPv4 is not what its publisher means.
    fn ipv6_prefix(network: Ipv6Addr, length: u8) -> Result<Self, UnenforcedReason> {
        let (high, low) = halves(network.into());
        let outer = if high >> 48 == 0x2002 { 16 } else { 96 };
        if outer == 96 && length == 96 && (high, low) == (0, 0xffff_0000_0000) {
            return Err(UnenforcedReason::SpellsAllIpv4);
        }
        let spelling =
            outer == 16 || (high, low >> 32) == (0x0064_ff9b_0000_0000, 0) || (high == 0 && low >> 32 == 0xffff);
        if length > outer && spelling {
            let ipv4 = if outer == 16 { (high >> 16) as u32 } else { low as u32 };
            return Ok(Self::Ipv4(ipv4, (length - outer).min(32)));
        }
        Ok(if length == 128 { Self::ipv6(network) } else { Self::Ipv6(network.into(), length) })
    }

    fn path(path: &Arc<str>) -> Result<Self, UnenforcedReason> {
        if !path.starts_with('/') {
            return Err(UnenforcedReason::NotAbsolutePath);
        }
        let mut components: Vec<&str> =
            path.split('/').filter(|component| !component.is_empty() && *component != ".").collect();
        if components.is_empty() {
            return Err(UnenforcedReason::NotAbsolutePath);
        }
        if components.contains(&"..") {
            return Err(UnenforcedReason::ParentInPath);
        }
        if components.len() > PATH_DEPTH || components.iter().any(|component| component.len() > COMPONENT_LEN) {
            return Err(UnenforcedReason::PathTooLong);
        }
        components.insert(0, "");
        let normal = components.join("/");
        Ok(Self::Path(if *normal == **path { path.clone() } else { normal.into() }))
    }

    fn domain(name: &Arc<str>) -> Result<Self, UnenforcedReason> {
        let trimmed = name.strip_suffix('.').unwrap_or(name);
        let labels = || trimmed.split('.');
        if trimmed.len() > 253 || labels().any(|label| label.is_empty() || label.len() > 63) {
            return Err(UnenforcedReason::NotADomain);
        }
        let depth = labels().count() as u32;
        if depth > DOMAIN_DEPTH {
            return Err(UnenforcedReason::DomainTooDeep);
        }
        let normal = if trimmed.len() == name.len() && !trimmed.bytes().any(|byte| byte.is_ascii_uppercase()) {
            name.clone()
        } else {
            trimmed.to_ascii_lowercase().into()
        };
        Ok(Self::Domain(depth, normal))
    }

    pub(super) const fn space(&self) -> Space {
        match self {
            Self::Ipv4(..) => Space::Ipv4,
            Self::Ipv6(_, 128) => Space::Ipv6,
            Self::Ipv6(..) => Space::Ipv6Prefix,
            Self::Endpoint(..) => Space::Endpoint,
            Self::Digest(..) => Space::Digest,
            Self::Domain(..) => Space::Domain,
            Self::Path(_) => Space::Path,
        }
    }

    /// What comes first in a table: domains of fewer labels, which may cover others, and digests by kind.
    pub(super) const fn rank(&self) -> u8 {
        match self {
            Self::Domain(labels, _) => *labels as u8,
            Self::Digest(kind, _) => *kind as u8,
            _ => 0,
        }
    }

    /// The tag of a key that a table holds; 0 for prefixes, which are in none.
    pub(super) fn tag(&self, seed: Seed) -> u64 {
        match self {
            Self::Ipv4(..) => 0,
            Self::Ipv6(address, _) => {
                let (high, low) = halves(*address);
                ipv6_tag(seed, high, low)
            }
            Self::Endpoint(address, port) => {
                let (high, low) = halves(*address);
                endpoint_tag(seed, high, low, *port)
            }
            Self::Digest(kind, digest) => match kind {
                DigestKind::Sha256 => digest_tag(seed, *kind, digest),
                DigestKind::Sha1 => digest_tag(seed, *kind, &cut::<20>(digest)),
                DigestKind::Md5 => digest_tag(seed, *kind, &cut::<16>(digest)),
            },
            Self::Domain(_, name) => name_key(NameHasher::domain(seed), canon::labels(name.as_bytes())),
            Self::Path(path) => path_key(path.as_bytes(), seed),
        }
    }
}

/// Which of the tables, as in [`Space::KEYED`], holds what; prefixes and single IPv4 addresses are in none.
pub(super) fn table_of(space: Space) -> Option<usize> {
    Space::KEYED.iter().position(|keyed| *keyed == space)
}

/// Rank and tag of each of a domain's parents, the top-level domain first. `name` is a key's.
pub(super) fn parents(seed: Seed, name: &str) -> Vec<(u8, u64)> {
    let mut hasher = NameHasher::domain(seed);
    let labels = canon::labels(name.as_bytes()).map(|label| {
        hasher.component(&canon::component_words(label), label.len() as u32);
        hasher.key()
    });
    let mut parents: Vec<_> = (1..).zip(labels).collect();
    parents.pop();
    parents
}

/// The key of a name whose parts come in the order in which the hook sees them.
pub(super) fn name_key<'a>(mut hasher: NameHasher, parts: impl Iterator<Item = &'a [u8]>) -> u64 {
    for part in parts {
        hasher.component(&canon::component_words(part), part.len() as u32);
    }
    hasher.key()
}

/// The key of an absolute path, as the kernel half makes it of an open file.
#[must_use]
pub fn path_key(path: &[u8], seed: Seed) -> u64 {
    name_key(NameHasher::path(seed), canon::components(path))
}

/// High and low half.
pub(super) const fn halves(address: u128) -> (u64, u64) {
    ((address >> 64) as u64, address as u64)
}

pub(super) const fn join(high: u64, low: u64) -> u128 {
    (high as u128) << 64 | low as u128
}

fn padded(digest: &[u8]) -> [u8; 32] {
    let mut padded = [0; 32];
    for (to, from) in padded.iter_mut().zip(digest) {
        *to = *from;
    }
    padded
}

fn cut<const LEN: usize>(digest: &[u8; 32]) -> [u8; LEN] {
    std::array::from_fn(|index| digest.get(index).copied().unwrap_or_default())
}
