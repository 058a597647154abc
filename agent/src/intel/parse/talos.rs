//! What Cisco Talos publishes side by side: STIX bundles, and text files with headings between the items.

use std::sync::Arc;

use super::document::Document;
use super::list::List;
use super::stix::Stix;
use super::{Dialect, ParseError, Parsed, Reading, Text};

pub(super) struct Talos;

impl Dialect for Talos {
    fn name(&self) -> &'static str {
        "talos"
    }

    fn json(&self, document: &Document<'_>, reading: &Reading) -> Option<Result<Parsed, ParseError>> {
        Stix.json(document, reading)
    }

    fn text(&self, file: &Arc<str>, head: &[u8], reading: &Reading) -> Option<Result<Box<dyn Text>, ParseError>> {
        List.text(file, head, reading)
    }
}
