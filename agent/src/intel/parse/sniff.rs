//! Which format a content is, told by its first bytes.

use std::sync::Arc;

use super::{Fault, ParseError, Reading, Text};

/// How much of a file [`open`] looks at.
pub const SNIFF_BYTES: usize = 64 << 10;

/// How a content is to be read on.
pub enum Opened {
    /// Whole, by [`json`](super::json).
    Json,
    /// Piece by piece; the beginning is to be pushed too.
    Text(Box<dyn Text>),
}

/// Signatures of what is no text, from the formats' own specifications.
const BINARY: [(&[u8], &str); 9] = [
    (b"\x1f\x8b", "a gzip archive: unpack it first"),
    (b"PK\x03\x04", "a zip archive: unpack it first"),
    (b"BZh", "a bzip2 archive: unpack it first"),
    (b"\xfd7zXZ\0", "an xz archive: unpack it first"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive: unpack it first"),
    (b"%PDF", "a PDF"),
    (b"\x7fELF", "an ELF binary"),
    (b"\xff\xfe", "UTF-16 text: convert it to UTF-8"),
    (b"\xfe\xff", "UTF-16 text: convert it to UTF-8"),
];

/// Without a UTF-8 byte order mark and leading white space.
fn content(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start()
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    let head = bytes.get(..4096).unwrap_or(bytes).to_ascii_lowercase();
    head.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

/// Whether a text is JSON as a whole: JSON lines are lines.
fn is_json(text: &[u8]) -> bool {
    let after = text.get(1..).unwrap_or_default().trim_ascii_start();
    match text.first() {
        Some(b'{') => {
            let mut lines = text.split(|byte| *byte == b'\n');
            let first = lines.next().unwrap_or_default();
            let next = lines.map(<[u8]>::trim_ascii).find(|line| !line.is_empty());
            let is_whole = || serde_json::from_slice::<serde::de::IgnoredAny>(first).is_ok();
            !(next.is_some_and(|line| line.starts_with(b"{")) && is_whole())
        }
        Some(b'[') => after.is_empty() || matches!(after.first(), Some(b'{' | b'"' | b']')),
        _ => false,
    }
}

/// Says who reads a content of which `head` is the beginning.
///
/// # Errors
/// An empty file, and what no format fits, by name.
pub fn open(reading: &Reading, file: &Arc<str>, head: &[u8]) -> Result<Opened, ParseError> {
    let refuse = |fault| Err(ParseError::new(file, 1, 1, fault));
    let text = content(head);
    if text.is_empty() && head.len() < SNIFF_BYTES {
        return refuse(Fault::Empty);
    }
    if let Some((_, found)) = BINARY.iter().find(|(signature, _)| head.starts_with(signature)) {
        return refuse(Fault::Unknown { found });
    }
    // Asked first because it is ten times as fast as finding the place.
    if head.contains(&0) {
        let (line, column) = super::position(head, head.iter().position(|byte| *byte == 0).unwrap_or_default());
        return Err(ParseError::new(file, line, column, Fault::Unknown { found: "binary data (a NUL byte)" }));
    }
    if is_json(text) {
        return Ok(Opened::Json);
    }
    match text.first() {
        Some(b'<') if contains(text, "stix") => refuse(Fault::Refused {
            what: "STIX 1 XML",
            advice: "ask the publisher for STIX 2, or convert it with the OASIS elevator",
        }),
        Some(b'<') if contains(text, "<html") || contains(text, "<!doctype html") => refuse(Fault::Unknown {
            found: "an HTML page: the download may have been redirected to a login or error page",
        }),
        Some(b'<') => refuse(Fault::Unknown { found: "XML" }),
        _ => match reading.format.dialects().find_map(|dialect| dialect.text(file, head, reading)) {
            Some(opened) => opened.map(Opened::Text),
            None => refuse(reading.format.mismatch("text, not JSON")),
        },
    }
}
