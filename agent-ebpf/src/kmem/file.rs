//! The file that is about to be executed.

use agent_common::wire::{FileKey, FileStamp};
use aya_ebpf::Global;

use super::{Address, offsets};

offsets! {
    OFF_BPRM_FILE: "`linux_binprm.file`",
    OFF_BPRM_FILENAME: "`linux_binprm.filename`",
    OFF_FILE_INODE: "`file.f_inode`",
    OFF_INODE_SB: "`inode.i_sb`",
    OFF_INODE_INO: "`inode.i_ino`",
    OFF_INODE_SIZE: "`inode.i_size`",
    OFF_MTIME_S: "`inode.i_mtime_sec`, before 6.11 `inode.{__,}i_mtime.tv_sec`",
    OFF_MTIME_NS: "`inode.i_mtime_nsec`, before 6.11 `inode.{__,}i_mtime.tv_nsec`",
    OFF_CTIME_S: "`inode.i_ctime_sec`, before 6.11 `inode.{__,}i_ctime.tv_sec`",
    OFF_CTIME_NS: "`inode.i_ctime_nsec`, before 6.11 `inode.{__,}i_ctime.tv_nsec`",
    OFF_SB_DEV: "`super_block.s_dev`",
}

/// Bit 31 of `i_ctime_nsec` is `I_CTIME_QUERIED` since 6.13 (include/linux/fs.h), no part of the time.
const NANOSECOND_BITS: u32 = 0x7fff_ffff;

/// Which file, and which contents.
#[derive(Clone, Copy)]
pub struct Identity {
    /// Which file.
    pub key: FileKey,
    /// Which contents.
    pub stamp: FileStamp,
}

#[inline(always)]
fn time(inode: Address, seconds: &Global<u64>, nanoseconds: &Global<u64>) -> u64 {
    let seconds: u64 = inode.value(seconds);
    let nanoseconds: u32 = inode.value(nanoseconds);
    seconds.wrapping_mul(1_000_000_000).wrapping_add(u64::from(nanoseconds & NANOSECOND_BITS))
}

/// Whether two `struct file` are of one inode.
#[inline(always)]
pub fn is_same(one: Address, other: Address) -> bool {
    let inode: u64 = one.value(&OFF_FILE_INODE);
    inode != 0 && inode == other.value::<u64>(&OFF_FILE_INODE)
}

/// `super_block.s_dev` of an inode, 0 where it cannot be read.
#[inline(always)]
pub fn device(inode: Address) -> u64 {
    let device: u32 = inode.follow(&OFF_INODE_SB).value(&OFF_SB_DEV);
    u64::from(device)
}

/// The identity of a `struct file`; all zero when it cannot be read.
#[inline(always)]
pub fn identity(file: Address) -> Identity {
    let inode = file.follow(&OFF_FILE_INODE);
    Identity {
        key: FileKey { device: device(inode), inode: inode.value(&OFF_INODE_INO) },
        stamp: FileStamp {
            size: inode.value(&OFF_INODE_SIZE),
            mtime_ns: time(inode, &OFF_MTIME_S, &OFF_MTIME_NS),
            ctime_ns: time(inode, &OFF_CTIME_S, &OFF_CTIME_NS),
        },
    }
}
