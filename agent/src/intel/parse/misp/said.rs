//! What events, objects and attributes say, as far as it is used. Exports differ: numbers and truth values are also written as
//! texts.
//!
//! Texts are borrowed and what is not used is passed over, so that reading costs little more than finding the quotes. A
//! member that is there twice is refused, as I-JSON asks (RFC 7493 §2.3).

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::super::document::{Members, Said, object};
use super::super::values::Dropped;

impl Said<'_> {
    pub(super) fn flag(&self) -> bool {
        match self {
            Self::Flag(flag) => *flag,
            Self::Number(number) => *number == 1,
            Self::Text(text) => text == "1" || text.eq_ignore_ascii_case("true"),
            _ => false,
        }
    }

    fn seconds(&self) -> Option<Timestamp> {
        let seconds = match self {
            Self::Text(text) => text.parse().ok(),
            Self::Number(number) => Some(*number),
            _ => None,
        };
        seconds.filter(|seconds| *seconds > 0).and_then(|seconds| Timestamp::from_second(seconds).ok())
    }
}

/// An event.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct EventBody<'a> {
    /// Unread, so that a title that cannot be read costs only itself.
    #[serde(borrow)]
    info: Option<&'a RawValue>,
    #[serde(borrow, rename = "Tag")]
    tags: Said<'a>,
    #[serde(borrow, rename = "Galaxy")]
    galaxies: Said<'a>,
    #[serde(borrow, rename = "Attribute")]
    pub(super) attributes: Said<'a>,
    #[serde(borrow, rename = "Object")]
    pub(super) objects: Said<'a>,
}

impl<'a> EventBody<'a> {
    /// The event of a document that holds nothing else, as nearly all do: taking the document apart first would read all of
    /// it once more.
    pub(super) fn of_text(text: &'a [u8]) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Document<'a> {
            #[serde(borrow, rename = "Event")]
            event: EventBody<'a>,
        }
        let text = std::str::from_utf8(text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text)).ok()?.trim_ascii_start();
        // serde would also take arrays for both.
        let event = text.strip_prefix('{')?.trim_ascii_start().strip_prefix("\"Event\"")?.trim_ascii_start();
        event.strip_prefix(':')?.trim_ascii_start().strip_prefix('{')?;
        Some(serde_json::from_str::<Document<'a>>(text).ok()?.event)
    }

    /// One that has been taken apart already.
    pub(super) fn of(members: &Members<'a>) -> Self {
        let said = |key: &str| Said::of(members.get(key).copied());
        Self {
            info: members.get("info").copied(),
            tags: said("Tag"),
            galaxies: said("Galaxy"),
            attributes: said("Attribute"),
            objects: said("Object"),
        }
    }

    pub(super) fn title(&self) -> Option<Cow<'a, str>> {
        Said::of(self.info).into_text()
    }

    pub(super) fn tags(&self) -> Vec<String> {
        tags(&self.tags, &self.galaxies)
    }
}

/// An object of an event.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct ObjectBody<'a> {
    #[serde(borrow)]
    pub(super) deleted: Said<'a>,
    #[serde(borrow, rename = "Attribute")]
    pub(super) attributes: Said<'a>,
}

/// An attribute as it is written.
#[derive(Default, Deserialize)]
#[serde(default)]
struct AttributeBody<'a> {
    #[serde(borrow)]
    uuid: Said<'a>,
    #[serde(borrow, rename = "type")]
    kind: Said<'a>,
    #[serde(borrow)]
    value: Said<'a>,
    #[serde(borrow)]
    comment: Said<'a>,
    #[serde(borrow)]
    to_ids: Said<'a>,
    #[serde(borrow)]
    deleted: Said<'a>,
    #[serde(borrow)]
    timestamp: Said<'a>,
    #[serde(borrow)]
    first_seen: Said<'a>,
    #[serde(borrow, rename = "Tag")]
    tags: Said<'a>,
    #[serde(borrow, rename = "Galaxy")]
    galaxies: Said<'a>,
    #[serde(borrow, rename = "Event")]
    event: Option<&'a RawValue>,
}

/// An attribute.
pub(super) struct Attribute<'a> {
    pub(super) uuid: Option<Arc<str>>,
    pub(super) kind: Cow<'a, str>,
    pub(super) value: Cow<'a, str>,
    pub(super) comment: Cow<'a, str>,
    pub(super) to_ids: bool,
    pub(super) is_deleted: bool,
    pub(super) modified: Option<Timestamp>,
    pub(super) valid_from: Option<Timestamp>,
    pub(super) tags: Vec<String>,
    /// The title of its event, where the API returns it without its event.
    pub(super) event: Option<Cow<'a, str>>,
}

impl<'a> Attribute<'a> {
    pub(super) fn parse(raw: &'a RawValue, in_deleted: bool) -> Result<Self, Dropped> {
        let body: AttributeBody<'a> = object(raw)?;
        let missing = |key: &'static str| Dropped::malformed(format!("an attribute without a {key}"));
        let event = body.event.and_then(|event| object::<EventBody<'a>>(event).ok());
        Ok(Self {
            uuid: body.uuid.text().map(Arc::from),
            kind: body.kind.into_text().ok_or_else(|| missing("type"))?,
            value: body.value.into_text().ok_or_else(|| missing("value"))?,
            comment: body.comment.into_text().unwrap_or_default(),
            to_ids: body.to_ids.flag(),
            is_deleted: in_deleted || body.deleted.flag(),
            modified: body.timestamp.seconds(),
            valid_from: body.first_seen.time("first_seen")?,
            tags: tags(&body.tags, &body.galaxies),
            event: event.and_then(|event| event.title()),
        })
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Tag<'a> {
    #[serde(borrow)]
    name: Said<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Galaxy<'a> {
    #[serde(borrow, rename = "type")]
    kind: Said<'a>,
    #[serde(borrow, rename = "GalaxyCluster")]
    clusters: Said<'a>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Cluster<'a> {
    #[serde(borrow)]
    value: Said<'a>,
}

/// Tags, and galaxy clusters as the tags that stand for them; each once, sorted.
fn tags(tags: &Said<'_>, galaxies: &Said<'_>) -> Vec<String> {
    let mut found = Vec::new();
    for tag in tags.items().filter_map(|raw| object::<Tag<'_>>(raw).ok()) {
        found.extend(tag.name.text().map(str::to_owned));
    }
    for galaxy in galaxies.items().filter_map(|raw| object::<Galaxy<'_>>(raw).ok()) {
        let kind = galaxy.kind.text().unwrap_or_default();
        let clusters = galaxy.clusters.items().filter_map(|raw| object::<Cluster<'_>>(raw).ok());
        let values = clusters.filter_map(|cluster| cluster.value.into_text());
        found.extend(values.map(|value| format!("misp-galaxy:{kind}=\"{value}\"")));
    }
    found.sort();
    found.dedup();
    found
}
