//! What of a source says where it is fetched from, how, and how often.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::{Age, Source};
use crate::http::Limits;
use crate::intel::parse::MAX_JSON_BYTES;
use crate::intel::taxii::Address;

/// Between two fetches, unless said otherwise.
const INTERVAL: Duration = Duration::from_secs(60 * 60);
/// For one fetch, unless said otherwise.
const TIMEOUT: Duration = Duration::from_secs(5 * 60);

/// A MISP feed: a directory on a web server with `manifest.json` and one file for each event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Feed {
    /// The directory.
    pub url: Url,
}

/// What may be told to others of what a source lists and this host has seen, if its marking permits that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Share {
    /// Nothing.
    Nothing,
    /// That an indicator was seen, by its id.
    #[default]
    Sightings,
    /// The value as well, in an indicator of our own: who has not got the source can then block it.
    Indicators,
}

/// Where a source is fetched from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remote<'a> {
    /// One file.
    File(&'a Url),
    /// A TAXII 2.1 collection.
    Taxii(&'a Address),
    /// A MISP feed.
    Misp(&'a Feed),
}

impl Remote<'_> {
    /// Of the server.
    #[must_use]
    pub const fn url(&self) -> &Url {
        match self {
            Self::File(url) => url,
            Self::Taxii(address) => &address.url,
            Self::Misp(feed) => &feed.url,
        }
    }

    /// The directory below `sources` for what is fetched: another one when the source is fetched from elsewhere, so that it
    /// does not inherit what another server said.
    #[must_use]
    pub fn place(&self, sources: &Path, name: &str) -> PathBuf {
        let collection = match self {
            Self::Taxii(address) => address.collection.as_str(),
            Self::File(_) | Self::Misp(_) => "",
        };
        let identity = format!("{} {collection}", self.url());
        sources.join(name).join(Uuid::new_v5(&Uuid::NAMESPACE_URL, identity.as_bytes()).to_string())
    }
}

impl Source {
    /// Where it is fetched from; `None` for files of this machine.
    #[must_use]
    pub const fn remote(&self) -> Option<Remote<'_>> {
        match (&self.url, &self.taxii, &self.misp) {
            (Some(url), ..) => Some(Remote::File(url)),
            (_, Some(address), _) => Some(Remote::Taxii(address)),
            (.., Some(feed)) => Some(Remote::Misp(feed)),
            _ => None,
        }
    }

    /// Between two fetches.
    #[must_use]
    pub fn interval(&self) -> Duration {
        self.interval.map_or(INTERVAL, Age::unsigned)
    }

    /// What one fetch may cost.
    #[must_use]
    pub fn limits(&self) -> Limits {
        let time = self.timeout.map_or(TIMEOUT, Age::unsigned);
        Limits { bytes: self.max_bytes.unwrap_or(MAX_JSON_BYTES), time }
    }

    /// Whether it makes sense as a whole.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn check(&self) -> Result<(), String> {
        let has_path = !self.path.as_os_str().is_empty();
        let given = [has_path, self.url.is_some(), self.taxii.is_some(), self.misp.is_some()];
        if given.iter().filter(|is_given| **is_given).count() != 1 {
            return Err("it has exactly one of `path`, `url`, `[source.taxii]` and `[source.misp]`".to_owned());
        }
        let Some(remote) = self.remote() else {
            let keys = [
                ("interval", self.interval.is_some()),
                ("timeout", self.timeout.is_some()),
                ("max_bytes", self.max_bytes.is_some()),
                ("stale_after", self.stale_after.is_some()),
                ("access", self.access != crate::http::Access::default()),
            ];
            return match keys.iter().find(|(_, is_given)| *is_given) {
                Some((key, _)) => Err(format!("`{key}` is for what is fetched, and this is read from `path` at once")),
                None => Ok(()),
            };
        };
        self.access.check(remote.url()).map_err(|why| format!("{}: {why}", remote.url()))
    }
}
