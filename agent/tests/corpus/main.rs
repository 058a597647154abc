//! The importer held against feeds: hand-written ones in `data/feeds`, in the idioms and with the quirks of real publishers,
//! and, where `CORDON_DATA` names a directory with published intelligence and its `expected.json`, against every file of it.
//!
//! `expected.json` is counted by another program. Where the two differ a rule says why; there is no list of files. The test
//! prints how often each rule was needed.
//!
//! | rule | they | we | because |
//! |---|---|---|---|
//! | types | tell `dst-ipv4` from `src-ipv4` and `ipv4` | have one type, the union | a connect shows the peer, whatever the publisher calls it |
//! | other-digests | count every digest of an AND of file properties | count those that are compared | one SHA-256 names the file; such an indicator is used |
//! | skipped-names | count indicators that have names | have names on those that are used | an indicator that is skipped is attributed to nobody |
//! | more-names | list what objects call themselves | also take ids out of names, actors out of MISP attributes, names out of galaxies | each must stand in the file |
//! | remark | read a line as a whole | also take a first field that is an indicator with a remark behind it | publishers write `hash - name` |
//! | no-item | count a text without items | refuse it unless the format is set | a keyword list is no intelligence |
//! | never-matches | count any text as URL, name or path | skip a URL without host, a name with a slash, a relative path | no observation ever equals them |
//! | file-name | do not count a MISP file name that stands alone | do, and report it at most | the type is `filename` |
//! | row | count what each cell holds | count a row as one indicator of all its values | one row is about one thing |
//! | operators | call every `LIKE` and `MATCHES` undecidable | use those that say just a name and what is below it | that is what a domain's entry says |
//! | url-port | do not recognise a URL without scheme but with a port | do | it has a host and a path |

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod cases;
mod changes;
mod hostile;
mod idioms;
mod lifecycle;
mod misp;
mod safety;
mod stix;
mod text;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use agent::intel::parse::Fault;
use agent::intel::source::{FileError, Load, Source, load};
use agent::intel::{Indicator, Observable, SkipReason};
use serde_json::Value;

/// The time at which both count.
const REFERENCE: &str = "2026-11-01T00:00:00Z";

/// How one file compares.
#[derive(Default)]
struct Comparison {
    /// Differences that no rule explains.
    wrong: Vec<String>,
    /// How much each rule explains.
    explained: BTreeMap<&'static str, u64>,
}

impl Comparison {
    fn same(&mut self, what: &str, expected: u64, found: u64) {
        if expected != found {
            self.wrong.push(format!("{what}: expected {expected}, found {found}"));
        }
    }

    fn wrong(&mut self, what: String) {
        self.wrong.push(what);
    }

    /// Notes what a rule explains.
    fn explain(&mut self, rule: &'static str, count: u64) {
        if count > 0 {
            *self.explained.entry(rule).or_default() += count;
        }
    }

    fn add(&mut self, other: Self) {
        self.wrong.extend(other.wrong);
        other.explained.into_iter().for_each(|(rule, count)| self.explain(rule, count));
    }
}

impl From<FileError> for Comparison {
    fn from(error: FileError) -> Self {
        Self { wrong: vec![error.to_string()], ..Self::default() }
    }
}

fn read(path: &Path, format: &str) -> Result<Load, FileError> {
    let source = Source { format: format.parse().unwrap(), allow_reserved: true, ..Source::new("corpus", path) };
    load(&source, REFERENCE.parse().unwrap()).map_err(|error| error.error)
}

/// Distinct values by type.
fn values(indicators: impl Iterator<Item = Indicator>) -> BTreeMap<&'static str, BTreeSet<Observable>> {
    let mut values: BTreeMap<&'static str, BTreeSet<Observable>> = BTreeMap::new();
    for value in indicators.flat_map(|indicator| indicator.observables) {
        values.entry(value.type_name()).or_default().insert(value);
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

/// The type that holds what they call `kind`; `None` for what no hook sees, which is skipped as `unsupported_type`.
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
        "process:command_line" => Some("process"),
        _ => None,
    }
}

