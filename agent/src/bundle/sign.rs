//! A policy and its intelligence → a repository that can be served from anywhere.

use std::collections::HashMap;
use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use jiff::{SignedDuration, Timestamp};
use serde_json::json;
use tough::editor::signed::SignedRole;
use tough::key_source::KeySource;
use tough::schema::{
    Hashes, KeyHolder, Metafile, Role as TufRole, Root, Signed as SignedBy, Snapshot, Target, Targets,
    Timestamp as Latest,
};
use tough::{ExpirationEnforcement, Repository, RepositoryLoader, TargetName};

use super::keys::{KeyFiles, SPECIFICATION, read_root};
use super::open::{MAX_METADATA_BYTES, hexadecimal, meaning, stored};
use super::transport::Carrier;
use super::{Error, Folder, MAX_POLICY_BYTES, METADATA, TARGETS, from_tuf, policy_name, to_tuf};

/// What a policy names of its own, in the metadata.
const FILES: &str = "files";
const SERIAL: &str = "serial";

/// A policy to be signed.
#[derive(Clone, Debug)]
pub struct Signing<'a> {
    /// Who signs.
    pub keys: &'a KeyFiles,
    /// Whose policy it is.
    pub group: &'a str,
    /// The document.
    pub policy: &'a str,
    /// Its serial.
    pub serial: u64,
    /// Intelligence by the name that the document has for it, and where it lies.
    pub files: &'a [(String, PathBuf)],
    /// The repository; other groups' policies in it stay.
    pub repository: &'a Path,
    /// Now, and for how long the policy and the statement that it is the latest are to be believed.
    pub lifetimes: Lifetimes,
}

/// How long what is signed is believed.
#[derive(Clone, Copy, Debug)]
pub struct Lifetimes {
    /// From when on.
    pub now: Timestamp,
    /// The policy.
    pub policy: SignedDuration,
    /// That it is the latest.
    pub online: SignedDuration,
}

/// What was signed.
#[derive(Clone, Copy, Debug)]
pub struct Signed {
    /// Version of the repository's targets.
    pub version: u64,
    /// When hosts call it stale, unless it is signed again before.
    pub expires: Timestamp,
}

/// A policy that a repository had before.
#[derive(Clone, Debug)]
pub struct Earlier {
    /// The document.
    pub policy: String,
    /// Its intelligence.
    pub files: Vec<(String, PathBuf)>,
    /// The serial of the group's policy now.
    pub latest: u64,
}

/// The name of a file of a group among the targets. File names hold no `@`.
pub(super) fn target_name(file: &str, group: &str) -> String {
    format!("{file}@{group}")
}

