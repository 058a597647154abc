//! The importer held against feeds: hand-written ones in `data/feeds`, in the idioms and with the quirks of real publishers,
//! and, where `CORDON_DATA` names a directory with published intelligence and its `expected.json`, against every file of it.
//!
//! `expected.json` is counted by another program. Where the two differ, a rule below says why; there is no list of files.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agent::intel::parse::{Fault, ToIds};
use agent::intel::source::{FileError, Load, Source, load};
use agent::intel::{Indicator, Name, Observable, Path as Tie, SkipReason};
use agent::policy::{Rules, Supply, rule};
use jiff::Timestamp;
use serde_json::Value;

/// The time at which both count.
const REFERENCE: &str = "2026-11-01T00:00:00Z";

fn read(path: &Path, format: &str) -> Result<Load, FileError> {
    let source = Source { format: format.parse().unwrap(), allow_reserved: true, ..Source::new("corpus", path) };
    load(&source, REFERENCE.parse().unwrap()).map_err(|error| error.error)
}

/// Distinct values by type.
fn values<'a>(indicators: impl Iterator<Item = &'a Indicator>) -> BTreeMap<&'static str, BTreeSet<Observable>> {
    let mut values: BTreeMap<&'static str, BTreeSet<Observable>> = BTreeMap::new();
    for value in indicators.flat_map(|indicator| &indicator.observables) {
        values.entry(value.type_name()).or_default().insert(value.clone());
    }
    values
}

fn skipped(load: &Load, reason: SkipReason) -> u64 {
    load.skipped.iter().filter(|skipped| skipped.reason == reason).count() as u64
}

fn count(object: &Value, key: &str) -> u64 {
    object.get(key).and_then(Value::as_u64).unwrap_or(0)
}

fn counts(object: &Value, key: &str) -> BTreeMap<String, u64> {
    let object = object.get(key).and_then(Value::as_object);
    object.into_iter().flatten().map(|(kind, count)| (kind.clone(), count.as_u64().unwrap())).collect()
}

/// Rule 1: our types are told by value, theirs by property too, so that one of ours is the union of several of theirs.
/// `None` for what no hook sees, which we skip as `unsupported_type`.
fn our_type(kind: &str) -> Option<&'static str> {
    match kind {
        "ipv4" | "dst-ipv4" | "src-ipv4" => Some("ipv4"),
        "cidr4" => Some("ipv4_prefix"),
        "ipv6" | "dst-ipv6" | "src-ipv6" => Some("ipv6"),
        "cidr6" => Some("ipv6_prefix"),
        "ipv4+port" | "dst-ipv4+port" | "src-ipv4+port" => Some("endpoint"),
        "domain" => Some("domain"),
        "url" | "url-noscheme" => Some("url"),
        "sha256" => Some("sha256"),
        "sha1" => Some("sha1"),
        "md5" => Some("md5"),
        "filepath" => Some("path"),
        "filename" | "process:name" => Some("file_name"),
        _ => None,
    }
}

/// Rule 7: of URLs, names and paths they count any text; we skip a URL without a host, a name with a slash and a relative path
/// as malformed, because no observation can ever equal them.
fn can_never_match(load: &Load) -> BTreeMap<&'static str, u64> {
    let mut counts = BTreeMap::new();
    for (name, why) in [("url", "not a URL"), ("file_name", "not a file name"), ("path", "not an absolute path")] {
        let malformed = load.skipped.iter().filter(|skipped| skipped.reason == SkipReason::Malformed);
        counts.insert(name, malformed.filter(|skipped| skipped.why.contains(why)).count() as u64);
    }
    counts
}

/// How many distinct values of each type there may be: one that is the union of several kinds lies between the largest and the sum.
fn bounds(expected: &BTreeMap<String, u64>) -> BTreeMap<&'static str, (u64, u64)> {
    let mut bounds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    for (kind, count) in expected {
        if let Some(name) = our_type(kind) {
            let (least, most) = bounds.entry(name).or_default();
            *least = (*least).max(*count);
            *most += count;
        }
    }
    bounds
}

