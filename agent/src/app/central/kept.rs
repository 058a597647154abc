//! The policy in force, kept in the state directory: it survives a restart, and nothing older is taken after one.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::Context;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bundle::{self, Checked, Expiry, Folder, Held};
use crate::policy::{Central, Standing};
use crate::settings::Policy;

/// Begins the names of directories with a bundle each.
const BUNDLE: &str = "bundle-";

/// What is remembered of the policy in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// The latest that was taken.
    pub standing: Standing,
    /// Digest of the root file under which it was: another organisation's counts for itself.
    root: String,
    /// Its directory.
    directory: String,
    /// When it was taken.
    pub accepted: Timestamp,
    /// When a look last showed that it is the latest.
    pub checked: Timestamp,
    /// When the signatures that say so end.
    pub expires: Timestamp,
}

/// The directory for it.
#[derive(Clone, Debug)]
pub struct Store(PathBuf);

impl Store {
    /// Below the agent's state directory.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self(state.join("policy"))
    }

    /// Where it is remembered what a repository said before, for each root file by itself.
    #[must_use]
    pub fn trust(&self, root: &[u8]) -> PathBuf {
        self.0.join(format!("trust-{}", short(root)))
    }

    /// A directory for a bundle that is on its way.
    #[must_use]
    pub fn incoming(&self, now: Timestamp) -> PathBuf {
        self.0.join(format!("{BUNDLE}{}", now.as_nanosecond()))
    }

    /// The directory of the bundle in force.
    #[must_use]
    pub fn place(&self, state: &State) -> PathBuf {
        self.0.join(&state.directory)
    }

    /// The state as it was written; `None` when no policy was taken under this root file.
    ///
    /// # Errors
    /// It cannot be read, or is damaged.
    pub fn state(&self, root: &[u8]) -> anyhow::Result<Option<State>> {
        let path = self.0.join("state.json");
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        };
        let state: State = serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; remove it, and the policy is fetched anew", path.display()))?;
        Ok(Some(state).filter(|state| state.root == short(root)))
    }

    /// Writes the state, whole or not at all, and onto the disk: it is what keeps older policies out.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&self, state: &State) -> anyhow::Result<()> {
        let path = self.0.join("state.json");
        let replace = || -> std::io::Result<()> {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.0)?;
            let fresh = path.with_extension("new");
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            file.sync_all()?;
            fs::rename(&fresh, &path)?;
            fs::File::open(&self.0)?.sync_all()
        };
        replace().with_context(|| format!("cannot write {}", path.display()))
    }

    /// The state of a policy that is taken now, out of the directory that it was received in.
    #[must_use]
    pub fn taken(&self, central: &Central, root: &[u8], directory: &Path, now: Timestamp, expires: Timestamp) -> State {
        let directory = directory.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let standing = central.standing();
        State { standing, root: short(root), directory, accepted: now, checked: now, expires }
    }

    /// Removes all bundles but the one of the state.
    pub fn tidy(&self, state: Option<&State>) {
        for entry in fs::read_dir(&self.0).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name.starts_with(BUNDLE)
                && state.is_none_or(|state| state.directory != name)
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "a policy that is not in force is still there");
            }
        }
    }

    /// The policy that was in force, its signatures verified anew; that they have expired since makes it stale, not void.
    ///
    /// # Errors
    /// What is kept is not what was signed, or cannot be read.
    pub async fn open(&self, policy: &Policy, root: &[u8], now: Timestamp) -> anyhow::Result<Option<(Central, State)>> {
        let Some(state) = self.state(root)? else { return Ok(None) };
        let folder = Folder { path: self.place(&state), max_bytes: policy.max_bytes };
        let held = Held {
            root,
            group: &policy.enrolment.group,
            trust: None,
            expiry: Expiry::Ignored,
            max_bytes: policy.max_bytes,
            known: &[],
            before: None,
            copy: None,
        };
        let place = folder.path.clone();
        let opened = bundle::open(folder, &held).await.with_context(|| place.display().to_string())?;
        let Checked::New(verified) = opened else { return Ok(None) };
        let central = Central::accept(&verified, &policy.enrolment, Some(&state.standing), now)?;
        Ok(Some((central, state)))
    }
}

/// Enough of a digest to tell root files apart.
fn short(root: &[u8]) -> String {
    bundle::digest(root).chars().take(16).collect()
}
