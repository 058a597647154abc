//! What carries a repository. None is trusted; each only gives bytes by name, up to a limit.

use std::collections::HashMap;
use std::io::{ErrorKind, Read};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tough::{Bytes, Transport, TransportError, TransportErrorKind, TransportStream, async_trait};
use ureq::http::{StatusCode, header};
use url::Url;

use super::open::MAX_METADATA_BYTES;
use super::{METADATA, TARGETS};
use crate::http::{self, Access, Ask, Client, Limits, Stop};

/// Answers remembered with their entity tags: four of metadata, and the policy.
const REMEMBERED: usize = 16;
/// Larger answers are not remembered.
const REMEMBERED_BYTES: usize = 1 << 20;

/// A directory with `metadata` and `targets`.
#[derive(Clone, Debug)]
pub struct Folder {
    /// The directory.
    pub path: PathBuf,
    /// Bytes of a file below `targets`.
    pub max_bytes: u64,
}

/// The same behind a URL that ends in `/`.
#[derive(Clone, Debug)]
pub struct Web {
    base: Url,
    access: Access,
    limits: Limits,
    stop: Stop,
    /// By URL: the entity tag and what it stands for.
    remembered: Arc<Mutex<HashMap<Url, (String, Bytes)>>>,
}

impl Web {
    /// Asks nobody yet.
    #[must_use]
    pub fn new(base: Url, access: Access, limits: Limits, stop: Stop) -> Self {
        Self { base, access, limits, stop, remembered: Arc::default() }
    }

    /// Where the repository is.
    #[must_use]
    pub const fn base(&self) -> &Url {
        &self.base
    }

    fn remembered(&self, url: &Url) -> Option<(String, Bytes)> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner).get(url).cloned()
    }

    fn remember(&self, url: &Url, tag: Option<String>, bytes: &Bytes) {
        let mut remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        remembered.remove(url);
        if let Some(tag) = tag.filter(|_| bytes.len() <= REMEMBERED_BYTES) {
            if remembered.len() >= REMEMBERED {
                // The names of metadata carry versions: what is old is not asked for again.
                remembered.clear();
            }
            remembered.insert(url.clone(), (tag, bytes.clone()));
        }
    }

    fn get(&self, url: &Url) -> Result<Bytes, http::Error> {
        // Each file by itself: a limit for one must not be used up by those before it.
        let limits = Limits { bytes: most(url, self.limits.bytes), ..self.limits };
        let client = Client::new(&self.access, url, limits, self.stop.clone())?;
        let known = self.remembered(url);
        let ask = Ask {
            accept: "application/json, */*;q=0.5",
            if_none_match: known.as_ref().map(|(tag, _)| tag.as_str()),
            ..Ask::default()
        };
        let fresh = client.ask(url, &ask, |answer| {
            if answer.is_unchanged() {
                return Ok(None);
            }
            let tag = answer.header(&header::ETAG).map(str::to_owned);
            Ok(Some((tag, Bytes::from(answer.bytes()?))))
        })?;
        match (fresh, known) {
            (Some((tag, bytes)), _) => {
                self.remember(url, tag, &bytes);
                Ok(bytes)
            }
            (None, Some((_, bytes))) => Ok(bytes),
            (None, None) => {
                Err(http::Error::Content { url: url.to_string(), why: "unchanged from nothing".to_owned() })
            }
        }
    }
}

/// Whatever carries a repository: it gives files by URL, as [`Transport`] asks for them, and says which URLs those are.
pub trait Carrier: Transport + Sync + Send + Clone + 'static {
    /// Where the files below `part` are.
    fn base(&self, part: &str) -> Result<Url, super::Error>;
}

impl Carrier for Folder {
    fn base(&self, part: &str) -> Result<Url, super::Error> {
        let path = std::path::absolute(&self.path).map_err(|error| super::Error::file(&self.path, error))?.join(part);
        Url::from_directory_path(&path).map_err(|()| super::Error::file(&path, "it is no path that a URL can name"))
    }
}

