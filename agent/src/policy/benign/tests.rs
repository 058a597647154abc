use proptest::prelude::*;

use super::*;

fn value(text: &str) -> Observable {
    normalise::address(text).or_else(|_| normalise::endpoint(text)).or_else(|_| normalise::domain(text)).unwrap()
}

fn list(kind: &str, entries: &[&str]) -> WarningList {
    let text = serde_json::json!({"name": "a list", "type": kind, "list": entries, "version": 1}).to_string();
    WarningList::parse("list.json", text.as_bytes()).unwrap()
}

fn never(values: &[&str]) -> NeverBlock {
    let mut never = NeverBlock::default();
    values.iter().for_each(|text| never.insert(value(text)));
    never
}

#[test]
fn never_block_covers_what_lies_inside() {
    let never = never(&["192.0.2.0/24", "2001:db8::1", "example.net", "198.51.100.1:53"]);
    for (given, entry) in [
        ("192.0.2.7", "192.0.2.0/24"),
        ("192.0.2.128/25", "192.0.2.0/24"),
        ("192.0.2.7:443", "192.0.2.0/24"),
        ("2001:db8::1", "2001:db8::1"),
        ("example.net", "example.net"),
        ("a.b.example.net", "example.net"),
        ("198.51.100.1:53", "198.51.100.1:53"),
    ] {
        assert_eq!(never.containing(&value(given)), Some(value(entry)), "{given}");
    }
    for given in ["192.0.0.0/16", "192.0.3.1", "2001:db8::2", "notexample.net", "198.51.100.1", "198.51.100.1:54"] {
        assert_eq!(never.containing(&value(given)), None, "{given}");
    }
}

#[test]
fn never_block_inside_something_broader_is_an_exception() {
    let never = never(&["192.0.2.7", "192.0.2.0/28", "198.51.100.1:53", "www.example.net", "2001:db8::1"]);
    assert_eq!(never.inside(&value("192.0.2.0/24")), [value("192.0.2.0/28"), value("192.0.2.7")]);
    assert_eq!(never.inside(&value("192.0.2.0/28")), [value("192.0.2.7")]);
    assert_eq!(never.inside(&value("198.51.100.1")), [value("198.51.100.1:53")]);
    assert_eq!(never.inside(&value("198.51.100.0/24")), [value("198.51.100.1:53")]);
    assert_eq!(never.inside(&value("example.net")), [value("www.example.net")]);
    assert_eq!(never.inside(&value("2001:db8::/32")), [value("2001:db8::1")]);
    assert_eq!(never.inside(&value("ww.example.net")), []);
}

#[test]
fn warning_lists_match_as_misp_has_it() {
    let url = |text| normalise::url(text).unwrap();
    let exact = list("string", &["Example.net", "192.0.2.1"]);
    assert!(exact.matches(&value("example.net")) && exact.matches(&value("192.0.2.1")));
    assert!(!exact.matches(&value("www.example.net")));
    assert!(exact.matches(&url("http://example.net/x")) && exact.matches(&value("192.0.2.1:80")));
    let hostname = list("hostname", &[".example.net", "Example.org."]);
    assert!(hostname.matches(&value("www.example.net")) && hostname.matches(&value("example.org")));
    assert!(!hostname.matches(&value("badexample.net")) && hostname.matches(&url("https://a.example.org/")));
    let cidr = list("cidr", &["192.0.2.0/24", "198.51.100.1", "2001:db8::/32", "nonsense"]);
    assert_eq!(cidr.unreadable, 1);
    for given in ["192.0.2.9", "192.0.2.9:80", "198.51.100.1", "2001:db8::5", "192.0.2.0/25"] {
        assert!(cidr.matches(&value(given)), "{given}");
    }
    assert!(cidr.matches(&url("http://192.0.2.9/x")));
    for given in ["198.51.100.2", "192.0.0.0/16", "example.net"] {
        assert!(!cidr.matches(&value(given)), "{given}");
    }
    assert_eq!(cidr.inside(&value("198.51.0.0/16")), [value("198.51.100.1")]);
    let substring = list("substring", &["sandbox"]);
    assert!(substring.matches(&value("my.Sandbox.example")) && !substring.matches(&value("sand.box.example")));
    let regex = list("regex", &["/^a+\\.example$/i", "b[0-9]\\.example"]);
    assert!(
        regex.matches(&value("AAA.example"))
            && regex.matches(&value("xb7.example.net"))
            && !regex.matches(&value("c.example"))
    );
}

#[test]
fn a_list_is_asked_only_about_what_it_is_for() {
    let list = |attributes: serde_json::Value| {
        let text =
            serde_json::json!({"name": "n", "type": "regex", "list": ["[0-9]+"], "matching_attributes": attributes});
        WarningList::parse("l", text.to_string().as_bytes()).unwrap()
    };
    let url = normalise::url("http://192.0.2.1/").unwrap();
    let numbers = list(serde_json::json!(["phone-number"]));
    assert!(!numbers.matches(&value("192.0.2.1")) && !numbers.matches(&url));
    let addresses = list(serde_json::json!(["ip-dst"]));
    assert!(addresses.matches(&value("192.0.2.1")) && addresses.matches(&value("192.0.2.1:80")));
    assert!(!addresses.matches(&value("a1.example")) && !addresses.matches(&url));
    assert!(list(serde_json::json!(["url"])).matches(&url) && list(serde_json::json!([])).matches(&url));
}

#[test]
fn a_list_that_cannot_be_used_says_why() {
    let fails = |text: &str| WarningList::parse("l.json", text.as_bytes()).map(drop).unwrap_err().to_string();
    assert!(fails("{\"name\": \"x\",\n}").starts_with("l.json:2:1: not a MISP warning list"));
    assert!(fails("{\"name\": \"x\", \"type\": \"cidr\"}").contains("missing field `list`"));
    assert!(fails("{\"name\": \"x\", \"type\": \"colour\", \"list\": []}").contains("`colour` is none of"));
    assert!(
        fails("{\"name\": \"x\", \"type\": \"regex\", \"list\": [\"a\", \"(?=b)c\"]}").starts_with("l.json: entry 2")
    );
}

proptest! {
    #[test]
    fn a_prefix_set_answers_like_a_scan(
        entries in prop::collection::vec((any::<u32>(), 0u8..=32), 0..20),
        asked in (any::<u32>(), 0u8..=32),
        near in prop::option::of(0usize..20),
    ) {
        let net = |(bits, length): (u32, u8)| Ipv4Net::new(Ipv4Addr::from_bits(bits), length).unwrap().trunc();
        let mut set = PrefixSet::default();
        entries.iter().for_each(|entry| set.insert(IpNet::V4(net(*entry))));
        let bits = near.and_then(|slot| entries.get(slot)).map_or(asked.0, |entry| entry.0);
        let asked = net((bits, asked.1));
        let shortest = entries.iter().map(|entry| net(*entry)).filter(|entry| entry.contains(&asked)).min_by_key(Ipv4Net::prefix_len);
        prop_assert_eq!(set.containing(IpNet::V4(asked)), shortest.map(IpNet::V4));
        let mut inside: Vec<IpNet> = entries.iter().map(|entry| net(*entry)).filter(|entry| asked.contains(entry) && *entry != asked).map(IpNet::V4).collect();
        inside.sort();
        inside.dedup();
        let mut found = set.inside(IpNet::V4(asked));
        found.sort();
        prop_assert_eq!(found, inside);
    }
}
