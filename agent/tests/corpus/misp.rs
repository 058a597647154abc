//! MISP events and feeds.

use agent::intel::Name;
use agent::intel::parse::ToIds;

use super::*;

pub(super) fn compare(path: &Path, events: &[&Value]) -> Comparison {
    let total = |key: &str| events.iter().map(|event| count(event, key)).sum::<u64>();
    let names: u64 = events.iter().map(|event| count(&event["types"], "filename")).sum();
    let mut comparison = Comparison::default();
    for (to_ids, unique) in [(ToIds::Ignore, "unique_all"), (ToIds::Honour, "unique_to_ids")] {
        let source = Source { to_ids, allow_reserved: true, ..Source::new("corpus", path) };
        let load = match load(&source, REFERENCE.parse().unwrap()) {
            Ok(load) => load,
            Err(error) => return error.error.into(),
        };
        let mut same = |what: &str, expected: u64, found: u64| {
            if expected != found {
                comparison.wrong(format!("{to_ids:?}: {what}: expected {expected}, found {found}"));
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
        let named = bounds.get("file_name").map_or(0, |(_, most)| *most);
        for kind in ["file_name", "path"] {
            bounds.entry(kind).or_default().1 += names;
        }
        let ours = values(load.indicators.iter());
        let found =
            ["file_name", "path"].iter().filter_map(|kind| ours.get(kind)).map(|values| values.len() as u64).sum();
        comparison.explain("file-name", u64::saturating_sub(found, named));
        let mut values = compare_values(&bounds, &ours, &BTreeMap::new());
        // Those names are what leaves room between the bounds.
        values.explained.clear();
        comparison.add(values);
        if let [event] = events {
            comparison.add(compare_names(&load, event));
        }
    }
    comparison
}

/// Every indicator of an event has the names and the marking of its event.
fn compare_names(load: &Load, event: &Value) -> Comparison {
    let mut comparison = Comparison::default();
    let texts = |key: &str| -> BTreeSet<&str> {
        event[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
    };
    let tlp = texts("tlp").into_iter().map(|tlp| if tlp == "unmarked" { "amber" } else { tlp }).collect::<Vec<_>>();
    for indicator in load.indicators.iter() {
        let known = &indicator.attribution;
        let has = |names: &[Name], wanted: &str| names.iter().any(|name| name.name == wanted);
        let missing = texts("attack_ids").into_iter().filter(|id| !has(&known.techniques, id));
        let missing = missing.chain(texts("threat_actors").into_iter().filter(|name| !has(&known.actors, name)));
        missing.for_each(|name| comparison.wrong(format!("{}: {name} is missing", indicator.origin)));
        let ours = indicator.tlp.map(|(tlp, _)| serde_json::to_value(tlp).unwrap());
        if !ours.as_ref().and_then(Value::as_str).is_some_and(|ours| tlp.contains(&ours)) {
            comparison.wrong(format!("{}: expected TLP {tlp:?}, found {ours:?}", indicator.origin));
        }
        if known.reports != [event["info"].as_str().unwrap()] {
            comparison.wrong(format!("{}: expected the event's title, found {:?}", indicator.origin, known.reports));
        }
    }
    comparison
}

/// The directory as a whole, of which manifest.json and hashes.csv are no intelligence, and event by event.
pub(super) fn compare_feed(path: &Path, expected: &Value) -> Comparison {
    let events = expected["events"].as_object().unwrap();
    let whole: Vec<&Value> = events.values().collect();
    let mut comparison = compare(path, &whole);
    for (uuid, event) in events {
        comparison.add(compare(&path.join(format!("{uuid}.json")), &[event]));
    }
    comparison
}
