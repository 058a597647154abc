//! CSV: columns by the settings or by a header with known names, never by guessing at the values. A row is one indicator.

mod columns;
mod records;

use std::sync::Arc;

pub use columns::{Column, Columns};

use self::columns::{Layout, NoLayout, Role, time};
use self::records::{Broken, Found, Records};
use super::names::{Attributions, Names};
use super::values::Dropped;
use super::{Dialect, Fault, Format, MAX_ITEMS, ParseError, Parsed, Reading, Text, excerpt, title, tlp};
use crate::intel::{Attribution, Indicator, Origin, Path, Place, Tlp, TlpOrigin};

/// Told apart by which of them gives a header that is known.
const DELIMITERS: [u8; 4] = [b',', b';', b'\t', b'|'];

pub(super) struct Csv;

impl Dialect for Csv {
    fn name(&self) -> &'static str {
        "csv"
    }

    fn text(&self, file: &Arc<str>, head: &[u8], reading: &Reading) -> Option<Result<Box<dyn Text>, ParseError>> {
        let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head);
        let delimiters = reading.csv.delimiter.map_or(DELIMITERS.to_vec(), |delimiter| vec![delimiter as u8]);
        let mut why = None;
        for delimiter in delimiters {
            match find_header(&reading.csv, head, delimiter) {
                Ok(header) => return Some(Ok(Box::new(Rows::new(file, delimiter, header)))),
                Err(refusal) => {
                    why.get_or_insert(refusal);
                }
            }
        }
        let is_asked_for = reading.format != Format::AUTO;
        let (line, refusal) = why.unwrap_or((1, NoLayout::NoValue(Vec::new())));
        let fault = match refusal {
            NoLayout::NotOfFiles => "it lists certificates by SHA-1, which nothing here compares".to_owned(),
            NoLayout::Missing(name) if is_asked_for => format!("there is no column `{name}`"),
            NoLayout::NoValue(names) if is_asked_for => format!(
                "no column of the header is known ({}); name the one with the values: [source.csv] value = \"…\"",
                excerpt(&names.join(", "))
            ),
            _ => return None,
        };
        Some(Err(ParseError::new(file, line.into(), 1, Fault::Csv(fault))))
    }
}

/// Where the header is, and what it means.
struct Header {
    layout: Layout,
    /// The line of a header that is a record; one in a comment, or none, is no row in any case.
    line: Option<u32>,
}

/// What a text begins with.
#[derive(Default)]
struct Beginning {
    /// The last comment before the first record.
    comment: String,
    /// The first record, with its line.
    first: Option<(u32, Vec<String>)>,
}

/// The first record was found.
struct Enough;

impl From<Broken> for Enough {
    fn from(_: Broken) -> Self {
        Self
    }
}

impl Beginning {
    fn of(text: &[u8], delimiter: u8) -> Self {
        let mut beginning = Self::default();
        let mut take = |line, found: Found<'_>| {
            match found {
                Found::Comment(text) => {
                    text.clone_into(&mut beginning.comment);
                    return Ok(());
                }
                Found::Record(fields) => {
                    beginning.first = Some((line, fields.into_iter().map(str::to_owned).collect()));
                }
                Found::Encoding => {}
            }
            Err(Enough)
        };
        let mut records = Records::new(delimiter);
        // A text without a line end is all there is.
        let _enough = records.push(text, &mut take).and_then(|()| records.finish(&mut take));
        beginning
    }
}

/// Finds the header: the last comment before the first record if it has known names and as many fields, else that record.
fn find_header(columns: &Columns, head: &[u8], delimiter: u8) -> Result<Header, (u32, NoLayout)> {
    let Beginning { comment, first } = Beginning::of(head, delimiter);
    let (line, first) = first.ok_or((1, NoLayout::NoValue(Vec::new())))?;
    let at_line = |why| (line, why);
    if columns.are_numbers() {
        return Ok(Header { layout: Layout::new(columns, &first).map_err(at_line)?, line: None });
    }
    let commented = Beginning::of(comment.as_bytes(), delimiter).first.map(|(_, names)| names);
    // Lists say `# MD5;COMMENT` and mean any digest.
    if let Some(names) = commented.filter(|names| names.len() == first.len() && names.len() > 2) {
        match Layout::new(columns, &names) {
            Ok(layout) => return Ok(Header { layout, line: None }),
            Err(NoLayout::NotOfFiles) => return Err((line, NoLayout::NotOfFiles)),
            Err(_) => {}
        }
    }
    // One column is a list whose first line is a word, unless the settings name it.
    if first.len() < 2 && columns.value.is_none() {
        return Err((line, NoLayout::NoValue(first)));
    }
    Ok(Header { layout: Layout::new(columns, &first).map_err(at_line)?, line: Some(line) })
}

/// Why reading ends.
enum Stop {
    Broken(Broken),
    TooMany,
}

