//! A file's path as a key, by walking dentries from the leaf to the root and out of every mount on the way.

use core::ffi::c_void;
use core::ptr;

use agent_common::canon::PATH_DEPTH;
use agent_common::image::{NameHasher, Seed};
use aya_ebpf::helpers::generated::bpf_loop;

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
const STEPS: u32 = PATH_DEPTH as u32 + 8;
/// Words of the longest component.
const WORDS: u32 = 32;

/// A walk from a leaf to the root of a mount namespace.
struct Walk {
    hasher: NameHasher,
    dentry: Address,
    mount: Address,
    /// The component that is being hashed, and its length in bytes.
    name: Address,
    length: u64,
    /// 1 when the root was reached.
    arrived: u64,
}

const GO_ON: i64 = 0;
const STOP: i64 = 1;

/// Hashes one word of a component. Names start on a word and their memory is whole words long (`d_iname`,
/// `external_name`), so the last word is read whole and cut here.
extern "C" fn word(index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: `step` passes the `Walk` it was given, which outlives the loop.
    let walk = unsafe { &mut *walk };
    let value: u64 = walk.name.plus(index << 3).read();
    let rest = walk.length.wrapping_sub(index << 3);
    let shift = if rest < 8 { 64 - (rest << 3) } else { 0 };
    // The mask is what the hardware does to a shift anyway.
    walk.hasher.word(value << (shift & 63) >> (shift & 63));
    GO_ON
}

/// Hashes one component.
// verifier: a plain loop of 32 words inside the walk is 300 thousand instructions to it, seen on 6.18.
#[inline(always)]
fn component(walk: &mut Walk) {
    let name = walk.dentry.field(&OFF_DENTRY_NAME);
    let length: u32 = name.value(&OFF_QSTR_LEN);
    walk.name = name.follow(&OFF_QSTR_NAME);
    walk.length = u64::from(length);
    walk.hasher.length(length);
    let words = NameHasher::words(length);
    // SAFETY: the callback has the signature that the helper documents, and its context outlives the loop.
    unsafe { bpf_loop(if words > WORDS { WORDS } else { words }, word as *mut c_void, ptr::from_mut(walk).cast(), 0) };
}

/// One step: out of a mount, or one component up.
// verifier: as a plain loop, which it walks step by step, this is more than a million instructions, seen on 6.18; with
// bpf_loop (5.17) it looks at one step.
extern "C" fn step(_index: u64, walk: *mut Walk) -> i64 {
    // SAFETY: `key` passes its own `Walk`, which outlives the loop.
    let walk = unsafe { &mut *walk };
    if walk.dentry.is_nowhere() || walk.mount.is_nowhere() {
        return STOP;
    }
    let parent = walk.dentry.follow(&OFF_DENTRY_PARENT);
    if walk.dentry != parent && walk.dentry != walk.mount.follow(&OFF_MNT_ROOT) {
        component(walk);
        walk.dentry = parent;
        return GO_ON;
    }
    let inside = walk.mount.container(&OFF_MOUNT_MNT);
    let outside = inside.follow(&OFF_MOUNT_PARENT);
    if outside == inside {
        walk.arrived = 1;
        return STOP;
    }
    walk.dentry = inside.follow(&OFF_MOUNT_POINT);
    walk.mount = outside.field(&OFF_MOUNT_MNT);
    if outside.is_nowhere() { STOP } else { GO_ON }
}

/// No key: the file is deeper than any indicator can be. A key is a tag and has its top bit clear.
pub const NO_KEY: u64 = u64::MAX;

// verifier: a function of its own that is checked once, whatever leads to it; inlined, every way through the lookups before
// it walks the path again ("BPF program is too large"), seen on 6.18.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn path_key(file: u64, seed: u64, seed_more: u64) -> u64 {
    let path = Address::new(file).field(&OFF_FILE_PATH);
    let mut walk = Walk {
        hasher: NameHasher::path(Seed(seed, seed_more)),
        dentry: path.follow(&OFF_PATH_DENTRY),
        mount: path.follow(&OFF_PATH_MNT),
        name: Address::new(0),
        length: 0,
        arrived: 0,
    };
    // SAFETY: the callback has the signature that the helper documents, and its context is `walk`.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut walk).cast(), 0) };
    if walk.arrived == 1 { walk.hasher.key() } else { NO_KEY }
}

/// The key of an open file's path in its mount namespace; [`NO_KEY`] when it is deeper than any indicator can be.
#[inline(always)]
pub fn key(file: Address, seed: Seed) -> u64 {
    path_key(file.get(), seed.0, seed.1)
}