/// The names of the files that belong to a policy.
pub(super) fn files_of(target: &Target) -> Vec<String> {
    let names = target.custom.get(FILES).and_then(|names| names.as_array()).into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

fn serial_of(target: &Target) -> u64 {
    target.custom.get(SERIAL).and_then(serde_json::Value::as_u64).unwrap_or_default()
}

fn failed(error: impl ToString) -> Error {
    Error::Signing(error.to_string())
}

/// Signs a policy into a repository.
///
/// # Errors
/// A serial that is not above the group's latest, keys that are missing, or a file that cannot be written. The repository is
/// as it was: what hosts read first is written last.
pub async fn sign(signing: &Signing<'_>) -> Result<Signed, Error> {
    let Signing { keys, group, serial, repository, lifetimes, .. } = *signing;
    let (root, roots) = keys.roots()?;
    let before = existing(keys, repository).await?;
    let mut targets = before.as_ref().map(|before| before.targets().signed.targets.clone()).unwrap_or_default();
    let name = TargetName::new(policy_name(group)).map_err(failed)?;
    if let Some(latest) = targets.get(&name).map(serial_of).filter(|latest| *latest >= serial) {
        let why = format!("serial {serial}: group `{group}` has {latest} already, and hosts take only what is higher");
        return Err(Error::Signing(why));
    }
    let own = format!("@{group}");
    targets.retain(|known, _| !known.raw().ends_with(&own));
    let store = repository.join(TARGETS);
    fs::create_dir_all(&store).map_err(|error| Error::file(&store, error))?;
    let names: Vec<&str> = signing.files.iter().map(|(name, _)| name.as_str()).collect();
    let mut policy = put(&store, &name, signing.policy.as_bytes())?;
    if policy.length > MAX_POLICY_BYTES {
        return Err(Error::TooLarge(format!(
            "the policy has {} bytes, the limit is {MAX_POLICY_BYTES}",
            policy.length
        )));
    }
    policy.custom = HashMap::from([(SERIAL.to_owned(), json!(serial)), (FILES.to_owned(), json!(names))]);
    targets.insert(name, policy);
    for (file, path) in signing.files {
        let bytes = fs::read(path).map_err(|error| Error::file(path, error))?;
        let name = TargetName::new(target_name(file, group)).map_err(failed)?;
        let target = put(&store, &name, &bytes)?;
        targets.insert(name, target);
    }
    let version = next(before.as_ref().map(|before| before.targets().signed.version))?;
    let expires = seconds(lifetimes.now, lifetimes.policy)?;
    let mut list = Targets::new(SPECIFICATION.to_owned(), version, to_tuf(expires)?);
    (list.targets, list.delegations) = (targets, None);
    let keys = keys.sources()?;
    let list = signed(list, &root.signed, &keys, "policy").await?;
    let file = Metafile {
        length: Some(*list.length()),
        hashes: Some(Hashes { sha256: list.sha256().to_vec().into(), _extra: HashMap::new() }),
        version,
        _extra: HashMap::new(),
    };
    let voucher = Voucher::sign(before.as_ref(), file, &root.signed, &keys, lifetimes).await?;
    let metadata = repository.join(METADATA);
    fs::create_dir_all(&metadata).map_err(|error| Error::file(&metadata, error))?;
    write(&metadata, &list)?;
    for path in roots {
        let Some(name) = path.file_name() else { continue };
        let bytes = fs::read(&path).map_err(|error| Error::file(&path, error))?;
        replace(&metadata.join(name), &bytes)?;
    }
    voucher.write(&metadata)?;
    Ok(Signed { version: version.get(), expires: expires.min(voucher.expires).min(from_tuf(root.signed.expires)?) })
}

/// Says again that what a repository holds is the latest, for which the online key is enough.
///
/// # Errors
/// There is no repository, or the key is not the online one.
pub async fn refresh(keys: &KeyFiles, repository: &Path, lifetimes: Lifetimes) -> Result<Signed, Error> {
    let (root, _) = keys.roots()?;
    let before = existing(keys, repository).await?;
    let before = before.ok_or_else(|| Error::file(repository, "there is no repository in it"))?;
    let file = before.snapshot().signed.meta.get("targets.json").cloned();
    let file = file.ok_or_else(|| Error::Altered("the snapshot lists no targets".to_owned()))?;
    let voucher = Voucher::sign(Some(&before), file, &root.signed, &keys.sources()?, lifetimes).await?;
    voucher.write(&repository.join(METADATA))?;
    let targets = &before.targets().signed;
    let expires = voucher.expires.min(from_tuf(targets.expires)?).min(from_tuf(root.signed.expires)?);
    Ok(Signed { version: targets.version.get(), expires })
}

/// What says which list of targets is the latest.
struct Voucher {
    snapshot: SignedRole<Snapshot>,
    timestamp: SignedRole<Latest>,
    /// When it ends.
    expires: Timestamp,
}

impl Voucher {
    async fn sign(
        before: Option<&Repository>,
        targets: Metafile,
        root: &Root,
        keys: &[Box<dyn KeySource>],
        lifetimes: Lifetimes,
    ) -> Result<Self, Error> {
        let expires = seconds(lifetimes.now, lifetimes.online)?;
        let version = next(before.map(|before| before.snapshot().signed.version))?;
        let mut snapshot = Snapshot::new(SPECIFICATION.to_owned(), version, to_tuf(expires)?);
        snapshot.meta.insert("targets.json".to_owned(), targets);
        let snapshot = signed(snapshot, root, keys, "online").await?;
        let file = Metafile {
            length: Some(*snapshot.length()),
            hashes: Some(Hashes { sha256: snapshot.sha256().to_vec().into(), _extra: HashMap::new() }),
            version,
            _extra: HashMap::new(),
        };
        let version = next(before.map(|before| before.timestamp().signed.version))?;
        let mut latest = Latest::new(SPECIFICATION.to_owned(), version, to_tuf(expires)?);
        latest.meta.insert("snapshot.json".to_owned(), file);
        let timestamp = signed(latest, root, keys, "online").await?;
        Ok(Self { snapshot, timestamp, expires })
    }

    /// Writes what hosts read first last.
    fn write(&self, metadata: &Path) -> Result<(), Error> {
        write(metadata, &self.snapshot)?;
        write(metadata, &self.timestamp)
    }
}

async fn signed<T: TufRole + serde::Serialize>(
    role: T,
    root: &Root,
    keys: &[Box<dyn KeySource>],
    by: &str,
) -> Result<SignedRole<T>, Error> {
    let holder = KeyHolder::Root(root.clone());
    let signed = SignedRole::new(role, &holder, keys, &SystemRandom::new()).await;
    signed.map_err(|error| Error::Signing(format!("not signed: {error}; it takes the {by} keys that the root names")))
}

/// The repository as it is, verified with the roots that it has itself: those of before a rotation.
async fn existing(keys: &KeyFiles, repository: &Path) -> Result<Option<Repository>, Error> {
    if !repository.join(METADATA).join("timestamp.json").exists() {
        return Ok(None);
    }
    let first = keys.directory.join("1.root.json");
    read_root(&first)?;
    let root = fs::read(&first).map_err(|error| Error::file(&first, error))?;
    let folder = Folder { path: repository.to_owned(), max_bytes: MAX_METADATA_BYTES };
    let loader = RepositoryLoader::new(&root, folder.base(METADATA)?, folder.base(TARGETS)?)
        .transport(folder)
        .expiration_enforcement(ExpirationEnforcement::Unsafe);
    Ok(Some(loader.load().await.map_err(meaning)?))
}

fn next(version: Option<NonZeroU64>) -> Result<NonZeroU64, Error> {
    let next = version.map_or(Some(NonZeroU64::MIN), |version| version.checked_add(1));
    next.ok_or_else(|| Error::Signing("no version is left".to_owned()))
}

/// TUF writes times to the second.
fn seconds(now: Timestamp, lifetime: SignedDuration) -> Result<Timestamp, Error> {
    let end = now.checked_add(lifetime).map_err(failed)?;
    Timestamp::from_second(end.as_second()).map_err(failed)
}

/// Stores the bytes of a target.
fn put(store: &Path, name: &TargetName, bytes: &[u8]) -> Result<Target, Error> {
    use sha2::Digest;
    let sha256 = sha2::Sha256::digest(bytes).to_vec();
    let hashes = Hashes { sha256: sha256.into(), _extra: HashMap::new() };
    let target = Target { length: bytes.len() as u64, hashes, custom: HashMap::new(), _extra: HashMap::new() };
    replace(&store.join(stored(&target, name)), bytes)?;
    Ok(target)
}

fn write<T: TufRole + serde::Serialize>(metadata: &Path, role: &SignedRole<T>) -> Result<(), Error> {
    replace(&metadata.join(role.signed().signed.filename(true)), role.buffer())
}

/// Whole or not at all: hosts may be reading.
fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let mut fresh = path.to_owned().into_os_string();
    fresh.push(".new");
    let fresh = PathBuf::from(fresh);
    fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, path)).map_err(|error| Error::file(path, error))
}