/// Compares the distinct values of each type.
fn compare_values(
    bounds: &BTreeMap<&'static str, (u64, u64)>,
    ours: &BTreeMap<&'static str, BTreeSet<Observable>>,
    never: &BTreeMap<&'static str, u64>,
) -> Vec<String> {
    let mut differences = Vec::new();
    for name in Observable::TYPE_NAMES {
        let (least, most) = bounds.get(name).copied().unwrap_or_default();
        let found = ours.get(name).map_or(0, |values| values.len() as u64) + never.get(name).unwrap_or(&0);
        if !(least..=most).contains(&found) {
            differences.push(format!("{name}: expected {least} to {most}, found {found}"));
        }
    }
    differences
}

fn compare_stix(load: &Load, expected: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let mut same = |what: &str, expected: u64, found: u64| {
        if expected != found {
            differences.push(format!("{what}: expected {expected}, found {found}"));
        }
    };
    same("indicators", count(expected, "indicators"), load.read);
    let classes = counts(expected, "pattern_classes");
    let undecidable = ["operator", "compound", "multi-observation", "temporal"];
    let undecidable: u64 = undecidable.iter().filter_map(|class| classes.get(*class)).sum();
    same("unsupported_pattern", undecidable, skipped(load, SkipReason::UnsupportedPattern));
    same("revoked", count(expected, "revoked"), skipped(load, SkipReason::Revoked));
    let invalid = expected["invalid_values"].as_array().map_or(0, |values| values.len() as u64);
    let unparsed = expected["pattern_parse_failures"].as_array().map_or(0, |values| values.len() as u64);
    let never: u64 = can_never_match(load).values().sum();
    same("malformed", invalid + unparsed + never, skipped(load, SkipReason::Malformed));
    // Rule 2: of an AND of file properties they count every digest, we only those a hook can see; such an indicator is used.
    let unseen: u64 = counts(expected, "atoms_by_kind")
        .iter()
        .filter(|(kind, _)| our_type(kind).is_none() && !kind.starts_with("hash-other:"))
        .map(|(_, count)| count)
        .sum();
    same("unsupported_type", unseen, skipped(load, SkipReason::UnsupportedType));

    let supply = Supply { source: &load.source, indicators: &load.indicators };
    let ruling = rule(&[supply], &Rules::default(), REFERENCE.parse().unwrap());
    let ruled_out = |reason| ruling.skipped.iter().filter(|skipped| skipped.reason == reason).count() as u64;
    same("expired", count(expected, "expired_at_ref"), ruled_out(SkipReason::Expired));
    same("not yet valid", count(expected, "not_yet_valid_at_ref"), ruled_out(SkipReason::NotYetValid));

    differences.extend(compare_values(
        &bounds(&counts(expected, "unique_values_by_kind")),
        &values(load.indicators.iter().map(AsRef::as_ref)),
        &can_never_match(load),
    ));
    differences.extend(compare_attribution(load, expected));
    differences
}

