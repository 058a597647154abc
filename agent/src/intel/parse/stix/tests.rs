use std::collections::HashSet;

use serde_json::json;

use super::*;
use crate::intel::parse::parse as parse_any;
use crate::intel::{Attribution, Name, Path, Tlp, TlpOrigin};

fn parse(bytes: &[u8]) -> Result<Parsed, ParseError> {
    parse_any(&Reading::default(), &Arc::from("feed.json"), bytes)
}

fn read(objects: Value) -> Parsed {
    parse(json!({"type": "bundle", "objects": objects}).to_string().as_bytes()).unwrap()
}

fn indicator(id: &str, more: Value) -> Value {
    let mut object = json!({
        "type": "indicator", "id": format!("indicator--{id}"), "modified": "2026-01-01T00:00:00Z",
        "valid_from": "2026-01-01T00:00:00Z", "pattern": "[ipv4-addr:value = '192.0.2.1']",
    });
    object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    object
}

fn relation(from: &str, kind: &str, to: &str) -> Value {
    json!({"type": "relationship", "id": format!("relationship--{from}{kind}{to}"), "relationship_type": kind, "source_ref": from, "target_ref": to})
}

fn named(names: &[Name]) -> Vec<(&str, Path)> {
    names.iter().map(|name| (name.name.as_str(), name.path)).collect()
}

#[test]
fn the_newest_version_wins_as_a_time() {
    let version = |modified: &str, name: &str, revoked: bool| {
        indicator("a", json!({"modified": modified, "name": name, "revoked": revoked}))
    };
    for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2]] {
        let versions = [
            version("2026-03-01T00:00:00.1Z", "newest", false),
            version("2026-03-01T00:00:00.0999Z", "older", true),
            version("2026-02-28T23:59:59.9999999999Z", "oldest", false),
        ];
        let parsed = read(json!(order.map(|slot| &versions[slot])));
        assert_eq!((parsed.read, parsed.superseded), (1, 2));
        assert_eq!(parsed.indicators.iter().next().unwrap().name.as_deref(), Some("newest"));
    }
    let parsed =
        read(json!([version("2026-01-01T00:00:00Z", "old", false), version("2026-01-02T00:00:00Z", "new", true)]));
    assert_eq!((parsed.indicators.len(), parsed.skipped.iter().next().unwrap().reason), (0, SkipReason::Revoked));
    assert_eq!(parsed.revocations.len(), 1);
}

#[test]
fn a_bad_object_is_skipped_and_the_others_are_read() {
    let parsed = read(json!([
        7, {"id": "x"}, {"type": "indicator"}, {"type": 5, "id": "y"},
        indicator("pattern", json!({"pattern": 5})),
        indicator("until", json!({"valid_until": "soon"})),
        indicator("type", json!({"pattern_type": "sigma"})),
        indicator("good", json!({"confidence": 300, "labels": "not a list", "external_references": {}})),
        {"type": "report", "id": "report--r", "object_refs": "indicator--good"},
        {"type": "relationship", "id": "relationship--r"},
    ]));
    assert_eq!((parsed.read, parsed.indicators.len()), (8, 1));
    let reasons: Vec<SkipReason> = parsed.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons.iter().filter(|reason| **reason == SkipReason::Malformed).count(), 6);
    assert_eq!(reasons.last(), Some(&SkipReason::UnsupportedPattern));
    assert_eq!(parsed.indicators.iter().next().unwrap().confidence, None);
    assert_eq!(parsed.indicators.iter().next().unwrap().origin.to_string(), "feed.json#indicator--good");
    let deep = format!(
        "{{\"objects\": [{{\"type\": \"indicator\", \"id\": \"x\", \"x\": {}{}}}]}}",
        "[".repeat(1000),
        "]".repeat(1000)
    );
    let why = parse(deep.as_bytes()).unwrap().skipped.iter().next().unwrap().why;
    assert!(why.contains("recursion limit exceeded"), "{why}");
    let deep = format!("{{\"objects\": [{}1{}]}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(parse(deep.as_bytes()).map_or(0, |parsed| parsed.skipped.len()), 1);
}

