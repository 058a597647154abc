//! Copies of what a source last said when it was good: a source that breaks while no agent runs stays in force.
//!
//! They lie below `<state>/sources/<name>/` under the path that they were read from, so that a source that is moved by the
//! settings does not inherit what another place said.

use std::collections::HashSet;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;

use super::{FileError, Load, LoadError, Source, files, load_from};

/// Ends the name of a copy that is being written; [`files`] passes such names over.
const UNFINISHED: &str = "~";

/// The copies of all sources.
#[derive(Clone, Debug)]
pub struct Kept {
    directory: PathBuf,
}

impl Kept {
    /// Copies below `directory`, which is made when there is something to keep.
    #[must_use]
    pub const fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// Reads the copies of a source, as it was read when it was good; `None` when nothing was kept.
    ///
    /// # Errors
    /// The copies cannot be read, or are damaged.
    pub fn load(&self, source: &Source) -> Result<Option<Load>, LoadError> {
        let place = self.place(source);
        let Ok(metadata) = fs::metadata(&place) else { return Ok(None) };
        let read_at = Timestamp::new(metadata.mtime(), 0).unwrap_or(Timestamp::UNIX_EPOCH);
        load_from(source, &place, read_at).map(Some)
    }

    /// Makes the copies be what `load` read: only what has changed is written, each file in one piece, readable by the agent
    /// alone. The copy of a file that is refused now stays. A file that was written after it was read is left for the
    /// reading that its writer causes.
    ///
    /// # Errors
    /// With the path: a file that can no longer be read, or a copy that cannot be written or removed.
    pub fn keep(&self, load: &Load) -> Result<(), FileError> {
        let place = self.place(&load.source);
        let copy_of = |file: &Path| match file.strip_prefix(&load.source.path) {
            Ok(below) if !below.as_os_str().is_empty() => place.join(below),
            _ => place.clone(),
        };
        let refused = load.refused.iter().map(|refused| &refused.file);
        let wanted: HashSet<PathBuf> = load.files.iter().chain(refused).map(|file| copy_of(file)).collect();
        let own = self.directory.join(&load.source.name);
        // First, since a directory may lie where a file is to be, or the other way round.
        remove_all_but(&own, &|path| wanted.contains(path)).map_err(files::failed(&own))?;
        for file in &load.files {
            let copy = copy_of(file);
            let now = fs::metadata(file).map_err(files::failed(file))?;
            let is_kept = fs::metadata(&copy).is_ok_and(|kept| stamp(&kept) == stamp(&now));
            if !is_kept && changed_at(&now) <= load.loaded_at {
                write(file, &now, &copy).map_err(files::failed(&copy))?;
            }
        }
        Ok(())
    }

    /// Removes the copies of sources that are no longer there, and what was fetched from where a source is no longer fetched.
    ///
    /// # Errors
    /// With the path: a copy that cannot be removed.
    pub fn keep_only<'a>(&self, sources: impl Iterator<Item = &'a Source>) -> Result<(), FileError> {
        let own: Vec<PathBuf> = sources
            .map(|source| match source.remote() {
                Some(remote) => remote.place(&self.directory, &source.name),
                None => self.directory.join(&source.name),
            })
            .collect();
        let is_wanted = |path: &Path| own.iter().any(|own| path.starts_with(own));
        remove_all_but(&self.directory, &is_wanted).map(drop).map_err(files::failed(&self.directory))
    }

    fn place(&self, source: &Source) -> PathBuf {
        let below = source.path.components().filter(|part| matches!(part, Component::Normal(_)));
        self.directory.join(&source.name).join(below.collect::<PathBuf>())
    }
}

/// Size and time of the last change of contents: a copy is given both.
fn stamp(metadata: &Metadata) -> (u64, i64, i64) {
    (metadata.size(), metadata.mtime(), metadata.mtime_nsec())
}

/// When contents, name or rights last changed, which no program can set back.
fn changed_at(metadata: &Metadata) -> Timestamp {
    let nanoseconds = i32::try_from(metadata.ctime_nsec()).unwrap_or_default();
    Timestamp::new(metadata.ctime(), nanoseconds).unwrap_or(Timestamp::MAX)
}

fn write(file: &Path, metadata: &Metadata, copy: &Path) -> io::Result<()> {
    if let Some(directory) = copy.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    }
    let mut unfinished = copy.as_os_str().to_owned();
    unfinished.push(UNFINISHED);
    let mut target = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
    io::copy(&mut File::open(file)?, &mut target)?;
    target.set_modified(metadata.modified()?)?;
    target.sync_all()?;
    fs::rename(&unfinished, copy)
}

/// Removes every file below `directory` but those wanted, and the directories that are then empty; whether `directory`
/// itself is one of those.
fn remove_all_but(directory: &Path, is_wanted: &dyn Fn(&Path) -> bool) -> io::Result<bool> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
        Err(error) => return Err(error),
    };
    let mut is_empty = true;
    for entry in entries {
        let entry = entry?;
        let path = entry.path();
        let is_gone = if entry.file_type()?.is_dir() {
            remove_all_but(&path, is_wanted)?
        } else if is_wanted(&path) {
            false
        } else {
            fs::remove_file(&path)?;
            true
        };
        is_empty &= is_gone;
    }
    if is_empty {
        fs::remove_dir(directory)?;
    }
    Ok(is_empty)
}

#[cfg(test)]
mod tests;
