//! Where packets really go: cgroup_skb/egress. The backstop for what connect and sendmsg do not see: raw sockets, flows that
//! are older than the agent or than the indicator, MPTCP's later subflows, source routes, sockets of moved processes.
//!
//! A refused packet is dropped, and a datagram's sender gets `EPERM`; a TCP connect hangs, which is why this is never the first
//! layer. No verdict is remembered for each socket (docs/decisions/0006).

use agent_common::image;
use agent_common::wire::{Behaviour, Config, Hook, SocketMemory};
use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use super::destination::{Act, Actor, Judged, Socket, judge, judge_behaviour, tell};
use super::memory::{is_told, note, recall};
use super::packet::{ETH_P_IP, ETH_P_IPV6, Headers, IPV4, IPV6, Packet, TCP, socket_of};
use super::{PASS, REFUSE, bit, field};
use crate::clock::{Now, switched_on};
use crate::emit::damaged;
use crate::image::Generation;

/// `TCP_SYN_RECV` and `TCP_LISTEN` of include/net/tcp_states.h: the answer to a connection that the other end begins.
const SYN_RECV: u32 = 3;
const LISTEN: u32 = 10;

/// Asks the socket about a hit: whether it is this hook's, whether it is told of already, and who made the socket.
#[inline(always)]
fn answer(socket: *mut bpf_sock, headers: &Headers, now: &Now, judged: Judged) -> i32 {
    let verdict = if judged.blocks() { REFUSE } else { PASS };
    // SAFETY: a full socket that was found not to be null.
    let memory = unsafe { recall(socket.cast()) };
    if memory.is_null() {
        return verdict;
    }
    let (state, kind) = (field!(socket, state), field!(socket, type_));
    if headers.protocol == TCP && (state == LISTEN || state == SYN_RECV) {
        // SAFETY: a live map value. What is accepted by a listening socket begins with the same flags.
        unsafe { (*memory).flags |= SocketMemory::INBOUND };
    }
    // SAFETY: a live map value.
    if unsafe { (*memory).flags } & SocketMemory::INBOUND != 0 {
        return PASS;
    }
    // A flow is one hit, however often it sends; of datagrams each refused one is, as in sendmsg.
    // SAFETY: a live map value.
    if unsafe { is_told(memory, &headers.target, &judged) } && !(judged.blocks() && headers.protocol != TCP) {
        return verdict;
    }
    // SAFETY: a live map value.
    let process = unsafe { (*memory).process };
    let act = Act {
        target: headers.target,
        local_port: 0,
        socket: Socket { family: headers.family, protocol: headers.protocol.into(), socket_type: kind as u16 },
        hook: Hook::Egress,
        actor: Actor::Process(&process),
    };
    tell(now, &act, judged);
    // SAFETY: a live map value.
    unsafe { note(memory, &headers.target, &judged) };
    verdict
}

/// What the settings and the image say of where a packet goes.
// verifier: inlined, because a call that two ways lead to is a "back-edge" before 6.6, seen on 6.1.
#[inline(always)]
fn judge_headers(config: &'static Config, headers: &Headers) -> Judged {
    let target = headers.target;
    if let Some(generation) = Generation::current() {
        match image::find_destination(&generation, target.high, target.low, target.port) {
            Ok(None) => {}
            Ok(Some(found)) => {
                let judged = judge(&generation, &Now::with(config), found);
                if judged.is_hit() {
                    return judged;
                }
            }
            Err(image::Damaged) => damaged(),
        }
    }
    if headers.is_routed {
        return judge_behaviour(&Now::with(config), Behaviour::SourceRoute, config.source_routes);
    }
    Judged::NOTHING
}

#[inline(always)]
fn decide(context: *mut __sk_buff, config: &'static Config, headers: Headers) -> i32 {
    let judged = judge_headers(config, &headers);
    if !judged.is_hit() {
        return PASS;
    }
    let socket = socket_of(context);
    if socket.is_null() {
        return PASS;
    }
    answer(socket, &headers, &Now::with(config), judged)
}

#[inline(always)]
fn judge_packet(context: *mut __sk_buff) -> i32 {
    let Some(config) = switched_on() else { return PASS };
    let packet = Packet::new(context);
    match u16::from_be(field!(context, protocol) as u16) {
        ETH_P_IP if packet.holds(IPV4) => decide(context, config, packet.headers4()),
        ETH_P_IPV6 if packet.holds(IPV6) => decide(context, config, packet.headers6()),
        _ => PASS,
    }
}

/// Every IPv4 and IPv6 packet that a socket of the cgroup sends, after routing and netfilter.
#[cgroup_skb(egress)]
pub fn egress(context: SkBuffContext) -> i32 {
    bit(judge_packet(context.skb.skb))
}