#[test]
fn a_pattern_of_ten_megabytes_costs_only_its_own_indicator() {
    let test = "ipv4-addr:value = '192.0.2.1'";
    let many = |bytes: usize| format!("[{}]", vec![test; bytes / (test.len() + 4)].join(" OR "));
    let literal = format!("[domain-name:value = '{}']", "a".repeat(10 << 20));
    let parsed = read(json!([
        indicator("many", json!({"pattern": many(10 << 20)})),
        indicator("literal", json!({"pattern": literal})),
        indicator("fits", json!({"pattern": many(2 << 20)})),
        indicator("good", json!({})),
    ]));
    assert_eq!((parsed.read, parsed.indicators.len()), (4, 2));
    for skipped in parsed.skipped.iter() {
        assert_eq!(skipped.reason, SkipReason::Malformed);
        assert!(skipped.why.contains("longer than"), "{}", skipped.why);
        assert!(skipped.value.len() <= 200, "{} bytes are shown of it", skipped.value.len());
    }
}

#[test]
fn names_are_followed_along_relationships_and_cycles_end() {
    let parsed = read(json!([
        indicator("a", json!({})), indicator("b", json!({})), indicator("c", json!({})),
        {"type": "campaign", "id": "campaign--c", "name": "Operation Lamp"},
        {"type": "intrusion-set", "id": "intrusion-set--i", "name": "HERON"},
        {"type": "threat-actor", "id": "threat-actor--t", "name": "Actor T"},
        {"type": "malware", "id": "malware--m", "name": "LampRAT"},
        {"type": "malware", "id": "malware--gone", "name": "Gone", "revoked": true},
        {"type": "attack-pattern", "id": "attack-pattern--x", "name": "Web",
         "external_references": [{"source_name": "capec", "external_id": "CAPEC-1"}, {"source_name": "mitre-attack", "external_id": "T1071.001"}]},
        relation("indicator--a", "indicates", "campaign--c"),
        relation("campaign--c", "attributed-to", "intrusion-set--i"),
        relation("intrusion-set--i", "attributed-to", "threat-actor--t"),
        relation("threat-actor--t", "uses", "malware--m"),
        relation("malware--m", "uses", "attack-pattern--x"),
        relation("malware--m", "uses", "campaign--c"),
        relation("campaign--c", "related-to", "malware--gone"),
        relation("indicator--b", "indicates", "malware--nowhere"),
        relation("indicator--c", "indicates", "malware--gone"),
    ]));
    let known = parsed.indicators.iter().next().unwrap().attribution;
    assert_eq!(named(&known.campaigns), [("Operation Lamp", Path::Indicates)]);
    assert_eq!(named(&known.actors), [("Actor T", Path::Indicates), ("HERON", Path::Indicates)]);
    assert_eq!(named(&known.malware), [("LampRAT", Path::Indicates)]);
    assert_eq!(named(&known.techniques), [("T1071.001", Path::Indicates)]);
    for nothing in parsed.indicators.iter().skip(1) {
        assert_eq!(*nothing.attribution, Attribution::default());
    }
}

#[test]
fn a_report_lends_names_title_and_reference() {
    let parsed = read(json!([
        {"type": "report", "id": "report--r", "name": " Lamps ", "labels": ["misp-galaxy:threat-actor=\"Tagged\"", "Threat-Report"],
         "external_references": [{"source_name": "x", "url": "https://example.net/r"}],
         "object_refs": ["indicator--a", "indicator--b", "malware--m", "x-misp-attribute--t", "attack-pattern--p", "attack-pattern--q"]},
        {"type": "malware", "id": "malware--m", "name": "LampRAT"},
        {"type": "x-misp-attribute", "id": "x-misp-attribute--t", "x_misp_type": "threat-actor", "x_misp_value": "HERON"},
        {"type": "attack-pattern", "id": "attack-pattern--p", "name": "Obfuscated Files or Information - T1027"},
        {"type": "attack-pattern", "id": "attack-pattern--q", "name": "Something new"},
        indicator("a", json!({})), indicator("b", json!({})), indicator("alone", json!({})),
        relation("indicator--b", "indicates", "malware--m"),
    ]));
    let indicators: Vec<Indicator> = parsed.indicators.iter().collect();
    let [a, b, alone] = indicators.as_slice() else { panic!("{parsed:?}") };
    assert_eq!(named(&a.attribution.malware), [("LampRAT", Path::Report)]);
    assert_eq!(named(&b.attribution.malware), [("LampRAT", Path::Indicates)]);
    assert_eq!(named(&a.attribution.actors), [("HERON", Path::MispAttribute), ("Tagged", Path::Label)]);
    assert_eq!(named(&a.attribution.techniques), [("Something new", Path::Report), ("T1027", Path::Report)]);
    assert_eq!(
        (a.attribution.reports.as_slice(), a.attribution.references.as_slice()),
        (["Lamps".to_owned()].as_slice(), ["https://example.net/r".to_owned()].as_slice())
    );
    assert_eq!(*alone.attribution, Attribution::default());
}

