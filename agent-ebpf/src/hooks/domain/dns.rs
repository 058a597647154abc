//! DNS questions (RFC 1035 §4).

use agent_common::image::{Labels, Octets};
use agent_common::wire::{Counter, Hook, NameForm};

use super::name::{self, NOTHING, UNREAD};
use super::packet::{Flow, Packet};
use super::{Name, PASS, REFUSE, answer, is_among};
use crate::clock::switched_on;
use crate::emit::count;
use crate::image::Generation;
use crate::maps::NAME_CONFIG;

/// Octets of a UDP header, and of one of UDP-Lite.
const UDP_HEADER: u32 = 8;
/// Octets of a message before its first question.
const HEADER: u32 = 12;
/// Questions of one message that are judged. RFC 9619 allows one.
const QUESTIONS: u64 = 2;
/// In the first eight octets: this is an answer.
const RESPONSE: u64 = 0x80 << 16;

/// A datagram to one of the ports where questions go.
#[inline(always)]
pub fn datagram(packet: &Packet, flow: &Flow) -> i32 {
    let Some(names) = NAME_CONFIG.get(0) else { return PASS };
    if !is_among(&names.dns_ports, flow.port) || switched_on().is_none() {
        return PASS;
    }
    message(&packet.from(flow.transport.wrapping_add(UDP_HEADER)), flow)
}

/// A message that begins at the packet's base.
#[inline(always)]
fn message(packet: &Packet, flow: &Flow) -> i32 {
    let Some(generation) = Generation::current() else { return PASS };
    let Some(start) = packet.word(0, 8) else { return PASS };
    if start & RESPONSE != 0 {
        return PASS;
    }
    let questions = u64::from(((start >> 32) as u16).swap_bytes());
    let mut labels = Labels::NONE;
    let mut at = HEADER;
    for index in 0..QUESTIONS {
        if index >= questions {
            break;
        }
        count(Counter::NamesJudged);
        let after = name::read_message(packet, at, &mut labels);
        if after == UNREAD {
            count(Counter::NamesUnread);
            return PASS;
        }
        let entry = name::find(packet, generation, &labels);
        if entry != NOTHING {
            let query_type = packet.be16(after).unwrap_or(0);
            let name =
                Name { hook: Hook::EgressDns, form: NameForm::Labels, at, length: after.wrapping_sub(at), query_type };
            if answer(packet, generation, flow, &name, entry) == REFUSE {
                return REFUSE;
            }
        }
        at = after.wrapping_add(4);
    }
    PASS
}
