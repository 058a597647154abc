use super::segment::{INDEXES, TABLES};
use super::*;

#[test]
fn a_destination_is_an_address_a_prefix_or_a_name_with_or_without_a_port() {
    let destination = |net: Option<&str>, domain: Option<&str>, port| Destination {
        net: net.map(|net| net.parse().unwrap()),
        domain: domain.map(str::to_owned),
        port,
    };
    for (text, expected) in [
        ("203.0.113.7", destination(Some("203.0.113.7/32"), None, None)),
        ("203.0.113.7:443", destination(Some("203.0.113.7/32"), None, Some(443))),
        ("203.0.113.0/24", destination(Some("203.0.113.0/24"), None, None)),
        ("203.0.113.0/24:80", destination(Some("203.0.113.0/24"), None, Some(80))),
        ("2001:db8::1", destination(Some("2001:db8::1/128"), None, None)),
        ("[2001:db8::1]:443", destination(Some("2001:db8::1/128"), None, Some(443))),
        ("2001:db8::/32", destination(Some("2001:db8::/32"), None, None)),
        ("C2.Example.", destination(None, Some("c2.example"), None)),
        ("bücher.example:443", destination(None, Some("xn--bcher-kva.example"), Some(443))),
        (":443", destination(None, None, Some(443))),
    ] {
        assert_eq!(text.parse::<Destination>().unwrap(), expected, "{text}");
    }
    for text in
        ["", ":", "[2001:db8::]", "203.0.113.7:99999", "a b", "http://c2.example/", "c2.example:http", "203.0.113.0/33"]
    {
        assert!(text.parse::<Destination>().is_err(), "{text:?}");
    }
}

#[test]
fn a_destination_is_printed_as_it_is_read() {
    for text in ["203.0.113.0/24", "203.0.113.0/24:80", "[2001:db8::/32]:443", "c2.example:443", ":443"] {
        assert_eq!(text.parse::<Destination>().unwrap().to_string(), text);
    }
}

#[test]
fn limits_that_cannot_hold_are_refused_by_name() {
    let refused = |limits: Limits| match limits.check() {
        Err(JournalError::Limits { name, .. }) => name,
        other => panic!("{other:?}"),
    };
    let good = Limits::default();
    assert!(good.check().is_ok());
    assert_eq!(refused(Limits { segment_bytes: 1, ..good }), "segment_bytes");
    assert_eq!(refused(Limits { total_bytes: good.segment_bytes * 3, ..good }), "total_bytes");
    assert_eq!(refused(Limits { max_age_hours: 0, ..good }), "max_age_hours");
}

#[test]
fn the_page_for_people_shows_the_tables() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/journal.md");
    let page = std::fs::read_to_string(page).unwrap();
    assert!(page.contains(TABLES), "docs/journal.md must hold exactly this:\n{TABLES}");
    let indexes: String = INDEXES.map(|index| format!("{};\n", index.replace("IF NOT EXISTS ", ""))).concat();
    assert!(page.contains(&indexes), "docs/journal.md must hold exactly this:\n{indexes}");
}

#[test]
fn the_names_of_losses_are_those_of_the_counters() {
    for reason in LossReason::ALL {
        assert_eq!(LossReason::from_name(reason.name()), Some(reason));
        assert_eq!(serde_json::to_value(reason).unwrap(), reason.name());
    }
    assert_eq!(LossReason::from_name("else"), None);
}
