//! What only a system call tells about an open file: whether a write to it can go unnoticed.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Whether each write to a file shows in its `ctime`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteVisibility {
    /// A write through a mapping faults first, and the fault sets `ctime` (`file_update_time` from `page_mkwrite`).
    Stamped,
    /// The file lives in memory only: a page that was mapped shared by a read is written without any trace.
    Unstamped,
}

/// How writes to the filesystem that holds `file` show.
///
/// # Errors
/// What `fstatfs(2)` returns.
pub fn write_visibility(file: &File) -> io::Result<WriteVisibility> {
    // SAFETY: statfs is plain integers, for which all-zero bytes are a valid value.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the descriptor is open for as long as `file` is borrowed, and `buffer` is live and writable.
    if unsafe { libc::fstatfs(file.as_raw_fd(), &raw mut buffer) } != 0 {
        return Err(io::Error::last_os_error());
    }
    const RAMFS_MAGIC: i64 = 0x8584_58f6;
    const UNSTAMPED: [i64; 3] = [libc::TMPFS_MAGIC, RAMFS_MAGIC, libc::HUGETLBFS_MAGIC];
    Ok(if UNSTAMPED.contains(&buffer.f_type) { WriteVisibility::Unstamped } else { WriteVisibility::Stamped })
}

/// Whether somebody has `file` open for writing right now.
///
/// Asked by taking a read lease for a moment, which the kernel refuses while `inode.i_writecount` is positive
/// (`check_conflicting_open`). Who may not take leases (no `CAP_LEASE`, a filesystem without them) gets an error and has
/// to assume a writer.
///
/// # Errors
/// What `fcntl(2)` with `F_SETLEASE` returns, except for the refusal because of a writer.
pub fn has_writer(file: &File) -> io::Result<bool> {
    // fcntl(2); the libc crate does not name it.
    const F_SETSIG: libc::c_int = 10;
    let descriptor = file.as_raw_fd();
    // A lease that is broken in the moment we hold it is told by SIGIO, which would end the process; SIGURG is ignored.
    // SAFETY: F_SETSIG takes an integer and touches no memory; the descriptor is open while `file` is borrowed.
    if unsafe { libc::fcntl(descriptor, F_SETSIG, libc::SIGURG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: F_SETLEASE takes an integer and touches no memory; the descriptor is open while `file` is borrowed.
    if unsafe { libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_RDLCK) } != 0 {
        let error = io::Error::last_os_error();
        return if error.raw_os_error() == Some(libc::EAGAIN) { Ok(true) } else { Err(error) };
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(descriptor, libc::F_SETLEASE, libc::F_UNLCK) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(false)
}

#[cfg(test)]
mod tests;
