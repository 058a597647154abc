//! Who and what an indicator stands for: relationships, reports and markings of one bundle.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::super::document::Properties;
use super::super::names::{Attributions, Names, is_technique};
use super::super::tlp;
use super::marking;
use super::object::Object;
use crate::intel::{Attribution, Path, Tlp, TlpOrigin};

/// How far `attributed-to` and `uses` are followed from what an indicator indicates.
const MAX_STEPS: usize = 4;
/// Objects that are looked at on the way from one that an indicator indicates.
const MAX_REACHED: usize = 1024;

/// References of one indicator.
const MAX_REFERENCES: usize = 16;

/// What gives one indicator its attribution; equal keys share one [`Attribution`].
#[derive(PartialEq, Eq, Hash)]
pub(super) struct Key {
    targets: Vec<usize>,
    reports: Vec<usize>,
    labels: Vec<String>,
}

/// An object that is a name for what an indicator stands for.
enum Named {
    Actor(String),
    Campaign(String),
    Malware(String),
    Technique(String),
    MispAttribute { kind: String, value: String },
}

/// What a report lends to those that it lists.
struct Report {
    names: Names,
    tlp: Option<Tlp>,
}

pub(super) struct Graph<'a> {
    objects: &'a [Object<'a>],
    by_id: HashMap<Arc<str>, usize>,
    named: HashMap<usize, Named>,
    /// `indicates`, `attributed-to` and `uses`, from source to target.
    edges: HashMap<usize, Vec<usize>>,
    reports: HashMap<usize, Report>,
    /// The reports that list an object.
    listed: HashMap<usize, Vec<usize>>,
    /// What is found from an object along `attributed-to` and `uses`.
    reached: HashMap<usize, Names>,
    pub(super) known: Attributions<Key>,
}

fn urls(object: &Properties) -> impl Iterator<Item = &str> {
    object.items("external_references").filter_map(|reference| reference.get("url").and_then(Value::as_str))
}

/// Where the publisher says more about an indicator.
pub(super) fn references(indicator: &Properties) -> Vec<String> {
    urls(indicator).take(MAX_REFERENCES).map(str::to_owned).collect()
}

fn galaxies(object: &Properties) -> impl Iterator<Item = &str> {
    object.texts("labels").filter(|label| label.trim().starts_with("misp-galaxy:"))
}

impl Named {
    fn of(object: &Object<'_>) -> Option<Self> {
        let is_name = matches!(
            &*object.kind,
            "threat-actor" | "intrusion-set" | "campaign" | "malware" | "tool" | "attack-pattern" | "x-misp-attribute"
        );
        let properties = is_name.then(|| object.properties())?;
        let name = properties.text("name").unwrap_or_default().to_owned();
        Some(match &*object.kind {
            "threat-actor" | "intrusion-set" => Self::Actor(name),
            "campaign" => Self::Campaign(name),
            "malware" | "tool" => Self::Malware(name),
            "attack-pattern" => {
                let from_mitre = |reference: &&Value| {
                    reference.get("source_name").and_then(Value::as_str).is_some_and(|name| name.starts_with("mitre"))
                };
                let mut ids = properties.items("external_references").filter(from_mitre);
                let id = ids.find_map(|reference| reference.get("external_id")?.as_str().filter(|id| is_technique(id)));
                Self::Technique(id.map_or(name, str::to_owned))
            }
            _ => Self::MispAttribute {
                kind: properties.text("x_misp_type")?.to_owned(),
                value: properties.text("x_misp_value")?.to_owned(),
            },
        })
    }

    fn note(&self, path: Path, names: &mut Names) {
        match self {
            Self::Actor(name) => names.actor(name, path),
            Self::Campaign(name) => names.campaign(name, path),
            Self::Malware(name) => names.malware(name, path),
            Self::Technique(name) => names.technique(name, path),
            Self::MispAttribute { kind, value } => {
                names.misp_attribute(kind, value);
            }
        }
    }
}

