//! Lists: one item a line, the first field of a line, hosts files, ipset, Spamhaus DROP, and the texts that Talos publishes.

mod ipset;

use std::net::IpAddr;
use std::sync::Arc;

use serde_json::Value;

use self::ipset::{Exceptions, Statement, between};
use super::values::{Dropped, by_form};
use super::{Dialect, Fault, Format, MAX_ITEMS, MAX_LINE_BYTES, ParseError, Parsed, Reading, Text, excerpt, title};
use crate::intel::{Attribution, Indicator, Observable, Origin, Place, SkipReason, normalise};

pub(super) struct List;

impl Dialect for List {
    fn name(&self) -> &'static str {
        "list"
    }

    fn text(&self, file: &Arc<str>, _head: &[u8], reading: &Reading) -> Option<Result<Box<dyn Text>, ParseError>> {
        Some(Ok(Box::new(Lines::new(file, reading.format))))
    }
}

/// Holds no more than one line.
struct Lines {
    file: Arc<str>,
    format: Format,
    attribution: Arc<Attribution>,
    parsed: Parsed,
    line: u32,
    partial: Vec<u8>,
    /// Whether the statements of an ipset began.
    in_set: bool,
    exceptions: Exceptions,
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

impl Lines {
    fn new(file: &Arc<str>, format: Format) -> Self {
        let title = title(file);
        let reports = if title.is_empty() { Vec::new() } else { vec![title.to_owned()] };
        Self {
            file: Arc::clone(file),
            format,
            attribution: Arc::new(Attribution { reports, ..Attribution::default() }),
            parsed: Parsed::of("list"),
            line: 0,
            partial: Vec::new(),
            in_set: false,
            exceptions: Exceptions::default(),
            first_unread: None,
        }
    }

    fn error(&self, line: u32, column: usize, fault: Fault) -> ParseError {
        ParseError::new(&self.file, u64::from(line), column as u64, fault)
    }

    fn hold(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        if self.partial.len() + piece.len() > MAX_LINE_BYTES {
            return Err(self.error(self.line + 1, MAX_LINE_BYTES + 1, Fault::LineTooLong));
        }
        self.partial.extend_from_slice(piece);
        Ok(())
    }

    fn line(&mut self, bytes: &[u8]) -> Result<(), ParseError> {
        self.line += 1;
        if bytes.len() > MAX_LINE_BYTES {
            return Err(self.error(self.line, MAX_LINE_BYTES + 1, Fault::LineTooLong));
        }
        if self.parsed.read >= MAX_ITEMS || self.parsed.indicators.is_full() {
            return Err(self.error(self.line, 1, Fault::TooMany));
        }
        let bytes = if self.line == 1 { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
        match std::str::from_utf8(bytes) {
            Ok(text) => self.text(text),
            Err(error) => {
                let why = format!("not UTF-8 from column {}", error.valid_up_to() + 1);
                self.skip(&String::from_utf8_lossy(bytes), Dropped::malformed(why));
            }
        }
        Ok(())
    }

    fn text(&mut self, text: &str) {
        let text = text.trim();
        if text.is_empty() || text.starts_with(['#', ';', '!']) || text.starts_with("//") {
            return;
        }
        if let Some(statement) = ipset::statement(text, self.in_set) {
            self.in_set |= matches!(statement, Statement::Set);
            return self.statement(text, statement);
        }
        if text.starts_with('{') {
            return self.json(text);
        }
        let text = without_trailing_comment(text);
        if let Some(range) = ipset::range(text).or_else(|| block(text)) {
            return self.item(text, range, None);
        }
        let mut fields = text.split_ascii_whitespace();
        if let Some(first) = fields.next()
            && SINKS.contains(&first)
            && text.len() > first.len()
        {
            return self.hosts(fields);
        }
        // A URL may hold a semicolon; a prefix with a remark behind one would be taken for a URL.
        let is_column = |(field, _): (&str, &str)| by_form(field.trim_end()).is_ok_and(|value| !is_name(&value));
        let whole = if text.split_once(';').is_some_and(is_column) {
            Err(Dropped::malformed("a value with a remark"))
        } else {
            by_form(text)
        };
        match whole {
            Ok(value) => self.add(vec![value], None),
            Err(refusal) => match first_field(text) {
                Some(Ok((value, note))) => self.add(vec![value], note),
                Some(Err(of_field)) => self.skip(text, of_field),
                None => self.skip(text, refusal),
            },
        }
    }

    fn hosts<'a>(&mut self, names: impl Iterator<Item = &'a str>) {
        const OWN: &str = "a hosts file's name for the machine itself";
        for name in names {
            if OWN_NAMES.contains(&name) {
                self.skip(name, Dropped::new(SkipReason::Benign, OWN));
                continue;
            }
            match normalise::domain(name) {
                Ok(value @ Observable::Domain(_)) => self.add(vec![value], None),
                Ok(_) => self.skip(name, Dropped::malformed("an address where a hosts file has a name")),
                Err(error) => self.skip(name, error.into()),
            }
        }
    }

    fn origin(&self) -> Origin {
        Origin { file: Arc::clone(&self.file), place: Place::Line(self.line) }
    }

