//! Ways to reach an address.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::OwnedFd;
use std::time::Duration;

use agent_common::canon::mapped as mapped_low;
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, Protocol, SendFlags, SocketFlags, SocketType, bind, connect, ipproto, send, sendto, socket_with,
    sockopt,
};

use super::technique::PORT;
use crate::kernel::attempt::{self, Namespace};

/// How long a connect may take; on loopback it takes no time.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Net {
    /// The address, listed or not.
    pub address: IpAddr,
    /// An address that nobody listed.
    pub elsewhere: IpAddr,
    /// Whether the first is listed.
    pub listed: bool,
}

impl Net {
    fn target(&self) -> SocketAddr {
        SocketAddr::new(self.address, PORT)
    }

    fn v4(&self) -> Ipv4Addr {
        match self.address {
            IpAddr::V4(address) => address,
            IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
        }
    }

    /// The IPv4 address as a part of an IPv6 one.
    fn spelled(&self, address: impl FnOnce(Ipv4Addr) -> Ipv6Addr) -> SocketAddr {
        SocketAddr::new(address(self.v4()).into(), PORT)
    }
}

const fn family(address: &SocketAddr) -> AddressFamily {
    match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    }
}

fn open(family: AddressFamily, kind: SocketType, protocol: Option<Protocol>) -> io::Result<OwnedFd> {
    let socket = socket_with(family, kind, SocketFlags::CLOEXEC, protocol)?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    Ok(socket)
}

fn stream(to: SocketAddr, protocol: Option<Protocol>) -> io::Result<()> {
    let socket = open(family(&to), SocketType::STREAM, protocol)?;
    Ok(connect(&socket, &to)?)
}

fn datagram(to: SocketAddr, protocol: Option<Protocol>) -> io::Result<()> {
    let socket = open(family(&to), SocketType::DGRAM, protocol)?;
    sendto(&socket, b"x", SendFlags::empty(), &to)?;
    Ok(())
}

pub(super) fn tcp(net: &Net) -> io::Result<()> {
    stream(net.target(), None)
}

pub(super) fn mapped(net: &Net) -> io::Result<()> {
    stream(net.spelled(|address| Ipv6Addr::from_bits(mapped_low(address.to_bits()).into())), None)
}

pub(super) fn nat64(net: &Net) -> io::Result<()> {
    stream(net.spelled(|address| Ipv6Addr::from_bits(0x0064_ff9b << 96 | u128::from(address.to_bits()))), None)
}

pub(super) fn six_to_four(net: &Net) -> io::Result<()> {
    stream(net.spelled(|address| Ipv6Addr::from_bits(0x2002 << 112 | u128::from(address.to_bits()) << 80 | 1)), None)
}

pub(super) fn compatible(net: &Net) -> io::Result<()> {
    stream(net.spelled(|address| Ipv6Addr::from_bits(address.to_bits().into())), None)
}

pub(super) fn non_blocking(net: &Net) -> io::Result<()> {
    let socket =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC | SocketFlags::NONBLOCK, None)?;
    match connect(&socket, &net.target()) {
        // It is on its way.
        Ok(()) | Err(Errno::INPROGRESS) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn bound_first(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::STREAM, None)?;
    bind(&socket, &SocketAddr::new(net.elsewhere, 0))?;
    Ok(connect(&socket, &net.target())?)
}

pub(super) fn fast_open_send(net: &Net) -> io::Result<()> {
    const FASTOPEN: SendFlags = SendFlags::from_bits_retain(0x2000_0000);
    let socket = open(AddressFamily::INET, SocketType::STREAM, None)?;
    sendto(&socket, b"x", FASTOPEN, &net.target())?;
    Ok(())
}

pub(super) fn fast_open_connect(net: &Net) -> io::Result<()> {
    const TCP: i32 = 6;
    const FASTOPEN_CONNECT: i32 = 30;
    let socket = open(AddressFamily::INET, SocketType::STREAM, None)?;
    attempt::set_option(&socket, TCP, FASTOPEN_CONNECT, &1_i32.to_ne_bytes())?;
    connect(&socket, &net.target())?;
    send(&socket, b"x", SendFlags::NOSIGNAL)?;
    Ok(())
}

