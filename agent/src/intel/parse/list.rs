//! Lists: one item a line, hosts files, the first field of a line, and the text files that Talos publishes.

use std::sync::Arc;

use super::values::{Dropped, by_form};
use super::{Dialect, Fault, Format, MAX_ITEMS, MAX_LINE_BYTES, ParseError, Parsed, Reading, Text, excerpt};
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
    /// Starts a file. Its name without directory and extension becomes the title of the report of its indicators.
    fn new(file: &Arc<str>, format: Format) -> Self {
        let name = file.rsplit('/').next().unwrap_or_default();
        let title = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
        let reports = if title.is_empty() { Vec::new() } else { vec![title.to_owned()] };
        Self {
            file: Arc::clone(file),
            format,
            attribution: Arc::new(Attribution { reports, ..Attribution::default() }),
            parsed: Parsed::of("list"),
            line: 0,
            partial: Vec::new(),
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
        if self.parsed.read >= MAX_ITEMS {
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
        let text = without_trailing_comment(text);
        let mut fields = text.split_ascii_whitespace();
        if let Some(first) = fields.next()
            && SINKS.contains(&first)
            && text.len() > first.len()
        {
            return self.hosts(fields);
        }
        match by_form(text) {
            Ok(value) => self.add(value, None),
            Err(refusal) => match first_field(text) {
                Some(Ok((value, note))) => self.add(value, note),
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
                Ok(value @ Observable::Domain(_)) => self.add(value, None),
                Ok(_) => self.skip(name, Dropped::malformed("an address where a hosts file has a name")),
                Err(error) => self.skip(name, error.into()),
            }
        }
    }

    fn origin(&self) -> Origin {
        Origin { file: Arc::clone(&self.file), place: Place::Line(self.line) }
    }

    fn add(&mut self, value: Observable, note: Option<&str>) {
        self.parsed.read += 1;
        self.parsed.indicators.push(Indicator {
            name: note.map(|note| Arc::from(excerpt(note))),
            attribution: Arc::clone(&self.attribution),
            ..Indicator::new(vec![value], self.origin())
        });
    }

    fn skip(&mut self, text: &str, dropped: Dropped) {
        self.first_unread.get_or_insert(self.line);
        self.parsed.read += 1;
        self.parsed.skipped.push(dropped.skipped(self.origin(), text));
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

/// A line whose first field is an indicator (or a value that no hook sees) and whose rest is a remark: `hash;comment`, `ip<TAB>score`, `hash  file name`.
/// A domain needs a tab or semicolon behind it, because prose starts with words that look like names (`Node.js …`).
fn first_field(text: &str) -> Option<Result<(Observable, Option<&str>), Dropped>> {
    let end = text.find([' ', '\t', ';'])?;
    let (field, rest) = text.split_at(end);
    let value = match by_form(field) {
        Ok(value) => value,
        Err(refusal) => return (refusal.reason == SkipReason::UnsupportedType).then_some(Err(refusal)),
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

#[cfg(test)]
mod tests;
