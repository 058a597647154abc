//! Bytes → indicators (pure): one file per format.

pub mod list;
pub mod pattern;
mod sniff;
pub mod stix;

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use list::ListParser;
pub use sniff::{Kind, SNIFF_BYTES, sniff};

use super::{Indicator, Skipped};

/// Bytes of a JSON file, which is read whole; larger ones are refused.
pub const MAX_JSON_BYTES: u64 = 256 << 20;
/// Bytes of a line of a list; longer ones are refused, so that a file without line ends takes no memory.
pub const MAX_LINE_BYTES: usize = 64 << 10;
/// Items of one file.
pub const MAX_ITEMS: u64 = 20_000_000;

/// How a source is written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Told by the content, never by the name; what is not recognised is refused by name.
    #[default]
    Auto,
    /// A STIX 2.0 or 2.1 bundle, or a TAXII 2.1 envelope.
    Stix,
    /// What Cisco Talos publishes: STIX bundles, and text files with headings between the items.
    Talos,
    /// One item a line.
    List,
}

impl Format {
    /// All names, as settings and command line take them.
    pub const NAMES: [&'static str; 4] = ["auto", "stix", "talos", "list"];
}

impl std::str::FromStr for Format {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "stix" => Ok(Self::Stix),
            "talos" => Ok(Self::Talos),
            "list" => Ok(Self::List),
            _ => Err(format!("`{text}` is none of {}", Self::NAMES.join(", "))),
        }
    }
}

impl std::fmt::Display for Format {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auto => "auto",
            Self::Stix => "stix",
            Self::Talos => "talos",
            Self::List => "list",
        })
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
    /// Indicators in it: always `indicators.len() + skipped.len()`.
    pub read: u64,
    /// Usable as far as the format says.
    pub indicators: Vec<Indicator>,
    /// Not usable, each with its reason.
    pub skipped: Vec<Skipped>,
    /// Alternatives left out of indicators that are used.
    pub trimmed: Vec<Skipped>,
    /// Older versions of objects in the same file; not in `read`.
    pub superseded: u64,
    /// The revoked ones among `skipped`.
    pub revocations: Vec<Revocation>,
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
    /// No format that is known.
    #[error("no known format: it looks like {0}; formats are stix, talos and list (set `format` to insist on one)")]
    Unknown(&'static str),
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
    pub(crate) fn new(file: &Arc<str>, line: u64, column: u64, fault: Fault) -> Self {
        Self { file: Arc::clone(file), line, column, fault }
    }
}

/// Line and column, both from 1, of an offset.
pub(crate) fn position(bytes: &[u8], offset: usize) -> (u64, u64) {
    let before = bytes.get(..offset).unwrap_or(bytes);
    let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
    let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
    (line as u64, (before.len() - start + 1) as u64)
}

/// The first 200 characters, as an example shows a value.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

/// Reads a file that is in memory.
///
/// # Errors
/// What makes the file unusable as a whole, with line and column. What is wrong with one item is in [`Parsed::skipped`].
pub fn parse(format: Format, file: &Arc<str>, bytes: &[u8]) -> Result<Parsed, ParseError> {
    match sniff(format, file, bytes)? {
        Kind::Stix => stix::parse(file, bytes),
        Kind::Text => {
            let mut parser = ListParser::new(file, format);
            parser.push(bytes)?;
            parser.finish()
        }
    }
}

#[cfg(test)]
mod tests;
