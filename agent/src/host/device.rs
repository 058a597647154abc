//! Device numbers in the kernel's encoding.
//!
//! The kernel half sees `super_block.s_dev` as `major << 20 | minor`; `stat(2)` gives another encoding, and on btrfs
//! another number too (the subvolume's anonymous device), as on an overlay whose layers lie on different filesystems.
//! There the mount that the file was opened through gives the number: the third field of `/proc/self/mountinfo` is
//! `s_dev` on every filesystem. A file of a mount namespace that is not ours keeps the number `stat(2)` gives, so on such
//! filesystems its key may not meet the kernel's; the digest is then unknown to the kernel, never wrong.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use agent_common::image::Seed;

use crate::kernel::OwnProgram;

/// `st_dev` of `stat(2)` (glibc's `gnu_dev_makedev`) in the kernel's encoding `major << 20 | minor`.
#[must_use]
pub const fn kernel_encoding(stat_device: u64) -> u64 {
    let major = ((stat_device >> 32) & 0xffff_f000) | ((stat_device >> 8) & 0xfff);
    let minor = ((stat_device >> 12) & 0xffff_ff00) | (stat_device & 0xff);
    major << 20 | minor
}

/// The superblocks that are mounted where we can see them.
#[derive(Debug, Default)]
pub struct Devices {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    by_mount: HashMap<i32, u64>,
    superblocks: HashSet<u64>,
    read_at: Option<Instant>,
}

/// A miss reads the mount table again, but not more often than this.
const REFRESH: Duration = Duration::from_millis(200);

/// The program that this process runs, for the kernel half to know it by.
///
/// # Errors
/// `/proc/self/exe` cannot be read or opened.
pub fn own_program(seed: Seed) -> io::Result<OwnProgram> {
    const EXE: &str = "/proc/self/exe";
    let file = File::open(EXE)?;
    let device = shared().of(&file, file.metadata()?.dev());
    let path = std::fs::read_link(EXE)?;
    // Replaced meanwhile, as by an upgrade: what is there now is meant.
    let path = path.to_str().and_then(|path| path.strip_suffix(" (deleted)")).map_or(path.clone(), PathBuf::from);
    Ok(OwnProgram { path, device, seed })
}

/// The table that the whole process shares.
#[must_use]
pub fn shared() -> &'static Devices {
    static SHARED: OnceLock<Devices> = OnceLock::new();
    SHARED.get_or_init(Devices::default)
}

impl Devices {
    /// `super_block.s_dev` of an open file, given its `st_dev`.
    #[must_use]
    pub fn of(&self, file: &File, stat_device: u64) -> u64 {
        let plain = kernel_encoding(stat_device);
        // A numbered major is a block device, whose superblock bears its number (btrfs always has an anonymous one).
        if plain >> 20 != 0 {
            return plain;
        }
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        if table.superblocks.contains(&plain) {
            return plain;
        }
        let Some(mount) = mount_of(file) else { return plain };
        if !table.by_mount.contains_key(&mount) && table.read_at.is_none_or(|at| at.elapsed() >= REFRESH) {
            table.refresh();
        }
        if table.superblocks.contains(&plain) {
            return plain;
        }
        table.by_mount.get(&mount).copied().unwrap_or(plain)
    }
}

impl Table {
    fn refresh(&mut self) {
        self.read_at = Some(Instant::now());
        self.by_mount.clear();
        self.superblocks.clear();
        let Ok(mounts) = procfs::process::Process::myself().and_then(|this| this.mountinfo()) else { return };
        for mount in &mounts {
            if let Some(device) = parse_major_minor(&mount.majmin) {
                self.by_mount.insert(mount.mnt_id, device);
                self.superblocks.insert(device);
            }
        }
    }
}

/// `major:minor` of mountinfo in the kernel's encoding.
fn parse_major_minor(text: &str) -> Option<u64> {
    let (major, minor) = text.split_once(':')?;
    Some(major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?)
}

/// The `mnt_id` line of the descriptor's fdinfo, proc(5).
fn mount_of(file: &File) -> Option<i32> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).ok()?;
    text.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests;
