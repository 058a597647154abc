//! Keys of an organisation: the root file that hosts pin, and who may sign what.
//!
//! Root keys only say which keys sign policies, and are kept offline; a policy needs the policy keys and the online key, which
//! says "this is still the latest" and may therefore be on a machine that does so every day.

use std::collections::HashMap;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::Write;
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use tough::async_trait;
use tough::editor::signed::SignedRole;
use tough::key_source::KeySource;
use tough::schema::{KeyHolder, RoleKeys, RoleType, Root, Signed};
use tough::sign::Sign;

use super::{Error, to_tuf};

/// Version of the TUF specification.
pub(super) const SPECIFICATION: &str = "1.0.0";
/// The latest root in a directory of keys is the one with the highest number before this.
const ROOT: &str = "root.json";

/// Who signs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Says which keys sign what.
    Root,
    /// Signs policies and intelligence.
    Policy,
    /// Says that what was signed is the latest.
    Online,
}

impl Role {
    /// As the files of its keys are called.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Policy => "policy",
            Self::Online => "online",
        }
    }

    const fn types(self) -> &'static [RoleType] {
        match self {
            Self::Root => &[RoleType::Root],
            Self::Policy => &[RoleType::Targets],
            Self::Online => &[RoleType::Snapshot, RoleType::Timestamp],
        }
    }
}

/// How many keys there are of a role, and how many must sign.
#[derive(Clone, Copy, Debug)]
pub struct Counts {
    /// 1 to 16.
    pub keys: u8,
    /// 1 to `keys`.
    pub threshold: u8,
}

impl Counts {
    fn check(self, role: Role) -> Result<NonZeroU64, Error> {
        let threshold = NonZeroU64::new(self.threshold.into());
        threshold.filter(|_| (1..=16).contains(&self.keys) && self.threshold <= self.keys).ok_or_else(|| {
            let name = role.name();
            Error::Signing(format!(
                "{} of {} {name} keys: it is 1 to 16 keys, and at most so many sign",
                self.threshold, self.keys
            ))
        })
    }
}

/// Keys to sign with: files of the key directory, or further ones.
#[derive(Clone, Debug)]
pub struct KeyFiles {
    /// The directory with the root files.
    pub directory: PathBuf,
    /// Private keys; all `.pem` files of the directory if there is none.
    pub keys: Vec<PathBuf>,
}

impl KeyFiles {
    /// The latest root, and every version that there is.
    pub(super) fn roots(&self) -> Result<(Signed<Root>, Vec<PathBuf>), Error> {
        let mut found = Vec::new();
        let entries = fs::read_dir(&self.directory).map_err(|error| Error::file(&self.directory, error))?;
        for entry in entries {
            let path = entry.map_err(|error| Error::file(&self.directory, error))?.path();
            let version =
                path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".root.json"));
            if let Some(version) = version.and_then(|version| version.parse::<u64>().ok()) {
                found.push((version, path));
            }
        }
        found.sort();
        let Some((_, latest)) = found.last() else {
            let why = format!(
                "there is no N.{ROOT} in it; make one with: cordon policy keygen -o {}",
                self.directory.display()
            );
            return Err(Error::file(&self.directory, why));
        };
        let root = read_root(latest)?;
        Ok((root, found.into_iter().map(|(_, path)| path).collect()))
    }

    /// The private keys.
    pub(super) fn sources(&self) -> Result<Vec<Box<dyn KeySource>>, Error> {
        let mut paths = self.keys.clone();
        if paths.is_empty() {
            let entries = fs::read_dir(&self.directory).map_err(|error| Error::file(&self.directory, error))?;
            let files = entries.filter_map(|entry| entry.ok().map(|entry| entry.path()));
            paths.extend(files.filter(|path| path.extension().is_some_and(|extension| extension == "pem")));
            paths.sort();
        }
        Ok(paths.into_iter().map(|path| Box::new(PemKey(path)) as Box<dyn KeySource>).collect())
    }
}

pub(super) fn read_root(path: &Path) -> Result<Signed<Root>, Error> {
    let bytes = fs::read(path).map_err(|error| Error::file(path, error))?;
    serde_json::from_slice(&bytes).map_err(|error| Error::file(path, format!("it is no TUF root: {error}")))
}

