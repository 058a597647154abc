//! Which hosts packets name: cgroup_skb/egress, and of DNS responses cgroup_skb/ingress.
//!
//! A packet is judged by the longest listed suffix of the name in it. One that is refused is dropped: a datagram's sender is
//! told `EPERM`; of a stream nothing more gets through, since the segment is sent again and dropped again.

mod dns;
mod name;
mod packet;
mod response;
mod search;
mod segment;
mod stream;

use core::mem::MaybeUninit;

use agent_common::image::{self, Found, Octets};
use agent_common::limits::{NAME_LEN, NAME_PORTS};
use agent_common::wire::{Behaviour, Counter, DomainRecord, FoldKey, NameForm, Process, RecordKind};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use self::name::NOTHING;
use self::packet::{Flow, Packet, TCP, UDP, UDP_LITE};
use self::search::Search;
use self::segment::{Way, is_held, is_refused, is_sent_again};
use super::destination::{Judged, judge as judge_entry, judge_behaviour};
use super::memory::remember_question;
use super::packet::socket_of;
use super::{PASS, REFUSE, bit, count_verdict};
use crate::clock::{Now, switched_on};
use crate::emit::{Slot, count, fold};
use crate::image::Generation;
use crate::kmem::task::Sender;
use crate::maps::NAME_CONFIG;

/// A name in a packet.
#[derive(Clone, Copy)]
struct Name {
    /// An [`agent_common::wire::Hook`].
    hook: u32,
    /// A [`NameForm`].
    form: u32,
    /// How many names of this form follow each other.
    count: u32,
    /// Offset from the packet's base.
    at: u32,
    length: u32,
    query_type: u16,
}

impl Name {
    const NONE: Self = Self { hook: 0, form: 0, count: 0, at: 0, length: 0, query_type: 0 };

    /// Makes names of all kinds look alike to the verifier, which else judges each kind by itself.
    #[inline(always)]
    fn blur(&mut self, packet: &Packet) {
        for field in [&mut self.hook, &mut self.form, &mut self.count, &mut self.at, &mut self.length] {
            *field = packet.blurred(u64::from(*field)) as u32;
        }
    }
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

/// What the entry of a name comes to now.
#[inline(always)]
fn weigh(generation: &Generation, now: &Now, entry: u32) -> Judged {
    match image::generation(generation) {
        Ok(number) => judge_entry(generation, now, Found { generation: number, entry }),
        Err(image::Damaged) => Judged::NOTHING,
    }
}

/// Whoever a record names.
trait Who {
    /// When it started, in nanoseconds since boot, and its id; zeros for nobody.
    fn key(&self) -> (u64, u32);

    /// # Safety
    /// `to` is memory for a [`Process`].
    unsafe fn write(&self, to: *mut Process);
}

impl Who for Sender {
    #[inline(always)]
    fn key(&self) -> (u64, u32) {
        Self::key(*self)
    }

