//! What a server says. Lenient: what is not needed may be missing.

use serde::Deserialize;
use serde_json::value::RawValue;

/// A discovery document (§4.1.1), or an API root (§4.2.1): whichever a URL turns out to be.
#[derive(Debug, Deserialize)]
pub(super) struct Document {
    pub(super) default: Option<String>,
    pub(super) api_roots: Option<Vec<String>>,
    pub(super) versions: Option<Vec<String>>,
    pub(super) max_content_length: Option<u64>,
}

/// §4.2.1
#[derive(Debug, Deserialize)]
pub(super) struct ApiRoot {
    pub(super) max_content_length: Option<u64>,
}

/// §5.1.1
#[derive(Debug, Deserialize)]
pub(super) struct Collections {
    #[serde(default)]
    pub(super) collections: Vec<CollectionInfo>,
}

/// §5.2.1
#[derive(Clone, Debug, Deserialize)]
pub(super) struct CollectionInfo {
    pub(super) id: String,
    #[serde(default)]
    pub(super) title: String,
    pub(super) alias: Option<String>,
    #[serde(default)]
    pub(super) can_read: bool,
    #[serde(default)]
    pub(super) can_write: bool,
}

/// §3.7
#[derive(Debug, Deserialize)]
pub(super) struct Envelope {
    #[serde(default)]
    pub(super) more: bool,
    pub(super) next: Option<String>,
    #[serde(default)]
    pub(super) objects: Vec<Box<RawValue>>,
}

/// §4.3.1
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    #[serde(default)]
    pub(super) id: String,
    #[serde(default)]
    pub(super) status: String,
    #[serde(default)]
    pub(super) failure_count: u64,
    #[serde(default)]
    pub(super) successes: Vec<Detail>,
    #[serde(default)]
    pub(super) failures: Vec<Detail>,
}

/// §4.3.1.1
#[derive(Debug, Deserialize)]
pub(super) struct Detail {
    pub(super) id: String,
    pub(super) message: Option<String>,
}

/// As much of an object as tells its versions apart.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) id: String,
    pub(super) modified: Option<String>,
}