/// An Ed25519 key in a file: PKCS #8 in PEM (RFC 7468, RFC 8410), as OpenSSL writes it too.
#[derive(Debug)]
struct PemKey(PathBuf);

impl PemKey {
    fn pair(&self) -> Result<Ed25519KeyPair, Error> {
        let text = fs::read(&self.0).map_err(|error| Error::file(&self.0, error))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&text)
            .map_err(|error| Error::file(&self.0, format!("it is no PKCS #8 key in PEM: {error}")))?;
        Ed25519KeyPair::from_pkcs8(der.secret_pkcs8_der())
            .map_err(|error| Error::file(&self.0, format!("it is no Ed25519 key: {error}")))
    }
}

#[async_trait]
impl KeySource for PemKey {
    async fn as_sign(&self) -> Result<Box<dyn Sign>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Box::new(self.pair()?))
    }

    async fn write(&self, _: &str, _: &str) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Err(Box::new(Error::file(&self.0, "keys are only read here")))
    }
}

/// Makes a key and its file, which nobody else may read.
fn make_key(path: &Path) -> Result<Ed25519KeyPair, Error> {
    let failed = |error| Error::Signing(format!("no key can be made: {error}"));
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(failed)?;
    let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
    let text = STANDARD.encode(document.as_ref());
    for line in text.as_bytes().chunks(64) {
        pem.push_str(&String::from_utf8_lossy(line));
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.and_then(|mut file| file.write_all(pem.as_bytes())).map_err(|error| Error::file(path, error))?;
    PemKey(path.to_owned()).pair()
}

/// The key of somebody whose orders a policy lets hosts obey.
#[derive(Debug)]
pub struct OperatorKey(Ed25519KeyPair);

impl OperatorKey {
    /// Makes one and its file, which must not be there and which nobody else may read.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn create(path: &Path) -> Result<Self, Error> {
        make_key(path).map(Self)
    }

    /// Reads it.
    ///
    /// # Errors
    /// The file cannot be read, or holds no such key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        PemKey(path.to_owned()).pair().map(Self)
    }

    /// As a policy names it: 32 bytes in base64.
    #[must_use]
    pub fn public(&self) -> String {
        STANDARD.encode(self.0.public_key().as_ref())
    }

    /// To sign with.
    #[must_use]
    pub const fn pair(&self) -> &Ed25519KeyPair {
        &self.0
    }
}

/// Makes the keys of a role, numbered from `first` on, and lets them sign for it in place of those before.
fn appoint(root: &mut Root, directory: &Path, role: Role, counts: Counts, first: u64) -> Result<Vec<PathBuf>, Error> {
    let threshold = counts.check(role)?;
    let (mut files, mut keyids) = (Vec::new(), Vec::new());
    for number in first..first + u64::from(counts.keys) {
        let path = directory.join(format!("{}-{number}.pem", role.name()));
        let key = make_key(&path)?.tuf_key();
        let id = key.key_id().map_err(|error| Error::Signing(error.to_string()))?;
        root.keys.insert(id.clone(), key);
        keyids.push(id);
        files.push(path);
    }
    for kind in role.types() {
        root.roles.insert(*kind, RoleKeys { keyids: keyids.clone(), threshold, _extra: HashMap::new() });
    }
    let known: Vec<_> = root.roles.values().flat_map(|role| role.keyids.clone()).collect();
    root.keys.retain(|id, _| known.contains(id));
    Ok(files)
}

