use serde_json::{Value, json};

use super::*;
use crate::intel::parse::parse;

fn read_with(to_ids: ToIds, document: &Value) -> Result<Parsed, ParseError> {
    let reading = Reading { to_ids, ..Reading::default() };
    parse(&reading, &Arc::from("event.json"), document.to_string().as_bytes())
}

fn read(document: &Value) -> Parsed {
    read_with(ToIds::Honour, document).unwrap()
}

fn attribute(kind: &str, value: &str) -> Value {
    json!({"uuid": format!("uuid-{kind}-{value}"), "type": kind, "value": value, "to_ids": true, "timestamp": "1767225600"})
}

fn event(attributes: Value) -> Value {
    json!({"uuid": "5c0ffee0-0000-4000-8000-000000000001", "info": "An event", "Attribute": attributes})
}

#[test]
fn an_event_is_read_in_whatever_wrapping() {
    let bare = event(json!([attribute("ip-dst", "192.0.2.1")]));
    let wrapped = json!({"Event": bare});
    for document in [
        bare.clone(),
        wrapped.clone(),
        json!([bare]),
        json!([wrapped]),
        json!({"response": wrapped}),
        json!({"response": [wrapped]}),
        json!({"response": [bare]}),
        json!({"response": bare}),
        json!({"Event": bare, "more": 1}),
    ] {
        let parsed = read(&document);
        assert_eq!((parsed.read, parsed.indicators.len()), (1, 1), "{document}");
        assert_eq!(parsed.indicators.iter().next().unwrap().attribution.reports, ["An event"], "{document}");
        assert_eq!(parsed.indicators.iter().next().unwrap().modified, Some("2026-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!(parsed.read_as, "misp");
    }
}

#[test]
fn attributes_without_their_event_keep_its_title() {
    let mut attribute = attribute("domain", "a.example.net");
    attribute["Event"] = json!({"id": "7", "info": "Far away"});
    let parsed = read(&json!({"response": {"Attribute": [attribute]}}));
    assert_eq!(parsed.indicators.iter().next().unwrap().attribution.reports, ["Far away"]);
}

#[test]
fn types_are_read_or_named() {
    let hash = "1".repeat(64);
    for (kind, value, expected) in [
        ("ip-src", "192.0.2.1", "192.0.2.1"),
        ("ip-dst", "192.0.2.77/28", "192.0.2.64/28"),
        ("ip-src|port", "2001:db8::1|443", "[2001:db8::1]:443"),
        ("domain|ip", "a.example|192.0.2.1", "a.example 192.0.2.1"),
        ("hostname", "A.example.", "a.example"),
        ("url", "hxxps://a[.]example/x", "https://a.example/x"),
        ("filename", "x.sh", "x.sh"),
        ("filename", "/opt//x", "/opt/x"),
        ("filename|sha256", &format!("x.sh|{hash}"), &format!("{hash} x.sh")),
        ("malware-sample", "x.sh|00112233445566778899aabbccddeeff", "00112233445566778899aabbccddeeff"),
    ] {
        let parsed = read(&event(json!([attribute(kind, value)])));
        let found: Vec<String> =
            parsed.indicators.iter().next().unwrap().observables.iter().map(ToString::to_string).collect();
        assert_eq!(found.join(" "), expected, "{kind} {value}");
        assert!(parsed.trimmed.is_empty(), "{kind}");
    }
    for (kind, value, reason) in [
        ("mutex", "x", SkipReason::UnsupportedType),
        ("email-src", "a@b.example", SkipReason::UnsupportedType),
        ("sha512", "00", SkipReason::UnsupportedType),
        ("filename|imphash", "x|00", SkipReason::UnsupportedType),
        ("|", "x", SkipReason::UnsupportedType),
        ("sha256", "00", SkipReason::Malformed),
        ("ip-dst|port", "192.0.2.1", SkipReason::Malformed),
        ("ip-dst|port", "192.0.2.0/24|80", SkipReason::UnsupportedPattern),
        ("domain", "one", SkipReason::Malformed),
    ] {
        let parsed = read(&event(json!([attribute(kind, value)])));
        assert_eq!(parsed.skipped.iter().next().unwrap().reason, reason, "{kind} {value}");
    }
}

#[test]
fn half_a_composite_is_used_and_the_other_half_is_told() {
    let parsed =
        read(&event(json!([attribute("domain|ip", "a.example|nowhere"), attribute("hostname|port", "b.example|80")])));
    assert_eq!((parsed.indicators.len(), parsed.skipped.len()), (2, 0));
    let why: Vec<String> = parsed.trimmed.iter().map(|part| part.why).collect();
    assert_eq!(why, ["not an IP address", "the port: a name is matched whatever the port"]);
}

#[test]
fn to_ids_is_honoured_unless_the_source_says_otherwise() {
    for (flag, is_set) in [
        (json!(true), true),
        (json!("1"), true),
        (json!(1), true),
        (json!("true"), true),
        (json!(false), false),
        (json!("0"), false),
        (json!(0), false),
        (json!(null), false),
        (json!("yes"), false),
    ] {
        let mut given = attribute("ip-dst", "192.0.2.1");
        given["to_ids"] = flag.clone();
        let document = event(json!([given]));
        assert_eq!(read(&document).indicators.len(), usize::from(is_set), "{flag}");
        assert_eq!(read_with(ToIds::Ignore, &document).unwrap().indicators.len(), 1, "{flag}");
    }
    let mut without = attribute("ip-dst", "192.0.2.1");
    without.as_object_mut().unwrap().remove("to_ids");
    assert_eq!(read(&event(json!([without]))).skipped.iter().next().unwrap().reason, SkipReason::NotToIds);
}

#[test]
fn what_is_deleted_is_revoked_whatever_else_it_is() {
    let mut deleted = attribute("ip-dst", "192.0.2.1");
    deleted["deleted"] = json!("1");
    let mut document = event(json!([deleted]));
    document["Object"] = json!([{"name": "file", "deleted": true, "Attribute": [attribute("mutex", "x")]}]);
    let parsed = read(&document);
    assert_eq!(parsed.skipped.iter().map(|item| item.reason).collect::<Vec<_>>(), [SkipReason::Revoked; 2]);
    assert_eq!(parsed.revocations.len(), 2);
}

#[test]
fn the_newest_version_of_an_attribute_wins_and_a_deletion_is_a_version() {
    let version = |timestamp: u64, deleted: bool, value: &str| json!({"uuid": "a", "type": "ip-dst", "to_ids": true, "timestamp": timestamp, "deleted": deleted, "value": value});
    for (versions, expected) in [
        ([version(10, false, "192.0.2.1"), version(11, false, "192.0.2.2")], Some("192.0.2.2")),
        ([version(11, false, "192.0.2.2"), version(10, true, "192.0.2.1")], Some("192.0.2.2")),
        ([version(10, false, "192.0.2.1"), version(11, true, "192.0.2.1")], None),
    ] {
        let parsed = read(&json!([{"Event": event(json!([versions[0]]))}, {"Event": event(json!([versions[1]]))}]));
        assert_eq!((parsed.read, parsed.superseded), (1, 1));
        assert_eq!(parsed.indicators.iter().next().map(|item| item.observables[0].to_string()).as_deref(), expected);
    }
}

#[test]
fn galaxies_name_and_tags_mark() {
    let mut document = event(json!([attribute("ip-dst", "192.0.2.1"), attribute("ip-dst", "192.0.2.2")]));
    document["Tag"] = json!([{"name": "TLP:GREEN"}, {"name": "misp-galaxy:mitre-enterprise-attack-attack-pattern=\"Remote File Copy - T1105\""},
        {"name": "misp-galaxy:lab-threat-actor=\"5c0ffee0-0000-4000-8000-000000000002\""}, {"name": "Lanterns"}, {}, 7]);
    document["Galaxy"] = json!([{"type": "threat-actor", "GalaxyCluster": [{"value": "HERON"}]}, {"type": "mitre-tool", "GalaxyCluster": [{"value": "relaykit"}]}]);
    document["Attribute"][1]["Tag"] = json!([{"name": "tlp:red"}, {"name": "misp-galaxy:mitre-campaign=\"Lamp\""}]);
    let parsed = read(&document);
    let names = |index: usize| {
        let known = parsed.indicators.iter().nth(index).unwrap().attribution;
        let all = [&known.actors, &known.campaigns, &known.malware, &known.techniques];
        all.map(|names| names.iter().map(|name| name.name.clone()).collect::<Vec<_>>().join(","))
    };
    assert_eq!(names(0), ["HERON", "", "relaykit", "T1105"]);
    assert_eq!(names(1), ["HERON", "Lamp", "relaykit", "T1105"]);
    assert_eq!(parsed.indicators.iter().next().unwrap().tlp, Some((Tlp::Green, crate::intel::TlpOrigin::Report)));
    assert_eq!(parsed.indicators.iter().nth(1).unwrap().tlp, Some((Tlp::Red, crate::intel::TlpOrigin::Own)));
}

#[test]
fn what_is_broken_is_counted_and_the_rest_is_read() {
    let parsed = read(&json!({"response": [
        {"Event": {"info": "x", "Attribute": [7, {"type": "ip-dst"}, {"value": "x"}, attribute("ip-dst", "192.0.2.1")], "Object": [7, {"Attribute": "x"}, {}]}},
        7, {"Event": 7}, {"Event": {"Attribute": {}}}, {"Event": {}},
    ]}));
    assert_eq!((parsed.indicators.len(), parsed.skipped.len(), parsed.read), (1, 8, 9));
    assert!(parsed.skipped.iter().all(|item| item.reason == SkipReason::Malformed));
}

#[test]
fn what_is_nested_deep_is_passed_over_where_it_is_not_used_and_told_where_it_is() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let attribute = |member: &str| {
        format!(r#"{{"type": "ip-dst", "to_ids": true, "value": "192.0.2.1", "Tag": [{{"name": "tlp:red"}}]{member}}}"#)
    };
    let unused = attribute(&format!(", \"x\": {deep}, \"comment\": {deep}"));
    let value = attribute("").replace("\"192.0.2.1\"", &deep);
    let tag = attribute("").replace("\"tlp:red\"", &deep);
    for (attributes, used, why) in [
        (unused, 1, None),
        (value, 0, Some("an attribute without a value")),
        (tag, 1, None),
        (deep.clone(), 0, Some("not a JSON object")),
    ] {
        let document = format!(r#"{{"Event": {{"info": "x", "Galaxy": {deep}, "Attribute": [{attributes}]}}}}"#);
        let parsed = parse(&Reading::default(), &Arc::from("event.json"), document.as_bytes()).unwrap();
        assert_eq!((parsed.read, parsed.indicators.len()), (1, used));
        assert_eq!(parsed.skipped.iter().next().map(|skipped| skipped.why).as_deref(), why);
    }
}

#[test]
fn a_member_that_is_there_twice_is_refused_and_a_text_that_is_none_costs_its_attribute() {
    let document = r#"{"Event": {"info": "\ud800", "Attribute": [
        {"type": "ip-dst", "value": "192.0.2.1", "value": "192.0.2.2", "to_ids": true},
        {"type": "ip-dst", "value": "\ud800", "to_ids": true}, ["ip-dst", "192.0.2.4"],
        {"type": "ip-dst", "value": "192.0.2.3", "to_ids": true}]}}"#;
    let parsed = parse(&Reading::default(), &Arc::from("event.json"), document.as_bytes()).unwrap();
    assert_eq!((parsed.read, parsed.indicators.len()), (4, 1));
    let why: Vec<String> = parsed.skipped.iter().map(|skipped| skipped.why).collect();
    assert!(why[0].contains("duplicate field `value`"), "{why:?}");
    assert!(why[1].contains("hex escape"), "{why:?}");
    assert_eq!(why[2], "not a JSON object");
}

#[test]
fn companions_of_a_feed_are_told_from_intelligence() {
    let manifest = json!({"5c0ffee0-0000-4000-8000-000000000001": {"info": "x", "timestamp": "1"}});
    let error = read_with(ToIds::Honour, &manifest).unwrap_err();
    assert!(error.is_companion(), "{error}");
    let hashes = b"00112233445566778899aabbccddeeff,5c0ffee0-0000-4000-8000-000000000001\n";
    let error = parse(&Reading::default(), &Arc::from("hashes.csv"), hashes).unwrap_err();
    assert!(error.to_string().contains("a MISP feed's list of hashes, which holds no indicators itself"), "{error}");
}
