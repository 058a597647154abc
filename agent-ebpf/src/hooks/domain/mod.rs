//! Which hosts packets name: cgroup_skb/egress.
//!
//! A packet is judged by the longest listed suffix of the name in it. One that is refused is dropped: a datagram's sender is
//! told `EPERM`.

mod dns;
mod name;
mod packet;

use core::mem::MaybeUninit;

use agent_common::image;
use agent_common::limits::{NAME_LEN, NAME_PORTS};
use agent_common::wire::{DomainRecord, FoldKey, Hook, NameForm, RecordKind, Verdict};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use self::packet::{Flow, Packet, UDP, UDP_LITE};
use super::{bit, count_verdict, is, verdict};
use crate::clock::Now;
use crate::emit::{Slot, damaged, fold};
use crate::image::Generation;
use crate::kmem::task::Sender;

/// Lets the packet go.
const PASS: i32 = 1;
/// Drops it.
const REFUSE: i32 = 0;

/// A name in a packet.
#[derive(Clone, Copy)]
struct Name {
    hook: Hook,
    form: NameForm,
    /// Offset from the packet's base.
    at: u32,
    length: u32,
    query_type: u16,
}

/// Whether a port is among those that were set.
#[inline(always)]
fn is_among(ports: &[u16; NAME_PORTS], port: u16) -> bool {
    let mut found = 0;
    for known in ports {
        found |= u32::from(*known == port);
    }
    found != 0 && port != 0
}

/// What a listed name comes to.
#[inline(never)]
fn answer(packet: &Packet, generation: Generation, flow: &Flow, name: &Name, entry: u32) -> i32 {
    let Some(now) = Now::read() else { return PASS };
    let Ok(number) = image::generation(&generation) else { return PASS };
    let hit = match image::resolve(&generation, Some(entry), now.wall_s) {
        Ok(Some(hit)) => hit,
        Ok(None) => return PASS,
        Err(image::Damaged) => {
            damaged();
            return PASS;
        }
    };
    let verdict = verdict(hit.action, &now, Verdict::Blocked);
    if is(verdict, Verdict::Passed) {
        return PASS;
    }
    count_verdict(number, hit.entry, verdict);
    tell(packet, &now, flow, name, &Told { generation: number, entry: hit.entry, verdict });
    if is(verdict, Verdict::Blocked) { REFUSE } else { PASS }
}

/// What a record says of the entry.
struct Told {
    generation: u32,
    entry: u32,
    verdict: Verdict,
}

#[inline(always)]
fn tell(packet: &Packet, now: &Now, flow: &Flow, name: &Name, told: &Told) {
    // A datagram leaves within its sender's system call.
    let sender = Sender::current();
    let (start_boot_ns, pid) = sender.key();
    let key = FoldKey {
        start_boot_ns,
        destination: FoldKey::destination((flow.high, flow.low)),
        generation: told.generation,
        entry: told.entry,
        pid,
        port: flow.port,
        hook: name.hook as u8,
        verdict: told.verdict as u8,
    };
    if fold(key, now.boot_ns) {
        return;
    }
    let Some(slot) = Slot::<DomainRecord>::hit() else { return };
    let record = slot.record();
    // SAFETY: the slot is as large as the record, and every field is written once; of `name` as much as is said to be used.
    unsafe {
        let header = &raw mut (*record).header;
        (&raw mut (*header).boot_ns).write(now.boot_ns);
        (&raw mut (*header).generation).write(told.generation);
        (&raw mut (*header).entry).write(told.entry);
        (&raw mut (*header).kind).write(RecordKind::Domain as u8);
        (&raw mut (*header).verdict).write(told.verdict as u8);
        (&raw mut (*header).hook).write(name.hook as u8);
        (&raw mut (*header).reserved).write([0; 5]);
        sender.write(&raw mut (*header).process);
        (&raw mut (*record).address).cast::<[u64; 2]>().write([flow.high.to_be(), flow.low.to_be()]);
        (&raw mut (*record).port).write(flow.port);
        (&raw mut (*record).family).write(flow.family);
        (&raw mut (*record).protocol).write(flow.protocol);
        (&raw mut (*record).query_type).write(name.query_type);
        (&raw mut (*record).form).write(name.form as u8);
        (&raw mut (*record).reserved).write([0; 5]);
        let length = if name.length > NAME_LEN as u32 { NAME_LEN as u32 } else { name.length };
        let copied = packet.copy(name.at, length, (&raw mut (*record).name).cast::<MaybeUninit<u8>>());
        (&raw mut (*record).name_len).write(if copied { length as u16 } else { 0 });
    }
    slot.send(0);
}

#[inline(always)]
fn judge(packet: &Packet) -> i32 {
    let mut flow = Flow::default();
    if !packet::read_flow(packet, &mut flow) {
        return PASS;
    }
    match flow.protocol {
        UDP | UDP_LITE => dns::datagram(packet, &flow),
        _ => PASS,
    }
}

/// A packet that a process of the cgroup sends.
#[cgroup_skb(egress)]
pub fn name_egress(context: SkBuffContext) -> i32 {
    bit(judge(&Packet::new(context.skb.skb)))
}
