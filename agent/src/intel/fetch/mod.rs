//! Fetching what a source lists into files of this machine, from which it is then read like any other.
//!
//! What is fetched takes the place of what was there only when it was received whole and can be read: a server that breaks
//! takes nothing away.

mod file;
mod misp;
mod state;
mod taxii;

#[cfg(test)]
mod tests;

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;

use super::source::{FileError, Remote, load_from};
use super::{Source, taxii as protocol};
use crate::http::{self, Client, Stop};

pub use state::State;

/// Begins the name of what is being received; the reader of directories passes such names over.
const INCOMING: &str = ".incoming";

/// Why nothing was fetched; what was there stays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// The server, in TAXII.
    #[error(transparent)]
    Taxii(#[from] protocol::Error),
    /// What it sent cannot be read.
    #[error(transparent)]
    Content(#[from] FileError),
    /// What it sent is not what a MISP feed is.
    #[error("{url}: {why}")]
    Feed {
        /// Asked for.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// What is kept has grown too large.
    #[error("the collection has grown to {bytes} bytes; raise `max_bytes` (now {limit}) if that is right")]
    Grown {
        /// Of all objects.
        bytes: u64,
        /// The limit.
        limit: u64,
    },
    /// The state directory cannot be written.
    #[error("{path}: {error}")]
    Keep {
        /// File or directory.
        path: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl Error {
    /// How long the server asks to be left alone, if it does.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Http(http::Error::Status { retry_after, .. })
            | Self::Taxii(protocol::Error::Http(http::Error::Status { retry_after, .. })) => *retry_after,
            _ => None,
        }
    }

    /// Whether it is only that the agent stops.
    #[must_use]
    pub const fn is_stop(&self) -> bool {
        matches!(self, Self::Http(http::Error::Stopped) | Self::Taxii(protocol::Error::Http(http::Error::Stopped)))
    }
}

/// What came of a fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    /// Whether what is kept is another than before.
    pub is_changed: bool,
    /// Parts that could not be used; what was there of them stays.
    pub refused: Vec<String>,
}

/// Fetches a source into its directory, and remembers there what makes the next time cheaper.
///
/// # Errors
/// Nothing that was there is touched.
pub fn fetch(source: &Source, remote: Remote<'_>, now: Timestamp, stop: &Stop) -> Result<Fetched, Error> {
    let client = Client::new(&source.access, remote.url(), source.limits(), stop.clone())?;
    let place = Place { source, stop };
    place.make()?;
    let mut state = State::read(&source.path);
    let fetched = match remote {
        Remote::File(url) => file::fetch(&client, url, &place, &mut state)?,
        Remote::Taxii(address) => taxii::fetch(&client, address, &place, &mut state, now)?,
        Remote::Misp(feed) => misp::fetch(&client, feed, &place, &mut state)?,
    };
    state.succeeded(now, fetched.is_changed);
    place.remember(&state)?;
    Ok(fetched)
}

/// Where what is fetched lands.
struct Place<'a> {
    source: &'a Source,
    stop: &'a Stop,
}

impl Place<'_> {
    fn make(&self) -> Result<(), Error> {
        let path = &self.source.path;
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(cannot_keep(path))
    }

    fn incoming(&self) -> PathBuf {
        self.source.path.join(INCOMING)
    }

    /// Puts what was received under `name`, if it can be read and is not what is there already; whether it did. `url` is
    /// what errors call it.
    fn land(&self, name: &str, url: &str) -> Result<bool, Error> {
        let (incoming, target) = (self.incoming(), self.source.path.join(name));
        let named = Source { path: PathBuf::from(url), ..self.source.clone() };
        load_from(&named, &incoming, Timestamp::now()).map_err(|error| error.error)?;
        if is_same(&incoming, &target) {
            fs::remove_file(&incoming).map_err(cannot_keep(&incoming))?;
            return Ok(false);
        }
        // Whoever was told to stop may have a successor that writes here.
        if self.stop.is_stopped() {
            return Err(http::Error::Stopped.into());
        }
        let durable = File::open(&incoming).and_then(|file| file.sync_all());
        durable.and_then(|()| fs::rename(&incoming, &target)).map_err(cannot_keep(&target))?;
        Ok(true)
    }

    fn remember(&self, state: &State) -> Result<(), Error> {
        if self.stop.is_stopped() {
            return Err(http::Error::Stopped.into());
        }
        state.write(&self.source.path).map_err(cannot_keep(&self.source.path))
    }
}

fn cannot_keep(path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.display().to_string();
    move |error| Error::Keep { path, error }
}

/// Whether two files hold the same bytes.
fn is_same(one: &Path, other: &Path) -> bool {
    let length = |path: &Path| fs::metadata(path).map(|metadata| metadata.len()).ok();
    length(one) == length(other) && length(one).is_some() && fs::read(one).ok() == fs::read(other).ok()
}