/// The serial of a group's policy in a repository; `None` before there is one.
///
/// # Errors
/// What is there is not what was signed.
pub async fn latest(keys: &KeyFiles, repository: &Path, group: &str) -> Result<Option<u64>, Error> {
    let name = TargetName::new(policy_name(group)).map_err(failed)?;
    let now = existing(keys, repository).await?;
    Ok(now.and_then(|now| now.targets().signed.targets.get(&name).map(serial_of)))
}

/// The policy of a group with this serial, out of what a repository still has of it.
///
/// # Errors
/// It has none, or what it has is not what was signed.
pub async fn earlier(keys: &KeyFiles, repository: &Path, group: &str, serial: u64) -> Result<Earlier, Error> {
    let now = existing(keys, repository).await?;
    let now = now.ok_or_else(|| Error::file(repository, "there is no repository in it"))?;
    let name = TargetName::new(policy_name(group)).map_err(failed)?;
    let latest = now.targets().signed.targets.get(&name).map(serial_of);
    let latest = latest.ok_or_else(|| Error::NoGroup(group.to_owned()))?;
    let roots = keys.roots()?.1.iter().map(|path| read_root(path)).collect::<Result<Vec<_>, _>>()?;
    let store = repository.join(TARGETS);
    for version in (1..=now.targets().signed.version.get()).rev() {
        let path = repository.join(METADATA).join(format!("{version}.targets.json"));
        let Ok(bytes) = fs::read(&path) else { continue };
        let list: SignedBy<Targets> = serde_json::from_slice(&bytes)
            .map_err(|error| Error::file(&path, format!("it lists no targets: {error}")))?;
        // Signed by keys that may have been replaced since; but signed.
        if !roots.iter().any(|root| root.signed.verify_role(&list).is_ok()) {
            return Err(Error::Signature(format!(
                "no root of {} stands for {}",
                keys.directory.display(),
                path.display()
            )));
        }
        let Some(target) = list.signed.targets.get(&name).filter(|target| serial_of(target) == serial) else {
            continue;
        };
        let policy = taken(&store, &name, target)?.1;
        let mut files = Vec::new();
        for file in files_of(target) {
            let name = TargetName::new(target_name(&file, group)).map_err(failed)?;
            let target = list.signed.targets.get(&name);
            let target = target.ok_or_else(|| Error::Altered(format!("`{file}` of serial {serial} is not listed")))?;
            files.push((file, taken(&store, &name, target)?.0));
        }
        let policy =
            String::from_utf8(policy).map_err(|_| Error::Altered("the policy is not UTF-8 text".to_owned()))?;
        return Ok(Earlier { policy, files, latest });
    }
    Err(Error::Signing(format!("the repository holds no policy of group `{group}` with serial {serial}")))
}

/// A stored target with its bytes, if they are what was listed.
fn taken(store: &Path, name: &TargetName, target: &Target) -> Result<(PathBuf, Vec<u8>), Error> {
    let path = store.join(stored(target, name));
    let bytes = fs::read(&path).map_err(|error| Error::file(&path, error))?;
    if super::digest(&bytes) != hexadecimal(target) {
        return Err(Error::Altered(format!("{} is not what was signed", path.display())));
    }
    Ok((path, bytes))
}
