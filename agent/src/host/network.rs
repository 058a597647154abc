//! What of the network belongs to this host: what is never blocked, or the host would cut itself off.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Addresses that the host depends on or is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkIdentity {
    /// Name servers of `resolv.conf`, and those that systemd-resolved asks in turn.
    pub resolvers: BTreeSet<IpAddr>,
    /// Next hops of the routing tables.
    pub gateways: BTreeSet<IpAddr>,
    /// The host's own addresses.
    pub own: BTreeSet<IpAddr>,
    /// Files that were there and could not be read, with the reason: the list may then be short.
    pub unread: Vec<String>,
}

/// Reads what this host's network is now. A file that does not exist adds nothing (a kernel without IPv6 has none).
#[must_use]
pub fn network_identity() -> NetworkIdentity {
    let mut found = NetworkIdentity::default();
    for path in ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"] {
        found.resolvers.extend(parse_resolvers(&found_text(path, &mut found.unread)));
    }
    found.gateways.extend(parse_ipv4_gateways(&found_text("/proc/self/net/route", &mut found.unread)));
    found.gateways.extend(parse_ipv6_gateways(&found_text("/proc/self/net/ipv6_route", &mut found.unread)));
    found.own.extend(parse_ipv4_own(&found_text("/proc/self/net/fib_trie", &mut found.unread)));
    found.own.extend(parse_ipv6_own(&found_text("/proc/self/net/if_inet6", &mut found.unread)));
    found
}

fn found_text(path: impl AsRef<Path>, unread: &mut Vec<String>) -> String {
    match std::fs::read(path.as_ref()) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => {
            unread.push(format!("{}: {error}", path.as_ref().display()));
            String::new()
        }
    }
}

/// `nameserver` lines, resolv.conf(5); a zone (`fe80::1%eth0`) is dropped.
fn parse_resolvers(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        let address = words.next()?;
        address.split_once('%').map_or(address, |(address, _zone)| address).parse().ok()
    })
}

/// The third column of `/proc/net/route`, an address in network order printed as a native integer; 0 is no gateway.
fn parse_ipv4_gateways(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().skip(1).filter_map(|line| {
        let gateway = u32::from_str_radix(line.split_ascii_whitespace().nth(2)?, 16).ok()?;
        (gateway != 0).then(|| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes())))
    })
}

/// The fifth column of `/proc/net/ipv6_route`; `::` is no gateway.
fn parse_ipv6_gateways(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let gateway = u128::from_str_radix(line.split_ascii_whitespace().nth(4)?, 16).ok()?;
        (gateway != 0).then(|| IpAddr::V6(Ipv6Addr::from(gateway)))
    })
}

/// The leaves of `/proc/net/fib_trie` that are `/32 host LOCAL`: every address of the host, secondary ones too.
fn parse_ipv4_own(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    let mut leaf = None;
    text.lines().filter_map(move |line| {
        let line = line.trim_start();
        if let Some(address) = line.strip_prefix("|-- ") {
            leaf = address.trim_end().parse::<Ipv4Addr>().ok();
            return None;
        }
        leaf.filter(|_| line.starts_with("/32 host LOCAL")).map(IpAddr::V4)
    })
}

/// The first column of `/proc/net/if_inet6`.
fn parse_ipv6_own(text: &str) -> impl Iterator<Item = IpAddr> + '_ {
    text.lines().filter_map(|line| {
        let address = u128::from_str_radix(line.split_ascii_whitespace().next()?, 16).ok()?;
        Some(IpAddr::V6(Ipv6Addr::from(address)))
    })
}

#[cfg(test)]
mod tests;
