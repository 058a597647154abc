//! A program that was executed, matched or not: what the process table is made of.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::{ARGS_LEN, PATH_LEN};
use crate::wire::{FileDigests, FileKey, FileStamp, Header};

/// A program that was executed, matched or not.
///
/// The hooks send it whole, or cut after `args_len` bytes of `args`: it is the last field for that reason, and a decoder
/// takes any length from [`ExecRecord::MIN_LEN`] on.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct ExecRecord {
    /// Common part; `kind` is [`crate::wire::RecordKind::Exec`].
    pub header: Header,
    /// The file that was executed.
    pub file: FileKey,
    /// Its contents at that moment.
    pub stamp: FileStamp,
    /// SHA-256 of those contents where [`ExecRecord::DIGEST`] is set.
    pub sha256: [u8; 32],
    /// [`ExecRecord::DIGEST`], [`ExecRecord::SHA1`], [`ExecRecord::MD5`], [`ExecRecord::PATH_CUT`], [`ExecRecord::ARGS_CUT`].
    pub flags: u32,
    /// Bytes used of `path`.
    pub path_len: u16,
    /// Bytes used of `args`.
    pub args_len: u16,
    /// `linux_binprm.filename`: the path as given to `execve(2)`, which may be relative; not NUL-terminated.
    pub path: [u8; PATH_LEN],
    /// The arguments, each NUL-terminated.
    pub args: [u8; ARGS_LEN],
}

impl ExecRecord {
    /// `sha256` is known.
    pub const DIGEST: u32 = 1;
    /// The path was longer than [`PATH_LEN`].
    pub const PATH_CUT: u32 = 2;
    /// The arguments were longer than [`ARGS_LEN`].
    pub const ARGS_CUT: u32 = 4;
    /// It was judged by SHA-1 too: [`FileDigests::SHA1`], one bit for one.
    pub const SHA1: u32 = FileDigests::SHA1 << Self::DIGEST_SHIFT;
    /// It was judged by MD5 too: [`FileDigests::MD5`], one bit for one.
    pub const MD5: u32 = FileDigests::MD5 << Self::DIGEST_SHIFT;
    /// From flags of [`FileDigests`] to flags of a record.
    pub const DIGEST_SHIFT: u32 = 3;
    /// Bytes of a record without arguments.
    pub const MIN_LEN: usize = size_of::<Self>() - ARGS_LEN;
}
