//! One object of a bundle. Only what all objects have is kept; the rest is read again when it is asked for, so that a bundle
//! takes little more memory than its text.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;

use super::super::document::{Members, Properties, reason, timestamp};
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
        let members: Members<'_> = serde_json::from_str(raw.get())
            .map_err(|error| Dropped::malformed(format!("not a STIX object: {}", reason(&error))))?;
        let text = |key: &str| members.get(key).and_then(|raw| serde_json::from_str::<Text<'_>>(raw.get()).ok());
        let kind = text("type").ok_or_else(|| Dropped::malformed("an object without a type"))?.0;
        let Some(Text(id)) = text("id") else {
            return if kind == "indicator" { Err(Dropped::malformed("an indicator without an id")) } else { Ok(None) };
        };
        let modified = ["modified", "created"].into_iter().find_map(|key| timestamp(&text(key)?.0));
        let revoked = members.get("revoked").is_some_and(|raw| raw.get() == "true");
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

/// Borrowed where it has no escapes, which `Cow` by itself never is.
#[derive(serde::Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
