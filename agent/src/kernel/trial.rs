//! The socket calls that lead around connect, made safe to try: what the tests and benches fire at the hooks.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

pub use libc::{
    AF_INET, AF_INET6, AF_PACKET, EINPROGRESS, IP_HDRINCL, IP_OPTIONS, IP_RETOPTS, IPPROTO_ICMP, IPPROTO_IP,
    IPPROTO_IPV6, IPPROTO_MPTCP, IPPROTO_RAW, IPPROTO_TCP, IPPROTO_UDP, IPV6_RTHDR, SO_ATTACH_FILTER, SOCK_DGRAM,
    SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM, SOL_SOCKET,
};

fn length<T: TryFrom<usize>>(bytes: usize) -> io::Result<T> {
    T::try_from(bytes).map_err(|_| io::Error::other("too long"))
}

/// `socket(2)`, closed on exec.
///
/// # Errors
/// The kernel's.
pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    // SAFETY: the call takes three numbers.
    let raw = unsafe { libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol) };
    // SAFETY: just opened for this call, and nobody else knows it.
    if raw < 0 { Err(io::Error::last_os_error()) } else { Ok(unsafe { OwnedFd::from_raw_fd(raw) }) }
}

/// `setsockopt(2)` with the value's bytes.
///
/// # Errors
/// The kernel's.
pub fn set_option(socket: &impl AsFd, level: i32, name: i32, value: &[u8]) -> io::Result<()> {
    let socket = socket.as_fd().as_raw_fd();
    let bytes = length(value.len())?;
    // SAFETY: the kernel reads `bytes` bytes of a live slice.
    let done = unsafe { libc::setsockopt(socket, level, name, value.as_ptr().cast(), bytes) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Bytes of a `sockaddr_in` or `sockaddr_in6`.
fn address_bytes(address: SocketAddr) -> Vec<u8> {
    let family = if address.is_ipv4() { AF_INET } else { AF_INET6 };
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

/// `connect(2)`.
///
/// # Errors
/// The kernel's.
pub fn connect(socket: &impl AsFd, to: SocketAddr) -> io::Result<()> {
    let address = address_bytes(to);
    let bytes = length(address.len())?;
    // SAFETY: the kernel reads `bytes` bytes of a live vector.
    let done = unsafe { libc::connect(socket.as_fd().as_raw_fd(), address.as_ptr().cast(), bytes) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// `bind(2)`.
///
/// # Errors
/// The kernel's.
pub fn bind(socket: &impl AsFd, to: SocketAddr) -> io::Result<()> {
    let address = address_bytes(to);
    let bytes = length(address.len())?;
    // SAFETY: the kernel reads `bytes` bytes of a live vector.
    let done = unsafe { libc::bind(socket.as_fd().as_raw_fd(), address.as_ptr().cast(), bytes) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// One control message: level, type, data.
pub type Control<'a> = (i32, i32, &'a [u8]);

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
    let mut address = to.map(address_bytes).unwrap_or_default();
    // `struct cmsghdr`: length with itself, level, type; 8-byte aligned as a vector of words is.
    let mut words: Vec<u64> = Vec::new();
    let mut control_bytes = 0;
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
    let mut part = libc::iovec { iov_base: data.as_ptr().cast_mut().cast(), iov_len: data.len() };
    // SAFETY: a structure of numbers and pointers, for which all zero is "nothing".
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    if !address.is_empty() {
        message.msg_name = address.as_mut_ptr().cast();
        message.msg_namelen = length(address.len())?;
    }
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if control_bytes > 0 {
        message.msg_control = words.as_mut_ptr().cast();
        message.msg_controllen = control_bytes;
    }
    // SAFETY: every pointer is to a live value of the length that is given beside it, and the kernel writes to none.
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}
