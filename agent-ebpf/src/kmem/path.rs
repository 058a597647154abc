//! A file's path as a key, by walking dentries from the leaf to the root and out of every mount on the way.

use agent_common::canon::PATH_DEPTH;
use agent_common::image::{NameHasher, Seed};

use super::{Address, offsets};

offsets! {
    OFF_FILE_PATH: "`file.f_path`",
    OFF_PATH_MNT: "`path.mnt`",
    OFF_PATH_DENTRY: "`path.dentry`",
    OFF_DENTRY_PARENT: "`dentry.d_parent`",
    OFF_DENTRY_NAME: "`dentry.d_name`",
    OFF_QSTR_NAME: "`qstr.name`",
    OFF_QSTR_LEN: "`qstr.len`",
    OFF_MNT_ROOT: "`vfsmount.mnt_root`",
    OFF_MOUNT_MNT: "`mount.mnt`",
    OFF_MOUNT_PARENT: "`mount.mnt_parent`",
    OFF_MOUNT_POINT: "`mount.mnt_mountpoint`",
}

/// Steps of the walk: the components that any indicator can have, and mounts on the way.
const STEPS: usize = PATH_DEPTH + 8;
/// Words of the longest component.
const WORDS: u32 = 32;

/// Hashes one component. Names start on a word and their memory is whole words long (`d_iname`, `external_name`), so the
/// last word is read whole and cut here.
#[inline(always)]
fn component(hasher: &mut NameHasher, dentry: Address) {
    let name = dentry.field(&OFF_DENTRY_NAME);
    let length: u32 = name.value(&OFF_QSTR_LEN);
    let start = name.follow(&OFF_QSTR_NAME);
    hasher.length(length);
    let words = NameHasher::words(length);
    for index in 0..WORDS {
        if index >= words {
            break;
        }
        let mut word: u64 = start.plus(u64::from(index) << 3).read();
        if index == words.wrapping_sub(1) && length & 7 != 0 {
            word &= (1 << ((length & 7) << 3)) - 1;
        }
        hasher.word(word);
    }
}

/// The key of an open file's path in its mount namespace. `None` when it is deeper than any indicator can be.
#[inline(always)]
pub fn key(file: Address, seed: Seed) -> Option<u64> {
    let path = file.field(&OFF_FILE_PATH);
    let mut mount = path.follow(&OFF_PATH_MNT);
    let mut dentry = path.follow(&OFF_PATH_DENTRY);
    let mut hasher = NameHasher::path(seed);
    for _ in 0..STEPS {
        if dentry.is_nowhere() || mount.is_nowhere() {
            return None;
        }
        let parent = dentry.follow(&OFF_DENTRY_PARENT);
        if dentry == parent || dentry == mount.follow(&OFF_MNT_ROOT) {
            let inside = mount.container(&OFF_MOUNT_MNT);
            let outside = inside.follow(&OFF_MOUNT_PARENT);
            if outside == inside {
                return Some(hasher.key());
            }
            if outside.is_nowhere() {
                return None;
            }
            dentry = inside.follow(&OFF_MOUNT_POINT);
            mount = outside.field(&OFF_MOUNT_MNT);
        } else {
            component(&mut hasher, dentry);
            dentry = parent;
        }
    }
    None
}
