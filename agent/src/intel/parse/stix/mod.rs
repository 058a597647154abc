//! STIX 2.0 and 2.1 bundles and TAXII 2.1 envelopes, judged object by object: a bad object is skipped with its reason, never
//! the bundle, because one real bundle in nine breaks its own specification.

mod graph;
mod marking;
mod object;

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use serde_json::value::RawValue;

use self::graph::Graph;
use self::object::Object;
use super::document::{Document, Properties};
use super::pattern::{self, Version};
use super::values::{Dropped, Reduced};
use super::{Dialect, Fault, ParseError, Parsed, Reading, Revocation, excerpt};
use crate::intel::{Indicator, Origin, Place, SkipReason};

pub(super) struct Stix;

impl Dialect for Stix {
    fn name(&self) -> &'static str {
        "stix"
    }

    fn json(&self, document: &Document<'_>, _reading: &Reading) -> Option<Result<Parsed, ParseError>> {
        let has = |key: &str| document.has(key);
        if has("stix_header") || has("stix:STIX_Package") || (has("observables") && has("version")) {
            return Some(Err(document.error(Fault::Refused {
                what: "STIX 1 in JSON",
                advice: "ask the publisher for STIX 2, or convert it with the OASIS elevator",
            })));
        }
        match (document.get("objects"), document.get("type").map(RawValue::get)) {
            (Some(objects), None | Some("\"bundle\"")) => Some(bundle(document, objects)),
            // A bundle may be empty (STIX 2.1 §8); one with many other members is something else.
            (None, Some("\"bundle\"")) if document.len() <= 4 => Some(Ok(Parsed::of("stix"))),
            _ => None,
        }
    }
}

fn bundle<'a>(document: &Document<'a>, objects: &'a RawValue) -> Result<Parsed, ParseError> {
    let mut reader =
        Reader { file: document.file, parsed: Parsed::of("stix"), objects: Vec::new(), newest: HashMap::new() };
    for (index, raw) in document.items("objects", objects)?.into_iter().enumerate() {
        if let Err(reason) = reader.object(raw) {
            reader.skip(&format!("objects[{index}]"), raw.get(), reason);
        }
    }
    Ok(reader.finish())
}

struct Reader<'a> {
    file: &'a Arc<str>,
    parsed: Parsed,
    /// In the order of the file; an older version is replaced by a newer.
    objects: Vec<Object<'a>>,
    newest: HashMap<Arc<str>, usize>,
}

/// Objects that tell nothing about an indicator: not kept.
const UNUSED: [&str; 6] =
    ["observed-data", "course-of-action", "identity", "vulnerability", "location", "extension-definition"];

impl<'a> Reader<'a> {
    fn skip(&mut self, place: &str, value: &str, reason: Dropped) {
        self.parsed.read += 1;
        let origin = Origin { file: Arc::clone(self.file), place: Place::Object(Arc::from(place)) };
        self.parsed.skipped.push(&reason.skipped(origin, value));
    }

    fn object(&mut self, raw: &'a RawValue) -> Result<(), Dropped> {
        let Some(object) = Object::parse(raw)?.filter(|object| !UNUSED.contains(&&*object.kind)) else {
            return Ok(());
        };
        match self.newest.get(&object.id).and_then(|&slot| self.objects.get_mut(slot)) {
            Some(known) => {
                if known.kind == "indicator" {
                    self.parsed.superseded += 1;
                }
                if object.modified >= known.modified {
                    *known = object;
                }
            }
            None => {
                self.newest.insert(Arc::clone(&object.id), self.objects.len());
                self.objects.push(object);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Parsed {
        let objects = std::mem::take(&mut self.objects);
        let mut graph = Graph::new(&objects, std::mem::take(&mut self.newest));
        for object in objects.iter().filter(|object| object.kind == "indicator") {
            if object.revoked {
                self.parsed.revocations.push(Revocation { id: Arc::clone(&object.id), modified: object.modified });
            }
            let properties = match object.read() {
                Ok(properties) => properties,
                Err(reason) => {
                    self.skip(&object.id, "", reason);
                    continue;
                }
            };
            match self.indicator(object, &properties, &mut graph) {
                Ok(indicator) => {
                    self.parsed.read += 1;
                    self.parsed.indicators.push(&indicator);
                }
                Err(reason) => self.skip(&object.id, properties.text("pattern").unwrap_or_default(), reason),
            }
        }
        self.parsed.read_as = graph.known.read_as("stix");
        self.parsed
    }

    fn indicator(
        &mut self,
        object: &Object<'a>,
        properties: &Properties,
        graph: &mut Graph<'_>,
    ) -> Result<Indicator, Dropped> {
        if object.revoked {
            let at = object.modified.map(|time| format!(" in the version of {time}")).unwrap_or_default();
            return Err(Dropped::new(SkipReason::Revoked, format!("revoked by its publisher{at}")));
        }
        let valid_from = properties.time("valid_from")?;
        let valid_until = properties.time("valid_until")?;
        let reduced = values(properties)?;
        let origin = Origin { file: Arc::clone(self.file), place: Place::Object(Arc::clone(&object.id)) };
        for part in reduced.dropped {
            let why = format!("an alternative is left out: {}", part.why);
            let part = Dropped::new(part.reason, why);
            let pattern = properties.text("pattern").unwrap_or_default();
            self.parsed.trimmed.push(&part.skipped(origin.clone(), pattern));
        }
        let name = properties.text("name").or_else(|| properties.text("description"));
        let confidence = properties.get("confidence").and_then(Value::as_u64);
        Ok(Indicator {
            id: Some(Arc::clone(&object.id)),
            name: name.map(|name| Arc::from(excerpt(name))),
            observables: reduced.observables,
            origin,
            confidence: confidence.and_then(|confidence| u8::try_from(confidence).ok()).filter(|value| *value <= 100),
            tlp: graph.tlp(&object.id, properties),
            valid_from,
            valid_until,
            modified: object.modified,
            attribution: graph.attribution(&object.id, properties),
            references: graph::references(properties),
        })
    }
}

/// The values of an indicator's pattern: at least one.
fn values(properties: &Properties) -> Result<Reduced, Dropped> {
    // STIX 2.0 has no pattern_type: its patterns are STIX patterns (STIX 2.0 Part 2 §2.5).
    match properties.get("pattern_type").map(|kind| kind.as_str().unwrap_or("?")) {
        None | Some("stix") => {}
        Some(other) => {
            let why = format!("pattern_type is `{}`, not `stix`", excerpt(other));
            return Err(Dropped::new(SkipReason::UnsupportedPattern, why));
        }
    }
    let text = properties.text("pattern").ok_or_else(|| Dropped::malformed("no pattern"))?;
    // Objects of STIX 2.0 have neither a version nor a pattern type.
    let is_newer =
        ["spec_version", "pattern_type"].into_iter().any(|key| properties.text(key).is_some_and(|text| text != "2.0"));
    let version = if is_newer { Version::V21 } else { Version::V20 };
    let observation = pattern::parse(text, version).map_err(|error| Dropped::malformed(error.to_string()))?;
    pattern::reduce(&observation).usable()
}

#[cfg(test)]
mod tests;
