//! Sockets by the numbers that the kernel's documentation gives them.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::os::fd::OwnedFd;

pub use agent::kernel::attempt::{send, set_option};
pub use libc::{
    AF_INET, AF_INET6, AF_PACKET, EINPROGRESS, IP_OPTIONS, IP_RETOPTS, IPPROTO_ICMP, IPPROTO_IP, IPPROTO_IPV6,
    IPPROTO_RAW, IPPROTO_TCP, IPPROTO_UDP, IPV6_RTHDR, SOCK_DGRAM, SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM,
};
use rustix::net::{AddressFamily, Protocol, SocketFlags, SocketType, socket_with};

pub fn socket(family: i32, kind: i32, protocol: i32) -> io::Result<OwnedFd> {
    let family = AddressFamily::from_raw(u16::try_from(family).unwrap());
    let kind = SocketType::from_raw(u32::try_from(kind).unwrap());
    let protocol = NonZeroU32::new(u32::try_from(protocol).unwrap()).map(Protocol::from_raw);
    Ok(socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?)
}

pub fn connect(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    Ok(rustix::net::connect(socket, &to)?)
}

pub fn bind(socket: &OwnedFd, to: SocketAddr) -> io::Result<()> {
    Ok(rustix::net::bind(socket, &to)?)
}