async fn signed_root(root: Root, before: Option<&Root>, keys: &KeyFiles, directory: &Path) -> Result<PathBuf, Error> {
    let sources = keys.sources()?;
    let random = SystemRandom::new();
    let failed = |error: tough::error::Error| Error::Signing(format!("the root cannot be signed: {error}"));
    let mut signed =
        SignedRole::new(root.clone(), &KeyHolder::Root(root.clone()), &sources, &random).await.map_err(failed)?;
    if let Some(before) = before {
        // A new root counts for those who know the old one only if the old keys say so too.
        let old = SignedRole::new(root.clone(), &KeyHolder::Root(before.clone()), &sources, &random).await;
        let old = old.map_err(failed)?.signed().signatures.clone();
        signed = signed.add_old_signatures(old).map_err(failed)?;
        let lacking = |error| Error::Signing(format!("not enough keys of the root before this one: {error}"));
        before.verify_role(signed.signed()).map_err(lacking)?;
    }
    let lacking = |error| Error::Signing(format!("not enough root keys: {error}"));
    root.verify_role(signed.signed()).map_err(lacking)?;
    let path = directory.join(format!("{}.{ROOT}", root.version));
    fs::write(&path, signed.buffer()).map_err(|error| Error::file(&path, error))?;
    Ok(path)
}

/// Makes all keys of an organisation and its first root in `directory`, which must not have any.
///
/// # Errors
/// There are keys already, or a file cannot be written.
pub async fn create(
    directory: &Path,
    root_keys: Counts,
    policy_keys: Counts,
    expires: Timestamp,
) -> Result<(PathBuf, Vec<PathBuf>), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| Error::file(directory, error))?;
    if directory.join(format!("1.{ROOT}")).exists() {
        return Err(Error::file(
            directory,
            "it holds the keys of an organisation already; use --rotate, or another directory",
        ));
    }
    let mut root = Root {
        spec_version: SPECIFICATION.to_owned(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: to_tuf(expires)?,
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    let mut files = Vec::new();
    let online = Counts { keys: 1, threshold: 1 };
    for (role, counts) in [(Role::Root, root_keys), (Role::Policy, policy_keys), (Role::Online, online)] {
        files.extend(appoint(&mut root, directory, role, counts, 1)?);
    }
    let keys = KeyFiles { directory: directory.to_owned(), keys: files.clone() };
    Ok((signed_root(root, None, &keys, directory).await?, files))
}

/// New keys for a role.
#[derive(Clone, Debug)]
pub struct Rotation<'a> {
    /// Keys of the root before it, as many as it asks for.
    pub keys: &'a KeyFiles,
    /// Whose keys are replaced.
    pub role: Role,
    /// By how many; as before unless said.
    pub counts: Option<Counts>,
    /// When the new root ends.
    pub expires: Timestamp,
}

/// Makes new keys for a role and the next root, which the keys of the one before sign; the old keys count no more from then on.
///
/// # Errors
/// Too few of the old root's keys are there, or a file cannot be written.
pub async fn rotate(rotation: &Rotation<'_>) -> Result<(PathBuf, Vec<PathBuf>), Error> {
    let (before, _) = rotation.keys.roots()?;
    let before = before.signed;
    let mut root = before.clone();
    root.version = root.version.checked_add(1).ok_or_else(|| Error::Signing("no version is left".to_owned()))?;
    root.expires = to_tuf(rotation.expires)?;
    let first = rotation.role.types().first().and_then(|kind| before.roles.get(kind));
    let as_before = |role: &RoleKeys| {
        let count = |number: u64| u8::try_from(number).unwrap_or(u8::MAX);
        Counts { keys: count(role.keyids.len() as u64), threshold: count(role.threshold.get()) }
    };
    let counts = rotation.counts.or(first.map(as_before)).unwrap_or(Counts { keys: 1, threshold: 1 });
    let directory = &rotation.keys.directory;
    // Key files are numbered on, so that those of before stay what they are.
    let taken = |number: &u64| directory.join(format!("{}-{number}.pem", rotation.role.name())).exists();
    let next = (1..).take_while(taken).last().unwrap_or(0) + 1;
    let files = appoint(&mut root, directory, rotation.role, counts, next)?;
    let mut keys = rotation.keys.clone();
    if !keys.keys.is_empty() {
        keys.keys.extend(files.iter().cloned());
    }
    match signed_root(root, Some(&before), &keys, directory).await {
        Ok(path) => Ok((path, files)),
        Err(error) => {
            // Keys that no root names would only confuse.
            files.iter().for_each(|path| drop(fs::remove_file(path)));
            Err(error)
        }
    }
}
