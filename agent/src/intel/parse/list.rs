//! Lists: one item a line, hosts files, the first field of a line, and the text files that Talos publishes.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Fault, Format, MAX_ITEMS, MAX_LINE_BYTES, ParseError, Parsed, excerpt};
use crate::intel::normalise::{self, Invalid};
use crate::intel::{Attribution, Indicator, Observable, Origin, Place, SkipReason, Skipped};

/// Reads a list as it comes, in pieces of any size, holding no more than one line.
#[derive(Debug)]
pub struct ListParser {
    file: Arc<str>,
    format: Format,
    attribution: Arc<Attribution>,
    parsed: Parsed,
    line: u32,
    partial: Vec<u8>,
    /// Where the first line without an item is, for a file in which no line has one.
    first_unread: Option<u32>,
}

/// Addresses that a hosts file maps unwanted names to.
const SINKS: [&str; 5] = ["0.0.0.0", "127.0.0.1", "::", "::1", "255.255.255.255"];

/// Names that every hosts file holds for the machine itself.
const OWN_NAMES: [&str; 11] = [
    "localhost",
    "localhost.localdomain",
    "local",
    "broadcasthost",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
    "ip6-allhosts",
];

/// Why a line is no indicator.
type Refusal = (SkipReason, Cow<'static, str>);

impl ListParser {
    /// Starts a file. Its name without directory and extension becomes the title of the report of its indicators.
    #[must_use]
    pub fn new(file: &Arc<str>, format: Format) -> Self {
        let name = file.rsplit('/').next().unwrap_or_default();
        let title = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let reports = if title.is_empty() { Vec::new() } else { vec![title.to_owned()] };
        Self {
            file: Arc::clone(file),
            format,
            attribution: Arc::new(Attribution { reports, ..Attribution::default() }),
            parsed: Parsed::default(),
            line: 0,
            partial: Vec::new(),
            first_unread: None,
        }
    }

    fn error(&self, line: u32, column: usize, fault: Fault) -> ParseError {
        ParseError::new(&self.file, u64::from(line), column as u64, fault)
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// A line that is too long, or too many items.
    pub fn push(&mut self, mut piece: &[u8]) -> Result<(), ParseError> {
        while let Some(end) = piece.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = piece.split_at(end);
            piece = rest.get(1..).unwrap_or_default();
            if self.partial.is_empty() {
                self.line(line)?;
            } else {
                self.hold(line)?;
                let line = std::mem::take(&mut self.partial);
                self.line(&line)?;
            }
        }
        self.hold(piece)
    }

    fn hold(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        if self.partial.len() + piece.len() > MAX_LINE_BYTES {
            return Err(self.error(self.line + 1, MAX_LINE_BYTES + 1, Fault::LineTooLong));
        }
        self.partial.extend_from_slice(piece);
        Ok(())
    }

    /// Ends the file.
    ///
    /// # Errors
    /// With `format = "auto"`, a text of which no line is an indicator.
    pub fn finish(mut self) -> Result<Parsed, ParseError> {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.line(&line)?;
        }
        if let Some(line) = self.first_unread
            && self.format == Format::Auto
            && self.parsed.indicators.is_empty()
        {
            return Err(self.error(line, 1, Fault::Unknown("text of which no line is an indicator")));
        }
        Ok(self.parsed)
    }

    fn line(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        self.line += 1;
        if bytes.len() > MAX_LINE_BYTES {
            return Err(self.error(self.line, MAX_LINE_BYTES + 1, Fault::LineTooLong));
        }
        if self.parsed.read >= MAX_ITEMS {
            return Err(self.error(self.line, 1, Fault::TooMany));
        }
        let bytes = if self.line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(text),
            Err(error) => {
                let why = format!("not UTF-8 from column {}", error.valid_up_to() + 1);
                self.skip(&String::from_utf8_lossy(bytes), (SkipReason::Malformed, why.into()));
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() || text.starts_with(['#', ';', '!']) || text.starts_with("//") {
            return;
        }
        let text = without_trailing_comment(text);
        let mut fields = text.split_ascii_whitespace();
        if let Some(first) = fields.next()
            && SINKS.contains(&first)
            && text.len() > first.len()
        {
            return self.hosts(fields);
        }
        match item(text) {
            Ok(value) => self.add(value, None),
            Err(refusal) => match first_field(text) {
                Some(Ok((value, note))) => self.add(value, note),
                Some(Err(of_field)) => self.skip(text, of_field),
                None => self.skip(text, refusal),
            },
        }
    }

    fn hosts<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        for name in names {
            if OWN_NAMES.contains(&name) {
                self.skip(name, (SkipReason::Benign, "a hosts file's name for the machine itself".into()));
                continue;
            }
            match normalise::domain(name) {
                Ok(value @ Observable::Domain(_)) => self.add(value, None),
                Ok(_) => self.skip(name, (SkipReason::Malformed, "an address where a hosts file has a name".into())),
                Err(error) => self.skip(name, (SkipReason::Malformed, error.to_string().into())),
            }
        }
    }

    fn origin(&self) -> Origin {
        Origin { file: Arc::clone(&self.file), place: Place::Line(self.line) }
    }

    fn add(&mut self, value: Observable, note: Option<&str>) {
        self.parsed.read += 1;
        self.parsed.indicators.push(Indicator {
            id: None,
            name: note.map(|note| Arc::from(excerpt(note))),
            observables: vec![value],
            origin: self.origin(),
            confidence: None,
            tlp: None,
            valid_from: None,
            valid_until: None,
            modified: None,
            attribution: Arc::clone(&self.attribution),
        });
    }

    fn skip(&mut self, text: &str, (reason, why): Refusal) {
        self.first_unread.get_or_insert(self.line);
        self.parsed.read += 1;
        self.parsed.skipped.push(Skipped {
            reason,
            origin: self.origin(),
            value: excerpt(text),
            why: why.into_owned(),
        });
    }
}

