//! The system calls by which the self-test tries to get past the hooks, where no library makes them safe.

use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr;

use io_uring::{IoUring, opcode, types};

/// Idle milliseconds after which the kernel's polling thread sleeps.
const SQPOLL_IDLE_MS: u32 = 200;

/// A socket address as the kernel takes it.
struct Address {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

impl Address {
    fn new(address: SocketAddr) -> Self {
        // SAFETY: all zeroes is a `sockaddr_storage`.
        let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
        let place = &raw mut storage;
        let length = match address {
            SocketAddr::V4(address) => {
                let raw = libc::sockaddr_in {
                    sin_family: libc::AF_INET as libc::sa_family_t,
                    sin_port: address.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from(*address.ip()).to_be() },
                    sin_zero: [0; 8],
                };
                // SAFETY: a `sockaddr_storage` is large enough and aligned for every address.
                unsafe { place.cast::<libc::sockaddr_in>().write(raw) };
                size_of_val(&raw)
            }
            SocketAddr::V6(address) => {
                let raw = libc::sockaddr_in6 {
                    sin6_family: libc::AF_INET6 as libc::sa_family_t,
                    sin6_port: address.port().to_be(),
                    sin6_flowinfo: 0,
                    sin6_addr: libc::in6_addr { s6_addr: address.ip().octets() },
                    sin6_scope_id: 0,
                };
                // SAFETY: as above.
                unsafe { place.cast::<libc::sockaddr_in6>().write(raw) };
                size_of_val(&raw)
            }
        };
        Self { storage, length: length as libc::socklen_t }
    }

    fn pointer(&self) -> *const libc::sockaddr {
        (&raw const self.storage).cast()
    }
}

fn checked(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// `setsockopt(2)`.
///
/// # Errors
/// The kernel's.
pub fn set_option(socket: BorrowedFd<'_>, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let length = value.len() as libc::socklen_t;
    // SAFETY: the option's bytes live through the call and are as many as is said.
    checked(unsafe { libc::setsockopt(socket.as_raw_fd(), level, name, value.as_ptr().cast(), length) }).map(drop)
}

/// Calls `with` with a message of one byte to `to` and, if given, one control message: level, type, data.
fn with_message<T>(to: SocketAddr, control: Option<(i32, i32, &[u8])>, with: impl FnOnce(&mut libc::msghdr) -> T) -> T {
    let mut address = Address::new(to);
    let mut payload = *b"x";
    let mut part = libc::iovec { iov_base: payload.as_mut_ptr().cast(), iov_len: payload.len() };
    // Aligned as a control message has to be.
    let mut space = [0_u64; 16];
    // SAFETY: all zeroes is a `msghdr` without anything.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_name = (&raw mut address.storage).cast();
    message.msg_namelen = address.length;
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if let Some((level, kind, data)) = control {
        let data = data.get(..64).unwrap_or(data);
        message.msg_control = space.as_mut_ptr().cast();
        // SAFETY: pure arithmetic.
        message.msg_controllen = unsafe { libc::CMSG_SPACE(data.len() as u32) } as _;
        // SAFETY: the message has 128 bytes of control space and the data at most 64, so the first header and its data fit.
        unsafe {
            let header = libc::CMSG_FIRSTHDR(&raw const message);
            (*header).cmsg_level = level;
            (*header).cmsg_type = kind;
            (*header).cmsg_len = libc::CMSG_LEN(data.len() as u32) as _;
            ptr::copy_nonoverlapping(data.as_ptr(), libc::CMSG_DATA(header), data.len());
        }
    }
    with(&mut message)
}

/// `sendmsg(2)` of one byte, with one control message if given: level, type, data of at most 64 bytes.
///
/// # Errors
/// The kernel's.
pub fn send_message(socket: BorrowedFd<'_>, to: SocketAddr, control: Option<(i32, i32, &[u8])>) -> io::Result<()> {
    with_message(to, control, |message| {
        // SAFETY: all that the message points to lives through the call.
        checked(unsafe { libc::sendmsg(socket.as_raw_fd(), message, 0) } as i64).map(drop)
    })
}

/// `sendmmsg(2)` of two messages, the first to `first`. Succeeds when the second was sent too.
///
/// # Errors
/// The kernel's, and `EPERM` when only the first was sent.
pub fn send_messages(socket: BorrowedFd<'_>, first: SocketAddr, second: SocketAddr) -> io::Result<()> {
    with_message(first, None, |first| {
        with_message(second, None, |second| {
            let whole = |header: &libc::msghdr| libc::mmsghdr { msg_hdr: *header, msg_len: 0 };
            let mut messages = [whole(first), whole(second)];
            // SAFETY: two messages, and all that they point to lives through the call.
            let sent = checked(unsafe { libc::sendmmsg(socket.as_raw_fd(), messages.as_mut_ptr(), 2, 0) })?;
            if sent == 2 { Ok(()) } else { Err(io::Error::from_raw_os_error(libc::EPERM)) }
        })
    })
}

/// Submits one operation to an io_uring and waits for its result.
fn by_ring(entry: &io_uring::squeue::Entry, poll: bool) -> io::Result<()> {
    let mut builder = IoUring::builder();
    if poll {
        builder.setup_sqpoll(SQPOLL_IDLE_MS);
    }
    let mut ring: IoUring = builder.build(4)?;
    // SAFETY: the callers keep what the entry points to until the completion that is waited for here.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let done = ring.completion().next().ok_or_else(|| io::Error::other("no completion"))?;
    if done.result() < 0 { Err(io::Error::from_raw_os_error(-done.result())) } else { Ok(()) }
}

/// `IORING_OP_CONNECT`; with `poll`, submitted by a kernel thread (`IORING_SETUP_SQPOLL`).
///
/// # Errors
/// The kernel's; `ENOSYS` or `EPERM` for the ring itself where io_uring is switched off.
pub fn connect_by_ring(socket: BorrowedFd<'_>, to: SocketAddr, poll: bool) -> io::Result<()> {
    let address = Address::new(to);
    let entry = opcode::Connect::new(types::Fd(socket.as_raw_fd()), address.pointer(), address.length).build();
    by_ring(&entry, poll)
}

/// `IORING_OP_SENDMSG`.
///
/// # Errors
/// As [`connect_by_ring`].
pub fn send_by_ring(socket: BorrowedFd<'_>, to: SocketAddr) -> io::Result<()> {
    with_message(to, None, |message| {
        by_ring(&opcode::SendMsg::new(types::Fd(socket.as_raw_fd()), &raw const *message).build(), false)
    })
}

/// Whether this kernel gives out io_urings.
///
/// # Errors
/// It does not.
pub fn ring() -> io::Result<()> {
    IoUring::new(4).map(drop)
}

/// A namespace of one's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Namespace {
    /// Network.
    Network,
    /// Mounts.
    Mount,
    /// cgroups.
    Cgroup,
    /// Users, and mounts in it.
    UserAndMount,
}