impl From<Broken> for Stop {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

struct Rows {
    file: Arc<str>,
    records: Records,
    sheet: Sheet,
    is_first_piece: bool,
}

/// What the rows are read into.
struct Sheet {
    file: Arc<str>,
    title: String,
    header: Header,
    known: Attributions<[String; 2]>,
    parsed: Parsed,
}

impl Rows {
    fn new(file: &Arc<str>, delimiter: u8, header: Header) -> Self {
        let sheet = Sheet {
            file: Arc::clone(file),
            title: title(file).to_owned(),
            header,
            known: Attributions::default(),
            parsed: Parsed::default(),
        };
        Self { file: Arc::clone(file), records: Records::new(delimiter), sheet, is_first_piece: true }
    }

    fn error(&self, stop: Stop) -> ParseError {
        let fault = match stop {
            Stop::Broken(Broken::TooLong) => Fault::LineTooLong,
            Stop::Broken(Broken::OpenQuote) => Fault::Csv("a quote that is not closed".to_owned()),
            Stop::TooMany => Fault::TooMany,
        };
        ParseError::new(&self.file, self.records.line.into(), 1, fault)
    }
}

impl Text for Rows {
    fn push(&mut self, piece: &[u8]) -> Result<(), ParseError> {
        let marked = if std::mem::take(&mut self.is_first_piece) { piece.strip_prefix(b"\xef\xbb\xbf") } else { None };
        let sheet = &mut self.sheet;
        let read = self.records.push(marked.unwrap_or(piece), |line, found| sheet.record(line, found));
        read.map_err(|stop| self.error(stop))
    }

    fn finish(mut self: Box<Self>) -> Result<Parsed, ParseError> {
        let sheet = &mut self.sheet;
        let read = self.records.finish(|line, found| sheet.record(line, found));
        read.map_err(|stop| self.error(stop))?;
        let how = format!("csv: {}", self.sheet.header.layout.words);
        Ok(Parsed { read_as: self.sheet.known.read_as(&how), ..self.sheet.parsed })
    }
}

impl Sheet {
    fn record(&mut self, line: u32, found: Found<'_>) -> Result<(), Stop> {
        let fields = match found {
            Found::Comment(_) => return Ok(()),
            Found::Record(_) if self.header.line == Some(line) => return Ok(()),
            Found::Record(fields) => Ok(fields),
            Found::Encoding => Err(Dropped::malformed("not UTF-8")),
        };
        if self.parsed.read >= MAX_ITEMS || self.parsed.indicators.is_full() {
            return Err(Stop::TooMany);
        }
        self.parsed.read += 1;
        let origin = Origin { file: Arc::clone(&self.file), place: Place::Line(line) };
        let text = fields.as_ref().map_or_else(|_| String::new(), |fields| fields.join(","));
        match fields.and_then(|fields| self.row(&fields, origin.clone())) {
            Ok(indicator) => self.parsed.indicators.push(&indicator),
            Err(reason) => self.parsed.skipped.push(&reason.skipped(origin, &text)),
        };
        Ok(())
    }

    fn row(&mut self, fields: &[&str], origin: Origin) -> Result<Indicator, Dropped> {
        let layout = &self.header.layout;
        if fields.len() > layout.len() {
            let why = format!("{} fields where the header names {}", fields.len(), layout.len());
            return Err(Dropped::malformed(why));
        }
        let reduced = layout.values(fields)?;
        let cell = |role| layout.cell(fields, role);
        let valid_until = cell(Role::ValidUntil).map(time).transpose()?;
        let tlp = cell(Role::Tlp).map(|text| (tlp::named(text).unwrap_or(Tlp::Red), TlpOrigin::Own));
        let own = [Role::Malware, Role::Actor].map(|role| cell(role).unwrap_or_default().to_owned());
        let left_out = reduced.dropped.into_iter().map(|part| part.skipped(origin.clone(), &fields.join(",")));
        self.parsed.trimmed.extend(left_out);
        Ok(Indicator {
            name: cell(Role::Name).map(|name| Arc::from(excerpt(name))),
            confidence: cell(Role::Confidence).and_then(|text| text.parse().ok()).filter(|value| *value <= 100),
            tlp,
            valid_until,
            modified: layout.latest(fields),
            references: cell(Role::Reference)
                .filter(|url| url.contains("://"))
                .map(str::to_owned)
                .into_iter()
                .collect(),
            attribution: self.attribution(own),
            ..Indicator::new(reduced.observables, origin)
        })
    }

    fn attribution(&mut self, own: [String; 2]) -> Arc<Attribution> {
        self.known.get(&own).unwrap_or_else(|| {
            let mut names = Names::default();
            names.report(&self.title);
            names.malware(&own[0], Path::Label);
            names.actor(&own[1], Path::Label);
            self.known.keep(own, names)
        })
    }
}

#[cfg(test)]
mod tests;
