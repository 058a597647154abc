//! One rule of this room each.

use std::sync::Arc;

use agent_common::image;

use super::{ruled, tables, value};
use crate::intel::{Indicator, Observable};
use crate::policy::{Action, Inbound, Ruled};
use crate::tables::{Bearing, Tables, UnenforcedReason, look_up};

fn blocks(text: &str) -> Ruled {
    ruled(value(text), "talos", Action::Block, 0)
}

fn action(tables: &Tables, text: &str, now: u32) -> Option<image::Action> {
    match look_up(tables.image.as_slice(), &value(text), now).unwrap() {
        Bearing::Hit(hit) => Some(hit.action),
        Bearing::Unknown | Bearing::Unseen => None,
    }
}

/// What an image says of a connection from an address.
fn inbound(tables: &Tables, text: &str, now: u32) -> Option<image::Action> {
    match look_up(tables.image.as_slice(), &value(text), now).unwrap() {
        Bearing::Hit(hit) => Some(hit.inbound),
        Bearing::Unknown | Bearing::Unseen => None,
    }
}

#[test]
fn the_strongest_of_those_that_live_long_enough_decides_about_what_the_other_end_begins() {
    let with =
        |source, action, inbound, expires| Ruled { inbound, ..ruled(value("198.51.100.7"), source, action, expires) };
    let quiet = with("a", Action::Block, Inbound::Ignore, 0);
    assert_eq!(inbound(&tables(vec![quiet.clone()], Vec::new()), "198.51.100.7", 1), Some(image::Action::Allow));
    let lasting = with("b", Action::Report, Inbound::Block, 0);
    let both = tables(vec![quiet.clone(), lasting], Vec::new());
    assert_eq!(action(&both, "198.51.100.7", 1), Some(image::Action::Block));
    assert_eq!(inbound(&both, "198.51.100.7", 1), Some(image::Action::Block));
    // What ends sooner than the entry would outlive itself in it.
    let passing = with("b", Action::Report, Inbound::Block, 100);
    assert_eq!(inbound(&tables(vec![quiet, passing], Vec::new()), "198.51.100.7", 1), Some(image::Action::Allow));
}

#[test]
fn nothing_is_found_in_an_empty_image() {
    let tables = tables(Vec::new(), Vec::new());
    assert_eq!(image::generation(tables.image.as_slice()), Ok(7));
    for text in ["198.51.100.7", "2001:db8::1", "198.51.100.7:443", "/usr/bin/id", "evil.example"] {
        assert_eq!(action(&tables, text, 1), None, "{text}");
    }
    assert_eq!(tables.summary.entries(), 0);
}

#[test]
fn every_spelling_of_an_address_is_that_address() {
    let tables = tables(vec![blocks("198.51.100.7"), blocks("203.0.113.9:443")], Vec::new());
    for text in ["198.51.100.7", "::ffff:198.51.100.7", "64:ff9b::198.51.100.7", "2002:c633:6407::1", "::198.51.100.7"]
    {
        assert_eq!(action(&tables, text, 1), Some(image::Action::Block), "{text}");
    }
    for text in ["203.0.113.9:443", "[::ffff:203.0.113.9]:443", "[64:ff9b::203.0.113.9]:443"] {
        assert_eq!(action(&tables, text, 1), Some(image::Action::Block), "{text}");
    }
    for text in ["198.51.100.8", "203.0.113.9", "203.0.113.9:80", "64:ff9b:1::198.51.100.7"] {
        assert_eq!(action(&tables, text, 1), None, "{text}");
    }
}

#[test]
fn an_indicator_in_another_spelling_is_the_address() {
    let tables = tables(vec![blocks("64:ff9b::198.51.100.0/120"), blocks("2002:cb00:7109::1")], Vec::new());
    assert_eq!(action(&tables, "198.51.100.255", 1), Some(image::Action::Block));
    assert_eq!(action(&tables, "203.0.113.9", 1), Some(image::Action::Block));
    assert_eq!(action(&tables, "198.51.101.0", 1), None);
}

#[test]
fn a_prefix_that_covers_spellings_applies_where_the_address_is_unknown() {
    let tables = tables(vec![blocks("2000::/3")], vec![value("198.51.100.7")]);
    assert_eq!(action(&tables, "2002:cb00:7109::1", 1), Some(image::Action::Block));
    assert_eq!(action(&tables, "2002:c633:6407::1", 1), Some(image::Action::Allow));
    assert_eq!(action(&tables, "203.0.113.9", 1), None);
}

#[test]
fn an_exception_for_all_spellings_does_not_open_ipv4() {
    let tables = tables(vec![blocks("198.51.100.7")], vec![value("64:ff9b::/96"), value("2002::/16")]);
    for text in ["198.51.100.7", "64:ff9b::198.51.100.7", "2002:c633:6407::1"] {
        assert_eq!(action(&tables, text, 1), Some(image::Action::Block), "{text}");
    }
}