    #[inline(always)]
    unsafe fn write(&self, to: *mut Process) {
        // SAFETY: the caller's promise.
        unsafe { Self::write(*self, to) };
    }
}

/// What a listed name comes to.
#[inline(never)]
fn answer(packet: &Packet, generation: Generation, flow: &Flow, name: &Name, entry: u32) -> i32 {
    let Some(now) = Now::read() else { return PASS };
    let judged = weigh(&generation, &now, entry);
    if !judged.is_hit() {
        return PASS;
    }
    tell_once(packet, &now, flow, name, &judged);
    if judged.blocks() { REFUSE } else { PASS }
}

/// What a packet comes to in which a name is looked for and cannot be read.
#[inline(never)]
fn unread(packet: &Packet, flow: &Flow, name: &Name) -> i32 {
    if flow.protocol == TCP && is_refused(packet, flow.sequence, Way::Out) {
        return REFUSE;
    }
    let Some(now) = Now::read() else { return PASS };
    if flow.protocol == TCP && now.enforces() && is_held(packet, flow, now.boot_ns) {
        return REFUSE;
    }
    count(Counter::NamesUnread);
    let judged = judge_behaviour(&now, Behaviour::UnreadName, now.config.unread_names);
    if !judged.is_hit() {
        return PASS;
    }
    tell_once(packet, &now, flow, &Name { length: 0, query_type: 0, ..*name }, &judged);
    if judged.blocks() { REFUSE } else { PASS }
}

/// Tells of a hit as of whoever sends the packet, unless it is a segment that was told of.
#[inline(always)]
fn tell_once(packet: &Packet, now: &Now, flow: &Flow, name: &Name, hit: &Judged) {
    if flow.protocol == TCP && is_sent_again(packet, flow.sequence, hit.blocks(), Way::Out) {
        return;
    }
    // A datagram leaves within its sender's system call.
    let sender = if flow.protocol == TCP { Sender::of_stream(packet.skb as u64) } else { Sender::current() };
    tell(packet, now, flow, name, hit, &sender);
}

/// Counts a hit, and sends its record unless it is a repeat.
#[inline(always)]
fn tell(packet: &Packet, now: &Now, flow: &Flow, name: &Name, hit: &Judged, who: &impl Who) {
    count_verdict(hit.generation, hit.entry, hit.verdict);
    let (start_boot_ns, pid) = who.key();
    let key = FoldKey {
        start_boot_ns,
        destination: FoldKey::destination((flow.high, flow.low)),
        generation: hit.generation,
        entry: hit.entry,
        pid,
        port: flow.port,
        hook: name.hook as u8,
        verdict: hit.verdict as u8,
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
        (&raw mut (*header).generation).write(hit.generation);
        (&raw mut (*header).entry).write(hit.entry);
        (&raw mut (*header).kind).write(RecordKind::Domain as u8);
        (&raw mut (*header).verdict).write(hit.verdict as u8);
        (&raw mut (*header).hook).write(name.hook as u8);
        (&raw mut (*header).reserved).write([0; 5]);
        who.write(&raw mut (*header).process);
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

/// The name of a packet that is to be judged, from whose message or payload `packet` then counts; whether there is one.
// verifier: its own frame, as all that is not inlined here, for 512 bytes of stack hold no more.
#[inline(never)]
fn find(packet: &mut Packet, flow: &mut Flow, name: &mut Name) -> bool {
    if !packet::read_flow(packet, flow) {
        return false;
    }
    let Some(names) = NAME_CONFIG.get(0) else { return false };
    let found = match flow.protocol {
        UDP | UDP_LITE if is_among(&names.dns_ports, flow.port) => {
            *packet = packet.from(flow.transport.wrapping_add(dns::UDP_HEADER));
            dns::question(packet)
        }
        TCP => stream::segment(packet, flow, names),
        _ => None,
    };
    let Some(found) = found else { return false };
    *name = found;
    name.blur(packet);
    true
}

/// Remembers that the packet's socket asked for a name, so that a response may come to it.
// verifier: its own frame, or each way through it is followed through all that comes after, seen on 7.3.
#[inline(never)]
fn note_question(packet: &Packet) {
    let socket = socket_of(packet.skb);
    if !socket.is_null() {
        // SAFETY: a full socket that was found not to be null.
        unsafe { remember_question(socket.cast()) };
    }
}

#[inline(always)]
fn judge(mut packet: Packet) -> i32 {
    let (mut flow, mut name) = (Flow::default(), Name::NONE);
    if !find(&mut packet, &mut flow, &mut name) || switched_on().is_none() {
        return PASS;
    }
    let Some(generation) = Generation::current() else { return PASS };
    let is_message = name.form == NameForm::Labels as u32;
    if is_message {
        note_question(&packet);
    }
    let mut search = Search::new(packet, generation, name.at, name.length);
    search.questions(if name.count > dns::QUESTIONS { dns::QUESTIONS } else { name.count });
    if search.entry != NOTHING {
        (name.at, name.length) = (search.start, search.end.wrapping_sub(search.start));
        if is_message {
            name.query_type = search.packet.be16(search.end).unwrap_or(0);
        }
        if answer(&search.packet, generation, &flow, &name, search.entry) == REFUSE {
            return REFUSE;
        }
    }
    // RFC 9619 allows one question; whoever asks more than are read is not to be thought unlisted.
    if search.is_unread() || name.count > dns::QUESTIONS { unread(&search.packet, &flow, &name) } else { PASS }
}

/// A packet that a process of the cgroup sends.
#[cgroup_skb(egress)]
pub fn name_egress(context: SkBuffContext) -> i32 {
    bit(judge(Packet::new(context.skb.skb)))
}
