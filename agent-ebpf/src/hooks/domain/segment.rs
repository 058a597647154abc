//! What became of a stream's latest segment of note, so that TCP may send it again and change nothing.
//!
//! A segment that is dropped at egress stays at the head of what is to be sent (`tcp_write_xmit`): what the program writes next is put
//! behind it, and both are offered as one.

use core::ptr::null_mut;

use agent_common::wire::SocketMemory;

use super::packet::{Flow, Packet};
use crate::hooks::memory::recall;
use crate::hooks::packet::socket_of;

/// Which way a segment goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
}

/// What is remembered of the packet's socket; null where there is no room.
#[inline(always)]
fn memory(packet: &Packet) -> *mut SocketMemory {
    let socket = socket_of(packet.skb);
    if socket.is_null() {
        return null_mut();
    }
    // SAFETY: a full socket that was found not to be null.
    unsafe { recall(socket.cast()) }
}

/// Where it is kept; null where there is no room.
#[inline(always)]
fn latest(packet: &Packet, way: Way) -> *mut u64 {
    let memory = memory(packet);
    if memory.is_null() {
        return null_mut();
    }
    // SAFETY: a live map value.
    unsafe {
        match way {
            Way::Out => &raw mut (*memory).sent,
            Way::In => &raw mut (*memory).received,
        }
    }
}

/// What a segment came to, above its sequence number.
const TOLD: u64 = 1;
const REFUSED: u64 = 2;
/// Nothing yet. Above it is how much there was of the segment.
const HELD: u64 = 3;
/// Nanoseconds, a little less than TCP waits before it offers the same again (`TCP_RTO_MIN`).
const PATIENCE: u64 = 150_000_000;

#[inline(always)]
const fn judged(sequence: u32, is_refused: bool) -> u64 {
    sequence as u64 | (if is_refused { REFUSED } else { TOLD }) << 32
}

/// Whether a segment begins where one was refused: what was refused whole is sent again in pieces (`tcp_retransmit_skb`), of which
/// the first need not hold the name.
// verifier: frames of their own, as all that is not inlined here, for 512 bytes of stack hold no more.
#[inline(never)]
pub fn is_refused(packet: &Packet, sequence: u32, way: Way) -> bool {
    let known = latest(packet, way);
    // SAFETY: a live map value where there is one.
    !known.is_null() && unsafe { known.read_volatile() } == judged(sequence, true)
}

/// Whether a segment with a listed name, refused or not, was told of before. It is remembered as that from now on.
#[inline(never)]
pub fn is_sent_again(packet: &Packet, sequence: u32, is_refused: bool, way: Way) -> bool {
    let known = latest(packet, way);
    if known.is_null() {
        return false;
    }
    let now = judged(sequence, is_refused);
    // SAFETY: a live map value. Of two at once one is told of once more.
    unsafe {
        let is_known = known.read_volatile() == now;
        known.write_volatile(now);
        is_known
    }
}

/// Whether a segment whose name cannot be read is held back. It is until [`PATIENCE`] after it became more: what a program
/// writes in pieces is read as one.
#[inline(never)]
pub fn is_held(packet: &Packet, flow: &Flow, boot_ns: u64) -> bool {
    let memory = memory(packet);
    if memory.is_null() {
        return false;
    }
    let length = u64::from(packet.length.wrapping_sub(flow.transport)) & 0xff_ffff;
    let begin = u64::from(flow.sequence) | HELD << 32;
    // SAFETY: a live map value; a socket sends one segment at a time.
    unsafe {
        let last = (&raw const (*memory).sent).read_volatile();
        if last & 0xff_ffff_ffff == begin && length <= last >> 40 {
            return boot_ns.wrapping_sub((*memory).grown_boot_ns) < PATIENCE;
        }
        (&raw mut (*memory).sent).write_volatile(begin | length << 40);
        (*memory).grown_boot_ns = boot_ns;
    }
    true
}
