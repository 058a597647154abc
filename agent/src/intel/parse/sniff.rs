//! Which format a content is, told by its first bytes.

use std::sync::Arc;

use super::{Fault, Format, ParseError};

/// How much of a file [`sniff`] looks at.
pub const SNIFF_BYTES: usize = 64 << 10;

/// What reads a content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A JSON object, read whole.
    Stix,
    /// Lines, read as they come.
    Text,
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
pub(super) fn content(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start()
}

fn contains(bytes: &[u8], wanted: &str) -> bool {
    let head = bytes.get(..4096).unwrap_or(bytes).to_ascii_lowercase();
    head.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

/// Names of columns that publishers put into the first line of a CSV file.
const COLUMNS: [&str; 8] =
    ["value", "indicator", "ioc", "type", "domain_name", "ip_address", "sha256", "indicator_type"];

fn has_csv_header(text: &[u8]) -> bool {
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line).to_ascii_lowercase();
    let fields: Vec<&str> = line.split(',').map(|field| field.trim().trim_matches('"')).collect();
    fields.len() > 1 && fields.iter().any(|field| COLUMNS.contains(field))
}

/// Says who reads a content of which `head` is the beginning.
///
/// # Errors
/// An empty file, and what no format fits, by name.
pub fn sniff(format: Format, file: &Arc<str>, head: &[u8]) -> Result<Kind, ParseError> {
    let refuse = |fault| Err(ParseError::new(file, 1, 1, fault));
    let text = content(head);
    if text.is_empty() && head.len() < SNIFF_BYTES {
        return refuse(Fault::Empty);
    }
    if let Some((_, what)) = BINARY.iter().find(|(signature, _)| head.starts_with(signature)) {
        return refuse(Fault::Unknown(what));
    }
    if let Some(offset) = head.iter().position(|byte| *byte == 0) {
        let (line, column) = super::position(head, offset);
        return Err(ParseError::new(file, line, column, Fault::Unknown("binary data (a NUL byte)")));
    }
    let after = text.get(1..).unwrap_or_default().trim_ascii_start();
    let found = match text.first() {
        Some(b'{') => return json(format, file),
        Some(b'[') if after.is_empty() || matches!(after.first(), Some(b'{' | b'"' | b']')) => "a JSON array",
        Some(b'<') if contains(text, "stix") => {
            return refuse(Fault::Refused {
                what: "STIX 1 XML",
                advice: "ask the publisher for STIX 2, or convert it with the OASIS elevator",
            });
        }
        Some(b'<') if contains(text, "<html") || contains(text, "<!doctype html") => {
            "an HTML page: the download may have been redirected to a login or error page"
        }
        Some(b'<') => "XML",
        _ if format == Format::Auto && has_csv_header(text) => {
            return refuse(Fault::Refused {
                what: "CSV with a header line",
                advice: "export the column with the values as a list, one a line",
            });
        }
        _ if format == Format::Stix => return refuse(Fault::Other { wanted: format, found: "text, not JSON" }),
        _ => return Ok(Kind::Text),
    };
    refuse(Fault::Unknown(found))
}

fn json(format: Format, file: &Arc<str>) -> Result<Kind, ParseError> {
    if format == Format::List {
        return Err(ParseError::new(file, 1, 1, Fault::Other { wanted: format, found: "JSON" }));
    }
    Ok(Kind::Stix)
}
