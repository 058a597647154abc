//! Who and what an indicator stands for: relationships, reports and markings of one bundle.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::{Object, marking};
use crate::intel::{Attribution, Name, Path, Tlp, TlpOrigin};

/// How far `attributed-to` and `uses` are followed from what an indicator indicates.
const MAX_STEPS: usize = 4;
/// Names of one kind on one indicator.
const MAX_NAMES: usize = 256;

/// The objects that give one indicator its attribution; equal keys share one [`Attribution`].
#[derive(PartialEq, Eq, Hash)]
struct Key {
    targets: Vec<usize>,
    reports: Vec<usize>,
    labels: Vec<String>,
    references: Vec<String>,
}

pub(super) struct Graph<'a> {
    objects: &'a [Object],
    by_id: HashMap<&'a str, usize>,
    /// `indicates`, `attributed-to` and `uses`, from source to target.
    edges: HashMap<&'a str, Vec<usize>>,
    /// The reports that list an object.
    reports: HashMap<&'a str, Vec<usize>>,
    /// Each report's marking, read once.
    report_tlp: HashMap<usize, Option<Tlp>>,
    known: HashMap<Key, Arc<Attribution>>,
}

/// The names found, each with its most direct path.
#[derive(Default)]
struct Found {
    actors: BTreeMap<String, Path>,
    campaigns: BTreeMap<String, Path>,
    malware: BTreeMap<String, Path>,
    techniques: BTreeMap<String, Path>,
    titles: BTreeSet<String>,
    references: BTreeSet<String>,
}

fn note(names: &mut BTreeMap<String, Path>, name: &str, path: Path) {
    let name = name.trim();
    if name.is_empty() || (names.len() >= MAX_NAMES && !names.contains_key(name)) {
        return;
    }
    let known = names.entry(name.to_owned()).or_insert(path);
    *known = (*known).min(path);
}

fn names(found: BTreeMap<String, Path>) -> Vec<Name> {
    let mut names: Vec<Name> = found.into_iter().map(|(name, path)| Name { name, path }).collect();
    names.sort_by(|a, b| a.path.cmp(&b.path).then_with(|| a.name.cmp(&b.name)));
    names
}

/// `T1071` or `T1071.001`.
fn is_technique(text: &str) -> bool {
    let Some(digits) = text.strip_prefix('T') else { return false };
    let (id, sub) = digits.split_once('.').unwrap_or((digits, "000"));
    let number = |text: &str, length| text.len() == length && text.bytes().all(|byte| byte.is_ascii_digit());
    number(id, 4) && number(sub, 3)
}

/// The ATT&CK id at the end of a name, as MISP galaxies write it: `Web Protocols - T1071.001`.
fn technique_in(name: &str) -> Option<&str> {
    name.rsplit([' ', '-', '(', ')', ':']).find(|word| is_technique(word))
}

fn references(object: &Object) -> impl Iterator<Item = &Value> {
    object.properties.get("external_references").and_then(Value::as_array).into_iter().flatten()
}

fn urls(object: &Object) -> impl Iterator<Item = &str> {
    references(object).filter_map(|reference| reference.get("url").and_then(Value::as_str))
}

impl Found {
    /// Takes what an object itself is.
    fn object(&mut self, object: &Object, path: Path) {
        let name = object.text("name").unwrap_or_default();
        match object.kind.as_str() {
            "threat-actor" | "intrusion-set" => note(&mut self.actors, name, path),
            "campaign" => note(&mut self.campaigns, name, path),
            "malware" | "tool" => note(&mut self.malware, name, path),
            "attack-pattern" => {
                let id = references(object)
                    .filter(|reference| {
                        reference
                            .get("source_name")
                            .and_then(Value::as_str)
                            .is_some_and(|name| name.starts_with("mitre"))
                    })
                    .find_map(|reference| reference.get("external_id").and_then(Value::as_str))
                    .filter(|id| is_technique(id));
                note(&mut self.techniques, id.or_else(|| technique_in(name)).unwrap_or(name), path);
            }
            "x-misp-attribute" => {
                let value = object.text("x_misp_value").unwrap_or_default();
                match object.text("x_misp_type") {
                    Some("threat-actor") => note(&mut self.actors, value, Path::MispAttribute),
                    Some("campaign-name") => note(&mut self.campaigns, value, Path::MispAttribute),
                    Some("malware-type") => note(&mut self.malware, value, Path::MispAttribute),
                    _ => {}
                }
            }
            _ => {}
        }
    }

    /// Takes a MISP galaxy tag: `misp-galaxy:threat-actor="…"`.
    fn label(&mut self, label: &str) {
        let Some((galaxy, value)) = label.trim().strip_prefix("misp-galaxy:").and_then(|label| label.split_once('='))
        else {
            return;
        };
        let value = value.trim_matches('"');
        match galaxy {
            "threat-actor" | "mitre-intrusion-set" | "microsoft-activity-group" => {
                note(&mut self.actors, value, Path::Label);
            }
            "mitre-attack-pattern" => {
                note(&mut self.techniques, technique_in(value).unwrap_or(value), Path::Label);
            }
            "mitre-malware" | "mitre-tool" | "malpedia" | "tool" | "rat" | "botnet" | "ransomware" | "backdoor"
            | "stealer" | "banker" => note(&mut self.malware, value, Path::Label),
            _ => {}
        }
    }

    fn finish(self) -> Attribution {
        Attribution {
            actors: names(self.actors),
            campaigns: names(self.campaigns),
            malware: names(self.malware),
            techniques: names(self.techniques),
            reports: self.titles.into_iter().take(MAX_NAMES).collect(),
            references: self.references.into_iter().take(MAX_NAMES).collect(),
        }
    }
}