/// `unshare(2)`: the calling thread goes on in a new namespace.
///
/// # Errors
/// The kernel's.
pub fn enter_new(namespace: Namespace) -> io::Result<()> {
    let flags = match namespace {
        Namespace::Network => libc::CLONE_NEWNET,
        Namespace::Mount => libc::CLONE_NEWNS,
        Namespace::Cgroup => libc::CLONE_NEWCGROUP,
        Namespace::UserAndMount => libc::CLONE_NEWUSER | libc::CLONE_NEWNS,
    };
    // SAFETY: unshare(2) takes an integer; none of these flags touches memory or descriptors.
    checked(unsafe { libc::unshare(flags) }).map(drop)
}

/// Maps the first page of `file` as code, as `dlopen(3)` and a dynamic loader do.
///
/// # Errors
/// The kernel's.
pub fn map_as_code(file: &File) -> io::Result<()> {
    let (length, protection) = (4096, libc::PROT_READ | libc::PROT_EXEC);
    // SAFETY: a new mapping where the kernel likes, which is not touched.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), length, protection, libc::MAP_PRIVATE, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping just made.
    checked(unsafe { libc::munmap(mapped, length) }).map(drop)
}

/// Writes `bytes` over the beginning of `file` through a shared mapping, which raises no fanotify event.
///
/// # Errors
/// The file is shorter; the kernel's.
pub fn overwrite_mapped(file: &File, bytes: &[u8]) -> io::Result<()> {
    if file.metadata()?.len() < bytes.len() as u64 {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new mapping where the kernel likes.
    let mapped = unsafe { libc::mmap(ptr::null_mut(), bytes.len(), protection, libc::MAP_SHARED, file.as_raw_fd(), 0) };
    if mapped == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is as long as `bytes`, and the file at least as long.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), mapped.cast(), bytes.len()) };
    // SAFETY: the mapping just made.
    checked(unsafe { libc::munmap(mapped, bytes.len()) })?;
    let mut written = vec![0; bytes.len()];
    file.read_exact_at(&mut written, 0)?;
    if written == bytes { Ok(()) } else { Err(io::Error::other("the mapping did not reach the file")) }
}

/// Becomes the program in `file` (`fexecve(3)`): returns only if that fails.
#[must_use]
pub fn become_program(file: BorrowedFd<'_>) -> io::Error {
    let name = c"selftest";
    let (arguments, environment) = ([name.as_ptr(), ptr::null()], [ptr::null::<libc::c_char>()]);
    // SAFETY: both arrays end with a null pointer and live through the call, as do the strings in them.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            file.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    io::Error::last_os_error()
}
