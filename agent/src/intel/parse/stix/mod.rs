//! STIX 2.0 and 2.1 bundles and TAXII 2.1 envelopes, judged object by object: a bad object is skipped with its reason, never
//! the bundle, because one real bundle in nine breaks its own specification.

mod graph;
mod marking;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use self::graph::Graph;
use super::pattern::{self, Dropped, Reduced};
use super::{Fault, MAX_ITEMS, ParseError, Parsed, Revocation, excerpt, position};
use crate::intel::{Indicator, Origin, Place, SkipReason, Skipped};

/// One object, in its newest version.
#[derive(Debug)]
struct Object {
    kind: String,
    id: String,
    modified: Option<Timestamp>,
    properties: Map<String, Value>,
}

impl Object {
    fn text(&self, key: &str) -> Option<&str> {
        self.properties.get(key).and_then(Value::as_str)
    }

    fn texts(&self, key: &str) -> impl Iterator<Item = &str> {
        self.properties.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
    }

    fn is_revoked(&self) -> bool {
        self.properties.get("revoked").and_then(Value::as_bool).unwrap_or(false)
    }

    fn time(&self, key: &str) -> Result<Option<Timestamp>, Dropped> {
        match self.properties.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => timestamp(text).map(Some).ok_or_else(|| Dropped {
                reason: SkipReason::Malformed,
                why: format!("{key} `{}` is no timestamp (RFC 3339)", excerpt(text)),
            }),
            Some(_) => Err(Dropped { reason: SkipReason::Malformed, why: format!("{key} is no timestamp (RFC 3339)") }),
        }
    }
}

/// RFC 3339; digits beyond nanoseconds are cut, as STIX allows any number of them (STIX 2.1 §2.16).
fn timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (seconds, fraction) = text.split_once('.')?;
    let digits = fraction.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = fraction.split_at(digits);
    format!("{seconds}.{}{zone}", digits.get(..9)?).parse().ok()
}

type Top<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// What a JSON object is when it is neither bundle nor envelope.
fn refused(top: &Top<'_>) -> Fault {
    let has = |key: &str| top.contains_key(key);
    let refusal = |what, advice| Fault::Refused { what, advice };
    if has("stix_header") || has("stix:STIX_Package") || (has("observables") && has("version")) {
        return refusal("STIX 1 in JSON", "ask the publisher for STIX 2, or convert it with the OASIS elevator");
    }
    if has("Event") || has("response") {
        return refusal("a MISP event", "export it from MISP as STIX 2, or give the event's text export as a list");
    }
    if has("list") && has("matching_attributes") {
        return refusal("a MISP warning list", "name it under the warning lists of the settings, not as a source");
    }
    if has("id") && has("type") {
        return refusal("a single STIX object", "put it into a bundle: {\"type\": \"bundle\", \"objects\": […]}");
    }
    Fault::Unknown("a JSON object without `objects`")
}

fn json_error(file: &Arc<str>, error: &serde_json::Error) -> ParseError {
    let text = error.to_string();
    let why = text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why).to_owned();
    ParseError::new(file, error.line().max(1) as u64, error.column().max(1) as u64, Fault::Json(why))
}

/// Reads a bundle.
///
/// # Errors
/// Broken JSON with line and column, JSON that is no STIX 2, too many objects.
pub fn parse(file: &Arc<str>, bytes: &[u8]) -> Result<Parsed, ParseError> {
    // What stands before the content has no line end but its own, so that lines and columns stay those of the file.
    let marked = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let text = std::str::from_utf8(marked).map_err(|error| {
        let (line, column) = position(marked, error.valid_up_to());
        ParseError::new(file, line, column, Fault::Encoding)
    })?;
    let top: Top<'_> = serde_json::from_str(text).map_err(|error| json_error(file, &error))?;
    let kind = top.get("type").map(|raw| raw.get());
    let (Some(objects), None | Some("\"bundle\"")) = (top.get("objects"), kind) else {
        if kind == Some("\"bundle\"") && top.len() <= 4 && !top.contains_key("objects") {
            return Ok(Parsed::default());
        }
        return Err(ParseError::new(file, 1, 1, refused(&top)));
    };
    let offset = objects.get().as_ptr() as usize - text.as_ptr() as usize;
    let raw: Vec<&RawValue> = serde_json::from_str(objects.get()).map_err(|_| {
        let (line, column) = position(marked, offset);
        ParseError::new(file, line, column, Fault::Json("`objects` is no array".to_owned()))
    })?;
    if raw.len() as u64 > MAX_ITEMS {
        let (line, column) = position(marked, offset);
        return Err(ParseError::new(file, line, column, Fault::TooMany));
    }
    let mut reader = Reader { file, parsed: Parsed::default(), objects: Vec::new(), newest: HashMap::new() };
    for (index, raw) in raw.into_iter().enumerate() {
        reader.object(index, raw);
    }
    Ok(reader.finish())
}

struct Reader<'a> {
    file: &'a Arc<str>,
    parsed: Parsed,
    /// In the order of the file; an older version is replaced by a newer.
    objects: Vec<Object>,
    newest: HashMap<String, usize>,
}

/// Objects that tell nothing about an indicator: not kept.
const UNUSED: [&str; 6] =
    ["observed-data", "course-of-action", "identity", "vulnerability", "location", "extension-definition"];