#[test]
fn the_unspecified_address_is_loopback() {
    let tables = tables(vec![blocks("127.0.0.1"), blocks("[::1]:53")], Vec::new());
    assert_eq!(action(&tables, "0.0.0.0", 1), Some(image::Action::Block));
    assert_eq!(action(&tables, "[::]:53", 1), Some(image::Action::Block));
    assert_eq!(action(&tables, "::", 1), None);
}

#[test]
fn an_exception_wins_over_what_lies_inside_it() {
    let rules = ["10.0.0.0/8", "10.1.2.3", "10.1.2.0/28", "10.1.2.3:443", "10.2.0.0/16", "a.b.example", "example"];
    let tables = tables(rules.map(blocks).to_vec(), vec![value("10.1.0.0/16"), value("b.example")]);
    for text in ["10.1.2.3", "10.1.2.3:443", "10.1.0.0", "10.1.255.255", "b.example", "x.a.b.example"] {
        assert_eq!(action(&tables, text, 1), Some(image::Action::Allow), "{text}");
    }
    for text in ["10.0.255.255", "10.2.0.0", "xb.example"] {
        assert_eq!(action(&tables, text, 1), Some(image::Action::Block), "{text}");
    }
    assert_eq!(tables.summary.excepted, 4);
}

#[test]
fn what_expires_gives_way_to_what_is_left() {
    let rule = |text: &str, source: &str, action: Action, expires: u32| ruled(value(text), source, action, expires);
    let rules = vec![
        rule("198.51.100.7:443", "endpoint", Action::Block, 100),
        rule("198.51.100.7", "short", Action::Block, 200),
        rule("198.51.100.7", "long", Action::Report, 300),
        rule("198.51.100.0/24", "dead", Action::Block, 250),
        rule("198.51.0.0/16", "last", Action::Block, 400),
    ];
    let tables = tables(rules, Vec::new());
    let told = |text: &str, now: u32| match look_up(tables.image.as_slice(), &value(text), now).unwrap() {
        Bearing::Hit(hit) => tables.provenance.get(hit.entry).unwrap().unwrap().primary().source.to_string(),
        Bearing::Unknown | Bearing::Unseen => String::new(),
    };
    for (now, source) in
        [(99, "endpoint"), (100, "short"), (199, "short"), (200, "long"), (299, "long"), (300, "last"), (400, "")]
    {
        assert_eq!(told("198.51.100.7:443", now), source, "at {now}");
    }
    assert_eq!(told("198.51.100.7", 99), "short");
    assert_eq!(told("198.51.100.8", 249), "dead");
    assert_eq!(told("198.51.100.8", 250), "last");
}

#[test]
fn a_fraction_of_a_second_is_rounded_up() {
    let mut rule = blocks("198.51.100.7");
    rule.expires = Some("1970-01-01T00:01:40.5Z".parse().unwrap());
    let tables = tables(vec![rule], Vec::new());
    assert_eq!(action(&tables, "198.51.100.7", 100), Some(image::Action::Block));
    assert_eq!(action(&tables, "198.51.100.7", 101), None);
}

#[test]
fn all_sources_of_a_value_are_told() {
    let rules = ["two", "one", "three"].map(|source| ruled(value("198.51.100.7"), source, Action::Block, 0));
    let tables = tables(rules.to_vec(), Vec::new());
    let Bearing::Hit(hit) = look_up(tables.image.as_slice(), &value("198.51.100.7"), 1).unwrap() else {
        panic!("not found")
    };
    let matched = tables.provenance.get(hit.entry).unwrap().unwrap();
    assert_eq!(&*matched.primary().source, "one");
    let others: Vec<_> = matched.others().map(|ruled| ruled.source.to_string()).collect();
    assert_eq!(others, ["three", "two"]);
    assert_eq!(tables.summary.merged, 2);
    assert!(tables.provenance.get(hit.entry + 1).unwrap().is_none());
    assert!(tables.provenance.get(u32::MAX).unwrap().is_none());
}

#[test]
fn of_very_many_sources_of_a_value_the_strongest_are_told_and_the_others_counted() {
    let mut rules: Vec<_> =
        (0..100).map(|number| ruled(value("198.51.100.7"), &format!("many{number:03}"), Action::Block, 50)).collect();
    // Weaker than all of those: one that takes over from them, and one that speaks of the same indicator as the first.
    rules.push(ruled(value("198.51.100.7"), "outlives", Action::Report, 90));
    let mut same = ruled(value("198.51.100.7"), "same", Action::Report, 10);
    same.indicator = Arc::new(Indicator { id: Some("indicator--many000".into()), ..(*same.indicator).clone() });
    rules.push(same);
    rules.push(ruled(value("198.51.100.8"), "neighbour", Action::Block, 0));
    let tables = tables(rules, Vec::new());
    for (now, primary) in [(49, "many000"), (50, "outlives")] {
        let Bearing::Hit(hit) = look_up(tables.image.as_slice(), &value("198.51.100.7"), now).unwrap() else {
            panic!("not found")
        };
        let matched = tables.provenance.get(hit.entry).unwrap().unwrap();
        assert_eq!(&*matched.primary().source, primary);
        let told: Vec<_> = matched.others().map(|ruled| &*ruled.source).collect();
        assert!(told.contains(&"same") && told.contains(&"many031") && !told.contains(&"many032"), "{told:?}");
        assert_eq!((told.len(), matched.beyond()), (33, 68));
    }
    assert_eq!(tables.summary.merged, 101);
    let Bearing::Hit(hit) = look_up(tables.image.as_slice(), &value("198.51.100.8"), 1).unwrap() else { panic!() };
    assert_eq!(tables.provenance.get(hit.entry).unwrap().unwrap().beyond(), 0);
}

