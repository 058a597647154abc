//! A repository, wherever it is → a [`Verified`] bundle.

use std::fs::{self, DirBuilder};
use std::io::ErrorKind;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tough::schema::{Root, Signed, Target};
use tough::{ExpirationEnforcement, IntoVec, Limits, Repository, RepositoryLoader, TargetName, error as tuf};

use super::transport::{Carrier, Sparing};
use super::{Bundle, Error, Folder, MAX_POLICY_BYTES, METADATA, TARGETS, Verified, digest, policy_name};
use crate::http;

/// Bytes of one file of metadata: targets of ten thousand files have some 3 MiB.
pub(super) const MAX_METADATA_BYTES: u64 = 4 << 20;
/// Roots passed through from the pinned one on.
const MAX_ROOTS: u64 = 256;

/// Whether signatures that have expired count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// They do not: whoever serves them may be holding back what is newer.
    Refused,
    /// They do: what was accepted before stays in force.
    Ignored,
}

/// What is asked of a repository.
#[derive(Clone, Copy, Debug)]
pub struct Held<'a> {
    /// The root file that this host was enrolled with.
    pub root: &'a [u8],
    /// Whose policy is wanted.
    pub group: &'a str,
    /// Where it is kept what was seen before, so that nothing older is taken; each pinned root has its own.
    pub trust: Option<&'a Path>,
    /// Whether expired signatures count.
    pub expiry: Expiry,
    /// Bytes of the policy and its intelligence.
    pub max_bytes: u64,
    /// Bundles that are there already, or were refused, by [`Bundle::sha256`].
    pub known: &'a [String],
    /// A copy of an earlier bundle: files of it that are in the new one, too, are not fetched again.
    pub before: Option<&'a Path>,
    /// Where a copy goes that can be opened again; the repository itself must be a directory without one.
    pub copy: Option<&'a Path>,
}

/// What a look at a repository came to.
#[derive(Clone, Debug)]
pub enum Checked {
    /// It is one of those that are known.
    Same {
        /// See [`Bundle::sha256`].
        identity: String,
        /// See [`Bundle::expires`].
        expires: Timestamp,
    },
    /// Another one.
    New(Verified<Bundle>),
}

/// Looks at a repository as the TUF specification has a client do it (§5), and takes the group's bundle out of it.
///
/// # Errors
/// [`enum@Error`]: nothing of it is to be used.
pub async fn open(carrier: impl Carrier, held: &Held<'_>) -> Result<Checked, Error> {
    let carrier = Sparing { carrier, before: held.before.map(Path::to_owned) };
    let root = trusted_root(held)?;
    let repository = load(&carrier, &root, held.expiry, held.trust).await?;
    let listing = Listing::of(&repository, held)?;
    let expires = expires(&repository)?;
    if held.known.contains(&listing.identity) {
        return Ok(Checked::Same { identity: listing.identity, expires });
    }
    let (repository, place) = match held.copy {
        Some(copy) => {
            private(copy)?;
            keep(&carrier, &repository, held, copy, &listing).await?;
            (reload(copy, held, &listing).await?, copy.to_owned())
        }
        None => {
            let place = carrier.base("")?.to_file_path();
            (repository, place.map_err(|()| Error::Unreachable("it is no directory".to_owned()))?)
        }
    };
    let policy = read_target(&repository, &listing.policy).await?;
    for file in &listing.files {
        read_target(&repository, &file.target).await?;
    }
    let file = |file: &File| (file.name.clone(), place.join(TARGETS).join(&file.stored));
    Ok(Checked::New(Verified(Bundle {
        policy: String::from_utf8(policy).map_err(|_| Error::Altered("the policy is not UTF-8 text".to_owned()))?,
        files: listing.files.iter().map(file).collect(),
        sha256: listing.identity,
        expires,
        version: repository.targets().signed.version.get(),
    })))
}

/// Verifies the metadata of a repository.
async fn load(carrier: &impl Carrier, root: &[u8], expiry: Expiry, trust: Option<&Path>) -> Result<Repository, Error> {
    let mut loader = RepositoryLoader::new(&root, carrier.base(METADATA)?, carrier.base(TARGETS)?)
        .transport(carrier.clone())
        .limits(Limits {
            max_root_size: MAX_METADATA_BYTES,
            max_targets_size: MAX_METADATA_BYTES,
            max_timestamp_size: MAX_METADATA_BYTES,
            max_snapshot_size: MAX_METADATA_BYTES,
            max_root_updates: MAX_ROOTS,
        })
        .expiration_enforcement(match expiry {
            Expiry::Refused => ExpirationEnforcement::Safe,
            Expiry::Ignored => ExpirationEnforcement::Unsafe,
        });
    if let Some(trust) = trust {
        private(trust)?;
        loader = loader.datastore(trust);
    }
    loader.load().await.map_err(meaning)
}

