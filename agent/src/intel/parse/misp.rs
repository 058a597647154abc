//! MISP events (draft-dulaunoy-misp-core-format): as exported, as a feed holds them, and as the API answers with them.
//!
//! Every attribute is one indicator, those of objects too. Proposals (`ShadowAttribute`) are not the publisher's and not read.

mod said;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use self::said::{Attribute, EventBody, ObjectBody};
use super::document::{Document, Members, Said, Top, object};
use super::names::{Attributions, Names};
use super::values::{Dropped, Reduced};
use super::{Dialect, Fault, ParseError, Parsed, Reading, Revocation, Text, excerpt, tlp};
use crate::intel::normalise::{self, Invalid};
use crate::intel::{Indicator, Observable, Origin, Place, SkipReason, Tlp};

/// What is done with attributes that their publisher does not call indicators (`to_ids` is false).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToIds {
    /// They are skipped.
    #[default]
    Honour,
    /// They are used.
    Ignore,
}

pub(super) struct Misp;

impl Dialect for Misp {
    fn name(&self) -> &'static str {
        "misp"
    }

    fn at_once(&self, file: &Arc<str>, text: &[u8], reading: &Reading) -> Option<Parsed> {
        let body = EventBody::of_text(text)?;
        let mut reader = Reader::new(file, reading.to_ids);
        reader.part(0, Part::Event(body));
        Some(reader.finish())
    }

    fn json(&self, document: &Document<'_>, reading: &Reading) -> Option<Result<Parsed, ParseError>> {
        let parts = match &document.top {
            Top::Object(members) if has_all(members, ["list", "matching_attributes"]) => {
                return Some(Err(document.error(Fault::Refused {
                    what: "a MISP warning list",
                    advice: "name it under the warning lists of the settings, not as a source",
                })));
            }
            Top::Object(members) if is_manifest(members) => {
                return Some(Err(document.error(Fault::Companion("a MISP feed's manifest"))));
            }
            Top::Object(members) => match members.get("response") {
                Some(response) => match answer(response) {
                    Some(parts) => parts,
                    None => {
                        let fault = Fault::Json("`response` holds no MISP events".to_owned());
                        return Some(Err(document.error_at(response.get(), fault)));
                    }
                },
                None => vec![Part::of(members)?],
            },
            Top::Array(items) => {
                let parts: Vec<Part<'_>> = items.iter().map(|item| part(item)).collect();
                matches!(parts.first(), Some(Part::Event(_))).then_some(parts)?
            }
        };
        let mut reader = Reader::new(document.file, reading.to_ids);
        for (index, part) in parts.into_iter().enumerate() {
            reader.part(index, part);
        }
        Some(Ok(reader.finish()))
    }

    fn text(&self, file: &Arc<str>, head: &[u8], _reading: &Reading) -> Option<Result<Box<dyn Text>, ParseError>> {
        is_hash_list(head).then(|| Err(ParseError::new(file, 1, 1, Fault::Companion("a MISP feed's list of hashes"))))
    }
}

/// A feed's `hashes.csv`: the MD5 of each value with the UUID of its event, to look values up without reading events.
fn is_hash_list(head: &[u8]) -> bool {
    let line = head.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let Ok(line) = std::str::from_utf8(line) else { return false };
    line.trim_end().split_once(',').is_some_and(|(hash, uuid)| {
        normalise::md5(hash).is_ok() && uuid.len() == 36 && uuid::Uuid::try_parse(uuid).is_ok()
    })
}

/// What attributes come in.
enum Part<'a> {
    Event(EventBody<'a>),
    /// The API returns attributes also without their events.
    Attributes(&'a RawValue),
    Other(&'a RawValue),
}

impl<'a> Part<'a> {
    /// An event with or without its wrapper, or attributes; `None` for any other object.
    fn of(members: &Members<'a>) -> Option<Self> {
        if let Some(event) = members.get("Event") {
            return Some(object(event).map_or(Self::Other(event), Self::Event));
        }
        let holds = ["Attribute", "Object"].into_iter().any(|key| members.contains_key(key));
        match members.get("Attribute") {
            _ if holds && members.contains_key("info") => Some(Self::Event(EventBody::of(members))),
            Some(attributes) if !members.contains_key("type") => Some(Self::Attributes(attributes)),
            _ => None,
        }
    }
}

fn has_all<const N: usize>(members: &Members<'_>, keys: [&str; N]) -> bool {
    keys.into_iter().all(|key| members.contains_key(key))
}

/// One item of an array of events.
fn part(raw: &RawValue) -> Part<'_> {
    serde_json::from_str(raw.get()).ok().and_then(|members| Part::of(&members)).unwrap_or(Part::Other(raw))
}

/// What the API's `response` holds: a list of events, one event, or attributes.
fn answer(response: &RawValue) -> Option<Vec<Part<'_>>> {
    match serde_json::from_str::<Vec<&RawValue>>(response.get()) {
        Ok(items) => Some(items.into_iter().map(part).collect()),
        Err(_) => Some(vec![Part::of(&serde_json::from_str(response.get()).ok()?)?]),
    }
}

