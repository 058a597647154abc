//! One object of a bundle. Only what all objects have is kept; the rest is read again when it is asked for, so that a bundle
//! takes little more memory than its text.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::super::document::{Properties, reason, timestamp};
use super::super::values::Dropped;

/// An object's head.
#[derive(Debug)]
pub(super) struct Object<'a> {
    pub(super) kind: Cow<'a, str>,
    pub(super) id: Arc<str>,
    pub(super) modified: Option<Timestamp>,
    pub(super) revoked: bool,
    raw: &'a RawValue,
}

impl<'a> Object<'a> {
    /// `None` for what is no indicator and has no id: nothing can refer to it.
    pub(super) fn parse(raw: &'a RawValue) -> Result<Option<Self>, Dropped> {
        let head: Head<'_> = serde_json::from_str(raw.get())
            .map_err(|error| Dropped::malformed(format!("not a STIX object: {}", reason(&error))))?;
        let kind = text(head.kind).ok_or_else(|| Dropped::malformed("an object without a type"))?;
        let Some(id) = text(head.id) else {
            return if kind == "indicator" { Err(Dropped::malformed("an indicator without an id")) } else { Ok(None) };
        };
        let modified = [head.modified, head.created].into_iter().find_map(|time| timestamp(&text(time)?));
        let revoked = head.revoked.is_some_and(|raw| raw.get() == "true");
        Ok(Some(Self { id: Arc::from(id), modified, revoked, kind, raw }))
    }

    /// All of it.
    pub(super) fn read(&self) -> Result<Properties, Dropped> {
        Properties::parse(self.raw)
    }

    /// All of it; empty for one nested deeper than serde reads, which then lends nothing to an indicator.
    pub(super) fn properties(&self) -> Properties {
        self.read().unwrap_or_default()
    }
}

/// What all objects have, of whatever type. A member that is there twice is refused, as I-JSON asks (RFC 7493 §2.3).
#[derive(serde::Deserialize)]
struct Head<'a> {
    #[serde(rename = "type", borrow, default)]
    kind: Option<&'a RawValue>,
    #[serde(borrow, default)]
    id: Option<&'a RawValue>,
    #[serde(borrow, default)]
    modified: Option<&'a RawValue>,
    #[serde(borrow, default)]
    created: Option<&'a RawValue>,
    #[serde(borrow, default)]
    revoked: Option<&'a RawValue>,
}

/// A text; borrowed where it has no escapes, which `Cow` by itself never is.
fn text(raw: Option<&RawValue>) -> Option<Cow<'_, str>> {
    #[derive(serde::Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    serde_json::from_str::<Text<'_>>(raw?.get()).ok().map(|text| text.0)
}
