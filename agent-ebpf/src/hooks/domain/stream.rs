//! What segments of a TCP stream name: DNS questions, TLS server names, HTTP hosts.

use core::ffi::c_void;

use agent_common::image::Octets;
use agent_common::stream::{HelloWalk, Named, RequestWalk};
use agent_common::wire::{Counter, Hook, NameConfig, NameForm};
use aya_ebpf::helpers::generated::bpf_loop;

use super::packet::{Flow, Packet};
use super::{Name, dns, is_among};
use crate::emit::count;

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
        *packet = packet.from(dns::start(packet));
        return dns::question(packet);
    }
    let mut found = NOWHERE;
    let mut hook = Hook::EgressTls;
    if names.tls_ports[0] == 0 || is_among(&names.tls_ports, flow.port) {
        found = server_name(packet);
    }
    if found == NOWHERE && is_among(&names.http_ports, flow.port) {
        found = host(packet);
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

/// Where a name is: its offset, and above it its length.
#[inline(always)]
fn place(named: Named) -> u64 {
    match named {
        Named::Text { at, length } => u64::from(at) | u64::from(length) << 32,
        Named::Nothing => NOWHERE,
        Named::Unread => {
            count(Counter::NamesUnread);
            NOWHERE
        }
    }
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
fn server_name(packet: &Packet) -> u64 {
    let Some(walk) = HelloWalk::new(packet) else { return NOWHERE };
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
fn host(packet: &Packet) -> u64 {
    let length = packet.length.wrapping_sub(packet.base);
    let Some(walk) = RequestWalk::new(packet, length) else { return NOWHERE };
    let mut request = Request { packet: *packet, walk };
    // SAFETY: as above.
    unsafe { bpf_loop(RequestWalk::STEPS, walk_request as *mut c_void, (&raw mut request).cast(), 0) };
    place(request.walk.finish())
}
