//! Bytes → indicators (pure): one file per format. A new format is its file, its fixture and a line in the list `FORMATS`.

mod csv;
mod document;
mod list;
mod misp;
mod names;
pub mod pattern;
mod sniff;
mod stix;
mod talos;
mod tlp;
pub mod values;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use csv::{Column, Columns};
pub use misp::ToIds;
pub use sniff::{Opened, SNIFF_BYTES, open};

use self::document::Document;
use super::{Indicators, Skips};

/// All formats, in the order in which a content is shown to them: a list takes any text, so it comes last.
static FORMATS: [&dyn Dialect; 5] = [&stix::Stix, &misp::Misp, &csv::Csv, &talos::Talos, &list::List];

/// Bytes of a JSON file, which is read whole; larger ones are refused.
pub const MAX_JSON_BYTES: u64 = 256 << 20;
/// Bytes of a line of a list; longer ones are refused, so that a file without line ends takes no memory.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Items of one file.
pub const MAX_ITEMS: u64 = 20_000_000;

/// What is particular to one format.
trait Dialect: Sync {
    /// As settings and command line spell it.
    fn name(&self) -> &'static str;

    /// Reads a JSON text that is of this format beyond doubt in one pass; `None` where only [`Self::json`] can tell.
    fn at_once(&self, _file: &Arc<str>, _text: &[u8], _reading: &Reading) -> Option<Parsed> {
        None
    }

    /// Reads a JSON document, or says why it is refused; `None` if it is of another format.
    fn json(&self, _document: &Document<'_>, _reading: &Reading) -> Option<Result<Parsed, ParseError>> {
        None
    }

    /// Starts on a text of which `head` is the beginning, or says why it is refused; `None` if it is of another format.
    fn text(&self, _file: &Arc<str>, _head: &[u8], _reading: &Reading) -> Option<Result<Box<dyn Text>, ParseError>> {
        None
    }
}

/// A text that is read as it comes, in pieces of any size.
pub trait Text {
    /// Takes the next piece.
    ///
    /// # Errors
    /// What makes the file unusable as a whole.
    fn push(&mut self, piece: &[u8]) -> Result<(), ParseError>;

    /// Ends the file.
    ///
    /// # Errors
    /// What makes the file unusable as a whole.
    fn finish(self: Box<Self>) -> Result<Parsed, ParseError>;
}

/// How a source is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Format(Option<&'static str>);

impl Format {
    /// Told by the content, never by the name; what is not recognised is refused by name.
    pub const AUTO: Self = Self(None);

    /// All names, as settings and command line take them.
    pub fn names() -> impl Iterator<Item = &'static str> {
        std::iter::once("auto").chain(FORMATS.iter().map(|dialect| dialect.name()))
    }

    /// Those to which a content is shown.
    fn dialects(self) -> impl Iterator<Item = &'static dyn Dialect> {
        FORMATS.into_iter().filter(move |dialect| self.0.is_none_or(|name| name == dialect.name()))
    }

    /// What is wrong with a content that none of them takes.
    const fn mismatch(self, found: &'static str) -> Fault {
        match self {
            Self::AUTO => Fault::Unknown { found },
            wanted => Fault::Other { wanted, found },
        }
    }
}

impl FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self::AUTO);
        }
        let known = Self::names().find(|name| *name == text).map(|name| Self(Some(name)));
        known.ok_or_else(|| format!("`{text}` is none of {}", Self::names().collect::<Vec<_>>().join(", ")))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.unwrap_or("auto"))
    }
}

impl<'de> Deserialize<'de> for Format {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Format {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// How the files of a source are to be read: what of its settings concerns the parsers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Of which format they are.
    pub format: Format,
    /// Whether a MISP attribute counts without `to_ids`.
    pub to_ids: ToIds,
    /// Which column of a CSV file holds what.
    pub csv: Columns,
}

impl From<Format> for Reading {
    fn from(format: Format) -> Self {
        Self { format, ..Self::default() }
    }
}

/// Which version of an object a file holds: what decides between two files that hold the same object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// The object's id.
    pub id: Arc<str>,
    /// Its version.
    pub modified: Option<Timestamp>,
}

/// What a file says.
#[derive(Clone, Debug, Default)]
pub struct Parsed {
    /// As what it was read: the format's name, and what of the file was taken for what.
    pub read_as: String,
    /// Indicators in it: always `indicators.len() + skipped.len()`.
    pub read: u64,
    /// Usable as far as the format says.
    pub indicators: Indicators,
    /// Not usable, each with its reason.
    pub skipped: Skips,
    /// Alternatives left out of indicators that are used.
    pub trimmed: Skips,
    /// Older versions of objects in the same file; not in `read`.
    pub superseded: u64,
    /// The revoked ones among `skipped`.
    pub revocations: Vec<Revocation>,
}

