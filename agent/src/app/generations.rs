//! The files of generations in the state directory: what names a hit when its indicator is gone, after a restart too.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, BufWriter, ErrorKind};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;

use crate::intel::Skips;
use crate::intel::packed::{Bytes, Damaged};
use crate::tables::{Identity, KeptGeneration, Provenance};

/// Ends the name of a file that is being written.
const UNFINISHED: &str = "new";

/// The directory of the files, each named by its generation's number.
#[derive(Debug)]
pub struct GenerationFiles {
    directory: PathBuf,
}

/// A file as far as it is read.
#[derive(Debug)]
struct OnDisk {
    file: File,
    length: u64,
}

impl Bytes for OnDisk {
    fn len(&self) -> u64 {
        self.length
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Damaged> {
        self.file.read_exact_at(into, at).map_err(|_| Damaged)
    }
}

impl GenerationFiles {
    /// Files in `directory`, which is made when there is something to keep.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    fn path(&self, generation: u32) -> PathBuf {
        self.directory.join(generation.to_string())
    }

    /// Writes the file of a generation, whole or not at all, and opens it. It is for the agent alone: it says what is listed.
    ///
    /// # Errors
    /// With the path: it cannot be written.
    pub fn keep(
        &self,
        provenance: &Provenance,
        identity: Identity,
        before: Option<Identity>,
        serial: Option<u64>,
        skips: &[&Skips],
    ) -> anyhow::Result<KeptGeneration> {
        let path = self.path(identity.generation);
        let write = || -> io::Result<()> {
            DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
            let fresh = path.with_extension(UNFINISHED);
            let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            // Not synced: the generation itself does not outlive the machine's memory, and what is torn shows.
            KeptGeneration::write(
                provenance,
                identity,
                before,
                serial,
                skips,
                BufWriter::with_capacity(1 << 16, file),
            )?;
            fs::rename(&fresh, &path)
        };
        write().with_context(|| format!("cannot write {}", path.display()))?;
        self.open(identity)
    }

    /// Opens the file of a generation.
    ///
    /// # Errors
    /// With the path: there is none, or it is of another generation, of another version of the agent, or damaged.
    pub fn open(&self, identity: Identity) -> anyhow::Result<KeptGeneration> {
        let path = self.path(identity.generation);
        let open = || -> anyhow::Result<KeptGeneration> {
            let file = File::open(&path)?;
            let length = file.metadata()?.len();
            let kept = KeptGeneration::open(Arc::new(OnDisk { file, length }), identity);
            kept.context("it is damaged, or of another generation or version")
        };
        open().with_context(|| format!("cannot use {}", path.display()))
    }

    /// Removes all files but those of these generations.
    ///
    /// # Errors
    /// With the path: one cannot be removed.
    pub fn keep_only(&self, generations: &[u32]) -> anyhow::Result<()> {
        let entries = match fs::read_dir(&self.directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", self.directory.display())),
        };
        for entry in entries {
            let path = entry?.path();
            if !is_of(&path, generations) {
                fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
            }
        }
        Ok(())
    }
}

fn is_of(path: &Path, generations: &[u32]) -> bool {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    generations.iter().any(|generation| generation.to_string() == name)
}

#[cfg(test)]
mod tests;
