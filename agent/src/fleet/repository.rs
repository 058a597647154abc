//! A signed repository on the bus: each piece a value of a bucket, which any server that has a copy may give. No consumer is made for a
//! host that reads, of which a server would allow a thousand.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use async_nats::jetstream::kv;
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use jiff::Timestamp;
use serde_json::Value as Json;
use tough::{Transport, TransportError, TransportErrorKind, TransportStream, async_trait};
use url::Url;

use super::bus::Reader;
use super::{Bus, Error, POLICY};
use crate::bundle::{self, Carrier, Checked, Held, METADATA, TARGETS};

/// Bytes of a piece: well below the megabyte that a server takes unless told otherwise.
const PIECE: usize = 256 << 10;
/// The file that changes with every signing: hosts hear of it.
const TIMESTAMP: &str = "timestamp.json";
/// Where it is.
const LATEST: &str = "news.timestamp.json";
/// What no repository names any more stays so long, for hosts that are reading it.
const GRACE_SECONDS: i64 = 24 * 60 * 60;

/// What carries a repository from the bus.
#[derive(Clone, Debug)]
struct Repository {
    bus: Bus,
    from: Reader,
    max_bytes: u64,
}

impl Repository {
    /// Files below `targets` have at most `max_bytes`.
    const fn new(bus: Bus, from: Reader, max_bytes: u64) -> Self {
        Self { bus, from, max_bytes }
    }
}

impl Carrier for Repository {
    fn base(&self, part: &str) -> Result<Url, bundle::Error> {
        format!("nats://{POLICY}/{part}/")
            .parse()
            .map_err(|error| bundle::Error::Unreachable(format!("{part}: {error}")))
    }
}

/// What a URL names.
#[derive(Debug, PartialEq, Eq)]
enum Named {
    /// The key of a file of metadata.
    Metadata(String),
    /// A signed file, by its digest.
    Target(String),
}

impl Named {
    fn of(url: &Url) -> Option<Self> {
        let mut segments = url.path_segments()?;
        let (part, name) = (segments.next()?, segments.next()?);
        match part {
            METADATA => metadata_key(name).map(Self::Metadata),
            TARGETS => target_digest(name).map(|digest| Self::Target(digest.to_owned())),
            _ => None,
        }
    }
}

/// The key of a file of metadata; `None` for what none is called.
fn metadata_key(name: &str) -> Option<String> {
    let is_known = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
    if name == TIMESTAMP {
        return Some(LATEST.to_owned());
    }
    (name.ends_with(".json") && !name.starts_with('.') && name.bytes().all(is_known))
        .then(|| format!("{METADATA}.{name}"))
}

/// A signed file is called by its digest and then its name.
fn target_digest(name: &str) -> Option<&str> {
    let (digest, _) = name.split_once('.')?;
    let is_digest =
        digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    is_digest.then_some(digest)
}

fn piece_key(digest: &str, number: usize) -> String {
    format!("{TARGETS}.{digest}.{number}")
}

#[async_trait]
impl Transport for Repository {
    async fn fetch(&self, url: Url) -> Result<TransportStream, TransportError> {
        let named = Named::of(&url);
        let unknown = || TransportError::new(TransportErrorKind::UnsupportedUrlScheme, &url);
        match named.ok_or_else(unknown)? {
            Named::Metadata(key) => {
                let bytes = self.piece(&url, &key).await?;
                Ok(Box::pin(stream::once(async { Ok(bytes) })))
            }
            Named::Target(digest) => {
                let first = self.piece(&url, &piece_key(&digest, 0)).await?;
                Ok(self.clone().pieces(url, digest, first))
            }
        }
    }
}

impl Repository {
    async fn piece(&self, url: &Url, key: &str) -> Result<Bytes, TransportError> {
        match self.bus.read(key, self.from).await {
            Ok(Some(value)) => Ok(value.bytes),
            Ok(None) => Err(TransportError::new(TransportErrorKind::FileNotFound, url)),
            Err(error) => Err(TransportError::new_with_cause(TransportErrorKind::Other, url, error)),
        }
    }

