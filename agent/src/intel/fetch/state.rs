//! What is remembered of a source between fetches, in a file beside what was fetched.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The reader of directories passes it over.
const FILE: &str = ".fetch.json";

/// What is remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct State {
    /// When a fetch last succeeded, also when there was nothing new.
    pub succeeded: Option<Timestamp>,
    /// When what is kept last changed.
    pub changed: Option<Timestamp>,
    /// `ETag`
    pub(super) etag: Option<String>,
    /// `Last-Modified`, as the server spells it.
    pub(super) last_modified: Option<String>,
    /// From when on a TAXII collection is to be read.
    pub(super) added_after: Option<Timestamp>,
    /// When it was last read from its beginning.
    pub(super) whole: Option<Timestamp>,
    /// Version of each MISP event that is kept, by its UUID: the manifest's timestamp.
    pub(super) events: BTreeMap<String, String>,
}

impl State {
    /// Reads it; nothing is remembered where the file is missing or damaged, and all is then fetched anew.
    #[must_use]
    pub fn read(directory: &Path) -> Self {
        fs::read(directory.join(FILE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
    }

    pub(super) fn write(&self, directory: &Path) -> io::Result<()> {
        let unfinished = directory.join(".fetch.json~");
        let mut file = File::create(&unfinished)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        file.sync_all()?;
        fs::rename(unfinished, directory.join(FILE))
    }

    pub(super) fn succeeded(&mut self, now: Timestamp, is_changed: bool) {
        self.succeeded = Some(now);
        if is_changed || self.changed.is_none() {
            self.changed = Some(now);
        }
    }
}
