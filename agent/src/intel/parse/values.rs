//! What a publisher's values stand for, and why some stand for nothing.

use std::borrow::Cow;
use std::collections::HashSet;

use super::excerpt;
use crate::intel::normalise::{self, Invalid};
use crate::intel::{Observable, Origin, SkipReason, Skipped};

/// A value, or a part of an indicator, that is not used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Why, by name.
    pub reason: SkipReason,
    /// Why, in words.
    pub why: Cow<'static, str>,
}

impl Dropped {
    pub(super) fn new(reason: SkipReason, why: impl Into<Cow<'static, str>>) -> Self {
        Self { reason, why: why.into() }
    }

    /// As it is counted and shown.
    pub(super) fn skipped(self, origin: Origin, value: &str) -> Skipped {
        Skipped { reason: self.reason, origin, value: excerpt(value).to_owned(), why: self.why.into_owned() }
    }

    pub(super) fn malformed(why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SkipReason::Malformed, why)
    }

    pub(super) fn unsupported_type(why: impl Into<Cow<'static, str>>) -> Self {
        Self::new(SkipReason::UnsupportedType, why)
    }
}

impl From<Invalid> for Dropped {
    fn from(invalid: Invalid) -> Self {
        Self::malformed(invalid.to_string())
    }
}

/// What of an indicator can be decided by one observation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reduced {
    /// Any of these is a match. Distinct once `usable` has gone over them.
    pub observables: Vec<Observable>,
    /// The alternatives that are left out.
    pub dropped: Vec<Dropped>,
}

impl Reduced {
    pub(super) fn add(&mut self, value: Result<Observable, impl Into<Dropped>>) {
        match value {
            Ok(value) => self.observables.push(value),
            Err(reason) => self.dropped.push(reason.into()),
        }
    }

    /// Itself if any value is left, else why there is none.
    pub(super) fn usable(mut self) -> Result<Self, Dropped> {
        if self.observables.len() > 1 {
            let mut seen = HashSet::new();
            self.observables.retain(|value| seen.insert(value.clone()));
        }
        match self.observables.is_empty() {
            false => Ok(self),
            true if self.dropped.is_empty() => Err(Dropped::malformed("it has no value")),
            true => Err(self.dropped.swap_remove(0)),
        }
    }
}

/// What one item is, told by its form.
pub(super) fn by_form(text: &str) -> Result<Observable, Dropped> {
    if let Some(digest) = digest(text) {
        return digest;
    }
    if text.contains(char::is_whitespace) {
        return Err(Dropped::malformed("it is several words"));
    }
    let plain = normalise::refang(text);
    if plain.contains("://") {
        return Ok(normalise::url(&plain)?);
    }
    if plain.starts_with('/') {
        return Err(Dropped::unsupported_type("a URL path or file path without a host"));
    }
    if plain.contains('@') {
        return Err(Dropped::unsupported_type("an e-mail address"));
    }
    if plain.contains('|') {
        return Err(Dropped::malformed("`|` joins two values; write address:port"));
    }
    if let Ok(value) = normalise::address(&plain) {
        return Ok(value);
    }
    if let Some((address, length)) = plain.split_once('/') {
        // A prefix with a wrong length must not be taken for a URL on a host.
        let is_prefix = address.parse::<std::net::IpAddr>().is_ok() && length.bytes().all(|byte| byte.is_ascii_digit());
        return Ok(if is_prefix { normalise::address(&plain) } else { normalise::url(&plain) }?);
    }
    Ok(if plain.contains(':') { normalise::endpoint(&plain) } else { normalise::domain(&plain) }?)
}

/// `None` if it is no row of hexadecimal digits of a digest's length.
pub(super) fn digest(text: &str) -> Option<Result<Observable, Dropped>> {
    if !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let value = match text.len() {
        32 => normalise::md5(text),
        40 => normalise::sha1(text),
        64 => normalise::sha256(text),
        56 | 96 | 128 => return Some(Err(Dropped::unsupported_type("a digest that is no SHA-256, SHA-1 or MD5"))),
        _ => return None,
    };
    Some(value.map_err(Dropped::from))
}