    fn statement(&mut self, text: &str, statement: Statement<'_>) {
        let Statement::Entry { values, is_exception, comment } = statement else { return };
        match values {
            Ok(values) if is_exception => {
                self.exceptions.add(&values);
                self.skip(text, Dropped::new(SkipReason::Benign, "its author excepts it from the set (nomatch)"));
            }
            values => self.item(text, values, comment),
        }
    }

    /// A line of Spamhaus's JSON lists: `{"cidr": "192.0.2.0/24", "sblid": "SBL1"}`, and one with metadata.
    fn json(&mut self, text: &str) {
        let Ok(Value::Object(line)) = serde_json::from_str(text) else {
            return self.skip(text, Dropped::malformed("not a JSON object"));
        };
        let field = |key: &str| line.get(key).and_then(Value::as_str);
        match field("cidr") {
            Some(prefix) => {
                let value = normalise::address(prefix).map(|value| vec![value]).map_err(Dropped::from);
                self.item(prefix, value, field("sblid"));
            }
            None if field("type") == Some("metadata") => {}
            None if line.contains_key("asn") => {
                self.skip(text, Dropped::unsupported_type("an autonomous system's number"));
            }
            None => self.skip(text, Dropped::malformed("a JSON line without `cidr`")),
        }
    }

    fn item(&mut self, text: &str, values: Result<Vec<Observable>, Dropped>, note: Option<&str>) {
        match values {
            Ok(values) => self.add(values, note),
            Err(reason) => self.skip(text, reason),
        }
    }

    /// Takes back what is excepted.
    fn except(&mut self) {
        self.exceptions.sort();
        for indicator in std::mem::take(&mut self.parsed.indicators).iter() {
            let left: Vec<Observable> =
                indicator.observables.iter().flat_map(|value| self.exceptions.without(value)).collect();
            if left.is_empty() {
                let why = Dropped::new(SkipReason::Benign, "its author excepts all of it from the set (nomatch)");
                let value = indicator.observables.first().map(ToString::to_string).unwrap_or_default();
                self.parsed.skipped.push(&why.skipped(indicator.origin, &value));
            } else {
                self.parsed.indicators.push(&Indicator { observables: left, ..indicator });
            }
        }
    }

    fn add(&mut self, values: Vec<Observable>, note: Option<&str>) {
        self.parsed.read += 1;
        self.parsed.indicators.push(&Indicator {
            name: note.map(|note| Arc::from(excerpt(note))),
            attribution: Arc::clone(&self.attribution),
            ..Indicator::new(values, self.origin())
        });
    }

    fn skip(&mut self, text: &str, dropped: Dropped) {
        self.first_unread.get_or_insert(self.line);
        self.parsed.read += 1;
        self.parsed.skipped.push(&dropped.skipped(self.origin(), text));
    }
}

impl Text for Lines {
    fn push(&mut self, mut piece: &[u8]) -> Result<(), ParseError> {
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

    fn finish(mut self: Box<Self>) -> Result<Parsed, ParseError> {
        if !self.partial.is_empty() {
            let line = std::mem::take(&mut self.partial);
            self.line(&line)?;
        }
        if !self.exceptions.is_empty() {
            self.except();
        }
        if let Some(line) = self.first_unread
            && self.format == Format::AUTO
            && self.parsed.indicators.is_empty()
        {
            return Err(self.error(line, 1, Fault::Unknown { found: "text of which no line is an indicator" }));
        }
        Ok(self.parsed)
    }
}

fn without_trailing_comment(text: &str) -> &str {
    match text.find(" #").into_iter().chain(text.find("\t#")).min() {
        Some(start) => text.get(..start).unwrap_or(text).trim_end(),
        None => text,
    }
}

const fn is_name(value: &Observable) -> bool {
    matches!(value, Observable::Domain(_) | Observable::Url(_))
}

/// A line of DShield's block list: first address, last address and length of a prefix. Any other text is none, for an address
/// with another behind it may mean anything.
fn block(text: &str) -> Option<Result<Vec<Observable>, Dropped>> {
    let mut fields = text.split('\t');
    let (first, last, length) = (fields.next()?, fields.next()?, fields.next()?);
    let (first, last): (IpAddr, IpAddr) = (first.parse().ok()?, last.parse().ok()?);
    let length: u8 = length.parse().ok()?;
    let prefix = ipnet::IpNet::new(first, length).ok()?;
    (prefix.network() == first && prefix.broadcast() == last).then(|| between(first, last))
}

/// A line whose first field is an indicator (or a value that no hook sees) and whose rest is a remark: `hash;comment`, `ip<TAB>score`, `hash  file name`.
/// A domain needs a tab or semicolon behind it, because prose starts with words that look like names (`Node.js …`).
fn first_field(text: &str) -> Option<Result<(Observable, Option<&str>), Dropped>> {
    let end = text.find([' ', '\t', ';'])?;
    let (field, rest) = text.split_at(end);
    let value = match by_form(field) {
        Ok(value) => value,
        Err(refusal) => return (refusal.reason == SkipReason::UnsupportedType).then_some(Err(refusal)),
    };
    if is_name(&value) && !field.contains("://") && !rest.starts_with(['\t', ';']) {
        return None;
    }
    let note = rest.trim_matches([' ', '\t', ';', '-', '–', '*', '(', ')']);
    Some(Ok((value, (!note.is_empty()).then_some(note))))
}

#[cfg(test)]
mod tests;
