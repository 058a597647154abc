//! Which filesystems are watched: every one that is mounted and can hold programs.

use std::collections::HashSet;
use std::io;
use std::path::PathBuf;

use procfs::process::{MountInfo, Process};

use super::raw::Group;

/// Filesystems that are an interface of the kernel and hold no programs.
const WITHOUT_PROGRAMS: &[&str] = &[
    "autofs",
    "binfmt_misc",
    "bpf",
    "cgroup",
    "cgroup2",
    "configfs",
    "debugfs",
    "devpts",
    "efivarfs",
    "fusectl",
    "mqueue",
    "nsfs",
    "proc",
    "pstore",
    "resctrl",
    "rpc_pipefs",
    "securityfs",
    "selinuxfs",
    "smackfs",
    "sysfs",
    "tracefs",
];

/// What is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) filesystems: u64,
    pub(super) failed: Vec<String>,
}

/// Watches `only`, or else all of the mount table. Done anew at each change of it, because a number that a superblock
/// leaves behind is given to the next one; watching twice what is watched does nothing.
pub(super) fn watch(group: &Group, only: Option<&[PathBuf]>) -> io::Result<Watched> {
    let paths = match only {
        Some(paths) => paths.to_vec(),
        None => {
            let mounts = Process::myself().and_then(|this| this.mountinfo()).map_err(io::Error::other)?;
            one_path_per_filesystem(&mounts.0)
        }
    };
    let mut watched = Watched::default();
    for path in paths {
        match group.watch_filesystem(&path) {
            Ok(()) => watched.filesystems += 1,
            Err(error) => watched.failed.push(format!("{}: {error}", path.display())),
        }
    }
    Ok(watched)
}

/// The mount point of each superblock that was mounted last, as an earlier one may be covered by another filesystem.
fn one_path_per_filesystem(mounts: &[MountInfo]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    let mut covering = HashSet::new();
    let mut paths = Vec::new();
    for mount in mounts.iter().rev() {
        let uncovered = covering.insert(&mount.mount_point);
        if uncovered && !WITHOUT_PROGRAMS.contains(&mount.fs_type.as_str()) && seen.insert(&mount.majmin) {
            paths.push(mount.mount_point.clone());
        }
    }
    paths.reverse();
    paths
}

#[cfg(test)]
mod tests;
