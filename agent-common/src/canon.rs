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