impl<'a> Graph<'a> {
    pub(super) fn new(objects: &'a [Object<'a>], by_id: HashMap<Arc<str>, usize>) -> Self {
        let mut graph = Self {
            objects,
            by_id,
            named: HashMap::new(),
            edges: HashMap::new(),
            reports: HashMap::new(),
            listed: HashMap::new(),
            reached: HashMap::new(),
            known: Attributions::default(),
        };
        let current = || objects.iter().enumerate().filter(|(_, object)| !object.revoked);
        for (slot, object) in current() {
            if let Some(named) = Named::of(object) {
                graph.named.insert(slot, named);
            }
            if object.kind == "relationship" {
                graph.relate(&object.properties());
            }
        }
        for (slot, object) in current().filter(|(_, object)| matches!(&*object.kind, "report" | "grouping")) {
            graph.report(slot, &object.properties());
        }
        graph
    }

    fn relate(&mut self, relationship: &Properties) {
        // `uses` straight from an indicator is no verb of the specification, but published.
        let kind = relationship.text("relationship_type").unwrap_or_default();
        let end = |key: &str| self.by_id.get(relationship.text(key)?).copied();
        if let ("indicates" | "attributed-to" | "uses", Some(source), Some(target)) =
            (kind, end("source_ref"), end("target_ref"))
        {
            self.edges.entry(source).or_default().push(target);
        }
    }

    fn report(&mut self, slot: usize, report: &Properties) {
        let mut names = Names::default();
        names.report(report.text("name").unwrap_or_default());
        urls(report).for_each(|url| names.reference(url));
        galaxies(report).for_each(|label| names.label(label));
        for &member in report.texts("object_refs").filter_map(|id| self.by_id.get(id)) {
            if let Some(named) = self.named.get(&member) {
                named.note(Path::Report, &mut names);
            }
            let listed = self.listed.entry(member).or_default();
            if listed.last() != Some(&slot) {
                listed.push(slot);
            }
        }
        let tlp = self.own_tlp(report);
        self.reports.insert(slot, Report { names, tlp });
    }

    /// The strictest marking on the object itself: by reference, granular on its pattern, or by label.
    fn own_tlp(&self, object: &Properties) -> Option<Tlp> {
        let refer = |reference: &str| {
            let definition = self.by_id.get(reference).and_then(|&slot| self.objects.get(slot)).map(Object::properties);
            marking::referred(reference, definition.as_ref())
        };
        let on_pattern = object.items("granular_markings").filter(|marking| {
            let selectors = marking.get("selectors").and_then(Value::as_array).into_iter().flatten();
            selectors.filter_map(Value::as_str).any(|selector| selector == "pattern")
        });
        object
            .texts("object_marking_refs")
            .filter_map(refer)
            .chain(
                on_pattern.filter_map(|marking| marking.get("marking_ref").and_then(Value::as_str)).filter_map(refer),
            )
            .chain(object.texts("labels").filter_map(tlp::label))
            .max()
    }

    fn slot(&self, id: &str) -> Option<usize> {
        self.by_id.get(id).copied()
    }

    /// The strictest marking that applies to an indicator, its own or a report's, and where it comes from.
    pub(super) fn tlp(&self, id: &str, properties: &Properties) -> Option<(Tlp, TlpOrigin)> {
        let reports = self.slot(id).and_then(|slot| self.listed.get(&slot)).into_iter().flatten();
        tlp::stricter(self.own_tlp(properties), reports.filter_map(|slot| self.reports.get(slot)?.tlp).max())
    }

    pub(super) fn attribution(&mut self, id: &str, properties: &Properties) -> Arc<Attribution> {
        let slot = self.slot(id);
        let of =
            |slots: &HashMap<usize, Vec<usize>>| slot.and_then(|slot| slots.get(&slot)).cloned().unwrap_or_default();
        let mut labels: Vec<String> = galaxies(properties).map(str::to_owned).collect();
        labels.sort();
        let key = Key { targets: of(&self.edges), reports: of(&self.listed), labels };
        if let Some(known) = self.known.get(&key) {
            return known;
        }
        let names = self.collect(&key);
        self.known.keep(key, names)
    }

    fn collect(&mut self, key: &Key) -> Names {
        let mut names = Names::default();
        for &target in &key.targets {
            if !self.reached.contains_key(&target) {
                let reached = self.reach(target);
                self.reached.insert(target, reached);
            }
            if let Some(reached) = self.reached.get(&target) {
                names.add(reached);
            }
        }
        key.reports.iter().filter_map(|report| self.reports.get(report)).for_each(|report| names.add(&report.names));
        key.labels.iter().for_each(|label| names.label(label));
        names
    }

    /// Follows `attributed-to` and `uses` from what is indicated; a cycle ends at the first object seen before.
    fn reach(&self, target: usize) -> Names {
        let mut names = Names::default();
        let mut seen: HashSet<usize> = HashSet::new();
        let mut current = vec![target];
        for _ in 0..=MAX_STEPS {
            let mut next = Vec::new();
            for slot in current {
                let is_usable =
                    self.objects.get(slot).is_some_and(|object| !object.revoked && object.kind != "indicator");
                if !is_usable || seen.len() >= MAX_REACHED || !seen.insert(slot) {
                    continue;
                }
                if let Some(named) = self.named.get(&slot) {
                    named.note(Path::Indicates, &mut names);
                }
                next.extend(self.edges.get(&slot).into_iter().flatten().take(MAX_REACHED).copied());
            }
            current = next;
        }
        names
    }
}