    /// A file, piece by piece; one that is shorter than [`PIECE`] is the last.
    fn pieces(self, url: Url, digest: String, first: Bytes) -> TransportStream {
        let begun = (self, url, digest, Some(first), 0_usize, 0_u64);
        Box::pin(stream::try_unfold(begun, |(carrier, url, digest, next, number, before)| async move {
            let Some(bytes) = next else { return Ok(None) };
            let sum = before + bytes.len() as u64;
            if sum > carrier.max_bytes {
                let why =
                    std::io::Error::new(ErrorKind::FileTooLarge, format!("more than {} bytes", carrier.max_bytes));
                return Err(TransportError::new_with_cause(TransportErrorKind::Other, &url, why));
            }
            let next = match bytes.len() < PIECE {
                true => None,
                false => Some(carrier.piece(&url, &piece_key(&digest, number + 1)).await?),
            };
            Ok(Some((bytes, (carrier, url, digest, next, number + 1, sum))))
        }))
    }
}

/// Looks at the repository on the bus. A copy of it may be behind for a moment, which would look like somebody playing back what is
/// old: the server that orders all writes is asked before that is said.
///
/// # Errors
/// As [`bundle::open`].
pub async fn open(bus: &Bus, held: &Held<'_>) -> Result<Checked, bundle::Error> {
    let carrier = |from| Repository::new(bus.clone(), from, held.max_bytes);
    match bundle::open(carrier(Reader::Any), held).await {
        Err(bundle::Error::Rollback(_)) => bundle::open(carrier(Reader::Leader), held).await,
        checked => checked,
    }
}

/// What [`push`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Version of what says which is the latest.
    pub version: u64,
    /// Files that were not there yet.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files of earlier policies that were removed.
    pub removed: usize,
}

/// Puts a repository that was signed in a directory onto the bus: what it names first, what says that it is the latest last.
///
/// # Errors
/// It cannot be read, the bus has a later one, or does not take it; hosts then go on with what they have.
pub async fn push(bus: &Bus, repository: &Path) -> Result<Pushed, Error> {
    let bucket = bus.bucket(POLICY).await?;
    let latest = read(&repository.join(METADATA).join(TIMESTAMP))?;
    let here = version(&latest).ok_or_else(|| Error::File {
        path: repository.join(METADATA).join(TIMESTAMP),
        why: "it is no signed metadata; sign the repository with `cordon policy sign`".to_owned(),
    })?;
    let there = bus.read(LATEST, Reader::Leader).await?;
    if let Some(there) = there.as_ref().and_then(|there| version(&there.bytes)).filter(|there| *there > here) {
        return Err(Error::Older { there, here });
    }
    let mut pushed = Pushed { version: here, ..Pushed::default() };
    let mut kept = BTreeSet::new();
    for path in files(&repository.join(TARGETS))? {
        let Some(digest) = path.file_name().and_then(|name| name.to_str()).and_then(target_digest) else { continue };
        kept.insert(format!("{TARGETS}.{digest}"));
        put_target(bus, &bucket, digest, &path, &mut pushed).await?;
    }
    for path in files(&repository.join(METADATA))? {
        let Some(key) = path.file_name().and_then(|name| name.to_str()).and_then(metadata_key) else { continue };
        kept.insert(key.clone());
        if key != LATEST {
            put(bus, &bucket, key, read(&path)?, &mut pushed).await?;
        }
    }
    let revision = there.as_ref().map_or(0, |there| there.revision);
    if there.is_none_or(|there| *there.bytes != *latest) {
        let updated = bucket.update(LATEST, latest.into(), revision).await;
        updated.map_err(|error| bus.refused("take the latest, which somebody else may have pushed just now", error))?;
    }
    pushed.removed = remove_others(bus, &bucket, &kept).await?;
    Ok(pushed)
}