impl Reader<'_> {
    fn skip(&mut self, place: &str, value: &str, reason: Dropped) {
        self.parsed.read += 1;
        self.parsed.skipped.push(Skipped {
            reason: reason.reason,
            origin: Origin { file: Arc::clone(self.file), place: Place::Object(Arc::from(place)) },
            value: excerpt(value),
            why: reason.why,
        });
    }

    fn object(&mut self, index: usize, raw: &RawValue) {
        let place = || format!("objects[{index}]");
        let malformed = |why: String| Dropped { reason: SkipReason::Malformed, why };
        let properties = match serde_json::from_str::<Value>(raw.get()) {
            Ok(Value::Object(properties)) => properties,
            Ok(_) => return self.skip(&place(), raw.get(), malformed("not a JSON object".to_owned())),
            Err(error) => return self.skip(&place(), raw.get(), malformed(error.to_string())),
        };
        let Some(kind) = properties.get("type").and_then(Value::as_str).map(str::to_owned) else {
            return self.skip(&place(), raw.get(), malformed("an object without a type".to_owned()));
        };
        if UNUSED.contains(&kind.as_str()) {
            return;
        }
        let Some(id) = properties.get("id").and_then(Value::as_str).map(str::to_owned) else {
            // Only an indicator is counted; of others nothing can refer to them.
            if kind == "indicator" {
                self.skip(&place(), raw.get(), malformed("an indicator without an id".to_owned()));
            }
            return;
        };
        let modified = ["modified", "created"]
            .into_iter()
            .find_map(|key| properties.get(key).and_then(Value::as_str).and_then(timestamp));
        let object = Object { kind, id, modified, properties };
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
                self.newest.insert(object.id.clone(), self.objects.len());
                self.objects.push(object);
            }
        }
    }

    fn finish(mut self) -> Parsed {
        let objects = std::mem::take(&mut self.objects);
        let mut graph = Graph::new(&objects);
        for object in objects.iter().filter(|object| object.kind == "indicator") {
            if object.is_revoked() {
                self.parsed
                    .revocations
                    .push(Revocation { id: Arc::from(object.id.as_str()), modified: object.modified });
            }
            match self.indicator(object, &mut graph) {
                Ok(indicator) => {
                    self.parsed.read += 1;
                    self.parsed.indicators.push(indicator);
                }
                Err(reason) => self.skip(&object.id, object.text("pattern").unwrap_or_default(), reason),
            }
        }
        self.parsed
    }

    fn indicator(&mut self, object: &Object, graph: &mut Graph<'_>) -> Result<Indicator, Dropped> {
        if object.is_revoked() {
            let at = object.modified.map(|time| format!(" in the version of {time}")).unwrap_or_default();
            return Err(Dropped { reason: SkipReason::Revoked, why: format!("revoked by its publisher{at}") });
        }
        let valid_from = object.time("valid_from")?;
        let valid_until = object.time("valid_until")?;
        let reduced = values(object)?;
        let id: Arc<str> = Arc::from(object.id.as_str());
        let origin = Origin { file: Arc::clone(self.file), place: Place::Object(Arc::clone(&id)) };
        for part in reduced.dropped {
            self.parsed.trimmed.push(Skipped {
                reason: part.reason,
                origin: origin.clone(),
                value: excerpt(object.text("pattern").unwrap_or_default()),
                why: format!("an alternative is left out: {}", part.why),
            });
        }
        let confidence = object.properties.get("confidence").and_then(Value::as_u64);
        Ok(Indicator {
            name: object.text("name").or_else(|| object.text("description")).map(|name| Arc::from(excerpt(name))),
            observables: reduced.observables,
            origin,
            confidence: confidence.and_then(|confidence| u8::try_from(confidence).ok()).filter(|value| *value <= 100),
            tlp: graph.tlp(object),
            valid_from,
            valid_until,
            modified: object.modified,
            attribution: graph.attribution(object),
            id: Some(id),
        })
    }
}

/// The values of an indicator's pattern: at least one.
fn values(object: &Object) -> Result<Reduced, Dropped> {
    let unsupported = |why: String| Dropped { reason: SkipReason::UnsupportedPattern, why };
    // STIX 2.0 has no pattern_type: its patterns are STIX patterns (STIX 2.0 Part 2 §2.5).
    match object.properties.get("pattern_type").map(|kind| kind.as_str().unwrap_or("?")) {
        None | Some("stix") => {}
        Some(other) => return Err(unsupported(format!("pattern_type is `{}`, not `stix`", excerpt(other)))),
    }
    let malformed = |why: String| Dropped { reason: SkipReason::Malformed, why };
    let Some(text) = object.text("pattern") else {
        return Err(malformed("no pattern".to_owned()));
    };
    let observation = pattern::parse(text).map_err(|error| malformed(error.to_string()))?;
    let mut reduced = pattern::reduce(&observation);
    if !reduced.observables.is_empty() {
        return Ok(reduced);
    }
    let reason = if reduced.dropped.is_empty() { None } else { Some(reduced.dropped.swap_remove(0)) };
    Err(reason.unwrap_or_else(|| unsupported("it names no value".to_owned())))
}

#[cfg(test)]
mod tests;