fn without_trailing_comment(text: &str) -> &str {
    match text.find(" #").into_iter().chain(text.find("\t#")).min() {
        Some(start) => text.get(..start).unwrap_or(text).trim_end(),
        None => text,
    }
}

/// A line whose first field is an indicator (or a value that no hook sees) and whose rest is a remark: `hash;comment`, `ip<TAB>score`, `hash  file name`.
/// A domain needs a tab or semicolon behind it, because prose starts with words that look like names (`Node.js …`).
fn first_field(text: &str) -> Option<Result<(Observable, Option<&str>), Refusal>> {
    let end = text.find([' ', '\t', ';'])?;
    let (field, rest) = text.split_at(end);
    let value = match item(field) {
        Ok(value) => value,
        Err(refusal) => return (refusal.0 == SkipReason::UnsupportedType).then_some(Err(refusal)),
    };
    let is_column = rest.starts_with(['\t', ';']);
    let is_name =
        matches!(value, Observable::Domain(_)) || (matches!(value, Observable::Url(_)) && !field.contains("://"));
    if is_name && !is_column {
        return None;
    }
    let note = rest.trim_matches([' ', '\t', ';', '-', '–', '*', '(', ')']);
    Some(Ok((value, (!note.is_empty()).then_some(note))))
}

/// What one item is, told by its form.
fn item(text: &str) -> Result<Observable, Refusal> {
    let malformed = |error: Invalid| (SkipReason::Malformed, error.to_string().into());
    if let Some(digest) = digest(text) {
        return digest;
    }
    if text.contains(char::is_whitespace) {
        return Err((SkipReason::Malformed, "it is several words".into()));
    }
    let plain = normalise::refang(text);
    if plain.contains("://") {
        return normalise::url(&plain).map_err(malformed);
    }
    if plain.starts_with('/') {
        return Err((SkipReason::UnsupportedType, "a URL path or file path without a host".into()));
    }
    if plain.contains('@') {
        return Err((SkipReason::UnsupportedType, "an e-mail address".into()));
    }
    if plain.contains('|') {
        return Err((SkipReason::Malformed, "`|` joins two values; write address:port".into()));
    }
    if let Ok(value) = normalise::address(&plain) {
        return Ok(value);
    }
    if plain.contains('/') {
        // A prefix with a wrong length must not be taken for a URL on a host.
        return match plain.split_once('/') {
            Some((address, length))
                if address.parse::<std::net::IpAddr>().is_ok() && length.bytes().all(|byte| byte.is_ascii_digit()) =>
            {
                normalise::address(&plain).map_err(malformed)
            }
            _ => normalise::url(&plain).map_err(malformed),
        };
    }
    if plain.contains(':') {
        return normalise::endpoint(&plain).map_err(malformed);
    }
    normalise::domain(&plain).map_err(malformed)
}

/// `None` if it is no row of hexadecimal digits of a digest's length.
fn digest(text: &str) -> Option<Result<Observable, Refusal>> {
    if !matches!(text.len(), 32 | 40 | 56 | 64 | 96 | 128) || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let malformed = |error: Invalid| (SkipReason::Malformed, error.to_string().into());
    Some(match text.len() {
        32 => normalise::md5(text).map_err(malformed),
        40 => normalise::sha1(text).map_err(malformed),
        64 => normalise::sha256(text).map_err(malformed),
        _ => Err((SkipReason::UnsupportedType, "a digest that is no SHA-256, SHA-1 or MD5".into())),
    })
}

#[cfg(test)]
mod tests;
