//! Who connects to this host: cgroup_skb/ingress. The first packet of a TCP connection, and every datagram of UDP.
//!
//! A refused one is dropped before the listening program hears of it, and the other end gets no answer, as from a firewall.

use agent_common::image::{self, Found};
use agent_common::wire::{Config, Hook, Verdict};
use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use super::destination::{Act, Actor, Judged, Socket, Target, tell};
use super::memory::recall;
use super::packet::{Arrival, ETH_P_IP, ETH_P_IPV6, IPV4, IPV6, Packet, TCP, socket_of};
use super::{PASS, REFUSE, bit, field, verdict};
use crate::clock::{Now, switched_on};
use crate::emit::damaged;
use crate::image::Generation;

#[inline(always)]
fn judge(generation: &Generation, now: &Now, found: Found) -> Judged {
    match image::resolve(generation, Some(found.entry), now.wall_s) {
        Ok(Some(hit)) => Judged {
            generation: found.generation,
            entry: hit.entry,
            verdict: verdict(hit.inbound, now, Verdict::Blocked),
        },
        Ok(None) => Judged::NOTHING,
        Err(image::Damaged) => {
            damaged();
            Judged::NOTHING
        }
    }
}

/// What the image says of where a packet comes from. Endpoints do not count: their port is one that is connected to.
// verifier: a frame of its own, as in the egress hook.
#[inline(never)]
fn judge_source(config: &'static Config, source: &Target, judged: &mut Judged) {
    let Some(generation) = Generation::current() else { return };
    match image::find_destination(&generation, source.high, source.low, 0) {
        Ok(None) => {}
        Ok(Some(found)) => *judged = judge(&generation, &Now::with(config), found),
        Err(image::Damaged) => damaged(),
    }
}

/// Whether a datagram answers what this socket sent: it is connected, or told of a hit at that very address.
#[inline(always)]
fn is_answer(socket: *mut bpf_sock, arrival: &Arrival, high: u64, low: u64) -> bool {
    arrival.protocol != TCP
        && (field!(socket, dst_port) != 0 || (high == arrival.source.high && low == arrival.source.low))
}

#[inline(always)]
fn decide(context: *mut __sk_buff, config: &'static Config, arrival: Arrival) -> i32 {
    let mut judged = Judged::NOTHING;
    judge_source(config, &arrival.source, &mut judged);
    if !judged.is_hit() {
        return PASS;
    }
    let socket = socket_of(context);
    if socket.is_null() {
        return PASS;
    }
    // SAFETY: a full socket that was found not to be null.
    let memory = unsafe { recall(socket.cast()) };
    if memory.is_null() {
        return if judged.blocks() { REFUSE } else { PASS };
    }
    // SAFETY: a live map value.
    let (process, high, low) = unsafe { ((*memory).process, (*memory).high, (*memory).low) };
    if is_answer(socket, &arrival, high, low) {
        return PASS;
    }
    let act = Act {
        target: arrival.source,
        local_port: arrival.local_port,
        socket: Socket {
            family: arrival.family,
            protocol: arrival.protocol.into(),
            socket_type: field!(socket, type_) as u16,
        },
        hook: Hook::Ingress,
        actor: Actor::Process(&process),
    };
    tell(&Now::with(config), &act, judged);
    if judged.blocks() { REFUSE } else { PASS }
}

#[inline(always)]
fn judge_packet(context: *mut __sk_buff) -> i32 {
    let packet = Packet::new(context);
    let arrival = match u16::from_be(field!(context, protocol) as u16) {
        ETH_P_IP if packet.holds(IPV4) => packet.arrival4(),
        ETH_P_IPV6 if packet.holds(IPV6) => packet.arrival6(),
        _ => return PASS,
    };
    if !arrival.begins {
        return PASS;
    }
    let Some(config) = switched_on() else { return PASS };
    decide(context, config, arrival)
}

/// Every IPv4 and IPv6 packet that a socket of the cgroup is about to get.
#[cgroup_skb(ingress)]
pub fn ingress(context: SkBuffContext) -> i32 {
    bit(judge_packet(context.skb.skb))
}
