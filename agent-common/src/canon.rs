//! The canonical form of what is looked up: the same bytes on both sides of the kernel boundary.

/// The IPv4 address that an IPv6 destination really is, in host order: IPv4-mapped (`::ffff:0:0/96`, RFC 4291 §2.5.5.2),
/// IPv4-compatible (`::/96`, §2.5.5.1, but for `::` and `::1`), NAT64 (`64:ff9b::/96`, RFC 6052 §2.1) and 6to4
/// (`2002::/16`, RFC 3056 §2). `high` and `low` are the halves of the address in host order.
///
/// One form for all of them, so that an indicator for an IPv4 address cannot be side-stepped by spelling it in IPv6.
#[inline(always)]
#[must_use]
pub const fn embedded_ipv4(high: u64, low: u64) -> Option<u32> {
    if high == 0 {
        if low >> 32 == 0xffff || (low >> 32 == 0 && low > 1) {
            return Some(low as u32);
        }
    } else if high == 0x0064_ff9b_0000_0000 && low >> 32 == 0 {
        return Some(low as u32);
    } else if high >> 48 == 0x2002 {
        return Some((high >> 16) as u32);
    }
    None
}

/// The low half of the IPv4-mapped form (RFC 4291 §2.5.5.2) of an IPv4 address in host order; the high half is zero.
#[inline(always)]
#[must_use]
pub const fn mapped(address: u32) -> u64 {
    0xffff_0000_0000 | address as u64
}

/// An address as the destination of a connect or a send, in the one form that images are keyed by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// High half, host order; zero for IPv4.
    pub high: u64,
    /// Low half, host order; [`mapped`] for IPv4.
    pub low: u64,
    /// The IPv4 address that it really is, host order.
    pub ipv4: Option<u32>,
}

/// The [`Destination`] that the kernel makes of an address: any spelling of an IPv4 address is that address
/// ([`embedded_ipv4`]), `0.0.0.0` is `127.0.0.1` (`ip_route_output_key_hash_rcu`) and `::` is `::1`
/// (`tcp_v6_connect`, `__ip6_datagram_connect`).
#[inline(always)]
#[must_use]
pub const fn destination(high: u64, low: u64) -> Destination {
    match embedded_ipv4(high, low) {
        Some(given) => {
            let address = if given == 0 { 0x7f00_0001 } else { given };
            Destination { high: 0, low: mapped(address), ipv4: Some(address) }
        }
        None if high == 0 && low == 0 => Destination { high: 0, low: 1, ipv4: None },
        None => Destination { high, low, ipv4: None },
    }
}

/// Most components of a path that is looked up; deeper ones cannot be walked in the kernel.
pub const PATH_DEPTH: usize = 32;
/// Most bytes of a component, the kernel's `NAME_MAX`.
pub const COMPONENT_LEN: usize = 255;
/// 64-bit words that hold a component.
pub const COMPONENT_WORDS: usize = 32;

/// A component's bytes as the words that are hashed: little-endian, zero-padded; cut at [`COMPONENT_LEN`].
#[must_use]
pub fn component_words(component: &[u8]) -> [u64; COMPONENT_WORDS] {
    let mut words = [0; COMPONENT_WORDS];
    for (index, byte) in component.iter().take(COMPONENT_LEN).enumerate() {
        if let Some(word) = words.get_mut(index / 8) {
            *word |= u64::from(*byte) << (index % 8 * 8);
        }
    }
    words
}

/// The components of an absolute path from leaf to root, as the kernel walks dentries; empty ones and `.` are left out.
pub fn components(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.rsplit(|byte| *byte == b'/').filter(|component| !component.is_empty() && *component != b".")
}

/// The labels of a domain name from the root down, without a trailing dot's empty one.
pub fn labels(name: &[u8]) -> impl Iterator<Item = &[u8]> {
    name.rsplit(|byte| *byte == b'.').filter(|label| !label.is_empty())
}
