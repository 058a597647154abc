//! Address ranges that no published indicator can mean.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// A reserved range and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// The range.
    pub prefix: IpNet,
    /// What it is for, as a reason says it.
    pub purpose: &'static str,
}

const fn v4(a: u8, b: u8, c: u8, length: u8, purpose: &'static str) -> Range {
    Range { prefix: IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)), purpose }
}

const fn v6(segments: [u16; 3], length: u8, purpose: &'static str) -> Range {
    let [a, b, c] = segments;
    let address = Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0);
    Range { prefix: IpNet::V6(Ipv6Net::new_assert(address, length)), purpose }
}

/// The IANA special-purpose address registries (RFC 6890 and its updates) and multicast (RFC 5771, RFC 4291 §2.7), without the
/// ranges that are globally reachable. IPv4 inside IPv6 (mapped, NAT64, 6to4) is normalised to IPv4 before.
pub const RANGES: [Range; 25] = [
    v4(0, 0, 0, 8, "unspecified and this network"),
    v4(10, 0, 0, 8, "private"),
    v4(100, 64, 0, 10, "carrier-grade NAT"),
    v4(127, 0, 0, 8, "loopback"),
    v4(169, 254, 0, 16, "link-local"),
    v4(172, 16, 0, 12, "private"),
    v4(192, 0, 0, 24, "IETF protocol assignments"),
    v4(192, 0, 2, 24, "documentation"),
    v4(192, 168, 0, 16, "private"),
    v4(198, 18, 0, 15, "benchmarking"),
    v4(198, 51, 100, 24, "documentation"),
    v4(203, 0, 113, 24, "documentation"),
    v4(224, 0, 0, 4, "multicast"),
    v4(240, 0, 0, 4, "reserved and broadcast"),
    Range { prefix: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 128)), purpose: "unspecified" },
    Range { prefix: IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::LOCALHOST, 128)), purpose: "loopback" },
    v6([0x64, 0xff9b, 1], 48, "local-use NAT64"),
    v6([0x100, 0, 0], 64, "discard-only"),
    v6([0x2001, 2, 0], 48, "benchmarking"),
    v6([0x2001, 0xdb8, 0], 32, "documentation"),
    v6([0x3fff, 0, 0], 20, "documentation"),
    v6([0x5f00, 0, 0], 16, "segment routing"),
    v6([0xfc00, 0, 0], 7, "private"),
    v6([0xfe80, 0, 0], 10, "link-local"),
    v6([0xff00, 0, 0], 8, "multicast"),
];

/// The reserved range in which all of `prefix` lies.
#[must_use]
pub fn containing(prefix: IpNet) -> Option<&'static Range> {
    RANGES.iter().find(|range| range.prefix.contains(&prefix))
}

/// The reserved range in which an address lies.
#[must_use]
pub fn containing_address(address: IpAddr) -> Option<&'static Range> {
    RANGES.iter().find(|range| range.prefix.contains(&address))
}

/// The reserved ranges that lie in `prefix`.
pub fn inside(prefix: IpNet) -> impl Iterator<Item = &'static Range> {
    RANGES.iter().filter(move |range| prefix.contains(&range.prefix))
}
