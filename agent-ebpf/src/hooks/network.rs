//! Where a task connects or sends to: cgroup/connect4, connect6, sendmsg4, sendmsg6.

use agent_common::canon::mapped;
use agent_common::image::{self, Found};
use agent_common::wire::{Counter, Hook};
use aya_ebpf::Global;
use aya_ebpf::bindings::{bpf_sock, bpf_sock_addr};
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use super::contact;
use super::destination::{Act, Actor, Socket, Target, judge, tell};
use super::learned;
use super::memory::{note, recall};
use super::{PASS, REFUSE, bit, field};
use crate::clock::{Now, switched_on};
use crate::emit::{count, damaged};
use crate::image::Generation;

#[inline(always)]
fn port(context: *const bpf_sock_addr) -> u16 {
    u16::from_be(field!(context, user_port) as u16)
}

#[inline(always)]
fn target4(context: *const bpf_sock_addr) -> Target {
    Target { high: 0, low: mapped(u32::from_be(field!(context, user_ip4))), port: port(context) }
}

#[inline(always)]
fn target6(context: *const bpf_sock_addr) -> Target {
    let word = |value: u32| u64::from(u32::from_be(value));
    let high = word(field!(context, user_ip6[0])) << 32 | word(field!(context, user_ip6[1]));
    let low = word(field!(context, user_ip6[2])) << 32 | word(field!(context, user_ip6[3]));
    Target { high, low, port: port(context) }
}

#[inline(always)]
fn decide(context: *const bpf_sock_addr, hook: Hook, target: Target) -> i32 {
    let socket = Socket {
        family: field!(context, user_family) as u16,
        protocol: field!(context, protocol) as u16,
        socket_type: field!(context, type_) as u16,
    };
    let Some(config) = switched_on() else { return PASS };
    count(Counter::NetworkJudged);
    let Some(generation) = Generation::current() else {
        count(Counter::NoImage);
        return PASS;
    };
    let listed = match image::find_destination(&generation, target.high, target.low, target.port) {
        Ok(listed) => listed,
        Err(image::Damaged) => {
            damaged();
            return PASS;
        }
    };
    let Some(found) = listed.or_else(|| learned::find(&generation, &target)) else {
        contact::note(&target, socket.protocol);
        return PASS;
    };
    let act = Act { target, local_port: 0, socket, hook, actor: Actor::Current };
    answer(&generation, &Now::with(config), &act, found, field!(context, __bindgen_anon_1.sk))
}

/// 1 when the egress hook sees what passes here, and is to know what was told of it already; user space sets it.
#[unsafe(no_mangle)]
static EGRESS: Global<u64> = Global::new(0);

/// What a listed destination comes to.
#[inline(always)]
fn answer(generation: &Generation, now: &Now, act: &Act<'_>, found: Found, socket: *mut bpf_sock) -> i32 {
    let judged = judge(generation, now, found);
    if !judged.is_hit() {
        return PASS;
    }
    tell(now, act, judged);
    if EGRESS.load() != 0 && !judged.blocks() {
        // SAFETY: the socket of the context, which is never null.
        let memory = unsafe { recall(socket.cast()) };
        if !memory.is_null() {
            // SAFETY: a live map value.
            unsafe { note(memory, &act.target, &judged) };
        }
    }
    if judged.blocks() { REFUSE } else { PASS }
}

/// `connect(2)` and its kin on an IPv4 socket, TCP Fast Open and io_uring included.
#[cgroup_sock_addr(connect4)]
pub fn connect4(context: SockAddrContext) -> i32 {
    bit(decide(context.sock_addr, Hook::Connect4, target4(context.sock_addr)))
}

/// `connect(2)` on an IPv6 socket, IPv4-mapped destinations included.
#[cgroup_sock_addr(connect6)]
pub fn connect6(context: SockAddrContext) -> i32 {
    bit(decide(context.sock_addr, Hook::Connect6, target6(context.sock_addr)))
}

/// A datagram with an address of its own on an IPv4 socket, or to a mapped address on an IPv6 one.
#[cgroup_sock_addr(sendmsg4)]
pub fn sendmsg4(context: SockAddrContext) -> i32 {
    bit(decide(context.sock_addr, Hook::Sendmsg4, target4(context.sock_addr)))
}

/// A datagram with an address of its own on an IPv6 socket.
#[cgroup_sock_addr(sendmsg6)]
pub fn sendmsg6(context: SockAddrContext) -> i32 {
    bit(decide(context.sock_addr, Hook::Sendmsg6, target6(context.sock_addr)))
}