impl Carrier for Web {
    fn base(&self, part: &str) -> Result<Url, super::Error> {
        self.base
            .join(&format!("{part}/"))
            .map_err(|error| super::Error::Unreachable(format!("{}: {error}", self.base)))
    }
}

/// Another carrier, which is spared what an earlier bundle has already: files are named by their digests.
#[derive(Clone, Debug)]
pub(super) struct Sparing<C> {
    pub(super) carrier: C,
    pub(super) before: Option<PathBuf>,
}

impl<C> Sparing<C> {
    /// The file of that name in the earlier bundle, if it is there and whole.
    fn known(&self, url: &Url) -> Option<(PathBuf, String)> {
        let name = url.path_segments()?.next_back()?;
        let digest = name.get(..64).filter(|_| url.path().contains(&format!("/{TARGETS}/")))?;
        Some((self.before.as_ref()?.join(TARGETS).join(name), digest.to_owned()))
    }
}

impl<C: Carrier> Carrier for Sparing<C> {
    fn base(&self, part: &str) -> Result<Url, super::Error> {
        self.carrier.base(part)
    }
}

#[async_trait]
impl<C: Carrier> Transport for Sparing<C> {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        if let Some((path, digest)) = self.known(&url) {
            let whole_file = move || std::fs::read(path).ok().filter(|bytes| super::digest(bytes) == digest);
            if let Some(bytes) = off(&url, whole_file).await? {
                return Ok(whole(bytes.into()));
            }
        }
        self.carrier.fetch(url).await
    }
}

/// Bytes of what a URL names: metadata is small, whoever sends it.
fn most(url: &Url, max_bytes: u64) -> u64 {
    if url.path().contains(&format!("/{METADATA}/")) { MAX_METADATA_BYTES } else { max_bytes }
}

/// A file whole, or that it is larger than `most`.
fn read(path: &Path, most: u64) -> std::io::Result<Bytes> {
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::new(ErrorKind::InvalidInput, "it is no file"));
    }
    file.take(most + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > most {
        return Err(std::io::Error::new(ErrorKind::FileTooLarge, format!("more than {most} bytes")));
    }
    Ok(bytes.into())
}

fn whole(bytes: Bytes) -> TransportStream {
    Box::pin(tokio_stream::once(Ok(bytes)))
}

/// Runs what blocks on a thread that may.
async fn off<T: Send + 'static>(url: &Url, get: impl FnOnce() -> T + Send + 'static) -> Result<T, TransportError> {
    let broken = |error| TransportError::new_with_cause(TransportErrorKind::Other, url.as_str(), error);
    tokio::task::spawn_blocking(get).await.map_err(broken)
}

#[async_trait]
impl Transport for Folder {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let other = TransportErrorKind::UnsupportedUrlScheme;
        let path = url.to_file_path().map_err(|()| TransportError::new(other, &url))?;
        let (root, most) =
            (std::path::absolute(&self.path).unwrap_or_else(|_| self.path.clone()), most(&url, self.max_bytes));
        // A name from the metadata must not lead out of the repository.
        if !path.starts_with(&root) || path.components().any(|part| part == Component::ParentDir) {
            let why = format!("{} leads out of the repository", path.display());
            return Err(TransportError::new_with_cause(TransportErrorKind::Other, &url, why));
        }
        off(&url, move || read(&path, most)).await?.map(whole).map_err(|error| {
            let kind = match error.kind() {
                ErrorKind::NotFound => TransportErrorKind::FileNotFound,
                _ => TransportErrorKind::Other,
            };
            TransportError::new_with_cause(kind, &url, error)
        })
    }
}

#[async_trait]
impl Transport for Web {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let got = off(&url, {
            let (web, url) = (self.clone(), url.clone());
            move || web.get(&url)
        });
        got.await?.map(whole).map_err(|error| {
            let kind = match &error {
                http::Error::Status { status, .. } if matches!(*status, StatusCode::NOT_FOUND | StatusCode::GONE) => {
                    TransportErrorKind::FileNotFound
                }
                _ => TransportErrorKind::Other,
            };
            TransportError::new_with_cause(kind, &url, error)
        })
    }
}