pub(super) fn mptcp(net: &Net) -> io::Result<()> {
    stream(net.target(), Some(ipproto::MPTCP))
}

pub(super) fn sctp(net: &Net) -> io::Result<()> {
    stream(net.target(), Some(ipproto::SCTP))
}

pub(super) fn udp_connect(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::DGRAM, None)?;
    connect(&socket, &net.target())?;
    send(&socket, b"x", SendFlags::NOSIGNAL)?;
    Ok(())
}

pub(super) fn udp_send(net: &Net) -> io::Result<()> {
    datagram(net.target(), None)
}

pub(super) fn udp_send_mapped(net: &Net) -> io::Result<()> {
    datagram(net.spelled(|address| address.to_ipv6_mapped()), None)
}

pub(super) fn udp_elsewhere(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::DGRAM, None)?;
    connect(&socket, &SocketAddr::new(net.elsewhere, PORT))?;
    sendto(&socket, b"x", SendFlags::empty(), &net.target())?;
    Ok(())
}

pub(super) fn sendmsg(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::DGRAM, None)?;
    attempt::send(&socket, b"x", Some(net.target()), None).map(drop)
}

pub(super) fn sendmmsg(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::DGRAM, None)?;
    attempt::send_both(&socket, b"x", SocketAddr::new(net.elsewhere, PORT), net.target())
}

pub(super) fn udplite(net: &Net) -> io::Result<()> {
    datagram(net.target(), Some(ipproto::UDPLITE))
}

pub(super) fn ring_connect(net: &Net) -> io::Result<()> {
    attempt::ring().map_err(no_ring)?;
    let socket = open(AddressFamily::INET, SocketType::STREAM, None)?;
    attempt::connect_by_ring(&socket, net.target(), false)
}

pub(super) fn ring_poll(net: &Net) -> io::Result<()> {
    attempt::ring().map_err(no_ring)?;
    let socket = open(AddressFamily::INET, SocketType::STREAM, None)?;
    attempt::connect_by_ring(&socket, net.target(), true)
}

pub(super) fn ring_send(net: &Net) -> io::Result<()> {
    attempt::ring().map_err(no_ring)?;
    let socket = open(AddressFamily::INET, SocketType::DGRAM, None)?;
    attempt::send_by_ring(&socket, b"x", net.target())
}

/// That there are no rings (`io_uring_disabled`) must not look like a block.
fn no_ring(error: io::Error) -> io::Error {
    io::Error::other(format!("no io_uring: {error}"))
}

/// The socket is standard input: it was opened before the agent started.
pub(super) fn inherited(net: &Net) -> io::Result<()> {
    let socket = io::stdin();
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    // It serves twice: for the target that is not listed, and for the one that is.
    rustix::net::connect_unspec(&socket)?;
    Ok(connect(&socket, &net.target())?)
}

pub(super) fn child_cgroup(net: &Net) -> io::Result<()> {
    let mount = crate::host::cgroup::mount_point().map_err(io::Error::other)?;
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let (home, child) = (mount.join(own), mount.join(own).join(format!("below-{}", std::process::id())));
    fs::create_dir(&child)?;
    let enter = |cgroup: &std::path::Path| fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string());
    let outcome = enter(&child).and_then(|()| tcp(net));
    enter(&home)?;
    fs::remove_dir(&child)?;
    outcome
}

pub(super) fn cgroup_namespace(net: &Net) -> io::Result<()> {
    attempt::enter_new(Namespace::Cgroup).map_err(io::Error::other)?;
    tcp(net)
}

/// Nothing is up in there: a target that nobody listed is unreachable.
pub(super) fn network_namespace(net: &Net) -> io::Result<()> {
    attempt::enter_new(Namespace::Network).map_err(io::Error::other)?;
    tcp(net)
}

/// RFC 792 and RFC 4443: type, code, checksum, identifier, sequence number. The kernel fills the checksum of ICMPv6.
const fn echo(kind: u8, checksum: u16) -> [u8; 8] {
    let [high, low] = checksum.to_be_bytes();
    [kind, 0, high, low, 0, 1, 0, 1]
}

