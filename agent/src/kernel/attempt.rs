//! The system calls by which the self-test tries to get past the hooks, where no library makes them safe.

pub mod tamper;

use std::fs::File;
use std::io;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::fs::FileExt;
use std::ptr;

use io_uring::{IoUring, opcode, types};

/// Idle milliseconds after which the kernel's polling thread sleeps.
const SQPOLL_IDLE_MS: u32 = 200;

/// A control message: level, type, data.
pub type Control<'a> = (i32, i32, &'a [u8]);

fn checked(result: impl Into<i64>) -> io::Result<i64> {
    match result.into() {
        result if result < 0 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Bytes of a `sockaddr_in` or `sockaddr_in6`.
fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let mut bytes = (family as u16).to_ne_bytes().to_vec();
    bytes.extend(address.port().to_be_bytes());
    match address {
        SocketAddr::V4(address) => {
            bytes.extend(address.ip().octets());
            bytes.extend([0; 8]);
        }
        SocketAddr::V6(address) => {
            bytes.extend(address.flowinfo().to_be_bytes());
            bytes.extend(address.ip().octets());
            bytes.extend(address.scope_id().to_ne_bytes());
        }
    }
    bytes
}

/// `setsockopt(2)` with the value's bytes.
///
/// # Errors
/// The kernel's.
pub fn set_option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let (socket, bytes) = (socket.as_fd().as_raw_fd(), value.len() as libc::socklen_t);
    // SAFETY: the kernel reads `bytes` bytes of a live slice.
    checked(unsafe { libc::setsockopt(socket, level, name, value.as_ptr().cast(), bytes) }).map(drop)
}

/// All that a `struct msghdr` points to.
struct Message<'a> {
    address: Vec<u8>,
    /// `struct cmsghdr`s: words, because they are aligned so.
    control: Vec<u64>,
    control_bytes: usize,
    part: libc::iovec,
    data: PhantomData<&'a [u8]>,
}

impl<'a> Message<'a> {
    fn new(data: &'a [u8], to: Option<SocketAddr>, control: Option<Control<'_>>) -> Self {
        let (mut words, mut control_bytes) = (Vec::new(), 0);
        if let Some((level, kind, value)) = control {
            control_bytes = 16 + value.len();
            words.push(control_bytes as u64);
            words.push(u64::from(level.cast_unsigned()) | u64::from(kind.cast_unsigned()) << 32);
            for part in value.chunks(8) {
                let mut word = [0; 8];
                word.iter_mut().zip(part).for_each(|(to, from)| *to = *from);
                words.push(u64::from_ne_bytes(word));
            }
        }
        let part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
        let address = to.map(address_bytes).unwrap_or_default();
        Self { address, control: words, control_bytes, part, data: PhantomData }
    }

    /// Good for as long as the message is neither moved nor dropped.
    fn header(&mut self) -> libc::msghdr {
        // SAFETY: a structure of numbers and pointers, for which all zero is "nothing".
        let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
        if !self.address.is_empty() {
            header.msg_name = self.address.as_mut_ptr().cast();
            header.msg_namelen = self.address.len() as libc::socklen_t;
        }
        header.msg_iov = &raw mut self.part;
        header.msg_iovlen = 1;
        if self.control_bytes > 0 {
            header.msg_control = self.control.as_mut_ptr().cast();
            header.msg_controllen = self.control_bytes;
        }
        header
    }
}

/// `sendmsg(2)` of one datagram, to where the socket is connected unless `to` says otherwise; the bytes that were sent.
///
/// # Errors
/// The kernel's.
pub fn send(
    socket: &impl AsFd,
    data: &[u8],
    to: Option<SocketAddr>,
    control: Option<Control<'_>>,
) -> io::Result<usize> {
    let mut message = Message::new(data, to, control);
    let header = message.header();
    // SAFETY: all that the header points to is in `message` and `data`, which outlive the call, and the kernel writes to none.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) };
    checked(sent as i64).map(|sent| sent as usize)
}

/// `sendmmsg(2)` of two datagrams. Succeeds when the second was sent too.
///
/// # Errors
/// The kernel's, and `EPERM` when only the first was sent.
pub fn send_both(socket: &impl AsFd, data: &[u8], first: SocketAddr, second: SocketAddr) -> io::Result<()> {
    let (mut first, mut second) = (Message::new(data, Some(first), None), Message::new(data, Some(second), None));
    let mut messages = [first.header(), second.header()].map(|msg_hdr| libc::mmsghdr { msg_hdr, msg_len: 0 });
    // SAFETY: two messages; all that they point to outlives the call.
    match checked(unsafe { libc::sendmmsg(socket.as_fd().as_raw_fd(), messages.as_mut_ptr(), 2, 0) })? {
        2 => Ok(()),
        _ => Err(io::Error::from_raw_os_error(libc::EPERM)),
    }
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
pub fn connect_by_ring(socket: &impl AsFd, to: SocketAddr, poll: bool) -> io::Result<()> {
    let (socket, address) = (types::Fd(socket.as_fd().as_raw_fd()), address_bytes(to));
    by_ring(&opcode::Connect::new(socket, address.as_ptr().cast(), address.len() as libc::socklen_t).build(), poll)
}

/// `IORING_OP_SENDMSG`.
///
/// # Errors
/// As [`connect_by_ring`].
pub fn send_by_ring(socket: &impl AsFd, data: &[u8], to: SocketAddr) -> io::Result<()> {
    let mut message = Message::new(data, Some(to), None);
    let header = message.header();
    by_ring(&opcode::SendMsg::new(types::Fd(socket.as_fd().as_raw_fd()), &raw const header).build(), false)
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
