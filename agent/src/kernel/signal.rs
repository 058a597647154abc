//! Ending a process that was found running, and no other.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Kills the process `pid` if `is_still` says, once a descriptor holds it, that it is the one that was meant: a pid that is
/// reused meanwhile is another process, which the descriptor does not follow.
///
/// # Errors
/// There is no such process any more, or it may not be killed.
pub fn kill(pid: u32, is_still: impl FnOnce() -> bool) -> io::Result<()> {
    // SAFETY: pidfd_open(2) takes two integers and gives a new descriptor or -1.
    let descriptor = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error());
    }
    let descriptor = i32::try_from(descriptor).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given this descriptor to nobody else.
    let process = unsafe { OwnedFd::from_raw_fd(descriptor) };
    if !is_still() {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    // SAFETY: pidfd_send_signal(2) with a descriptor that lives, and no siginfo.
    let sent = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, process.as_raw_fd(), libc::SIGKILL, 0, 0) };
    if sent == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