/// Verifies a copy as it will be after a restart, from the pinned root on. Roots that were passed before are not looked at
/// again when there is a later one, and a spoilt one among them would only show then: with no policy to take up.
async fn reload(copy: &Path, held: &Held<'_>, listing: &Listing) -> Result<Repository, Error> {
    let folder = Folder { path: copy.to_owned(), max_bytes: held.max_bytes };
    let repository = load(&folder, held.root, Expiry::Ignored, None).await?;
    if Listing::of(&repository, held)?.identity == listing.identity {
        return Ok(repository);
    }
    Err(Error::Altered("it became another one while it was read".to_owned()))
}

/// The root that was reached from the pinned one before, or the pinned one. Starting from the pinned one each time would let
/// whoever holds back a newer root bring keys back that were taken away.
fn trusted_root(held: &Held<'_>) -> Result<Vec<u8>, Error> {
    let parse = |bytes: &[u8]| serde_json::from_slice::<Signed<Root>>(bytes);
    let pinned = parse(held.root).map_err(|error| Error::Signature(format!("the pinned root is none: {error}")))?;
    let Some(path) = held.trust.map(|trust| trust.join("root.json")) else { return Ok(held.root.to_vec()) };
    match fs::read(&path) {
        Ok(bytes) => {
            let is_later = |root: Signed<Root>| root.signed.version >= pinned.signed.version;
            Ok(if parse(&bytes).is_ok_and(is_later) { bytes } else { held.root.to_vec() })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(held.root.to_vec()),
        Err(error) => Err(Error::file(&path, error)),
    }
}

/// Makes a directory that is for the agent alone.
fn private(path: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|error| Error::file(path, error))
}

/// When the first of a repository's signatures ends.
fn expires(repository: &Repository) -> Result<Timestamp, Error> {
    let root = super::from_tuf(repository.root().signed.expires)?;
    let latest = super::from_tuf(repository.timestamp().signed.expires.min(repository.snapshot().signed.expires))?;
    Ok(root.min(latest).min(super::from_tuf(repository.targets().signed.expires)?))
}

/// A file of intelligence.
struct File {
    /// As the policy calls it.
    name: String,
    target: TargetName,
    /// As it is stored.
    stored: String,
}

/// What belongs to the bundle of a group.
struct Listing {
    policy: TargetName,
    policy_stored: String,
    files: Vec<File>,
    /// Digest of all digests.
    identity: String,
}

impl Listing {
    fn of(repository: &Repository, held: &Held<'_>) -> Result<Self, Error> {
        let targets = &repository.targets().signed.targets;
        let find = |raw: &str| {
            let name = TargetName::new(raw).map_err(|error| Error::Altered(error.to_string()))?;
            let target = targets.get(&name);
            Ok::<_, Error>((name, target))
        };
        let (policy, target) = find(&policy_name(held.group))?;
        let target = target.ok_or_else(|| Error::NoGroup(held.group.to_owned()))?;
        if target.length > MAX_POLICY_BYTES {
            return Err(Error::TooLarge(format!(
                "the policy has {} bytes, the limit is {MAX_POLICY_BYTES}",
                target.length
            )));
        }
        let mut digests = hexadecimal(target);
        let mut bytes = target.length;
        let mut files = Vec::new();
        for name in super::sign::files_of(target) {
            let (full, target) = find(&super::sign::target_name(&name, held.group))?;
            let target = target.ok_or_else(|| Error::Altered(format!("the signed file `{name}` is not listed")))?;
            bytes = bytes.saturating_add(target.length);
            digests.push_str(&format!(" {name} {}", hexadecimal(target)));
            files.push(File { stored: stored(target, &full), name, target: full });
        }
        if bytes > held.max_bytes {
            let why =
                format!("the policy and its intelligence have {bytes} bytes, policy.max_bytes is {}", held.max_bytes);
            return Err(Error::TooLarge(why));
        }
        let policy_stored = stored(target, &policy);
        Ok(Self { policy, policy_stored, files, identity: digest(digests.as_bytes()) })
    }
}