async fn put_target(
    bus: &Bus,
    bucket: &kv::Store,
    digest: &str,
    path: &Path,
    pushed: &mut Pushed,
) -> Result<(), Error> {
    let bytes = Bytes::from(read(path)?);
    let last = bytes.len() / PIECE;
    // Pieces are put in order: whoever finds the last finds all.
    if bus.read(&piece_key(digest, last), Reader::Leader).await?.is_some() {
        return Ok(());
    }
    for number in 0..=last {
        let piece = bytes.slice(number * PIECE..bytes.len().min((number + 1) * PIECE));
        let key = piece_key(digest, number);
        bucket.put(&key, piece).await.map_err(|error| bus.refused(&format!("take `{key}`"), error))?;
    }
    pushed.files += 1;
    pushed.bytes += bytes.len() as u64;
    Ok(())
}

async fn put(bus: &Bus, bucket: &kv::Store, key: String, bytes: Vec<u8>, pushed: &mut Pushed) -> Result<(), Error> {
    if bus.read(&key, Reader::Leader).await?.is_some_and(|there| *there.bytes == *bytes) {
        return Ok(());
    }
    pushed.files += 1;
    pushed.bytes += bytes.len() as u64;
    bucket.put(&key, bytes.into()).await.map_err(|error| bus.refused(&format!("take `{key}`"), error))?;
    Ok(())
}

/// Removes what is in no policy any more and nobody can be reading: how many.
async fn remove_others(bus: &Bus, bucket: &kv::Store, kept: &BTreeSet<String>) -> Result<usize, Error> {
    let failed = |error: &dyn std::error::Error| Error::Refused { what: "tidy up".to_owned(), why: error.to_string() };
    let keys = bucket.keys().await.map_err(|error| failed(&error))?;
    let keys: Vec<String> = keys.try_collect().await.map_err(|error| failed(&error))?;
    let mut removed = 0;
    for key in keys {
        let file = if key.starts_with(TARGETS) { key.rsplit_once('.').map_or("", |(file, _)| file) } else { &key };
        if kept.contains(file) || !(key.starts_with(TARGETS) || key.starts_with(METADATA)) {
            continue;
        }
        let Some(entry) = bucket.entry(&key).await.map_err(|error| failed(&error))? else { continue };
        if Timestamp::now().as_second() - entry.created.unix_timestamp() > GRACE_SECONDS {
            bucket.purge(&key).await.map_err(|error| bus.refused(&format!("remove `{key}`"), error))?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// The version of signed metadata.
fn version(metadata: &[u8]) -> Option<u64> {
    serde_json::from_slice::<Json>(metadata).ok()?.pointer("/signed/version")?.as_u64()
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|error| Error::File { path: path.to_owned(), why: error.to_string() })
}

fn files(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let list = || fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>();
    let mut files = list().map_err(|error| Error::File { path: directory.to_owned(), why: error.to_string() })?;
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(path: &str) -> Option<Named> {
        Named::of(&format!("nats://{POLICY}/{path}").parse().unwrap())
    }

    #[test]
    fn urls_name_keys_and_lead_nowhere_else() {
        assert_eq!(named("metadata/3.root.json"), Some(Named::Metadata("metadata.3.root.json".into())));
        assert_eq!(named("metadata/timestamp.json"), Some(Named::Metadata(LATEST.into())));
        let digest = "0123456789abcdef".repeat(4);
        assert_eq!(named(&format!("targets/{digest}.policy.toml@web")), Some(Named::Target(digest.clone())));
        for path in
            ["metadata/..", "metadata/a*.json", "metadata/a>.json", "metadata/.json", "other/1.root.json", "metadata"]
        {
            assert_eq!(named(path), None, "{path}");
        }
        for name in ["short.txt", &digest, &format!("{}.x", digest.to_uppercase())] {
            assert_eq!(named(&format!("targets/{name}")), None, "{name}");
        }
    }
}
