//! Bundles.

use agent::intel::{Name, Path as Tie};
use agent::policy::{Rules, Supply, rule};

use super::*;

pub(super) fn compare(load: &Load, expected: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    comparison.same("indicators", count(expected, "indicators"), load.read);
    let classes = counts(expected, "pattern_classes");
    let undecidable = ["operator", "compound", "multi-observation", "temporal"];
    let undecidable: u64 = undecidable.iter().filter_map(|class| classes.get(*class)).sum();
    let unsupported = skipped(load, SkipReason::UnsupportedPattern);
    let operators = classes.get("operator").copied().unwrap_or_default();
    if !(undecidable.saturating_sub(operators)..=undecidable).contains(&unsupported) {
        comparison.wrong(format!("unsupported_pattern: expected {undecidable}, found {unsupported}"));
    }
    comparison.explain("operators", undecidable.saturating_sub(unsupported));
    comparison.same("revoked", count(expected, "revoked"), skipped(load, SkipReason::Revoked));
    let invalid = expected["invalid_values"].as_array().map_or(0, |values| values.len() as u64);
    let unparsed = expected["pattern_parse_failures"].as_array().map_or(0, |values| values.len() as u64);
    let never: u64 = can_never_match(load).values().sum();
    comparison.same("malformed", invalid + unparsed + never, skipped(load, SkipReason::Malformed));
    let atoms = counts(expected, "atoms_by_kind");
    let (other_digests, unseen): (Vec<_>, Vec<_>) = atoms
        .iter()
        .filter(|(kind, _)| our_type(kind).is_none())
        .partition(|(kind, _)| kind.starts_with("hash-other:"));
    let unseen = unseen.into_iter().map(|(_, count)| count).sum();
    comparison.same("unsupported_type", unseen, skipped(load, SkipReason::UnsupportedType));
    comparison.explain("other-digests", other_digests.into_iter().map(|(_, count)| count).sum());

    let supply = Supply::new(&load.source, &load.indicators);
    let ruling = rule(&[supply], &Rules::default(), REFERENCE.parse().unwrap());
    let ruled_out = |reason| ruling.skipped.iter().filter(|skipped| skipped.reason == reason).count() as u64;
    comparison.same("expired", count(expected, "expired_at_ref"), ruled_out(SkipReason::Expired));
    comparison.same("not yet valid", count(expected, "not_yet_valid_at_ref"), ruled_out(SkipReason::NotYetValid));

    comparison.add(compare_values(
        &bounds(&counts(expected, "unique_values_by_kind")),
        &values(load.indicators.iter()),
        &can_never_match(load),
    ));
    comparison.add(compare_names(load, expected));
    comparison
}

/// They count indicators, skipped or not; so ours are at most theirs, and equal where nothing is skipped.
fn compare_names(load: &Load, expected: &Value) -> Comparison {
    let text = std::fs::read_to_string(&load.source.path).unwrap();
    let mut comparison = Comparison::default();
    let tied = |tie: Tie| {
        let has = |indicator: &Indicator| {
            let known = &indicator.attribution;
            [&known.actors, &known.campaigns, &known.malware, &known.techniques]
                .into_iter()
                .flatten()
                .any(|name| name.path == tie)
        };
        load.indicators.iter().filter(has).count() as u64
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
            comparison.wrong(format!("{what}: expected {wanted} less up to {hidden} skipped, found {found}"));
        }
        comparison.explain("skipped-names", wanted.saturating_sub(found));
    }
    // What we say more than they must stand in the file; what they say of techniques we must say too, where every indicator
    // is tied to them by a report.
    let ours = |names: fn(&Indicator) -> &Vec<Name>| -> BTreeSet<String> {
        load.indicators.iter().flat_map(|indicator| names(&indicator).clone()).map(|name| name.name).collect()
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
            comparison.wrong(format!("the name {name} is not in the file"));
        }
    }
    let listed: BTreeSet<&str> = ["attack_ids", "threat_actors", "malware", "campaigns", "tools", "intrusion_sets"]
        .into_iter()
        .flat_map(|key| expected[key].as_array().into_iter().flatten().filter_map(Value::as_str))
        .collect();
    let more = others.iter().flatten().chain(&techniques).filter(|name| !listed.contains(name.as_str()));
    comparison.explain("more-names", more.count() as u64);
    let is_technique = |name: &&str| name.starts_with('T') && name[1..].starts_with(|c: char| c.is_ascii_digit());
    let theirs = expected["attack_ids"].as_array().into_iter().flatten().filter_map(Value::as_str).filter(is_technique);
    if count(expected, "indicators_with_report_attribution") > 0 && in_report == load.indicators.len() as u64 {
        let missing: Vec<&str> = theirs.filter(|name| !techniques.contains(*name)).collect();
        if !missing.is_empty() {
            comparison.wrong(format!("techniques {missing:?} are missing"));
        }
    }
    comparison
}