/// Echo request with its checksum: the complement of 0x0800 + 1 + 1.
const ECHO: [u8; 8] = echo(8, !0x0802);
/// ICMPv6 echo request.
const ECHO6: [u8; 8] = echo(128, 0);

pub(super) fn ping(net: &Net) -> io::Result<()> {
    // The range is of this network namespace alone.
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").map_err(io::Error::other)?;
    let socket = open(AddressFamily::INET, SocketType::DGRAM, Some(ipproto::ICMP)).map_err(io::Error::other)?;
    sendto(&socket, &ECHO, SendFlags::empty(), &SocketAddr::new(net.address, 0))?;
    Ok(())
}

pub(super) fn raw_icmp(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::RAW, Some(ipproto::ICMP))?;
    sendto(&socket, &ECHO, SendFlags::empty(), &SocketAddr::new(net.address, 0))?;
    Ok(())
}

pub(super) fn raw_icmp6(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET6, SocketType::RAW, Some(ipproto::ICMPV6))?;
    sendto(&socket, &ECHO6, SendFlags::empty(), &SocketAddr::new(net.address, 0))?;
    Ok(())
}

pub(super) fn raw_header(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::RAW, Some(ipproto::RAW))?;
    // RFC 791 §3.1: five words, protocol ICMP; the kernel fills length, identification, checksum and a source of zero.
    let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 1, 0, 0, 0, 0, 0, 0];
    packet.extend_from_slice(&net.v4().octets());
    packet.extend_from_slice(&ECHO);
    sendto(&socket, &packet, SendFlags::empty(), &SocketAddr::new(net.address, 0))?;
    Ok(())
}

/// An address of this host that is not the target's.
fn here(net: &Net) -> SocketAddr {
    let address = if net.address.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    SocketAddr::new(address, 0)
}

/// The target is the end that connects.
pub(super) fn inbound_tcp(net: &Net) -> io::Result<()> {
    let listener = TcpListener::bind(here(net))?;
    let to = listener.local_addr()?;
    let socket = open(family(&to), SocketType::STREAM, None)?;
    if to.is_ipv6() {
        // It is local by a route, which is not enough for IPv6.
        sockopt::set_ipv6_freebind(&socket, true)?;
    }
    bind(&socket, &SocketAddr::new(net.address, 0))?;
    Ok(connect(&socket, &to)?)
}

/// The target is the end that sends.
pub(super) fn inbound_udp(net: &Net) -> io::Result<()> {
    let receiver = UdpSocket::bind(here(net))?;
    receiver.set_read_timeout(Some(PATIENCE))?;
    UdpSocket::bind((net.address, 0))?.send_to(b"x", receiver.local_addr()?)?;
    receiver.recv(&mut [0]).map(drop)
}

const IPPROTO_IP: i32 = 0;
/// `IP_OPTIONS`.
const OPTIONS: i32 = 4;
/// `IP_RETOPTS`.
const RETOPTS: i32 = 7;

/// RFC 791: loose source and record route through one address, padded to a word. Empty when the target is not listed: then
/// the datagram takes no detour.
fn route_through(net: &Net) -> Vec<u8> {
    let mut option = vec![131, 7, 4];
    option.extend_from_slice(&net.v4().octets());
    option.push(0);
    if net.listed { option } else { Vec::new() }
}

pub(super) fn source_route(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::DGRAM, None)?;
    attempt::set_option(&socket, IPPROTO_IP, OPTIONS, &route_through(net))?;
    sendto(&socket, b"x", SendFlags::empty(), &SocketAddr::new(net.elsewhere, PORT))?;
    Ok(())
}

pub(super) fn source_route_control(net: &Net) -> io::Result<()> {
    let socket = open(AddressFamily::INET, SocketType::DGRAM, None)?;
    let option = route_through(net);
    let control = net.listed.then_some((IPPROTO_IP, RETOPTS, option.as_slice()));
    attempt::send(&socket, b"x", Some(SocketAddr::new(net.elsewhere, PORT)), control).map(drop)
}