#[test]
fn equal_attribution_is_shared() {
    let indicators: Vec<Value> = (0..50).map(|number| indicator(&number.to_string(), json!({}))).collect();
    let ids: Vec<String> = (0..50).map(|number| format!("indicator--{number}")).collect();
    let mut objects = vec![json!({"type": "report", "id": "report--r", "name": "R", "object_refs": ids})];
    objects.extend(indicators);
    let parsed = read(json!(objects));
    let indicators: Vec<Indicator> = parsed.indicators.iter().collect();
    assert!(indicators.iter().all(|item| Arc::ptr_eq(&item.attribution, &indicators[0].attribution)));
}

#[test]
fn the_strictest_marking_wins_and_says_where_it_is_from() {
    let mark = |id: &str| format!("marking-definition--{id}");
    let green = mark("34098fce-860f-48ae-8e50-ebd3cc5e41da");
    let amber = mark("55d920b0-5e8b-4f79-9ee9-91f868d9b421");
    let red = mark("e828b379-4e03-4974-9ac4-e53a884c97c1");
    for (more, listed, expected) in [
        (json!({}), false, None),
        (json!({}), true, Some((Tlp::Green, TlpOrigin::Report))),
        (json!({"object_marking_refs": [amber, green]}), true, Some((Tlp::Amber, TlpOrigin::Own))),
        (
            json!({"object_marking_refs": [mark("613f2e26-407d-48c7-9eca-b8e91df99dc9")]}),
            true,
            Some((Tlp::Green, TlpOrigin::Report)),
        ),
        (
            json!({"object_marking_refs": [mark("939a9414-2ddd-4d32-a0cd-375ea402b003")]}),
            false,
            Some((Tlp::AmberStrict, TlpOrigin::Own)),
        ),
        (
            json!({"granular_markings": [{"marking_ref": red, "selectors": ["pattern"]}]}),
            true,
            Some((Tlp::Red, TlpOrigin::Own)),
        ),
        (json!({"granular_markings": [{"marking_ref": red, "selectors": ["description"]}]}), false, None),
        (json!({"object_marking_refs": [mark("nobody-defines-this")]}), false, Some((Tlp::Red, TlpOrigin::Own))),
        (json!({"object_marking_refs": [mark("statement")]}), false, None),
        (json!({"object_marking_refs": [mark("own-tlp")]}), false, Some((Tlp::AmberStrict, TlpOrigin::Own))),
        (json!({"object_marking_refs": [mark("odd-tlp")]}), false, Some((Tlp::Red, TlpOrigin::Own))),
        (json!({"labels": [" TLP:WHITE"]}), false, Some((Tlp::Clear, TlpOrigin::Own))),
        (json!({"labels": ["tlp: amber+strict", "white"]}), false, Some((Tlp::AmberStrict, TlpOrigin::Own))),
    ] {
        let refs = if listed { json!(["indicator--a"]) } else { json!([]) };
        let parsed = read(json!([
            {"type": "report", "id": "report--r", "object_marking_refs": [green], "object_refs": refs},
            {"type": "marking-definition", "id": mark("statement"), "definition_type": "statement", "definition": {"statement": "Copyright"}},
            {"type": "marking-definition", "id": mark("own-tlp"), "name": "TLP:AMBER+STRICT",
             "extensions": {"extension-definition--60a3c5c5-0d10-413e-aab3-9e08dde9e88d": {"tlp_2_0": "amber+strict"}}},
            {"type": "marking-definition", "id": mark("odd-tlp"), "definition_type": "tlp", "definition": {"tlp": "purple"}},
            indicator("a", more.clone()),
        ]));
        assert_eq!(parsed.indicators.iter().next().unwrap().tlp, expected, "{more}");
    }
}

