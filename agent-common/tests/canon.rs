//! Canonical forms: every spelling of an address, and the parts of names.

use std::net::{Ipv4Addr, Ipv6Addr};

use agent_common::canon::{COMPONENT_LEN, component_words, components, destination, embedded_ipv4, labels, mapped};

fn halves(text: &str) -> (u64, u64) {
    let bits: u128 = text.parse::<Ipv6Addr>().map_or(0, Into::into);
    ((bits >> 64) as u64, bits as u64)
}

fn embedded(text: &str) -> Option<Ipv4Addr> {
    let (high, low) = halves(text);
    embedded_ipv4(high, low).map(Into::into)
}

#[test]
fn spellings_of_ipv4_addresses() {
    let address = Some(Ipv4Addr::new(198, 51, 100, 7));
    for (text, expected) in [
        ("::ffff:198.51.100.7", address),
        ("::198.51.100.7", address),
        ("64:ff9b::198.51.100.7", address),
        ("2002:c633:6407::", address),
        ("2002:c633:6407:ffff:1:2:3:4", address),
        ("::ffff:0.0.0.0", Some(Ipv4Addr::UNSPECIFIED)),
        ("::2", Some(Ipv4Addr::new(0, 0, 0, 2))),
        ("::", None),
        ("::1", None),
        ("::1:0:0", None),
        ("::fffe:198.51.100.7", None),
        ("::1:ffff:198.51.100.7", None),
        ("64:ff9b:0:0:1::198.51.100.7", None),
        ("64:ff9b:1::198.51.100.7", None),
        ("2001:c633:6407::", None),
        ("2003:c633:6407::", None),
    ] {
        assert_eq!(embedded(text), expected, "{text}");
    }
}

#[test]
fn destinations_are_what_the_kernel_connects_to() {
    for (given, meant) in [
        ("::", "::1"),
        ("::1", "::1"),
        ("::ffff:0.0.0.0", "::ffff:127.0.0.1"),
        ("64:ff9b::", "::ffff:127.0.0.1"),
        ("::ffff:198.51.100.7", "::ffff:198.51.100.7"),
        ("2002:c633:6407::1", "::ffff:198.51.100.7"),
        ("2001:db8::1", "2001:db8::1"),
    ] {
        let (high, low) = halves(given);
        let canonical = destination(high, low);
        assert_eq!((canonical.high, canonical.low), halves(meant), "{given}");
        assert_eq!(canonical.ipv4, embedded_ipv4(canonical.high, canonical.low), "{given}");
    }
    assert_eq!(mapped(0xc633_6407), halves("::ffff:198.51.100.7").1);
}

#[test]
fn names_come_in_the_order_in_which_hooks_see_them() {
    let components = |path: &'static str| components(path.as_bytes()).collect::<Vec<_>>();
    assert_eq!(components("/usr/bin/id"), [&b"id"[..], b"bin", b"usr"]);
    assert_eq!(components("//usr/./bin/"), [&b"bin"[..], b"usr"]);
    assert_eq!(components("/").len(), 0);
    let labels = |name: &'static str| labels(name.as_bytes()).collect::<Vec<_>>();
    assert_eq!(labels("www.evil.example."), [&b"example"[..], b"evil", b"www"]);
}

#[test]
fn components_are_little_endian_words() {
    let words = component_words(b"abcdefghi");
    assert_eq!(words.first(), Some(&u64::from_le_bytes(*b"abcdefgh")));
    assert_eq!(words.get(1), Some(&u64::from(b'i')));
    assert!(words.iter().skip(2).all(|word| *word == 0));
    assert_eq!(component_words(&[b'x'; 300]), component_words(&[b'x'; COMPONENT_LEN]));
}