/// A feed's table of contents: events by UUID, without their attributes.
fn is_manifest(members: &Members<'_>) -> bool {
    let Some((key, raw)) = members.first_key_value() else { return false };
    let is_summary =
        || serde_json::from_str::<Members<'_>>(raw.get()).is_ok_and(|entry| has_all(&entry, ["info", "timestamp"]));
    uuid::Uuid::try_parse(key).is_ok() && is_summary()
}

/// What of an event concerns its attributes.
#[derive(Default)]
struct Event {
    index: usize,
    names: Names,
    tlp: Option<Tlp>,
}

/// Whether an attribute may be one that names who or what is behind the others; it is read to be sure.
fn may_name(raw: &RawValue) -> bool {
    ["threat-actor", "campaign-name", "malware-type", "\"link\""].into_iter().any(|kind| raw.get().contains(kind))
}

/// What names an attribute: nearly always a UUID, which takes less room than its text.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Uuid([u8; 16]),
    Other(Arc<str>),
}

impl Key {
    fn of(id: &Arc<str>) -> Self {
        let uuid = uuid::Uuid::try_parse(id).ok();
        // Only one spelling of a UUID: two others would be two ids.
        let spell = |uuid: &uuid::Uuid| *uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()) == **id;
        match uuid.filter(spell) {
            Some(uuid) => Self::Uuid(uuid.into_bytes()),
            None => Self::Other(Arc::clone(id)),
        }
    }

    fn id(self) -> Arc<str> {
        match self {
            Self::Uuid(bytes) => Arc::from(uuid::Uuid::from_bytes(bytes).hyphenated().to_string()),
            Self::Other(id) => id,
        }
    }
}

/// What was made of an attribute, and where that is.
enum Made {
    Indicator(u32),
    Skipped(u32),
    /// Skipped because its publisher deleted it.
    Deleted(u32),
}

/// The newest version of an attribute so far.
struct Version {
    /// Seconds since the epoch; `None` sorts before all.
    modified: Option<i64>,
    made: Made,
}

struct Reader<'a> {
    file: &'a Arc<str>,
    to_ids: ToIds,
    parsed: Parsed,
    newest: HashMap<Key, Version>,
    /// Where the left out alternatives of an indicator are.
    trimmed: HashMap<u32, Vec<u32>>,
    known: Attributions<(usize, Vec<String>)>,
}

impl<'a> Reader<'a> {
    fn new(file: &'a Arc<str>, to_ids: ToIds) -> Self {
        Self {
            file,
            to_ids,
            parsed: Parsed::default(),
            newest: HashMap::new(),
            trimmed: HashMap::new(),
            known: Attributions::default(),
        }
    }

    fn part(&mut self, index: usize, part: Part<'_>) {
        let place = format!("event[{index}]");
        match part {
            Part::Event(body) => self.event(index, &place, body),
            Part::Attributes(raw) => {
                let attributes = self.attributes(&place, Said::of(Some(raw)), false);
                self.judge(&Event { index, ..Event::default() }, &place, attributes);
            }
            Part::Other(raw) => self.broken(&place, raw.get(), Dropped::malformed("not a MISP event")),
        }
    }