#[test]
fn an_alternative_left_out_is_told() {
    let parsed = read(json!([indicator(
        "a",
        json!({"pattern": "[ipv4-addr:value = '192.0.2.1' OR email-addr:value = 'a@b.example']"})
    )]));
    assert_eq!((parsed.indicators.len(), parsed.skipped.len()), (1, 0));
    assert!(
        parsed.trimmed.iter().next().unwrap().why.starts_with("an alternative is left out: `email-addr:value`"),
        "{}",
        parsed.trimmed.iter().next().unwrap().why
    );
}

#[test]
fn the_example_is_what_it_says() {
    let parsed = parse(crate::intel::EXAMPLE.as_bytes()).unwrap();
    assert_eq!((parsed.read, parsed.skipped.len()), (9, 0));
    assert_eq!(crate::intel::EXAMPLE.matches(crate::intel::EXAMPLE_SHA256).count(), 1);
    let c2 = parsed.indicators.iter().next().unwrap();
    assert_eq!(c2.tlp, Some((Tlp::Green, TlpOrigin::Report)));
    assert_eq!(named(&c2.attribution.actors), [("MARBLE HERON", Path::Report)]);
    assert_eq!(named(&c2.attribution.malware), [("LanternLoader", Path::Indicates), ("relaykit", Path::Report)]);
}

/// Hostile or careless: every indicator has a label of its own and is listed by a report with many names.
#[test]
fn names_are_bounded_however_many_indicators_share_them() {
    let techniques: Vec<Value> = (0..250)
        .map(|number| json!({"type": "attack-pattern", "id": format!("attack-pattern--{number}"), "name": format!("T{number}")}))
        .collect();
    let indicators: Vec<Value> = (0..20_000)
        .map(|number| {
            indicator(&number.to_string(), json!({"labels": [format!("misp-galaxy:threat-actor=\"{number}\"")]}))
        })
        .collect();
    let refs: Vec<&Value> = techniques.iter().chain(&indicators).map(|object| &object["id"]).collect();
    let report = json!({"type": "report", "id": "report--r", "name": "R", "object_refs": refs});
    let parsed = read(json!([vec![report], techniques, indicators].concat()));
    assert_eq!(parsed.indicators.len(), 20_000);
    let named = parsed.indicators.iter().filter(|indicator| !indicator.attribution.techniques.is_empty()).count();
    assert!((10_000..20_000).contains(&named), "{named}");
    assert!(parsed.read_as.contains(&format!("{} indicators are without names", 20_000 - named)), "{}", parsed.read_as);
}

#[test]
fn a_hub_of_relationships_is_walked_once() {
    let malware: Vec<Value> = (0..3000)
        .map(|number| json!({"type": "malware", "id": format!("malware--{number}"), "name": format!("m{number}")}))
        .collect();
    let mut objects = malware;
    for number in 0..30_000 {
        let (from, to) = (format!("malware--{}", number % 3000), format!("malware--{}", (number * 7 + 1) % 3000));
        let id = format!("relationship--{number}");
        objects.push(json!({"type": "relationship", "id": id, "relationship_type": "uses", "source_ref": from, "target_ref": to}));
    }
    for number in 0..3000 {
        let id = number.to_string();
        objects.push(indicator(&id, json!({})));
        objects.push(relation(&format!("indicator--{id}"), "indicates", "malware--0"));
    }
    let parsed = read(json!(objects));
    assert_eq!(parsed.indicators.len(), 3000);
    let names = parsed.indicators.iter().next().unwrap().attribution.malware.len();
    assert!((2..=256).contains(&names), "{names}");
    let indicators: Vec<Indicator> = parsed.indicators.iter().collect();
    // Packed, it is stated again now and then.
    let stated: HashSet<*const Attribution> = indicators.iter().map(|item| Arc::as_ptr(&item.attribution)).collect();
    assert!(stated.len() < 10, "{}", stated.len());
    assert!(indicators.iter().all(|item| item.attribution == indicators[0].attribution));
}
