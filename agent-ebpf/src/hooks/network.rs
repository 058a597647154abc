//! Where a task connects or sends to: cgroup/connect4, connect6, sendmsg4, sendmsg6.

use core::ptr::read_volatile;

use agent_common::canon::mapped;
use agent_common::image::{self, Found, Hit};
use agent_common::wire::{Counter, FoldKey, Hook, NetworkRecord, RecordKind, Verdict};
use aya_ebpf::bindings::bpf_sock_addr;
use aya_ebpf::macros::cgroup_sock_addr;
use aya_ebpf::programs::SockAddrContext;

use super::{bit, count_verdict, header, is, verdict};
use crate::clock::{Now, switched_on};
use crate::emit::{Slot, count, damaged, fold};
use crate::image::Generation;
use crate::kmem::task;

/// Lets the call pass.
const PASS: i32 = 1;
/// Fails the call with `EPERM`.
const REFUSE: i32 = 0;

/// Where to: the halves of the address in host order (IPv4 in its mapped form) and the port.
struct Target {
    high: u64,
    low: u64,
    port: u16,
}

/// Reads a field of the context: each exactly once and as wide as it is, as the verifier wants it.
macro_rules! field {
    ($context:expr, $($field:tt)+) => {
        // SAFETY: the context of a running program; the verifier checks the offset and width of this load.
        unsafe { read_volatile(&raw const (*$context).$($field)+) }
    };
}

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

/// The record's protocol fields, read before any helper call while the context is at hand.
#[derive(Clone, Copy)]
struct Socket {
    family: u16,
    protocol: u16,
    socket_type: u16,
}

#[inline(always)]
fn send(now: &Now, target: &Target, socket: Socket, hook: Hook, found: (u32, Hit, Verdict)) {
    let (generation, hit, verdict) = found;
    // Of a repeat no more is asked than what it is a repeat of.
    let (start_boot_ns, pid) = task::key();
    let key = FoldKey {
        start_boot_ns,
        destination: FoldKey::destination((target.high, target.low)),
        generation,
        entry: hit.entry,
        pid,
        port: target.port,
        hook: hook as u8,
        verdict: verdict as u8,
    };
    if fold(key, now.boot_ns) {
        return;
    }
    let Some(slot) = Slot::<NetworkRecord>::hit() else { return };
    let mut header = header(now, RecordKind::Network, hook);
    header.generation = generation;
    header.entry = hit.entry;
    header.verdict = verdict as u8;
    let mut address = [0u8; 16];
    address[..8].copy_from_slice(&target.high.to_be_bytes());
    address[8..].copy_from_slice(&target.low.to_be_bytes());
    let record = NetworkRecord {
        header,
        address,
        port: target.port,
        family: socket.family,
        protocol: socket.protocol,
        socket_type: socket.socket_type,
    };
    // SAFETY: the slot is as large as the record and 8-byte aligned, as every ring record.
    unsafe { slot.record().write(record) };
    slot.send(0);
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
    match image::find_destination(&generation, target.high, target.low, target.port) {
        Ok(None) => PASS,
        Ok(Some(found)) => answer(&generation, &Now::with(config), &target, socket, hook, found),
        Err(image::Damaged) => {
            damaged();
            PASS
        }
    }
}

/// What a listed destination comes to.
#[inline(always)]
fn answer(generation: &Generation, now: &Now, target: &Target, socket: Socket, hook: Hook, found: Found) -> i32 {
    let hit = match image::resolve(generation, Some(found.entry), now.wall_s) {
        Ok(Some(hit)) => hit,
        Ok(None) => return PASS,
        Err(image::Damaged) => {
            damaged();
            return PASS;
        }
    };
    let verdict = verdict(hit.action, now, Verdict::Blocked);
    if is(verdict, Verdict::Passed) {
        return PASS;
    }
    count_verdict(found.generation, hit.entry, verdict);
    send(now, target, socket, hook, (found.generation, hit, verdict));
    if is(verdict, Verdict::Blocked) { REFUSE } else { PASS }
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
