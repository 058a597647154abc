//! A JSON document, taken apart one level deep: whose it is shows in the keys at its top.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use super::values::Dropped;
use super::{Fault, MAX_ITEMS, ParseError, excerpt, position};

/// An object's members, unread.
pub(super) type Members<'a> = BTreeMap<Cow<'a, str>, &'a RawValue>;

/// A JSON document that is well-formed.
pub(super) struct Document<'a> {
    pub(super) file: &'a Arc<str>,
    text: &'a str,
    pub(super) top: Top<'a>,
}

/// What a document is at its top.
pub(super) enum Top<'a> {
    Object(Members<'a>),
    Array(Vec<&'a RawValue>),
}

impl<'a> Document<'a> {
    pub(super) fn parse(file: &'a Arc<str>, bytes: &'a [u8]) -> Result<Self, ParseError> {
        // What stands before the content has no line end but its own, so that lines and columns stay those of the file.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let text = std::str::from_utf8(bytes).map_err(|error| {
            let (line, column) = position(bytes, error.valid_up_to());
            ParseError::new(file, line, column, Fault::Encoding)
        })?;
        let top = if text.trim_ascii_start().starts_with('[') {
            serde_json::from_str(text).map(Top::Array)
        } else {
            serde_json::from_str(text).map(Top::Object)
        };
        let top = top.map_err(|error| {
            let (line, column) = (error.line().max(1) as u64, error.column().max(1) as u64);
            ParseError::new(file, line, column, Fault::Json(reason(&error)))
        })?;
        Ok(Self { file, text, top })
    }

    /// A member of the top.
    pub(super) fn get(&self, key: &str) -> Option<&'a RawValue> {
        match &self.top {
            Top::Object(members) => members.get(key).copied(),
            Top::Array(_) => None,
        }
    }

    /// How many members the top has.
    pub(super) fn len(&self) -> usize {
        match &self.top {
            Top::Object(members) => members.len(),
            Top::Array(items) => items.len(),
        }
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// A fault of the whole.
    pub(super) fn error(&self, fault: Fault) -> ParseError {
        ParseError::new(self.file, 1, 1, fault)
    }

    /// A fault of a part of this document.
    pub(super) fn error_at(&self, part: &str, fault: Fault) -> ParseError {
        let offset = (part.as_ptr() as usize).saturating_sub(self.text.as_ptr() as usize);
        let (line, column) = position(self.text.as_bytes(), offset);
        ParseError::new(self.file, line, column, fault)
    }

    /// The items of the member `name`, which must be an array.
    pub(super) fn items(&self, name: &str, raw: &'a RawValue) -> Result<Vec<&'a RawValue>, ParseError> {
        let items: Vec<&RawValue> = serde_json::from_str(raw.get())
            .map_err(|_| self.error_at(raw.get(), Fault::Json(format!("`{name}` is no array"))))?;
        if items.len() as u64 > MAX_ITEMS { Err(self.error_at(raw.get(), Fault::TooMany)) } else { Ok(items) }
    }

    /// What a document that no format takes looks like.
    pub(super) fn describe(&self) -> &'static str {
        match &self.top {
            Top::Object(members) if members.contains_key("id") && members.contains_key("type") => {
                "a single STIX object: put it into a bundle, {\"type\": \"bundle\", \"objects\": […]}"
            }
            Top::Object(_) => "a JSON object without `objects` or `Event`",
            Top::Array(_) => "a JSON array",
        }
    }
}

/// What serde says, without the place, which is given otherwise.
pub(super) fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.as_str(), |(why, _)| why).to_owned()
}

/// An object as `T` has it: what else it has is passed over, and may be nested as deep as it likes.
pub(super) fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Result<T, Dropped> {
    // serde would also take an array for a struct.
    if !raw.get().starts_with('{') {
        return Err(Dropped::malformed("not a JSON object"));
    }
    serde_json::from_str(raw.get())
        .map_err(|error| Dropped::malformed(format!("not a JSON object that can be read: {}", reason(&error))))
}

/// What a member says, whatever its type: texts are borrowed where they can be, the items of lists are unread.
#[derive(Debug, Default)]
pub(super) enum Said<'a> {
    /// It is not there, or `null`.
    #[default]
    Nothing,
    Text(Cow<'a, str>),
    Number(i64),
    Flag(bool),
    List(Vec<&'a RawValue>),
    /// An object, or a number that is no `i64`; both are passed over.
    Other,
}

impl<'a> Said<'a> {
    /// Reads what has been passed over.
    pub(super) fn of(raw: Option<&'a RawValue>) -> Self {
        raw.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default()
    }

    pub(super) fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    pub(super) fn into_text(self) -> Option<Cow<'a, str>> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The items of a list; none of anything else.
    pub(super) fn items(&self) -> impl Iterator<Item = &'a RawValue> {
        let items = if let Self::List(items) = self { items.as_slice() } else { &[] };
        items.iter().copied()
    }

    /// As [`Properties::time`] has it.
    pub(super) fn time(&self, key: &str) -> Result<Option<Timestamp>, Dropped> {
        match self {
            Self::Nothing => Ok(None),
            Self::Text(text) => read_time(key, text).map(Some),
            _ => Err(Dropped::malformed(format!("{key} is no timestamp (RFC 3339)"))),
        }
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Said<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SaidVisitor)
    }
}

struct SaidVisitor;

impl<'de> Visitor<'de> for SaidVisitor {
    type Value = Said<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Said::Nothing)
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Said::Text(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Said::Text(Cow::Owned(text.to_owned())))
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Self::Value, E> {
        Ok(Said::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Said::Number(number))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(i64::try_from(number).map_or(Said::Other, Said::Number))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(Said::Other)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Said::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Self::Value, A::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Said::Other)
    }
}

/// What an object says.
#[derive(Debug, Default)]
pub(super) struct Properties(Map<String, Value>);

impl Properties {
    pub(super) fn parse(raw: &RawValue) -> Result<Self, Dropped> {
        let read = serde_json::from_str(raw.get()).map(Self);
        read.map_err(|error| Dropped::malformed(format!("not a JSON object: {}", reason(&error))))
    }

    pub(super) fn get(&self, key: &str) -> Option<&Value> {
        self.0.get(key)
    }

    pub(super) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Value::as_str)
    }

    pub(super) fn items(&self, key: &str) -> impl Iterator<Item = &Value> {
        self.get(key).and_then(Value::as_array).into_iter().flatten()
    }

    pub(super) fn texts(&self, key: &str) -> impl Iterator<Item = &str> {
        self.items(key).filter_map(Value::as_str)
    }

    pub(super) fn time(&self, key: &str) -> Result<Option<Timestamp>, Dropped> {
        match self.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => read_time(key, text).map(Some),
            Some(_) => Err(Dropped::malformed(format!("{key} is no timestamp (RFC 3339)"))),
        }
    }
}

fn read_time(key: &str, text: &str) -> Result<Timestamp, Dropped> {
    timestamp(text).ok_or_else(|| Dropped::malformed(format!("{key} `{}` is no timestamp (RFC 3339)", excerpt(text))))
}

/// RFC 3339; digits beyond nanoseconds are cut, as STIX allows any number of them (STIX 2.1 §2.16).
pub(super) fn timestamp(text: &str) -> Option<Timestamp> {
    if let Ok(time) = text.parse() {
        return Some(time);
    }
    let (seconds, fraction) = text.split_once('.')?;
    let digits = fraction.find(|c: char| !c.is_ascii_digit())?;
    let (digits, zone) = fraction.split_at(digits);
    format!("{seconds}.{}{zone}", digits.get(..9)?).parse().ok()
}
