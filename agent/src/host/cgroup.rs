//! cgroup2: id ↔ path, and what a path says about the unit and the container.

use std::collections::{HashSet, VecDeque};
use std::num::NonZeroUsize;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use lru::LruCache;

use super::Error;

/// Paths remembered; the least recently asked for goes first.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4095);
/// Directories looked at in one walk of the tree.
const MAX_WALK: usize = 65_536;
/// An id that is not found does not start another walk sooner than this.
const WALK_PAUSE: Duration = Duration::from_millis(500);

/// Where cgroup2 is mounted, from `/proc/self/mountinfo`: `/sys/fs/cgroup`, or `/sys/fs/cgroup/unified` beside version 1.
///
/// # Errors
/// [`Error::NoCgroup2`] when it is not mounted; the mount table cannot be read.
pub fn mount_point() -> Result<PathBuf, Error> {
    let path = || "/proc/self/mountinfo".into();
    let mounts = procfs::process::Process::myself()
        .and_then(|this| this.mountinfo())
        .map_err(|source| Error::Proc { path: path(), source })?;
    let found = mounts.into_iter().find(|mount| mount.fs_type == "cgroup2" && mount.root == "/");
    found.map(|mount| mount.mount_point).ok_or(Error::NoCgroup2)
}

/// The id of the cgroup at `directory`: its inode number, which `bpf_get_current_cgroup_id` returns.
///
/// # Errors
/// The directory cannot be read.
pub fn id_of(directory: &Path) -> Result<u64, Error> {
    std::fs::metadata(directory)
        .map(|metadata| metadata.ino())
        .map_err(|source| Error::Read { path: directory.to_owned(), source })
}

/// How deep `directory` lies below the mount point, which has level 0 (outside cgroup namespaces).
/// `None` when it does not lie there.
#[must_use]
pub fn level_of(mount_point: &Path, directory: &Path) -> Option<u32> {
    u32::try_from(directory.strip_prefix(mount_point).ok()?.components().count()).ok()
}

/// The ids of the cgroup at `directory` and of all below it, as far as `MAX_WALK` directories reach, breadth first.
#[must_use]
pub fn ids_below(directory: &Path) -> HashSet<u64> {
    let mut queue = VecDeque::from([directory.to_owned()]);
    let mut ids = HashSet::new();
    while let Some(path) = queue.pop_front().filter(|_| ids.len() < MAX_WALK) {
        let Ok(id) = id_of(&path) else { continue };
        ids.insert(id);
        let entries = std::fs::read_dir(&path).into_iter().flatten().flatten();
        let folders = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
        queue.extend(folders.map(|entry| entry.path()));
    }
    ids
}

/// cgroup id → path below the mount point, from `/`. The tree is walked when an id is asked for that is not known.
#[derive(Debug)]
pub struct CgroupPaths {
    mount_point: PathBuf,
    paths: LruCache<u64, Arc<str>>,
    walked: Option<Instant>,
}

impl CgroupPaths {
    /// Paths of the tree at `mount_point`.
    #[must_use]
    pub fn new(mount_point: PathBuf) -> Self {
        Self { mount_point, paths: LruCache::new(REMEMBERED), walked: None }
    }

    /// The path of `id`; `None` when no such cgroup is there (any more).
    pub fn path(&mut self, id: u64) -> Option<Arc<str>> {
        if let Some(path) = self.paths.get(&id) {
            return Some(Arc::clone(path));
        }
        if self.walked.is_some_and(|at| at.elapsed() < WALK_PAUSE) {
            return None;
        }
        let found = self.walk(id);
        self.walked = Some(Instant::now());
        found
    }

    /// Remembers a path that was learnt elsewhere, as from `/proc/<pid>/cgroup`.
    pub fn remember(&mut self, id: u64, path: &str) {
        self.paths.put(id, Arc::from(path));
    }

    /// Breadth first, so that a bound on the walk costs the deepest cgroups and not whole branches.
    fn walk(&mut self, wanted: u64) -> Option<Arc<str>> {
        let mut queue = VecDeque::from([PathBuf::from("/")]);
        let mut looked_at = 0;
        let mut found = None;
        while let Some(path) = queue.pop_front() {
            looked_at += 1;
            if looked_at > MAX_WALK {
                break;
            }
            let directory = self.mount_point.join(path.strip_prefix("/").unwrap_or(&path));
            let Ok(metadata) = std::fs::symlink_metadata(&directory) else { continue };
            let text: Arc<str> = Arc::from(path.to_string_lossy());
            if metadata.ino() == wanted {
                found = Some(Arc::clone(&text));
            } else {
                self.paths.put(metadata.ino(), text);
            }
            let Ok(entries) = std::fs::read_dir(&directory) else { continue };
            let folders = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            queue.extend(folders.map(|entry| path.join(entry.file_name())));
        }
        if let Some(path) = &found {
            self.paths.put(wanted, Arc::clone(path));
        }
        found
    }
}

/// The systemd unit that a cgroup belongs to: the deepest service or scope, else the deepest slice (systemd.unit(5)).
#[must_use]
pub fn unit_of(path: &str) -> Option<&str> {
    // systemd puts `_` before a name that the cgroup filesystem would take for a file of its own (cg_escape).
    let names = || path.rsplit('/').map(|name| name.strip_prefix('_').unwrap_or(name));
    let with_any = |endings: &[&str]| {
        names().find(|name| endings.iter().any(|ending| name.strip_suffix(ending).is_some_and(|stem| !stem.is_empty())))
    };
    with_any(&[".service", ".scope", ".socket", ".mount", ".swap"]).or_else(|| with_any(&[".slice"]))
}

/// The id of the container that a cgroup belongs to: 64 hexadecimal digits, as Docker, containerd, CRI-O and Podman name
/// their cgroups, with or without systemd. A container's monitor (`…-conmon-…`) runs outside of it.
#[must_use]
pub fn container_of(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|name| {
        let stem = name.strip_suffix(".scope").or_else(|| name.strip_suffix(".service")).unwrap_or(name);
        let (prefix, id) = stem.split_at_checked(stem.len().checked_sub(64)?)?;
        let is_id = id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let is_runtime = prefix.is_empty() || prefix.ends_with('-') || prefix.ends_with(':');
        (is_id && is_runtime && !prefix.contains("conmon")).then_some(id)
    })
}

#[cfg(test)]
mod tests;
