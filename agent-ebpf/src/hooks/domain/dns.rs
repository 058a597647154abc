//! DNS questions (RFC 1035 §4).

use agent_common::image::Octets;
use agent_common::wire::{Hook, NameForm};

use super::Name;
use super::packet::Packet;

/// Octets of a UDP header, and of one of UDP-Lite.
pub const UDP_HEADER: u32 = 8;
/// Octets of a message before its first question.
pub const HEADER: u32 = 12;
/// Questions of one message that are judged. RFC 9619 allows one.
pub const QUESTIONS: u32 = 2;
/// Octets of a question after its name.
pub const QUESTION: u32 = 4;
/// In the first eight octets: this is a response.
const RESPONSE: u64 = 0x80 << 16;

/// A question of which too little is there.
pub const CUT: Name = Name {
    hook: Hook::EgressDns as u32,
    form: NameForm::Text as u32,
    count: 1,
    at: 0,
    length: u32::MAX,
    query_type: 0,
};

/// The first question of the message at the packet's base.
#[inline(always)]
pub fn question(packet: &Packet) -> Option<Name> {
    let start = packet.word(0, 8)?;
    let count = u32::from(((start >> 32) as u16).swap_bytes());
    if start & RESPONSE != 0 || count == 0 {
        return None;
    }
    Some(Name {
        hook: Hook::EgressDns as u32,
        form: NameForm::Labels as u32,
        count,
        at: HEADER,
        length: 0,
        query_type: 0,
    })
}

/// How many records the response at the packet's base has for its only question; `None` for anything else.
#[inline(always)]
pub fn records(packet: &Packet) -> Option<u16> {
    let start = packet.word(0, 8)?;
    let number = |shift: u32| ((start >> shift) as u16).swap_bytes();
    (start & RESPONSE != 0 && number(32) == 1).then_some(number(48))
}

/// As [`start`], of a response.
#[inline(always)]
pub fn response_start(packet: &Packet) -> u32 {
    // After a length the flags and one question; without one the question and the count of answers.
    match packet.word(4, 4) {
        Some(word) if word & (RESPONSE >> 16) != 0 && word >> 16 == 0x0100 => 2,
        _ => 0,
    }
}

/// In place of an offset: the segment ends before the message in it does.
pub const IS_CUT: u32 = u32::MAX;

/// Where the message in a segment begins, or [`IS_CUT`]. It follows its length (RFC 1035 §4.2.2), which some programs send before it
/// in a segment of its own.
// verifier: its own frame, or each way through it is followed through all that comes after, seen on 6.1.
#[inline(never)]
pub fn start(packet: &Packet) -> u32 {
    let octets = packet.length.wrapping_sub(packet.base);
    // The count of questions after a length; without one the count of answers, of which a question has none.
    let (start, length) = match packet.be16(6) {
        Some(1..=2) => (2, u32::from(packet.be16(0).unwrap_or(0))),
        _ => (0, HEADER),
    };
    if octets < length.wrapping_add(2) { IS_CUT } else { start }
}
