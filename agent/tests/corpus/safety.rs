//! What must not be blocked, with real values.

use agent::intel::{Action, normalise};
use agent::policy::{Rules, Supply, WarningList, rule};

use super::*;

/// Rule 11: they ask about what the bundles of a directory hold: domains, IPv4 addresses, digests and the hosts of URLs.
#[test]
fn warning_lists_have_the_expected_hits() {
    let Some(data) = data("warning_lists_have_the_expected_hits") else { return };
    let expected: Value = serde_json::from_slice(&std::fs::read(data.join("expected.json")).unwrap()).unwrap();
    let lists: Vec<(String, WarningList)> = std::fs::read_dir(data.join("warninglists"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_stem().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .map(|(name, bytes)| (name.clone(), WarningList::parse(&name, &bytes).unwrap()))
        .collect();
    let files = expected["files"].as_object().unwrap();
    let mut wrong = Vec::new();
    for (directory, expected) in expected["warninglist_hits"].as_object().unwrap() {
        let bundles = files.iter().filter(|(file, entry)| file.starts_with(directory) && entry["format"] == "stix");
        let loads: Vec<Load> = bundles.map(|(file, _)| read(&data.join(file), "stix").unwrap()).collect();
        let indicators = loads.iter().flat_map(|load| load.indicators.iter());
        let mut asked: BTreeSet<Observable> = indicators.flat_map(|item| item.observables).collect();
        let hosts: Vec<Observable> = asked
            .iter()
            .filter_map(|value| match value {
                Observable::Url(url) => normalise::url_host(url),
                _ => None,
            })
            .collect();
        asked.extend(hosts);
        asked.retain(|value| !matches!(value, Observable::Url(_) | Observable::Path(_) | Observable::FileName(_)));
        for (name, list) in &lists {
            let theirs: BTreeSet<&str> =
                expected["hits"][name].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let ours: BTreeSet<String> =
                asked.iter().filter(|value| list.matches(value)).map(ToString::to_string).collect();
            let ours: BTreeSet<&str> = ours.iter().map(String::as_str).collect();
            if theirs != ours {
                wrong.push(format!("{directory}: {name}: expected {theirs:?}, found {ours:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differences:\n{}", wrong.len(), wrong.join("\n"));
}

/// Real URLs on hosts that everybody uses: the values are in the data, the hosts in the list of popular names.
#[test]
fn a_real_url_never_becomes_a_block_of_its_host() {
    let Some(data) = data("a_real_url_never_becomes_a_block_of_its_host") else { return };
    let load = read(&data.join("talos"), "auto").unwrap();
    let supply = Supply::new(&load.source, &load.indicators);
    let ruling = rule(&[supply], &Rules::default(), REFERENCE.parse().unwrap());
    let listed: BTreeSet<Observable> = load.indicators.iter().flat_map(|item| item.observables).collect();
    let blocked: BTreeSet<Observable> =
        ruling.ruled.iter().filter(|ruled| ruled.action == Action::Block).map(|ruled| ruled.observable).collect();
    let mut popular = BTreeSet::new();
    for url in &listed {
        let Observable::Url(text) = url else { continue };
        assert!(!blocked.contains(url), "{text} blocks");
        let Some(host) = normalise::url_host(text) else { continue };
        assert!(!blocked.contains(&host) || listed.contains(&host), "{host} is blocked, and only URLs name it");
        let shared = ["github.com", "drive.google.com", "docs.google.com", "bitbucket.org", "bit.ly", "pastebin.com"];
        if let Observable::Domain(name) = &host
            && shared.contains(&&**name)
        {
            popular.insert(name.to_string());
            assert!(!blocked.contains(&host), "{name} is blocked");
        }
    }
    assert!(popular.len() >= 3, "the data hold URLs on popular hosts: {popular:?}");
}
