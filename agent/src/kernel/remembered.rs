//! What the hooks remember of a socket that is open, read and written through a descriptor of it.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use agent_common::wire::SocketMemory;
use rustix::net::sockopt::socket_cookie;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};

use super::Kernel;

/// The socket that `descriptor` of the process `pid` stands for, if it is the one with this cookie: the descriptor may have
/// been closed, and another opened under its number.
///
/// # Errors
/// The process is gone, or is another's and may not be looked into (`CAP_SYS_PTRACE`); it is another socket (`NotFound`).
pub fn borrow_socket(pid: u32, descriptor: i32, cookie: u64) -> io::Result<OwnedFd> {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let socket = pidfd_getfd(process, descriptor, PidfdGetfdFlags::empty())?;
    if socket_cookie(&socket)? == cookie { Ok(socket) } else { Err(io::ErrorKind::NotFound.into()) }
}

impl Kernel {
    /// What the hooks remember of a socket; `None` for nothing.
    ///
    /// # Errors
    /// It is no socket, or the map cannot be read.
    pub fn recall(&self, socket: BorrowedFd<'_>) -> io::Result<Option<SocketMemory>> {
        self.sockets.get(&socket.as_raw_fd())
    }

    /// Makes the hooks remember this of a socket, and nothing else.
    ///
    /// # Errors
    /// It is no socket, or there is no memory for it.
    pub fn remember(&self, socket: BorrowedFd<'_>, memory: &SocketMemory) -> io::Result<()> {
        self.sockets.set(&socket.as_raw_fd(), memory)
    }
}