impl Parsed {
    fn of(format: &str) -> Self {
        Self { read_as: format.to_owned(), ..Self::default() }
    }
}

/// Why a file is refused as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}:{column}: {fault}")]
pub struct ParseError {
    /// The file.
    pub file: Arc<str>,
    /// Line, from 1.
    pub line: u64,
    /// Column in bytes, from 1.
    pub column: u64,
    /// What is wrong.
    pub fault: Fault,
}

/// What is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Nothing in it.
    #[error("the file is empty; a download may have failed (a list that is meant to be empty needs a comment line)")]
    Empty,
    /// JSON that is none.
    #[error("not valid JSON: {0}")]
    Json(String),
    /// CSV of which the columns are not known, or that breaks off.
    #[error("not readable as CSV: {0}")]
    Csv(String),
    /// Bytes that are no text.
    #[error("not UTF-8 text")]
    Encoding,
    /// A long line.
    #[error("the line is longer than {MAX_LINE_BYTES} bytes; a list has one item a line")]
    LineTooLong,
    /// A large file.
    #[error("the file is larger than {MAX_JSON_BYTES} bytes; split it")]
    TooLarge,
    /// Many items.
    #[error("more than {MAX_ITEMS} items; split the file")]
    TooMany,
    /// A format that is known and not read.
    #[error("this is {what}, which is not read; {advice}")]
    Refused {
        /// What it is.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// A file that belongs to a feed and holds no indicators: in a directory it is passed over.
    #[error("this is {0}, which holds no indicators itself; name the directory that it is in")]
    Companion(&'static str),
    /// No format that is known.
    #[error("no known format: it looks like {found}; formats are {}", Format::names().skip(1).collect::<Vec<_>>().join(", "))]
    Unknown {
        /// What it looks like.
        found: &'static str,
    },
    /// Another format than asked for.
    #[error("the format is set to {wanted}, but it looks like {found}")]
    Other {
        /// As set.
        wanted: Format,
        /// As found.
        found: &'static str,
    },
}

impl ParseError {
    fn new(file: &Arc<str>, line: u64, column: u64, fault: Fault) -> Self {
        Self { file: Arc::clone(file), line, column, fault }
    }

    /// Whether the file belongs to a feed without holding indicators.
    #[must_use]
    pub const fn is_companion(&self) -> bool {
        matches!(self.fault, Fault::Companion(_))
    }
}

/// Line and column, both from 1, of an offset.
fn position(bytes: &[u8], offset: usize) -> (u64, u64) {
    let before = bytes.get(..offset).unwrap_or(bytes);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    (line as u64, (before.len() - start + 1) as u64)
}

/// The first 200 characters, as an example shows a value.
fn excerpt(text: &str) -> &str {
    const LENGTH: usize = 200;
    if text.len() <= LENGTH {
        return text;
    }
    let end = text.char_indices().nth(LENGTH).map_or(text.len(), |(end, _)| end);
    text.get(..end).unwrap_or(text)
}

/// A file's name without directory and extension: the title of what a text without titles reports.
fn title(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or_default();
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}

/// Reads a file that is in memory.
///
/// # Errors
/// What makes the file unusable as a whole, with line and column. What is wrong with one item is in [`Parsed::skipped`].
pub fn parse(reading: &Reading, file: &Arc<str>, bytes: &[u8]) -> Result<Parsed, ParseError> {
    match open(reading, file, bytes)? {
        Opened::Json => json(reading, file, bytes),
        Opened::Text(mut text) => {
            text.push(bytes)?;
            text.finish()
        }
    }
}

/// Reads a JSON document: of the formats asked for, the first that takes it.
///
/// # Errors
/// Broken JSON with line and column, a document that no format takes, and what its format refuses as a whole.
pub fn json(reading: &Reading, file: &Arc<str>, bytes: &[u8]) -> Result<Parsed, ParseError> {
    if let Some(parsed) = reading.format.dialects().find_map(|dialect| dialect.at_once(file, bytes, reading)) {
        return Ok(parsed);
    }
    let document = Document::parse(file, bytes)?;
    for dialect in reading.format.dialects() {
        if let Some(parsed) = dialect.json(&document, reading) {
            return parsed;
        }
    }
    let takes = |dialect: &&dyn Dialect| dialect.json(&document, reading).is_some();
    let other = Format::AUTO.dialects().find(takes).map(Dialect::name);
    Err(document.error(reading.format.mismatch(other.unwrap_or_else(|| document.describe()))))
}

#[cfg(test)]
mod tests;