#[test]
fn paths_are_compared_component_by_component() {
    let tables = tables(vec![blocks("/usr//lib/./evil/"), blocks("/usr/lib/ab/c")], Vec::new());
    assert_eq!(action(&tables, "/usr/lib/evil", 1), Some(image::Action::Block));
    for text in ["/usr/lib", "/lib/evil", "/x/usr/lib/evil", "/usr/lib/evil2", "/usr/lib/a/bc", "/evil/lib/usr"] {
        assert_eq!(action(&tables, text, 1), None, "{text}");
    }
}

#[test]
fn what_cannot_be_enforced_is_counted_by_reason() {
    let deep = "/d".repeat(33);
    let long = format!("/{}", "n".repeat(256));
    let label = format!("{}.example", "l".repeat(64));
    let observables = [
        Observable::Url("http://evil.example/".into()),
        Observable::FileName("evil.exe".into()),
        Observable::Path("bin/evil".into()),
        Observable::Path("/".into()),
        Observable::Path("/tmp/../evil".into()),
        Observable::Path(deep.into()),
        Observable::Path(long.into()),
        Observable::Domain(label.into()),
        Observable::Domain(vec!["d"; 17].join(".").into()),
        value("::ffff:0:0/96"),
        Observable::Path(format!("/{}{}", "n".repeat(255), "/d".repeat(31)).into()),
    ];
    let rules = observables.into_iter().map(|observable| ruled(observable, "talos", Action::Block, 0)).collect();
    let tables = tables(rules, Vec::new());
    let counts: Vec<_> = tables.summary.unenforced.iter().map(|loss| (loss.reason, loss.count)).collect();
    assert_eq!(
        counts,
        [
            (UnenforcedReason::NoHook, 1),
            (UnenforcedReason::SpellsAllIpv4, 1),
            (UnenforcedReason::NotAbsolutePath, 2),
            (UnenforcedReason::ParentInPath, 1),
            (UnenforcedReason::PathTooLong, 2),
            (UnenforcedReason::NotADomain, 1),
            (UnenforcedReason::DomainTooDeep, 1),
        ]
    );
    assert_eq!(tables.summary.entries(), 2);
}

#[test]
fn a_chain_that_is_too_long_is_counted() {
    let nested = |length: u8| format!("10.0.0.0/{length}");
    let rules: Vec<Ruled> = (8..28)
        .map(|length| ruled(value(&nested(length)), "talos", Action::Block, 1_000 - u32::from(length)))
        .collect();
    let tables = tables(rules, Vec::new());
    let [loss] = &*tables.summary.unenforced else { panic!("{:?}", tables.summary.unenforced) };
    assert_eq!((loss.reason, loss.count), (UnenforcedReason::ChainTooLong, 4));
    // The longest is /27; 16 down from it is /12, which ends at 988.
    assert_eq!(action(&tables, "10.0.0.1", 987), Some(image::Action::Block));
    assert_eq!(action(&tables, "10.0.0.1", 988), None);
    assert_eq!(action(&tables, "10.128.0.1", 991), Some(image::Action::Block));
}

#[test]
fn an_image_says_which_digests_it_has_any_of() {
    use image::DigestKind::{Md5, Sha1, Sha256};
    let digests =
        [(Md5, Observable::Md5([1; 16])), (Sha1, Observable::Sha1([1; 20])), (Sha256, Observable::Sha256([1; 32]))];
    for held in 0..8_usize {
        let wanted = |index: usize| held >> index & 1 != 0;
        let listed = digests.iter().enumerate().filter(|(index, _)| wanted(*index));
        let listed = listed.map(|(_, (_, value))| ruled(value.clone(), "talos", Action::Block, 0)).collect();
        let tables = tables(listed, Vec::new());
        for (index, (kind, _)) in digests.iter().enumerate() {
            assert_eq!(image::holds_digest(tables.image.as_slice(), *kind), Ok(wanted(index)), "{held}: {kind:?}");
        }
    }
    let excepted = tables(vec![ruled(digests[0].1.clone(), "talos", Action::Block, 0)], vec![digests[0].1.clone()]);
    assert_eq!(image::holds_digest(excepted.image.as_slice(), Md5), Ok(true), "an exception is looked up too");
}
