//! Names as they come over the wire: a DNS question in any case, with pointers or without, and text with or without its dot.

use agent_common::image::{self, Labels, Unreadable, lower_case};
use agent_common::limits::DOMAIN_DEPTH;
use proptest::prelude::*;

use super::{ruled, tables};
use crate::intel::Observable;
use crate::policy::{Action, Ruled};
use crate::tables::Tables;

/// The closest listed name of a name in lower case, by looking at every rule.
fn closest<'a>(rules: &'a [Ruled], name: &str) -> Option<&'a str> {
    let names = rules.iter().filter_map(|ruled| match &ruled.observable {
        Observable::Domain(listed) => Some(&**listed),
        _ => None,
    });
    let depth = |listed: &str| listed.split('.').count();
    names
        .filter(|listed| name.strip_suffix(*listed).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
        .max_by_key(|listed| depth(listed))
}

fn found(tables: &Tables, octets: &[u8], labels: Labels) -> Option<String> {
    let found = image::find_name(tables.image.as_slice(), octets, labels).unwrap()?;
    assert_eq!(found.generation, tables.generation);
    let matched = tables.provenance.get(found.entry).unwrap();
    Some(matched.unwrap().primary().observable.to_string())
}

fn by_text(tables: &Tables, text: &str) -> Option<String> {
    let octets = format!("??{text}!");
    let labels = Labels::of_text(octets.as_bytes(), 2, text.len() as u32).unwrap();
    found(tables, octets.as_bytes(), labels)
}

/// A message that has the name after `before` octets, those before label `split` written and the rest behind a pointer.
fn message(name: &str, before: usize, split: Option<usize>) -> Vec<u8> {
    let encode = |labels: &[&str]| -> Vec<u8> {
        labels.iter().flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat()).collect()
    };
    let labels: Vec<&str> = name.split('.').collect();
    let mut message = vec![0xff; before];
    match split.map(|split| split.min(labels.len() - 1)) {
        None => message.extend([encode(&labels), vec![0]].concat()),
        Some(split) => {
            message.extend(encode(&labels[..split]));
            let target = message.len() + 2 + 3;
            message.extend([0xc0 | (target >> 8) as u8, target as u8, 9, 9, 9]);
            message.extend([encode(&labels[split..]), vec![0]].concat());
        }
    }
    message
}

fn by_question(tables: &Tables, name: &str, before: usize, split: Option<usize>) -> Option<String> {
    let message = message(name, before, split);
    let (labels, after) = Labels::of_message(message.as_slice(), before as u32).unwrap();
    let end = match split {
        None => message.len(),
        Some(split) => before + 2 + name.split('.').take(split).map(|label| label.len() + 1).sum::<usize>(),
    };
    if split.is_none_or(|split| split < name.split('.').count()) {
        assert_eq!(after as usize, end, "{name} {split:?}");
    }
    found(tables, &message, labels)
}

fn name(labels: impl Into<prop::collection::SizeRange>) -> impl Strategy<Value = String> {
    let label = prop_oneof![8 => "[abAB]{1,2}", 1 => "[a-z0-9_-]{7,9}", 1 => "[aB-]{63}"];
    prop::collection::vec(label, labels)
        .prop_map(|labels| labels.join("."))
        .prop_filter("RFC 1035 §2.3.4", |name| name.len() <= 253)
}

