//! What this host's packages installed is learnt in the background, so that no source can block it by its contents.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::sleep;

use super::shared::{Shared, lock, read};
use crate::health::{Fault, Stage};
use crate::host::{ContentDigest, DPKG_INFO, DigestCache, Packages, running_processes};
use crate::intel::{Indicators, Observable};
use crate::policy;
use crate::settings::Places;

/// How often the stage says that it lives and looks whether packages changed.
const TICK: Duration = Duration::from_secs(1);

/// The packages' files, shared by who rules and who learns.
#[derive(Debug)]
pub struct OwnFiles {
    packages: Packages,
    digests: Arc<DigestCache>,
    /// Whether any source lists a digest: until then no program need be read.
    is_wanted: bool,
}

/// A digest as the host room has it.
fn content(value: &Observable) -> Option<ContentDigest> {
    match value {
        Observable::Md5(digest) => Some(ContentDigest::Md5(*digest)),
        Observable::Sha1(digest) => Some(ContentDigest::Sha1(*digest)),
        Observable::Sha256(digest) => Some(ContentDigest::Sha256(*digest)),
        _ => None,
    }
}

fn observable(digest: ContentDigest) -> Observable {
    match digest {
        ContentDigest::Md5(digest) => Observable::Md5(digest),
        ContentDigest::Sha1(digest) => Observable::Sha1(digest),
        ContentDigest::Sha256(digest) => Observable::Sha256(digest),
    }
}

/// Which of the digests that these sources list are of installed files.
///
/// # Errors
/// dpkg's records cannot be read.
pub fn listed<'a>(
    packages: &Packages,
    sets: impl Iterator<Item = &'a Indicators>,
) -> std::io::Result<policy::OwnFiles> {
    let wanted = digests(sets);
    if wanted.is_empty() {
        return Ok(policy::OwnFiles::default());
    }
    let installed = packages.installed(&wanted)?;
    Ok(installed.into_iter().map(|(digest, path)| (observable(digest), Arc::from(path))).collect())
}

fn digests<'a>(sets: impl Iterator<Item = &'a Indicators>) -> HashSet<ContentDigest> {
    sets.flat_map(Indicators::views).flat_map(|view| view.values()).filter_map(|(_, value)| content(&value)).collect()
}

impl OwnFiles {
    /// What is known from before.
    #[must_use]
    pub fn open(places: &Places, digests: Arc<DigestCache>) -> Self {
        let packages = Packages::open(DPKG_INFO.into(), places.state.join("own-files"));
        Self { packages, digests, is_wanted: false }
    }

    /// As [`listed`]. The first time that a source lists a digest, the programs that run are learnt at once: those a mistake
    /// would hurt first.
    ///
    /// # Errors
    /// dpkg's records cannot be read.
    pub fn among<'a>(
        &mut self,
        sets: impl Iterator<Item = &'a Indicators> + Clone,
    ) -> std::io::Result<policy::OwnFiles> {
        if !self.is_wanted && !digests(sets.clone()).is_empty() {
            self.is_wanted = true;
            let running: HashSet<_> = running_processes()
                .into_iter()
                .flatten()
                .filter_map(|process| std::path::PathBuf::from(process.exe?).file_name().map(ToOwned::to_owned))
                .collect();
            let unlearnt = self.packages.unlearnt()?;
            let running =
                unlearnt.iter().filter(|file| file.path.file_name().is_some_and(|name| running.contains(name)));
            let learnt: Vec<_> = running.filter_map(|file| file.read(&self.digests)).collect();
            self.packages.learn(learnt);
        }
        listed(&self.packages, sets)
    }
}

/// Learns what is installed, now and whenever packages change, until the agent stops.
///
/// # Errors
/// A thread of the runtime died.
pub async fn run(shared: Arc<Shared>, stage: Stage) -> anyhow::Result<()> {
    let mut seen = None;
    loop {
        let (is_wanted, changed) = {
            let own = lock(&shared.own_files);
            (own.is_wanted && read(&shared.settings).never_block.packages, own.packages.changed())
        };
        if is_wanted && changed != seen {
            seen = changed;
            let own_files = Arc::clone(&shared.own_files);
            let learning = tokio::task::spawn_blocking(move || learn(&own_files));
            tokio::pin!(learning);
            let learnt = loop {
                tokio::select! {
                    learnt = &mut learning => break learnt?,
                    () = sleep(TICK) => stage.tick(),
                }
            };
            match learnt {
                // The fault says it; what is live stays.
                Ok(files) if files > 0 => {
                    tracing::info!(files, "learnt what packages of this host installed");
                    let _refused = shared.renew(|_| false).await;
                }
                Ok(_) => {}
                Err(error) => shared.health.raise(Fault::OwnFilesUnknown, "", error.to_string()),
            }
        }
        sleep(TICK).await;
        stage.tick();
    }
}

/// Reads the programs that are not known, without holding up who rules; how many were new.
fn learn(own_files: &Mutex<OwnFiles>) -> std::io::Result<usize> {
    let (unlearnt, digests) = {
        let own = lock(own_files);
        (own.packages.unlearnt()?, Arc::clone(&own.digests))
    };
    let learnt: Vec<_> = unlearnt.iter().filter_map(|file| file.read(&digests)).collect();
    let mut own = lock(own_files);
    let files = own.packages.learn(learnt);
    if files > 0 {
        own.packages.save()?;
    }
    Ok(files)
}
