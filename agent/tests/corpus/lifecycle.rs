//! One made bundle, indicator by indicator: validity, versions, names, markings.

use agent::policy::{Ruled, Rules, Supply, rule};
use jiff::Timestamp;

use super::*;

/// One object of the made bundle `synthetic/lifecycle.json`.
fn compare_lifecycle(id: &str, expected: &Value, load: &Load, active: &BTreeMap<&str, &Indicator>) -> Vec<String> {
    let mut differences = Vec::new();
    let name = expected["name"].as_str().unwrap();
    let indicator = active.get(id);
    // Of the operators that look a value up only by pattern, `LIKE` on a name is used where it says a name and what is below it.
    if name == "like" {
        let found =
            indicator.map(|indicator| indicator.observables.iter().map(ToString::to_string).collect::<Vec<_>>());
        let as_it_says = found.as_deref() == Some(&["example.net".to_owned()]);
        return if as_it_says { differences } else { vec![format!("{name}: found {found:?}")] };
    }
    let usable = matches!(expected["class"].as_str(), Some("exact" | "endpoint" | "mixed" | "file-and"));
    let atoms: BTreeSet<(&str, String)> = expected["atoms"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|atom| {
            let (kind, value) = (atom[0].as_str()?, atom[1].as_str()?);
            let value = match kind {
                "process:command_line" => format!("{kind} = '{value}'"),
                _ => value.replace('|', ":"),
            };
            Some((our_type(kind)?, value))
        })
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
    let supply = Supply::new(&load.source, &load.indicators);
    let ruling = rule(&[supply], &open, REFERENCE.parse::<Timestamp>().unwrap());
    let ruled: Vec<Ruled> = ruling.ruled.iter().collect();
    let active: BTreeMap<&str, &Indicator> =
        ruled.iter().map(|ruled| (ruled.indicator.id.as_deref().unwrap(), ruled.indicator.as_ref())).collect();
    let indicators = expected["indicators"].as_object().unwrap();
    assert_eq!(load.read, indicators.len() as u64);
    let wrong: Vec<String> =
        indicators.iter().flat_map(|(id, expected)| compare_lifecycle(id, expected, &load, &active)).collect();
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}
