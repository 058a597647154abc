//! What an organisation signs for its hosts: a repository of The Update Framework (TUF 1.0) whose targets are one policy for
//! each group and the intelligence that it names. Whoever carries it is not trusted: a directory, an HTTPS server, a bus.
//!
//! What is inside a policy is nobody's business here: this room says who signed the bytes, that they are the latest, and that
//! none is missing. A [`Verified`] bundle is the only thing that [`crate::policy::Central`] is made of.

mod keys;
mod open;
mod sign;
mod transport;

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use jiff::Timestamp;

pub use keys::{Counts, KeyFiles, OperatorKey, Role, Rotation, create, rotate};
pub use open::{Checked, Expiry, Held, open};
pub use sign::{Earlier, Lifetimes, Signed, Signing, earlier, latest, refresh, sign};
pub use transport::{Carrier, Folder, Web};

/// Bytes of a policy document; one with a thousand rules has some 300 KiB.
pub const MAX_POLICY_BYTES: u64 = 1 << 20;
/// Below a repository: what is signed.
pub const METADATA: &str = "metadata";
/// Below a repository: what the metadata names, each file with its digest before its name.
pub const TARGETS: &str = "targets";

/// The name under which the policy of a group is signed.
fn policy_name(group: &str) -> String {
    sign::target_name("policy.toml", group)
}

/// Signed by enough of the keys that the pinned root leads to, as the latest, and whole. Made in this room and nowhere else.
#[derive(Clone, Debug)]
pub struct Verified<T>(T);

impl<T> Verified<T> {
    /// What was verified.
    #[must_use]
    pub const fn get(&self) -> &T {
        &self.0
    }
}

#[cfg(test)]
impl Verified<Bundle> {
    /// A policy without intelligence, as if it had been signed.
    pub(crate) fn assumed(policy: &str, files: &[&str]) -> Self {
        Self(Bundle {
            policy: policy.to_owned(),
            sha256: digest(policy.as_bytes()),
            files: files.iter().map(|name| ((*name).to_owned(), PathBuf::from(name))).collect(),
            expires: Timestamp::MAX,
            version: 1,
        })
    }
}

/// A policy and the files that it names.
#[derive(Clone, Debug)]
pub struct Bundle {
    /// The document, as it was signed.
    pub policy: String,
    /// Of the document; hexadecimal.
    pub sha256: String,
    /// Intelligence by name, and where it lies on this machine.
    pub files: Vec<(String, PathBuf)>,
    /// When the first of the signatures that say that it is the latest ends.
    pub expires: Timestamp,
    /// Version of the repository's targets.
    pub version: u64,
}

impl Bundle {
    /// Where the file of that name lies.
    #[must_use]
    pub fn file(&self, name: &str) -> Option<&Path> {
        self.files.iter().find(|(known, _)| known == name).map(|(_, path)| path.as_path())
    }
}

/// Why there is no bundle.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The repository cannot be reached or read.
    #[error("cannot be fetched: {0}")]
    Unreachable(String),
    /// Not signed by enough of the keys that the pinned root leads to.
    #[error("bad signature: {0}")]
    Signature(String),
    /// Older than what was seen before.
    #[error("rollback: {0}")]
    Rollback(String),
    /// Nobody says any more that it is the latest.
    #[error("expired: {0}; whoever signs it must do so again")]
    Expired(String),
    /// Larger than allowed.
    #[error("too large: {0}")]
    TooLarge(String),
    /// Parts that do not belong together, or are not what was signed.
    #[error("altered: {0}")]
    Altered(String),
    /// The clock went back since the last look.
    #[error("the clock of this host went back: {0}")]
    Clock(String),
    /// The repository signs no policy for this group.
    #[error("it holds no policy for group `{0}`")]
    NoGroup(String),
    /// A file of this machine.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why, and what to do.
        why: String,
    },
    /// It cannot be signed so.
    #[error("{0}")]
    Signing(String),
}

impl Error {
    /// Of a file of this machine.
    pub(crate) fn file(path: &Path, why: impl ToString) -> Self {
        Self::File { path: path.to_owned(), why: why.to_string() }
    }

    /// A name for the reason that never changes.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Signature(_) => "bad_signature",
            Self::Rollback(_) => "rollback",
            Self::Expired(_) => "expired",
            Self::TooLarge(_) => "too_large",
            Self::Altered(_) => "altered",
            Self::Clock(_) => "clock",
            Self::NoGroup(_) => "no_group",
            Self::File { .. } => "file",
            Self::Signing(_) => "signing",
        }
    }

    /// Whether it is the carrier's failure, not what was carried.
    #[must_use]
    pub const fn is_unreachable(&self) -> bool {
        matches!(self, Self::Unreachable(_))
    }
}

/// A time as the library has it, which is made with another version of jiff.
fn to_tuf<T: FromStr<Err: Display>>(time: Timestamp) -> Result<T, Error> {
    time.to_string().parse().map_err(|error| Error::Signing(format!("{time}: {error}")))
}

/// The other way.
fn from_tuf(time: impl Display) -> Result<Timestamp, Error> {
    time.to_string().parse().map_err(|error| Error::Altered(format!("{time}: {error}")))
}

/// SHA-256, hexadecimal.
pub(crate) fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
