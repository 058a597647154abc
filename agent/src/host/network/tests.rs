use std::net::IpAddr;

use super::{
    network_identity, parse_ipv4_gateways, parse_ipv4_own, parse_ipv6_gateways, parse_ipv6_own, parse_resolvers,
};

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn resolvers() {
    let text = "# nameserver 192.0.2.1\nnameserver 192.0.2.53\n  nameserver\t2001:db8::53 \nnameserver fe80::1%eth0\n\
                nameserver not-an-address\nnameservers 192.0.2.9\nsearch example.com\nnameserver\n";
    assert_eq!(parse_resolvers(text).collect::<Vec<_>>(), addresses(&["192.0.2.53", "2001:db8::53", "fe80::1"]));
}

#[test]
fn ipv4_routes() {
    let gateway = u32::from_ne_bytes([192, 0, 2, 254]);
    let text = format!(
        "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t{gateway:08X}\t0003\neth0\t000200C0\t00000000\t0001\nx\n"
    );
    assert_eq!(parse_ipv4_gateways(&text).collect::<Vec<_>>(), addresses(&["192.0.2.254"]));
}

#[test]
fn ipv6_routes() {
    let text = "00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
                20010db8000000000000000000000001 00000400 00000001 00000000 00000003 eth0\n\
                00000000000000000000000000000001 80 00000000000000000000000000000000 00 \
                00000000000000000000000000000000 00000000 00000002 00000000 80200001 lo\n";
    assert_eq!(parse_ipv6_gateways(text).collect::<Vec<_>>(), addresses(&["2001:db8::1"]));
}

#[test]
fn own_addresses() {
    let text = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 0.0.0.0\n        /0 universe UNICAST\n     |-- 192.0.2.7\n        \
                /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
    assert_eq!(parse_ipv4_own(text).collect::<Vec<_>>(), addresses(&["192.0.2.7"]));
    let text = "20010db8000000000000000000000007 02 40 00 80     eth0\n";
    assert_eq!(parse_ipv6_own(text).collect::<Vec<_>>(), addresses(&["2001:db8::7"]));
}

#[test]
fn this_host_has_its_loopback() {
    let found = network_identity();
    assert!(found.own.contains(&addresses(&["127.0.0.1"])[0]), "{found:?}");
    assert!(found.unread.is_empty(), "{found:?}");
}
