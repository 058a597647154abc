//! The pin directory: `<dir>/v<ABI_VERSION>/maps/<MAP>` and `…/links/<hook>`. A version of the ABI has a directory of its
//! own, so an upgrade never reads maps of another shape.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use agent_common::ABI_VERSION;

use super::{Error, bpf};

/// `BPF_FS_MAGIC`.
pub(super) const BPF_FS_MAGIC: i64 = 0xcafe_4a11;
/// `CGROUP2_SUPER_MAGIC`.
pub(super) const CGROUP2_MAGIC: i64 = 0x6367_7270;
/// Most pins that [`unpin_all`] removes in one directory: far more than any version makes.
const MOST: usize = 256;

/// The directories of this version.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub(super) maps: PathBuf,
    pub(super) links: PathBuf,
}

pub(super) fn layout(pin_dir: &Path) -> Layout {
    let version = pin_dir.join(format!("v{ABI_VERSION}"));
    Layout { maps: version.join("maps"), links: version.join("links") }
}

/// The link directories of other versions, which lose their hooks once this one's are attached.
pub(super) fn other_versions(pin_dir: &Path) -> Vec<PathBuf> {
    let other =
        |name: &str| name.strip_prefix('v').and_then(|rest| rest.parse::<u32>().ok()).is_some_and(|v| v != ABI_VERSION);
    let entries = fs::read_dir(pin_dir).into_iter().flatten().take(MOST).flatten();
    entries.filter(|entry| entry.file_name().to_str().is_some_and(other)).map(|entry| entry.path()).collect()
}

/// Makes the directories.
pub(super) fn prepare(pin_dir: &Path) -> Result<Layout, Error> {
    bpf::mount_bpffs();
    let exists = |path: &&Path| path.exists();
    let mount = pin_dir.ancestors().find(exists).unwrap_or(Path::new("/"));
    if !bpf::file_system(mount).is_ok_and(|kind| kind == BPF_FS_MAGIC) {
        return Err(Error::NotBpffs { path: pin_dir.to_owned(), mount: mount.to_owned() });
    }
    let layout = layout(pin_dir);
    for directory in [&layout.maps, &layout.links] {
        fs::create_dir_all(directory).map_err(|source| Error::Path {
            what: "cannot make the pin directory",
            path: directory.clone(),
            source,
        })?;
    }
    Ok(layout)
}

/// What [`unpin_all`] took away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Removed {
    /// Links, each of which was a hook.
    pub links: usize,
    /// Maps.
    pub maps: usize,
}

fn remove_files(directory: &Path) -> Result<usize, Error> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => return Err(Error::Path { what: "cannot read", path: directory.to_owned(), source }),
    };
    // Collected first: bpffs may skip entries when it is changed while it is read.
    let paths: Vec<PathBuf> = entries.flatten().take(MOST).map(|entry| entry.path()).collect();
    for path in &paths {
        fs::remove_file(path).map_err(|source| Error::Path { what: "cannot remove", path: path.clone(), source })?;
    }
    Ok(paths.len())
}

fn remove_directory(directory: &Path) -> Result<(), Error> {
    match fs::remove_dir(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::Path { what: "cannot remove", path: directory.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Removes the pin directory itself. Under systemd it is a mount of its own in a read-only /sys and stays; empty, it holds nothing.
fn remove_pin_dir(pin_dir: &Path) -> Result<(), Error> {
    let is_empty = || fs::read_dir(pin_dir).is_ok_and(|mut entries| entries.next().is_none());
    match remove_directory(pin_dir) {
        Err(_) if is_empty() => Ok(()),
        outcome => outcome,
    }
}

/// Removes one version's directory, links first.
pub(super) fn remove_version(version: &Path) -> Result<Removed, Error> {
    let links = remove_files(&version.join("links"))?;
    let maps = remove_files(&version.join("maps"))?;
    for directory in [version.join("links"), version.join("maps"), version.to_owned()] {
        remove_directory(&directory)?;
    }
    Ok(Removed { links, maps })
}

/// Removes Cordon from the kernel: every link of every version first, so that nothing is blocked any more, then the maps
/// and the directories. Works without a running daemon; a missing directory is nothing to remove.
///
/// # Errors
/// The first pin that could not be removed, or a directory that is not on a bpf file system.
pub fn unpin_all(pin_dir: &Path) -> Result<Removed, Error> {
    if !pin_dir.exists() {
        return Ok(Removed::default());
    }
    if !bpf::file_system(pin_dir).is_ok_and(|kind| kind == BPF_FS_MAGIC) {
        return Err(Error::NotBpffs { path: pin_dir.to_owned(), mount: pin_dir.to_owned() });
    }
    let own = layout(pin_dir).maps.parent().map(Path::to_owned);
    let versions: Vec<PathBuf> = own.into_iter().chain(other_versions(pin_dir)).collect();
    super::protect::end(&layout(pin_dir).maps);
    let mut removed = Removed::default();
    for version in &versions {
        removed.links += remove_files(&version.join("links"))?;
    }
    for version in &versions {
        removed.maps += remove_version(version)?.maps;
    }
    remove_pin_dir(pin_dir)?;
    Ok(removed)
}