fn rules(names: &[String]) -> Vec<Ruled> {
    let listed = names.iter().map(|name| Observable::Domain(name.to_ascii_lowercase().into()));
    listed.map(|listed| ruled(listed, "one", Action::Block, 0)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn every_spelling_of_a_name_is_found_as_the_model_finds_it(
        listed in prop::collection::vec(name(1..5), 0..30),
        asked in prop::collection::vec(prop_oneof![4 => name(1..7), 1 => name(1..128)], 1..10),
        below in prop::collection::vec((any::<prop::sample::Index>(), name(1..4)), 0..10),
        before in 1_usize..200,
        split in prop::option::of(0_usize..4),
    ) {
        let rules = rules(&listed);
        let tables = tables(rules.clone(), Vec::new());
        let below = below.iter().filter(|_| !listed.is_empty()).map(|(at, name)| format!("{name}.{}", at.get(&listed)));
        for name in asked.iter().chain(&listed).cloned().chain(below).filter(|name| name.len() <= 253) {
            let expected = closest(&rules, &name.to_ascii_lowercase()).map(str::to_owned);
            prop_assert_eq!(&by_text(&tables, &name), &expected, "{}", name);
            prop_assert_eq!(&by_text(&tables, &format!("{name}.")), &expected, "{}.", name);
            prop_assert_eq!(&by_question(&tables, &name, before, split), &expected, "{} {:?}", name, split);
        }
    }

    #[test]
    fn letters_are_lowered_and_nothing_else(octets in any::<[u8; 8]>()) {
        let lowered = octets.map(|octet| octet.to_ascii_lowercase());
        prop_assert_eq!(lower_case(u64::from_le_bytes(octets)), u64::from_le_bytes(lowered));
    }

    #[test]
    fn any_octets_are_a_name_or_not_one(octets in prop::collection::vec(any::<u8>(), 0..300), at in 0_u32..300) {
        let tables = tables(rules(&["a.b".to_owned()]), Vec::new());
        if let Ok((labels, _)) = Labels::of_message(octets.as_slice(), at) {
            image::find_name(tables.image.as_slice(), octets.as_slice(), labels).unwrap();
        }
        if let Ok(labels) = Labels::of_text(octets.as_slice(), at, octets.len() as u32) {
            image::find_name(tables.image.as_slice(), octets.as_slice(), labels).unwrap();
        }
    }
}

#[test]
fn a_domain_stands_for_itself_and_all_below_it_and_nothing_beside_it() {
    let tables = tables(rules(&["evil.example".to_owned(), "very.evil.example".to_owned()]), Vec::new());
    for (asked, expected) in [
        ("evil.example", Some("evil.example")),
        ("EVIL.eXaMPLe", Some("evil.example")),
        ("a.b.c.evil.example", Some("evil.example")),
        ("x.very.evil.example", Some("very.evil.example")),
        ("xevil.example", None),
        ("example", None),
        ("evil.example.org", None),
    ] {
        assert_eq!(by_text(&tables, asked).as_deref(), expected, "{asked}");
        assert_eq!(by_question(&tables, asked, 12, None).as_deref(), expected, "{asked}");
    }
}

#[test]
fn the_longest_names_are_looked_up_to_the_depth_that_can_be_listed() {
    let depth = DOMAIN_DEPTH as usize;
    let deepest = vec!["x"; depth].join(".");
    let tables = tables(rules(std::slice::from_ref(&deepest)), Vec::new());
    for labels in [depth, depth + 1, 126, 127] {
        let asked = vec!["x"; labels].join(".");
        assert_eq!(by_question(&tables, &asked, 12, None), Some(deepest.clone()), "{labels} labels");
        assert_eq!(by_text(&tables, &asked), Some(deepest.clone()), "{labels} labels");
    }
    assert_eq!(by_question(&tables, &vec!["x"; depth - 1].join("."), 12, None), None);
}

#[test]
fn what_is_no_name_is_told_from_one_that_is_not_listed() {
    let unread = |message: &[u8]| Labels::of_message(message, 0).err();
    assert_eq!(unread(b"\x04evil"), Some(Unreadable), "no root");
    assert_eq!(unread(b"\x04ev"), Some(Unreadable), "cut");
    assert_eq!(unread(b"\x80evil\0"), Some(Unreadable), "an unassigned kind of label");
    assert_eq!(unread(b"\xc0\x00"), Some(Unreadable), "a pointer to itself");
    assert_eq!(unread(b"\x01a\xc0\x00"), Some(Unreadable), "a loop");
    assert_eq!(unread(b"\0"), None, "the root is a name");
    assert_eq!(Labels::of_text(&b""[..], 0, 0).err(), Some(Unreadable));
    assert_eq!(Labels::of_text(&[b'a'; 300][..], 0, 255).err(), Some(Unreadable));
}
