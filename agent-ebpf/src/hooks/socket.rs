//! What cgroup hooks do not see of sockets: lsm/socket_connect, socket_sendmsg and socket_create.
//!
//! They judge only what no cgroup hook is called for, so that nothing is counted twice: sockets whose cgroup lies outside of the
//! hooked one, and protocols that the kernel does not ask cgroups about (raw, SCTP and others). For the rest they let pass.
//!
//! `match-proto: socket_connect(struct socket *sock, struct sockaddr *address, int addrlen)`
//! `match-proto: socket_sendmsg(struct socket *sock, struct msghdr *msg, int size)`
//! `match-proto: socket_create(int family, int type, int protocol, int kern)`

use core::ffi::c_void;
use core::ptr::read_volatile;

use agent_common::image;
use agent_common::wire::{Behaviour, Config, Counter, Hook};
use aya_ebpf::programs::LsmContext;

use super::destination::{Act, Actor, Judged, Socket, Target, judge, judge_behaviour, tell};
use super::exec::{answer, argument, in_scope};
use super::memory::{note, recall};
use super::sock_create::NO_TARGET;
use crate::clock::{Now, switched_on};
use crate::emit::{count, damaged};
use crate::image::Generation;
use crate::kmem::socket::{self, Kind, OFF_MSG_NAME, OFF_SOCKET_SK};
use crate::kmem::{Address, MISSING};

const SOCK_STREAM: u16 = 1;
const SOCK_DGRAM: u16 = 2;
const SOCK_RAW: u16 = 3;
const TCP: u16 = 6;
const MPTCP: u16 = 262;
const UDP: u16 = 17;
const UDP_LITE: u16 = 136;
/// `SOCK_TYPE_MASK` of include/linux/net.h: the rest are flags.
const TYPE_MASK: u64 = 0xf;
const AF_PACKET: u64 = 17;

/// Whether the kernel asks cgroups where such a socket connects and sends to (`BPF_CGROUP_PRE_CONNECT_ENABLED`,
/// `udp_sendmsg`).
#[inline(always)]
fn is_asked_about(kind: Kind) -> bool {
    (kind.socket_type == SOCK_STREAM && (kind.protocol == TCP || kind.protocol == MPTCP))
        || (kind.socket_type == SOCK_DGRAM && (kind.protocol == UDP || kind.protocol == UDP_LITE))
}

#[inline(always)]
fn look_up(target: &Target, now: &Now) -> Judged {
    if let Some(generation) = Generation::current() {
        match image::find_destination(&generation, target.high, target.low, target.port) {
            Ok(None) => {}
            Ok(Some(found)) => return judge(&generation, now, found),
            Err(image::Damaged) => damaged(),
        }
    }
    Judged::NOTHING
}

/// Whether the call must fail, of a socket that no cgroup hook sees.
#[inline(always)]
fn refuses(context: *mut c_void, config: &'static Config, sockaddr: Address, hook: Hook) -> bool {
    let sock = argument(context, 0).follow(&OFF_SOCKET_SK);
    let kind = socket::kind(sock);
    if kind.family != socket::AF_INET && kind.family != socket::AF_INET6 {
        return false;
    }
    if is_asked_about(kind) && socket::is_hooked(sock, config) {
        return false;
    }
    let (family, high, low, port) = socket::name(sockaddr, kind.family);
    if family == 0 {
        return false;
    }
    count(Counter::NetworkJudged);
    // What raw sockets give as a port is none.
    let target = Target { high, low, port: if kind.socket_type == SOCK_RAW { 0 } else { port } };
    let now = Now::with(config);
    let judged = look_up(&target, &now);
    if !judged.is_hit() {
        return false;
    }
    let socket = Socket { family, protocol: kind.protocol, socket_type: kind.socket_type };
    tell(&now, &Act { target, local_port: 0, socket, hook, actor: Actor::Current }, judged);
    if !judged.blocks() {
        told(context, &target, &judged);
    }
    judged.blocks()
}

/// Lets the egress hook know what was told of already.
#[inline(always)]
fn told(context: *mut c_void, target: &Target, judged: &Judged) {
    let offset = OFF_SOCKET_SK.load();
    if offset == MISSING {
        return;
    }
    let sock: *const u8 = LsmContext::new(context).arg(0);
    // SAFETY: a typed pointer with a constant offset: the verifier checks that this is `socket.sk`.
    let sock = unsafe { read_volatile(sock.add(offset as usize).cast::<*mut c_void>()) };
    if sock.is_null() {
        return;
    }
    // SAFETY: a socket that was found not to be null.
    let memory = unsafe { recall(sock) };
    if !memory.is_null() {
        // SAFETY: a live map value.
        unsafe { note(memory, target, judged) };
    }
}

#[inline(always)]
fn scoped() -> Option<&'static Config> {
    switched_on().filter(|config| in_scope(config))
}

/// `connect(2)` on a socket that no cgroup hook sees.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/socket_connect")]
pub extern "C" fn socket_connect(context: *mut c_void) -> i64 {
    answer(scoped().is_some_and(|config| refuses(context, config, argument(context, 1), Hook::SocketConnect)))
}

/// A datagram with an address of its own, or a TCP Fast Open, on a socket that no cgroup hook sees.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/socket_sendmsg")]
pub extern "C" fn socket_sendmsg(context: *mut c_void) -> i64 {
    answer(scoped().is_some_and(|config| {
        let name = argument(context, 1).follow(&OFF_MSG_NAME);
        !name.is_nowhere() && refuses(context, config, name, Hook::SocketSendmsg)
    }))
}

/// Packet sockets, which write whole frames; those of IPv4 and IPv6 are cgroup/sock_create's.
#[inline(always)]
fn refuses_to_make(context: *mut c_void) -> bool {
    let (family, kernel) = (argument(context, 0).get() as u32, argument(context, 3).get() as u32);
    if u64::from(family) != AF_PACKET || kernel != 0 {
        return false;
    }
    let Some(config) = scoped() else { return false };
    let now = Now::with(config);
    let judged = judge_behaviour(&now, Behaviour::RawSocket, config.raw_sockets);
    if !judged.is_hit() {
        return false;
    }
    let socket = Socket {
        family: AF_PACKET as u16,
        protocol: u16::from_be(argument(context, 2).get() as u16),
        socket_type: (argument(context, 1).get() & TYPE_MASK) as u16,
    };
    tell(
        &now,
        &Act { target: NO_TARGET, local_port: 0, socket, hook: Hook::SocketCreate, actor: Actor::Current },
        judged,
    );
    judged.blocks()
}

/// `socket(2)` of any family.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/socket_create")]
pub extern "C" fn socket_create(context: *mut c_void) -> i64 {
    answer(refuses_to_make(context))
}