pub(super) fn hexadecimal(target: &Target) -> String {
    target.hashes.sha256.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// TUF §7, consistent snapshots: the digest before the name.
pub(super) fn stored(target: &Target, name: &TargetName) -> String {
    format!("{}.{}", hexadecimal(target), name.resolved())
}

async fn read_target(repository: &Repository, name: &TargetName) -> Result<Vec<u8>, Error> {
    let stream = repository.read_target(name).await.map_err(meaning)?;
    let stream = stream.ok_or_else(|| Error::Altered(format!("`{}` is not listed", name.raw())))?;
    stream.into_vec().await.map_err(meaning)
}

/// Copies what the bundle is made of, so that it can be verified again without whoever carried it.
async fn keep(
    carrier: &impl Carrier,
    repository: &Repository,
    held: &Held<'_>,
    copy: &Path,
    listing: &Listing,
) -> Result<(), Error> {
    let names: Vec<&str> =
        std::iter::once(listing.policy.raw()).chain(listing.files.iter().map(|file| file.target.raw())).collect();
    let (metadata, targets) = (copy.join(METADATA), copy.join(TARGETS));
    repository.cache(&metadata, &targets, Some(&names), false).await.map_err(meaning)?;
    let pinned: Signed<Root> = serde_json::from_slice(held.root)
        .map_err(|error| Error::Signature(format!("the pinned root is none: {error}")))?;
    let base = carrier.base(METADATA)?;
    for version in pinned.signed.version.get() + 1..=repository.root().signed.version.get() {
        let name = format!("{version}.root.json");
        let url = base.join(&name).map_err(|error| Error::Unreachable(error.to_string()))?;
        let broken = |error: tough::TransportError| Error::Unreachable(error.to_string());
        let root = carrier.fetch(url).await.map_err(broken)?.into_vec().await.map_err(broken)?;
        let path = metadata.join(name);
        fs::write(&path, root).map_err(|error| Error::file(&path, error))?;
    }
    let files = listing.files.iter().map(|file| &file.stored).chain([&listing.policy_stored]);
    files.map(|stored| targets.join(stored)).try_for_each(|path| durable(&path))
}

fn durable(path: &PathBuf) -> Result<(), Error> {
    fs::File::open(path).and_then(|file| file.sync_all()).map_err(|error| Error::file(path, error))
}

/// What a failure of the library means to an operator.
pub(super) fn meaning(error: tuf::Error) -> Error {
    let why = error.to_string();
    match &error {
        tuf::Error::ExpiredMetadata { role, .. } => Error::Expired(format!("the signature of {role} has ended")),
        tuf::Error::OlderMetadata { .. }
        | tuf::Error::OlderSnapshotInTimestamp { .. }
        | tuf::Error::SnapshotRoleRollback { .. }
        | tuf::Error::SnapshotRoleMissing { .. } => Error::Rollback(why),
        tuf::Error::VerifyMetadata { .. }
        | tuf::Error::VerifyTrustedMetadata { .. }
        | tuf::Error::VerifyRoleMetadata { .. }
        | tuf::Error::ParseTrustedMetadata { .. } => Error::Signature(why),
        tuf::Error::MaxSizeExceeded { .. } | tuf::Error::MaxUpdatesExceeded { .. } => Error::TooLarge(why),
        tuf::Error::SystemTimeSteppedBackward { .. } => Error::Clock(why),
        tuf::Error::DatastoreInit { .. }
        | tuf::Error::DatastoreCreate { .. }
        | tuf::Error::DatastoreOpen { .. }
        | tuf::Error::DatastoreRemove { .. }
        | tuf::Error::CacheFileWrite { .. }
        | tuf::Error::CacheDirectoryCreate { .. }
        | tuf::Error::CacheTargetWrite { .. }
        | tuf::Error::FileWrite { .. }
        | tuf::Error::NamedTempFileCreate { .. } => Error::File { path: PathBuf::from("the state directory"), why },
        _ => cause(&error, why),
    }
}

/// What is at the bottom of a failure on the way.
fn cause(error: &tuf::Error, why: String) -> Error {
    let mut next: Option<&(dyn std::error::Error + 'static)> = std::error::Error::source(error);
    while let Some(inner) = next {
        match inner.downcast_ref::<tuf::Error>() {
            Some(tuf::Error::HashMismatch { .. }) => return Error::Altered(why),
            Some(tuf::Error::MaxSizeExceeded { .. }) => return Error::TooLarge(why),
            _ => {}
        }
        if let Some(http::Error::TooLarge { .. }) = inner.downcast_ref::<http::Error>() {
            return Error::TooLarge(why);
        }
        if inner.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == ErrorKind::FileTooLarge) {
            return Error::TooLarge(why);
        }
        next = inner.source();
    }
    match error {
        tuf::Error::Transport { .. } | tuf::Error::CacheFileRead { .. } => Error::Unreachable(why),
        _ => Error::Altered(why),
    }
}