/// How many URLs, names and paths are skipped because no observation can ever equal them.
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
) -> Comparison {
    let mut comparison = Comparison::default();
    for name in Observable::TYPE_NAMES {
        let (least, most) = bounds.get(name).copied().unwrap_or_default();
        let never = never.get(name).copied().unwrap_or_default();
        let found = ours.get(name).map_or(0, |values| values.len() as u64) + never;
        if !(least..=most).contains(&found) {
            comparison.wrong(format!("{name}: expected {least} to {most}, found {found}"));
        }
        comparison.explain("types", most.saturating_sub(found));
        comparison.explain("never-matches", never);
    }
    comparison
}

fn compare_refusal(path: &Path, what: &str) -> Comparison {
    let mut comparison = Comparison::default();
    match read(path, "auto") {
        Err(FileError::Parse(error)) if matches!(error.fault, Fault::Refused { what: found, .. } if found == what) => {}
        other => comparison.wrong(format!("must be refused as {what}, but: {other:?}")),
    }
    comparison
}

/// A text, which without an item is a list only if the format is set.
fn compare_lines(path: &Path, expected: &Value) -> Comparison {
    match read(path, "auto") {
        Ok(load) => text::compare(&load, expected),
        Err(FileError::Parse(error))
            if matches!(error.fault, Fault::Unknown { .. }) && counts(expected, "by_kind").is_empty() =>
        {
            let mut comparison = text::compare(&read(path, "talos").unwrap(), expected);
            comparison.explain("no-item", 1);
            comparison
        }
        Err(error) => error.into(),
    }
}

/// What kind of file it is, and how it compares; `None` for what is no intelligence.
fn compare<'a>(path: &Path, expected: &'a Value) -> Option<(&'a str, Comparison)> {
    let kind = expected["format"].as_str()?;
    let comparison = match kind {
        "stix" => read(path, "auto").map_or_else(Comparison::from, |load| stix::compare(&load, expected)),
        "plain" | "first-col" | "hosts" | "semicolon" => compare_lines(path, expected),
        "csv" => text::compare_csv(path, expected),
        "misp" => misp::compare(path, &expected["events"].as_array()?.iter().collect::<Vec<_>>()),
        "misp-feed" => misp::compare_feed(path, expected),
        "misp-warninglist" => compare_refusal(path, "a MISP warning list"),
        kind if kind.starts_with("stix-1") => compare_refusal(path, "STIX 1 in JSON"),
        _ => return None,
    };
    Some((kind, comparison))
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
    let mut kinds: BTreeMap<&str, (u64, u64)> = BTreeMap::new();
    let mut whole = Comparison::default();
    for (file, expected) in expected["files"].as_object().unwrap() {
        let path = data.join(file);
        let Some((kind, mut comparison)) = path.exists().then(|| compare(&path, expected)).flatten() else { continue };
        let (agree, differ) = kinds.entry(kind).or_default();
        *(if comparison.wrong.is_empty() { agree } else { differ }) += 1;
        comparison.wrong.iter_mut().for_each(|difference| difference.insert_str(0, &format!("{file}: ")));
        whole.add(comparison);
    }
    println!("{:<32} {:>6} {:>6}", "kind", "agree", "differ");
    kinds.iter().for_each(|(kind, (agree, differ))| println!("{kind:<32} {agree:>6} {differ:>6}"));
    println!("{:<32} {:>6}", "explained by rule", "values");
    whole.explained.iter().for_each(|(rule, count)| println!("{rule:<32} {count:>6}"));
    assert!(!kinds.is_empty(), "expected.json names no file that is there");
    assert!(whole.wrong.is_empty(), "{} differences:\n{}", whole.wrong.len(), whole.wrong.join("\n"));
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