    fn event(&mut self, index: usize, place: &str, body: EventBody<'_>) {
        let (title, tags) = (body.title(), body.tags());
        let mut attributes = self.attributes(place, body.attributes, false);
        for raw in self.items(place, "Object", body.objects) {
            match object::<ObjectBody<'_>>(raw) {
                Ok(body) => attributes.extend(self.attributes(place, body.attributes, body.deleted.flag())),
                Err(reason) => self.broken(place, raw.get(), reason),
            }
        }
        let mut names = Names::default();
        names.report(&title.unwrap_or_default());
        tags.iter().for_each(|tag| names.label(tag));
        for (raw, is_deleted) in attributes.iter().filter(|(raw, _)| may_name(raw)) {
            if let Ok(attribute) = Attribute::parse(raw, *is_deleted)
                && !attribute.is_deleted
                && !names.misp_attribute(&attribute.kind, &attribute.value)
                && attribute.kind == "link"
            {
                names.reference(&attribute.value);
            }
        }
        let tlp = tags.iter().filter_map(|tag| tlp::label(tag)).max();
        self.judge(&Event { index, names, tlp }, place, attributes);
    }

    /// The items of a list; that it is none is told.
    fn items<'r>(&mut self, place: &str, of: &str, said: Said<'r>) -> Vec<&'r RawValue> {
        match said {
            Said::List(items) => items,
            Said::Nothing => Vec::new(),
            _ => {
                self.broken(place, of, Dropped::malformed("not a list of attributes or objects"));
                Vec::new()
            }
        }
    }

    /// The attributes of an event or object, and whether that is deleted.
    fn attributes<'r>(&mut self, place: &str, said: Said<'r>, is_deleted: bool) -> Vec<(&'r RawValue, bool)> {
        self.items(place, "Attribute", said).into_iter().map(|raw| (raw, is_deleted)).collect()
    }

    fn origin(&self, place: Arc<str>) -> Origin {
        Origin { file: Arc::clone(self.file), place: Place::Object(place) }
    }

    fn broken(&mut self, place: &str, text: &str, reason: Dropped) {
        self.parsed.skipped.push(&reason.skipped(self.origin(Arc::from(place)), text));
    }

    /// Read one by one, so that an event takes little more memory than its text.
    fn judge(&mut self, event: &Event, place: &str, attributes: Vec<(&RawValue, bool)>) {
        for (index, (raw, is_deleted)) in attributes.into_iter().enumerate() {
            let place = || format!("{place}.attribute[{index}]");
            let attribute = match Attribute::parse(raw, is_deleted) {
                Ok(attribute) => attribute,
                Err(reason) => {
                    self.broken(&place(), raw.get(), reason);
                    continue;
                }
            };
            let origin = self.origin(attribute.uuid.clone().unwrap_or_else(|| Arc::from(place())));
            let made = match self.reduce(&attribute) {
                Ok(reduced) => {
                    let left_out = reduced.dropped.into_iter();
                    let left_out = left_out.map(|part| part.skipped(origin.clone(), &attribute.value));
                    let left_out: Vec<u32> = left_out.map(|part| self.parsed.trimmed.push(&part)).collect();
                    let indicator = self.indicator(event, &attribute, reduced.observables, origin);
                    let at = self.parsed.indicators.push(&indicator);
                    if !left_out.is_empty() {
                        self.trimmed.insert(at, left_out);
                    }
                    Made::Indicator(at)
                }
                Err(reason) => {
                    let at = self.parsed.skipped.push(&reason.skipped(origin, &attribute.value));
                    if attribute.is_deleted { Made::Deleted(at) } else { Made::Skipped(at) }
                }
            };
            let modified = attribute.modified.map(Timestamp::as_second);
            if let Some(id) = &attribute.uuid {
                self.keep(Key::of(id), Version { modified, made });
            }
        }
    }

    fn reduce(&self, attribute: &Attribute<'_>) -> Result<Reduced, Dropped> {
        if attribute.is_deleted {
            return Err(Dropped::new(SkipReason::Revoked, "deleted by its publisher"));
        }
        if !attribute.to_ids && self.to_ids == ToIds::Honour {
            return Err(Dropped::new(
                SkipReason::NotToIds,
                format!("to_ids is not set on this {}", excerpt(&attribute.kind)),
            ));
        }
        values(&attribute.kind, &attribute.value)?.usable()
    }

    fn indicator(
        &mut self,
        event: &Event,
        attribute: &Attribute<'_>,
        observables: Vec<Observable>,
        origin: Origin,
    ) -> Indicator {
        let mut own: Vec<String> =
            attribute.tags.iter().filter(|tag| tag.starts_with("misp-galaxy:")).cloned().collect();
        own.extend(attribute.event.as_deref().map(str::to_owned));
        let key = (event.index, own);
        let attribution = self.known.get(&key).unwrap_or_else(|| {
            let mut names = event.names.clone();
            key.1.iter().for_each(|tag| names.label(tag));
            names.report(attribute.event.as_deref().unwrap_or_default());
            self.known.keep(key, names)
        });
        let own_tlp = attribute.tags.iter().filter_map(|tag| tlp::label(tag)).max();
        Indicator {
            id: attribute.uuid.clone(),
            name: (!attribute.comment.is_empty()).then(|| Arc::from(excerpt(&attribute.comment))),
            tlp: tlp::stricter(own_tlp, event.tlp),
            valid_from: attribute.valid_from,
            modified: attribute.modified,
            attribution,
            ..Indicator::new(observables, origin)
        }
    }

    /// Of two versions of an attribute the newer stays, of two equally new ones the later.
    fn keep(&mut self, key: Key, version: Version) {
        let older = match self.newest.entry(key) {
            Entry::Vacant(place) => {
                place.insert(version);
                return;
            }
            Entry::Occupied(known) if version.modified < known.get().modified => version,
            Entry::Occupied(mut known) => known.insert(version),
        };
        self.parsed.superseded += 1;
        match older.made {
            Made::Indicator(at) => {
                self.parsed.indicators.supersede(at);
                let trimmed = self.trimmed.remove(&at).unwrap_or_default();
                trimmed.into_iter().for_each(|at| self.parsed.trimmed.remove(at));
            }
            Made::Skipped(at) | Made::Deleted(at) => self.parsed.skipped.remove(at),
        }
    }

    fn finish(self) -> Parsed {
        let deleted = self.newest.into_iter().filter(|(_, version)| matches!(version.made, Made::Deleted(_)));
        let revocations = deleted.map(|(key, Version { modified, .. })| Revocation {
            id: key.id(),
            modified: modified.and_then(|seconds| Timestamp::from_second(seconds).ok()),
        });
        let read = (self.parsed.indicators.len() + self.parsed.skipped.len()) as u64;
        Parsed { read_as: self.known.read_as("misp"), read, revocations: revocations.collect(), ..self.parsed }
    }
}

