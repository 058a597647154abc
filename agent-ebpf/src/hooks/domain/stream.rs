//! What segments of a TCP stream name: DNS questions, TLS server names, HTTP hosts.

use core::ffi::c_void;

use agent_common::image::Octets;
use agent_common::stream::{HelloWalk, Named, RequestWalk};
use agent_common::wire::{Counter, Hook, NameConfig, NameForm};
use aya_ebpf::helpers::generated::{bpf_loop, bpf_tcp_sock};

use super::packet::{Flow, Packet};
use super::segment::{Way, is_refused};
use super::{Name, dns, is_among};
use crate::emit::count;
use crate::hooks::field;
use crate::hooks::packet::socket_of;

const GO_ON: i64 = 0;
const STOP: i64 = 1;

/// The segment from its payload on, if it has one.
#[inline(always)]
pub fn payload(packet: &Packet, flow: &mut Flow) -> Option<Packet> {
    let offset = packet.word(flow.transport.wrapping_add(12), 1)?;
    let payload = flow.transport.wrapping_add((offset as u32 & 0xf0) >> 2);
    if payload >= packet.length {
        return None;
    }
    flow.sequence = (packet.word(flow.transport.wrapping_add(4), 4)? as u32).swap_bytes();
    Some(packet.from(payload))
}

/// The name in a segment, from whose payload on `packet` then reads. Most segments are told by their first octets to have
/// none that is looked for.
#[inline(always)]
pub fn segment(packet: &mut Packet, flow: &mut Flow, names: &NameConfig) -> Option<Name> {
    *packet = payload(packet, flow)?;
    if is_among(&names.dns_ports, flow.port) {
        return match dns::start(packet) {
            dns::IS_CUT => Some(dns::CUT),
            start => {
                *packet = packet.from(start);
                dns::question(packet)
            }
        };
    }
    let mut found = NOWHERE;
    let mut hook = Hook::EgressTls;
    if names.tls_ports[0] == 0 || is_among(&names.tls_ports, flow.port) {
        found = server_name(packet, flow.sequence);
    }
    if found == NOWHERE && is_among(&names.http_ports, flow.port) {
        found = host(packet, flow.sequence);
        hook = Hook::EgressHttp;
    }
    let (at, length) = (found as u32, (found >> 32) as u32);
    (length != 0).then_some(Name {
        hook: hook as u32,
        form: NameForm::Text as u32,
        count: 1,
        at,
        length,
        query_type: 0,
    })
}

/// No name is to be looked up.
const NOWHERE: u64 = 0;
/// There is one, and it cannot be read: longer than any.
const UNREADABLE: u64 = 1 << 63;

/// Where a name is: its offset, and above it its length.
#[inline(always)]
fn place(named: Named) -> u64 {
    match named {
        Named::Text { at, length } => u64::from(at) | u64::from(length) << 32,
        Named::Nothing => NOWHERE,
        Named::Unread => UNREADABLE,
    }
}

/// Whether a segment is the first with data of its stream: nothing but the SYN was acknowledged (`tcp_snd_una_update`).
#[inline(always)]
fn is_first(packet: &Packet, sequence: u32) -> bool {
    let socket = socket_of(packet.skb);
    if socket.is_null() {
        return false;
    }
    // SAFETY: a full socket that was found not to be null.
    let stream = unsafe { bpf_tcp_sock(socket) };
    if stream.is_null() {
        return false;
    }
    field!(stream, bytes_acked) <= 1 && field!(stream, snd_una) == sequence
}

/// What octets come to that may be the beginning of one.
#[inline(always)]
fn begun(packet: &Packet, sequence: u32, is_begun: bool) -> u64 {
    if is_begun && is_first(packet, sequence) { UNREADABLE } else { NOWHERE }
}

struct Hello {
    packet: Packet,
    walk: HelloWalk,
}

extern "C" fn walk_hello(_index: u64, hello: *mut Hello) -> i64 {
    // SAFETY: `server_name` passes its own `Hello`, which outlives the loop.
    let hello = unsafe { &mut *hello };
    if hello.walk.step(&hello.packet) { GO_ON } else { STOP }
}

/// Where the server name of a ClientHello is.
// verifier: a frame of its own, as all that is not inlined here, for 512 bytes of stack hold no more.
#[inline(never)]
fn server_name(packet: &Packet, sequence: u32) -> u64 {
    let Some(walk) = HelloWalk::new(packet) else { return begun(packet, sequence, HelloWalk::is_begun(packet)) };
    let mut hello = Hello { packet: *packet, walk };
    // SAFETY: the callback has the signature that the helper documents, and its context outlives the loop.
    unsafe { bpf_loop(HelloWalk::STEPS, walk_hello as *mut c_void, (&raw mut hello).cast(), 0) };
    if hello.walk.is_encrypted() {
        count(Counter::NamesEncrypted);
    }
    place(hello.walk.finish())
}

struct Request {
    packet: Packet,
    walk: RequestWalk,
}

extern "C" fn walk_request(_index: u64, request: *mut Request) -> i64 {
    // SAFETY: `host` passes its own `Request`, which outlives the loop.
    let request = unsafe { &mut *request };
    if request.walk.step(&request.packet) { GO_ON } else { STOP }
}

/// Where the host of a request is.
#[inline(never)]
fn host(packet: &Packet, sequence: u32) -> u64 {
    let length = packet.length.wrapping_sub(packet.base);
    let Some(walk) = RequestWalk::new(packet, length) else {
        return begun(packet, sequence, RequestWalk::is_begun(packet));
    };
    let mut request = Request { packet: *packet, walk };
    // SAFETY: as above.
    unsafe { bpf_loop(RequestWalk::STEPS, walk_request as *mut c_void, (&raw mut request).cast(), 0) };
    match place(request.walk.finish()) {
        // What is sent in the midst of a stream only looks like a request.
        UNREADABLE if !is_first(packet, sequence) && !is_refused(packet, sequence, Way::Out) => NOWHERE,
        place => place,
    }
}
