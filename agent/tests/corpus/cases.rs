//! The hand-written feeds.

use agent::intel::{Name, Origin};
use agent::policy::{Outcome, Ruled, Rules, Supply, rule};

use super::*;

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
    let ruling = rule(&[Supply::new(&load.source, &load.indicators)], &Rules::default(), now);

    let mut found = BTreeMap::new();
    let tally = |names: Vec<String>| {
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        names.into_iter().for_each(|name| *counts.entry(name).or_default() += 1);
        serde_json::to_value(counts).unwrap()
    };
    let text = |value: Value| value.as_str().unwrap().to_owned();
    let reason = |skipped: agent::intel::Skipped| text(serde_json::to_value(skipped.reason).unwrap());
    let ruled: Vec<Ruled> = ruling.ruled.iter().collect();
    let used: BTreeMap<(&Origin, &[Observable]), &Indicator> = ruled
        .iter()
        .map(|Ruled { indicator, .. }| ((&indicator.origin, &*indicator.observables), &**indicator))
        .collect();
    let distinct: BTreeSet<&Observable> = ruled.iter().map(|ruled| &ruled.observable).collect();
    let outcome = Outcome { skipped: ruling.outcome.skipped + load.skipped.len() as u64, ..ruling.outcome };
    assert_eq!(outcome.block + outcome.report + outcome.skipped, load.read, "{}", case.display());
    found.insert("indicators", load.read.into());
    found.insert("outcome", serde_json::to_value(outcome).unwrap());
    found.insert("superseded", load.superseded.into());
    found.insert("values", tally(distinct.iter().map(|value| value.type_name().to_owned()).collect()));
    found.insert("skipped", tally(load.skipped.iter().chain(ruling.skipped.iter()).map(reason).collect()));
    found.insert("trimmed", tally(load.trimmed.iter().chain(ruling.trimmed.iter()).map(reason).collect()));
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