/// Rule 3: they count indicators, we have attribution only on those that are used; so ours are at most theirs, and equal where
/// nothing is skipped. Every technique, malware, actor and campaign we name must be one of theirs.
fn compare_attribution(load: &Load, expected: &Value) -> Vec<String> {
    let text = std::fs::read_to_string(&load.source.path).unwrap();
    let mut differences = Vec::new();
    let tied = |tie: Tie| {
        let has = |indicator: &Indicator| {
            let known = &indicator.attribution;
            [&known.actors, &known.campaigns, &known.malware, &known.techniques]
                .into_iter()
                .flatten()
                .any(|name| name.path == tie)
        };
        load.indicators.iter().filter(|indicator| has(indicator)).count() as u64
    };
    let in_report = load.indicators.iter().filter(|indicator| !indicator.attribution.reports.is_empty()).count() as u64;
    let hidden = load.skipped.len() as u64;
    for (what, key, found) in [
        ("in a report", "indicators_in_report", in_report),
        ("tied by indicates", "indicators_with_indicates", tied(Tie::Indicates)),
    ] {
        let wanted = count(expected, key);
        // They count the verb `indicates`, we also follow `uses` straight from an indicator.
        let more = key == "indicators_with_indicates" && text.contains("\"uses\"");
        if found + hidden < wanted || (found > wanted && !more) {
            differences.push(format!("{what}: expected {wanted} less up to {hidden} skipped, found {found}"));
        }
    }
    // Rule 4: they list what objects call themselves in one field, we also take ids out of names (`… - T1027`), actors out of
    // MISP attributes and names out of galaxy labels. What we say more than they must stand in the file; what they say of
    // techniques we must say too, where every indicator is tied to them by a report.
    let ours = |names: fn(&Indicator) -> &Vec<Name>| -> BTreeSet<String> {
        load.indicators.iter().flat_map(|indicator| names(indicator)).map(|name| name.name.clone()).collect()
    };
    let techniques = ours(|indicator| &indicator.attribution.techniques);
    let others = [
        ours(|indicator| &indicator.attribution.malware),
        ours(|indicator| &indicator.attribution.campaigns),
        ours(|indicator| &indicator.attribution.actors),
    ];
    for name in others.iter().flatten().chain(&techniques) {
        let quoted = serde_json::to_string(name).unwrap();
        if !text.contains(name.as_str()) && !text.contains(quoted.trim_matches('"')) {
            differences.push(format!("the name {name} is not in the file"));
        }
    }
    let is_technique = |name: &&str| name.starts_with('T') && name[1..].starts_with(|c: char| c.is_ascii_digit());
    let theirs = expected["attack_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(is_technique);
    if count(expected, "indicators_with_report_attribution") > 0 && in_report == load.indicators.len() as u64 {
        let missing: Vec<&str> = theirs.filter(|name| !techniques.contains(*name)).collect();
        if !missing.is_empty() {
            differences.push(format!("techniques {missing:?} are missing"));
        }
    }
    differences
}

/// Rule 5: they read a line as a whole unless told otherwise; we also take a first field that is an indicator with a remark
/// behind it (`hash - name`). So what they call unrecognised is either skipped or has a remark.
fn compare_text(load: &Load, expected: &Value) -> Vec<String> {
    let whole_lines = expected["format"] == "plain";
    let is_theirs = |indicator: &&Indicator| !whole_lines || indicator.name.is_none();
    let remarked = load.indicators.iter().filter(|indicator| !is_theirs(&indicator.as_ref())).count() as u64;
    let mut differences = Vec::new();
    let unrecognised = count(expected, "unrecognised");
    let found = remarked + load.skipped.len() as u64;
    if unrecognised != found {
        differences.push(format!(
            "unrecognised: expected {unrecognised}, found {} skipped and {remarked} with a remark",
            load.skipped.len()
        ));
    }
    let theirs = values(load.indicators.iter().map(AsRef::as_ref).filter(is_theirs));
    differences.extend(compare_values(&bounds(&counts(expected, "unique_by_kind")), &theirs, &BTreeMap::new()));
    differences
}

/// Rule 8: to them a file name alone is no value, to us it is one that is reported at most.
fn compare_misp(path: &Path, events: &[&Value]) -> Vec<String> {
    let total = |key: &str| events.iter().map(|event| count(event, key)).sum::<u64>();
    let names: u64 = events.iter().map(|event| count(&event["types"], "filename")).sum();
    let mut differences = Vec::new();
    for (to_ids, unique) in [(ToIds::Ignore, "unique_all"), (ToIds::Honour, "unique_to_ids")] {
        let source = Source { to_ids, allow_reserved: true, ..Source::new("corpus", path) };
        let load = match load(&source, REFERENCE.parse().unwrap()) {
            Ok(load) => load,
            Err(error) => return vec![error.to_string()],
        };
        let mut same = |what: &str, expected: u64, found: u64| {
            if expected != found {
                differences.push(format!("{to_ids:?}: {what}: expected {expected}, found {found}"));
            }
        };
        same("attributes", total("attributes"), load.read);
        same("refused", 0, load.refused.len() as u64);
        let unasked = if to_ids == ToIds::Honour { total("attributes") - total("to_ids") } else { 0 };
        same("not_to_ids", unasked, skipped(&load, SkipReason::NotToIds));
        let invalid = events.iter().map(|event| event["invalid_values"].as_array().map_or(0, Vec::len) as u64).sum();
        same("malformed", invalid, skipped(&load, SkipReason::Malformed));
        let mut unique_values: BTreeMap<String, u64> = BTreeMap::new();
        events.iter().flat_map(|event| counts(event, unique)).for_each(|(kind, count)| {
            *unique_values.entry(kind).or_default() += count;
        });
        let mut bounds = bounds(&unique_values);
        for kind in ["file_name", "path"] {
            bounds.entry(kind).or_default().1 += names;
        }
        let ours = values(load.indicators.iter().map(AsRef::as_ref));
        differences.extend(compare_values(&bounds, &ours, &BTreeMap::new()));
        if let [event] = events {
            differences.extend(compare_misp_names(&load, event));
        }
    }
    differences
}

/// Every indicator of an event has the names and the marking of its event.
fn compare_misp_names(load: &Load, event: &Value) -> Vec<String> {
    let mut differences = Vec::new();
    let texts = |key: &str| -> BTreeSet<&str> {
        event[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let tlp = texts("tlp").into_iter().map(|tlp| if tlp == "unmarked" { "amber" } else { tlp }).collect::<Vec<_>>();
    for indicator in &load.indicators {
        let known = &indicator.attribution;
        let has = |names: &[Name], wanted: &str| names.iter().any(|name| name.name == wanted);
        let missing = texts("attack_ids").into_iter().filter(|id| !has(&known.techniques, id));
        let missing = missing.chain(texts("threat_actors").into_iter().filter(|name| !has(&known.actors, name)));
        differences.extend(missing.map(|name| format!("{}: {name} is missing", indicator.origin)));
        let ours = indicator.tlp.map(|(tlp, _)| serde_json::to_value(tlp).unwrap());
        if !ours.as_ref().and_then(Value::as_str).is_some_and(|ours| tlp.contains(&ours)) {
            differences.push(format!("{}: expected TLP {tlp:?}, found {ours:?}", indicator.origin));
        }
        if known.reports != [event["info"].as_str().unwrap()] {
            differences.push(format!("{}: expected the event's title, found {:?}", indicator.origin, known.reports));
        }
    }
    differences
}

/// The directory as a whole, of which manifest.json and hashes.csv are no intelligence, and event by event.
fn compare_misp_feed(path: &Path, expected: &Value) -> Vec<String> {
    let events = expected["events"].as_object().unwrap();
    let whole: Vec<&Value> = events.values().collect();
    let each = events.iter().flat_map(|(uuid, event)| compare_misp(&path.join(format!("{uuid}.json")), &[event]));
    compare_misp(path, &whole).into_iter().chain(each).collect()
}

/// Rule 9: they count what each cell holds, we a row as one indicator of all its values. Rule 10: a URL without a
/// scheme, but with a port, is among their unrecognised.
fn compare_csv(path: &Path, expected: &Value) -> Vec<String> {
    let load = match read(path, "auto") {
        Ok(load) => load,
        Err(error) => return vec![error.to_string()],
    };
    let mut differences = Vec::new();
    let how = load.read_as.keys().next().unwrap();
    for column in expected["value_columns"].as_array().unwrap() {
        let column = column.as_str().unwrap();
        if !how.contains(&format!("value from `{column}`")) {
            differences.push(format!("the values are not read from {column}: {how}"));
        }
    }
    if load.read != count(expected, "rows") {
        differences.push(format!("rows: expected {}, found {}", count(expected, "rows"), load.read));
    }
    let has_port = |value: &&Observable| {
        let Observable::Url(url) = value else { return false };
        !url.contains("://") && url.split('/').next().is_some_and(|host| host.contains(':'))
    };
    let (with_port, others): (Vec<_>, Vec<_>) =
        load.indicators.iter().flat_map(|item| &item.observables).partition(has_port);
    let never = can_never_match(&load);
    let unrecognised = with_port.len() as u64 + (load.skipped.len() + load.trimmed.len()) as u64;
    let unrecognised = unrecognised - never.values().sum::<u64>();
    if unrecognised != count(expected, "unrecognised") {
        let wanted = count(expected, "unrecognised");
        differences.push(format!("unrecognised: expected {wanted}, found {unrecognised}: {:?}", load.skipped));
    }
    let mut ours: BTreeMap<&'static str, BTreeSet<Observable>> = BTreeMap::new();
    for value in others {
        ours.entry(value.type_name()).or_default().insert(value.clone());
    }
    differences.extend(compare_values(&bounds(&counts(expected, "unique_by_kind")), &ours, &never));
    differences
}

fn compare_refusal(path: &Path, what: &str) -> Vec<String> {
    match read(path, "auto") {
        Err(FileError::Parse(error)) if matches!(error.fault, Fault::Refused { what: found, .. } if found == what) => {
            Vec::new()
        }
        other => vec![format!("must be refused as {what}, but: {other:?}")],
    }
}

fn compare(path: &Path, expected: &Value) -> Option<Vec<String>> {
    let differences = match expected["format"].as_str()? {
        "stix" => match read(path, "auto") {
            Ok(load) => compare_stix(&load, expected),
            Err(error) => vec![error.to_string()],
        },
        "plain" | "first-col" | "hosts" | "semicolon" => match read(path, "auto") {
            Ok(load) => compare_text(&load, expected),
            // Rule 6: a text without any item is taken for a list only if the settings say so.
            Err(FileError::Parse(error))
                if matches!(error.fault, Fault::Unknown { .. }) && counts(expected, "by_kind").is_empty() =>
            {
                compare_text(&read(path, "talos").unwrap(), expected)
            }
            Err(error) => vec![error.to_string()],
        },
        "csv" => compare_csv(path, expected),
        "misp" => compare_misp(path, &expected["events"].as_array().unwrap().iter().collect::<Vec<_>>()),
        "misp-feed" => compare_misp_feed(path, expected),
        "misp-warninglist" => compare_refusal(path, "a MISP warning list"),
        format if format.starts_with("stix-1") => compare_refusal(path, "STIX 1 in JSON"),
        _ => return None,
    };
    Some(differences)
}

fn data(test: &str) -> Option<PathBuf> {
    let data = std::env::var_os("CORDON_DATA").map(PathBuf::from);
    if data.is_none() {
        println!("NOT RUN {test}: CORDON_DATA names no directory with published intelligence and its expected.json");
    }
    data
}

#[test]
fn published_intelligence_has_the_expected_counts() {
    let Some(data) = data("published_intelligence_has_the_expected_counts") else { return };
    let expected: Value = serde_json::from_slice(&std::fs::read(data.join("expected.json")).unwrap()).unwrap();
    let mut compared = 0;
    let mut wrong = Vec::new();
    for (file, expected) in expected["files"].as_object().unwrap() {
        let path = data.join(file);
        if let Some(differences) = path.exists().then(|| compare(&path, expected)).flatten() {
            compared += 1;
            wrong.extend(differences.iter().map(|difference| format!("{file}: {difference}")));
        }
    }
    println!("compared {compared} files");
    assert!(compared > 0, "expected.json names no file that is there");
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_directory_of_real_bundles_loads_without_those_that_are_refused() {
    let Some(data) = data("a_directory_of_real_bundles_loads_without_those_that_are_refused") else { return };
    let load = read(&data.join("talos"), "auto").unwrap();
    assert_eq!(load.read, (load.indicators.len() + load.skipped.len()) as u64);
    assert!(load.indicators.len() > 10_000, "only {} indicators", load.indicators.len());
    assert!(!load.refused.is_empty());
    for refused in &load.refused {
        let FileError::Parse(error) = &refused.error else { panic!("{:?}", refused.error) };
        assert!(matches!(error.fault, Fault::Refused { .. } | Fault::Unknown { .. }), "{error}");
    }
}

/// One object of the made bundle `synthetic/lifecycle.json`.
fn compare_lifecycle(id: &str, expected: &Value, load: &Load, active: &BTreeMap<&str, &Indicator>) -> Vec<String> {
    let mut differences = Vec::new();
    let name = expected["name"].as_str().unwrap();
    let indicator = active.get(id);
    let usable = matches!(expected["class"].as_str(), Some("exact" | "endpoint" | "mixed" | "file-and"));
    let atoms: BTreeSet<(&str, String)> = expected["atoms"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|atom| Some((our_type(atom[0].as_str()?)?, atom[1].as_str()?.replace('|', ":"))))
        .collect();
    if !expected["active"].as_bool().unwrap() || !usable || atoms.is_empty() {
        if indicator.is_some() {
            differences.push(format!("{name}: must not be used"));
        }
        return differences;
    }
    let Some(indicator) = indicator else {
        let why = load.skipped.iter().find(|skipped| skipped.origin.to_string().ends_with(id));
        return vec![format!("{name}: must be used, but {why:?}")];
    };
    let ours: BTreeSet<(&str, String)> =
        indicator.observables.iter().map(|value| (value.type_name(), value.to_string())).collect();
    if ours != atoms {
        differences.push(format!("{name}: expected {atoms:?}, found {ours:?}"));
    }
    let theirs: BTreeSet<&str> = expected["attribution"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str()?.split_once(':').map(|(_, name)| name))
        .collect();
    let known = &indicator.attribution;
    let ours: BTreeSet<&str> = [&known.actors, &known.campaigns, &known.malware, &known.techniques]
        .into_iter()
        .flatten()
        .map(|name| name.name.as_str())
        .collect();
    if ours != theirs {
        differences.push(format!("{name}: expected attribution {theirs:?}, found {ours:?}"));
    }
    let tlp = match expected["tlp"].as_str().unwrap() {
        "unmarked" => "amber",
        text if text.starts_with("unknown") => "red",
        text => text,
    };
    let ours = indicator.tlp.map(|(tlp, _)| serde_json::to_value(tlp).unwrap());
    if ours.as_ref().and_then(Value::as_str) != Some(tlp) {
        differences.push(format!("{name}: expected TLP {tlp}, found {ours:?}"));
    }
    differences
}

#[test]
fn each_made_indicator_has_its_life_its_names_and_its_marking() {
    let Some(data) = data("each_made_indicator_has_its_life_its_names_and_its_marking") else { return };
    let load = read(&data.join("synthetic/lifecycle.json"), "stix").unwrap();
    let expected: Value =
        serde_json::from_slice(&std::fs::read(data.join("synthetic/lifecycle.expected.json")).unwrap()).unwrap();
    let open = Rules { min_prefix_v4: 0, min_prefix_v6: 0, ..Rules::default() };
    let supply = Supply { source: &load.source, indicators: &load.indicators };
    let ruling = rule(&[supply], &open, REFERENCE.parse::<Timestamp>().unwrap());
    let active: BTreeMap<&str, &Indicator> =
        ruling.ruled.iter().map(|ruled| (ruled.indicator.id.as_deref().unwrap(), ruled.indicator.as_ref())).collect();
    let indicators = expected["indicators"].as_object().unwrap();
    assert_eq!(load.read, indicators.len() as u64);
    let wrong: Vec<String> =
        indicators.iter().flat_map(|(id, expected)| compare_lifecycle(id, expected, &load, &active)).collect();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// The counts of one hand-written case; `expected.json` leaves out what is zero or empty.
fn compare_case(case: &Path) -> Vec<String> {
    let expected: Value = serde_json::from_slice(&std::fs::read(case.join("expected.json")).unwrap()).unwrap();
    let feed = std::fs::read_dir(case).unwrap().map(|entry| entry.unwrap().path());
    let feed = feed.into_iter().find(|path| path.file_name().unwrap() != "expected.json").unwrap();
    let source = Source {
        format: expected["format"].as_str().unwrap().parse().unwrap(),
        allow_reserved: expected["allow_reserved"].as_bool().unwrap_or(true),
        to_ids: serde_json::from_value(expected["to_ids"].clone()).unwrap_or_default(),
        csv: expected
            .get("csv")
            .map_or_else(Default::default, |columns| serde_json::from_value(columns.clone()).unwrap()),
        ..Source::new("case", &feed)
    };
    let now = REFERENCE.parse().unwrap();
    let load = load(&source, now).unwrap();
    let ruling = rule(&[Supply { source: &load.source, indicators: &load.indicators }], &Rules::default(), now);

    let mut found = BTreeMap::new();
    let tally = |names: Vec<String>| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        names.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
        serde_json::to_value(counts).unwrap()
    };
    let text = |value: Value| value.as_str().unwrap().to_owned();
    let reason = |skipped: &agent::intel::Skipped| text(serde_json::to_value(skipped.reason).unwrap());
    let used: BTreeMap<*const Indicator, &Indicator> =
        ruling.ruled.iter().map(|ruled| (std::sync::Arc::as_ptr(&ruled.indicator), ruled.indicator.as_ref())).collect();
    let distinct: BTreeSet<&Observable> = ruling.ruled.iter().map(|ruled| &ruled.observable).collect();
    let mut outcome = ruling.outcome;
    outcome.skipped += load.skipped.len() as u64;
    assert_eq!(outcome.block + outcome.report + outcome.skipped, load.read, "{}", case.display());
    found.insert("indicators", load.read.into());
    found.insert("outcome", serde_json::to_value(outcome).unwrap());
    found.insert("superseded", load.superseded.into());
    found.insert("values", tally(distinct.iter().map(|value| value.type_name().to_owned()).collect()));
    found.insert("skipped", tally(load.skipped.iter().chain(&ruling.skipped).map(reason).collect()));
    found.insert("trimmed", tally(load.trimmed.iter().chain(&ruling.trimmed).map(reason).collect()));
    found.insert(
        "tlp",
        tally(
            used.values()
                .filter_map(|item| item.tlp)
                .map(|(tlp, _)| text(serde_json::to_value(tlp).unwrap()))
                .collect(),
        ),
    );
    let names = |pick: fn(&Indicator) -> &Vec<Name>| -> Value {
        let names: BTreeSet<&str> = used.values().flat_map(|item| pick(item)).map(|name| name.name.as_str()).collect();
        serde_json::to_value(names).unwrap()
    };
    found.insert("actors", names(|item| &item.attribution.actors));
    found.insert("campaigns", names(|item| &item.attribution.campaigns));
    found.insert("malware", names(|item| &item.attribution.malware));
    found.insert("techniques", names(|item| &item.attribution.techniques));

    let mut differences = Vec::new();
    for (key, found) in &found {
        let is_nothing = found == &Value::from(0)
            || found.as_object().is_some_and(serde_json::Map::is_empty)
            || found.as_array().is_some_and(Vec::is_empty);
        match expected.get(key) {
            None if is_nothing => {}
            Some(wanted) if wanted == found => {}
            wanted => differences.push(format!("{}: {key}: expected {wanted:?}, found {found}", case.display())),
        }
    }
    for (key, values) in [
        ("reports", used.values().flat_map(|item| item.attribution.reports.clone()).collect::<BTreeSet<_>>()),
        ("domains", distinct.iter().filter(|value| value.type_name() == "domain").map(ToString::to_string).collect()),
    ] {
        for wanted in expected[key].as_array().into_iter().flatten().filter_map(Value::as_str) {
            if !values.contains(wanted) {
                differences.push(format!("{}: {key}: {wanted} is missing in {values:?}", case.display()));
            }
        }
    }
    differences
}

#[test]
fn hand_written_feeds_have_the_expected_counts() {
    let feeds = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/feeds");
    let mut cases: Vec<PathBuf> = std::fs::read_dir(feeds).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    assert!(cases.len() >= 10, "only {} cases", cases.len());
    let wrong: Vec<String> = cases.iter().flat_map(|case| compare_case(case)).collect();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