impl<'a> Graph<'a> {
    pub(super) fn new(objects: &'a [Object]) -> Self {
        let by_id: HashMap<&str, usize> =
            objects.iter().enumerate().map(|(slot, object)| (object.id.as_str(), slot)).collect();
        let mut edges: HashMap<&str, Vec<usize>> = HashMap::new();
        let mut reports: HashMap<&str, Vec<usize>> = HashMap::new();
        for (slot, object) in objects.iter().enumerate().filter(|(_, object)| !object.is_revoked()) {
            match object.kind.as_str() {
                "relationship" => {
                    let kind = object.text("relationship_type").unwrap_or_default();
                    // `uses` straight from an indicator is no verb of the specification, but published.
                    if !matches!(kind, "indicates" | "attributed-to" | "uses") {
                        continue;
                    }
                    if let (Some(source), Some(target)) = (object.text("source_ref"), object.text("target_ref"))
                        && let Some(&target) = by_id.get(target)
                    {
                        edges.entry(source).or_default().push(target);
                    }
                }
                "report" | "grouping" => {
                    for id in object.texts("object_refs") {
                        reports.entry(id).or_default().push(slot);
                    }
                }
                _ => {}
            }
        }
        let report_tlp = HashMap::new();
        Self { objects, by_id, edges, reports, report_tlp, known: HashMap::new() }
    }

    /// The strictest marking on the object itself: by reference, granular on its pattern, or by label.
    fn own_tlp(&self, object: &Object) -> Option<Tlp> {
        let refer = |reference: &str| {
            let definition = self.by_id.get(reference).and_then(|&slot| self.objects.get(slot));
            marking::referred(reference, definition)
        };
        let granular = object.properties.get("granular_markings").and_then(Value::as_array).into_iter().flatten();
        let on_pattern = granular.filter(|marking| {
            let selectors = marking.get("selectors").and_then(Value::as_array).into_iter().flatten();
            selectors.filter_map(Value::as_str).any(|selector| selector == "pattern")
        });
        object
            .texts("object_marking_refs")
            .filter_map(refer)
            .chain(
                on_pattern.filter_map(|marking| marking.get("marking_ref").and_then(Value::as_str)).filter_map(refer),
            )
            .chain(object.texts("labels").filter_map(marking::label))
            .max()
    }

    /// The strictest marking that applies to an indicator, its own or a report's, and where it comes from.
    pub(super) fn tlp(&mut self, object: &Object) -> Option<(Tlp, TlpOrigin)> {
        let own = self.own_tlp(object).map(|tlp| (tlp, TlpOrigin::Own));
        let mut inherited = None;
        for slot in self.reports.get(object.id.as_str()).cloned().unwrap_or_default() {
            let tlp = match self.report_tlp.get(&slot) {
                Some(tlp) => *tlp,
                None => {
                    let tlp = self.objects.get(slot).and_then(|report| self.own_tlp(report));
                    self.report_tlp.insert(slot, tlp);
                    tlp
                }
            };
            inherited = inherited.max(tlp);
        }
        let inherited = inherited.map(|tlp| (tlp, TlpOrigin::Report));
        match (own, inherited) {
            (Some(own), Some(inherited)) => Some(if inherited.0 > own.0 { inherited } else { own }),
            (own, inherited) => own.or(inherited),
        }
    }

    pub(super) fn attribution(&mut self, object: &Object) -> Arc<Attribution> {
        let key = Key {
            targets: self.edges.get(object.id.as_str()).cloned().unwrap_or_default(),
            reports: self.reports.get(object.id.as_str()).cloned().unwrap_or_default(),
            labels: object
                .texts("labels")
                .filter(|label| label.trim().starts_with("misp-galaxy:"))
                .map(str::to_owned)
                .collect(),
            references: urls(object).map(str::to_owned).collect(),
        };
        if let Some(known) = self.known.get(&key) {
            return Arc::clone(known);
        }
        let attribution = Arc::new(self.collect(&key));
        self.known.insert(key, Arc::clone(&attribution));
        attribution
    }

    fn collect(&self, key: &Key) -> Attribution {
        let mut found = Found::default();
        self.follow(&key.targets, &mut found);
        for report in key.reports.iter().filter_map(|&slot| self.objects.get(slot)) {
            if let Some(title) = report.text("name").map(str::trim).filter(|title| !title.is_empty()) {
                found.titles.insert(title.to_owned());
            }
            found.references.extend(urls(report).map(str::to_owned));
            for member in report.texts("object_refs").filter_map(|id| self.by_id.get(id)) {
                if let Some(member) = self.objects.get(*member).filter(|member| !member.is_revoked()) {
                    found.object(member, Path::Report);
                }
            }
            report.texts("labels").for_each(|label| found.label(label));
        }
        key.labels.iter().for_each(|label| found.label(label));
        found.references.extend(key.references.iter().cloned());
        found.finish()
    }

    /// Follows `attributed-to` and `uses` from what is indicated; a cycle ends at the first object seen before.
    fn follow(&self, targets: &[usize], found: &mut Found) {
        let mut seen: HashSet<usize> = HashSet::new();
        let mut current: Vec<usize> = targets.to_vec();
        for _ in 0..=MAX_STEPS {
            let mut next = Vec::new();
            for slot in current {
                let Some(object) = self.objects.get(slot).filter(|object| !object.is_revoked()) else { continue };
                if !seen.insert(slot) || object.kind == "indicator" {
                    continue;
                }
                found.object(object, Path::Indicates);
                next.extend(self.edges.get(object.id.as_str()).into_iter().flatten().copied());
            }
            current = next;
        }
    }
}