/// What an attribute stands for. A composite stands for both its parts, as MISP's own exports for blocking have it.
pub(super) fn values(kind: &str, value: &str) -> Result<Reduced, Dropped> {
    type Read = fn(&str) -> Result<Observable, Invalid>;
    let mut reduced = Reduced::default();
    let digest = |kind: &str| -> Option<Read> {
        match kind {
            "md5" => Some(normalise::md5),
            "sha1" => Some(normalise::sha1),
            "sha256" => Some(normalise::sha256),
            _ => None,
        }
    };
    let (first, second) = value.split_once('|').unwrap_or((value, ""));
    match kind.split_once('|').unwrap_or((kind, "")) {
        ("ip-src" | "ip-dst", "") => reduced.add(normalise::address(value)),
        ("ip-src" | "ip-dst", "port") => reduced.add(endpoint(first, second)),
        ("domain" | "hostname", "") => reduced.add(normalise::domain(value)),
        ("domain", "ip") => {
            reduced.add(normalise::domain(first));
            reduced.add(normalise::address(second));
        }
        ("hostname", "port") => {
            reduced.add(normalise::domain(first));
            reduced.dropped.push(Dropped::unsupported_type("the port: a name is matched whatever the port"));
        }
        ("url", "") => reduced.add(normalise::url(value)),
        ("filename", "") => reduced.add(file(value)),
        // The value of a malware sample is its name and its MD5.
        ("malware-sample", "") => reduced.add(normalise::md5(second)),
        ("filename", algorithm) => {
            let Some(read) = digest(algorithm) else {
                return Err(Dropped::unsupported_type(format!(
                    "`{}` is no digest that is compared",
                    excerpt(algorithm)
                )));
            };
            reduced.add(read(second));
            reduced.add(file(first));
        }
        (kind, "") if digest(kind).is_some() => {
            if let Some(read) = digest(kind) {
                reduced.add(read(value));
            }
        }
        _ => {
            return Err(Dropped::unsupported_type(format!(
                "`{}` is nothing that a connect or exec shows",
                excerpt(kind)
            )));
        }
    }
    Ok(reduced)
}

fn endpoint(address: &str, port: &str) -> Result<Observable, Dropped> {
    let port = normalise::port(port)?;
    match normalise::address(address)? {
        Observable::Ipv4(address) => Ok(Observable::Endpoint(address.into(), port)),
        Observable::Ipv6(address) => Ok(Observable::Endpoint(address.into(), port)),
        _ => Err(Dropped::new(SkipReason::UnsupportedPattern, "a prefix with a port")),
    }
}

/// Publishers write paths into file names too.
fn file(text: &str) -> Result<Observable, Invalid> {
    if text.starts_with('/') { normalise::path(text) } else { normalise::file_name(text) }
}

#[cfg(test)]
mod tests;
