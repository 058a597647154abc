//! Files by identity: the key and value of the kernel's digest map.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which file: the identity that survives rename, hard link, bind mount and mount namespace.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FileKey {
    /// `super_block.s_dev` in the kernel's encoding, `major << 20 | minor`.
    pub device: u64,
    /// `inode.i_ino`.
    pub inode: u64,
}

/// Which contents of that file: changes whenever the file is written, truncated or replaced.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FileStamp {
    /// Bytes.
    pub size: u64,
    /// Modification time, nanoseconds since the epoch.
    pub mtime_ns: u64,
    /// Status change time, nanoseconds since the epoch. User space cannot set it, so it tells a forged `mtime`.
    pub ctime_ns: u64,
}

/// What user space found by reading a file, valid only while the file's stamp is the same.
///
/// The digests, not a verdict: a new generation therefore judges known files without anything being read again.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct FileDigests {
    /// The contents that were read.
    pub stamp: FileStamp,
    /// SHA-256, big-endian bytes as printed.
    pub sha256: [u8; 32],
    /// SHA-1, or zero where no SHA-1 indicator was loaded when the file was read.
    pub sha1: [u8; 20],
    /// MD5, or zero where no MD5 indicator was loaded when the file was read.
    pub md5: [u8; 16],
    /// Which digests are set: [`FileDigests::SHA1`] and [`FileDigests::MD5`]; SHA-256 always is.
    pub flags: u32,
}

impl FileDigests {
    /// `sha1` is set.
    pub const SHA1: u32 = 1;
    /// `md5` is set.
    pub const MD5: u32 = 2;
}
