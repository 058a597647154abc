//! Which names DNS responses lead to, and where: cgroup_skb/ingress.
//!
//! A name that nobody lists may stand for one that somebody does (`CNAME`), which no question names. A response that leads to
//! a name that is refused is dropped. Of one that is let through, the addresses are kept for whoever asked, so that what
//! it connects to next is known for what it is.

use core::ffi::c_void;
use core::ptr::{null, read_volatile};

use agent_common::canon::mapped;
use agent_common::image::{self, Labels, Octets};
use agent_common::stream::ResponseWalk;
use agent_common::stream::response::{A, AAAA, Data};
use agent_common::wire::{Counter, Hook, Learned, LearnedKey, NameForm, Process, SocketMemory};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use super::name::{self, NOTHING, UNREAD};
use super::packet::{self, Flow, Packet, TCP, UDP, UDP_LITE};
use super::search::Search;
use super::segment::{Way, is_refused, is_sent_again};
use super::{Name, Who, dns, is_among, stream, tell, weigh};
use crate::clock::{Now, switched_on};
use crate::emit::{ANY, count};
use crate::hooks::memory::recall;
use crate::hooks::packet::socket_of;
use crate::hooks::{PASS, REFUSE, bit};
use crate::image::Generation;
use crate::maps::{LEARNED, LEARNED_UNTIL, NAME_CONFIG};

const GO_ON: i64 = 0;
const STOP: i64 = 1;
const NANOSECONDS: u64 = 1_000_000_000;
/// Seconds that an address is kept at least and at most: programs keep what they were told a while longer than they should.
const TTL: (u32, u32) = (60, 86_400);

/// What is remembered of the socket that a packet is for: a packet arrives while anybody runs. Null where there is no room.
#[derive(Clone, Copy)]
struct Asker(*const SocketMemory);

impl Asker {
    #[inline(always)]
    fn of(packet: &Packet) -> Self {
        let socket = socket_of(packet.skb);
        if socket.is_null() {
            return Self(null());
        }
        // SAFETY: a full socket that was found not to be null.
        Self(unsafe { recall(socket.cast()) })
    }
}

/// Whether this may be a response. Anybody can send what looks like one to a server, which asked for nothing: it must not come
/// to a hit, and least of all to an address that is learned.
#[inline(never)]
fn is_asked_for(packet: &Packet) -> bool {
    let asker = Asker::of(packet);
    // SAFETY: a live map value where there is one.
    asker.0.is_null() || unsafe { (*asker.0).flags } & SocketMemory::ASKED != 0
}

impl Who for Asker {
    #[inline(always)]
    fn key(&self) -> (u64, u32) {
        if self.0.is_null() {
            return (0, 0);
        }
        // SAFETY: a live map value.
        unsafe { ((*self.0).process.start_boot_ns, (*self.0).process.pid) }
    }

    #[inline(always)]
    unsafe fn write(&self, to: *mut Process) {
        // SAFETY: the caller's promise, and a live map value where there is one.
        unsafe {
            if self.0.is_null() {
                to.write_bytes(0, 1);
            } else {
                to.write((*self.0).process);
            }
        }
    }
}

/// Where the answer section is, and how many records it has.
#[derive(Clone, Copy)]
struct Records {
    at: u32,
    count: u16,
}

struct Aliases {
    packet: Packet,
    walk: ResponseWalk,
}

extern "C" fn walk_aliases(_index: u64, aliases: *mut Aliases) -> i64 {
    // SAFETY: `read_aliases` passes its own `Aliases`, which outlives the loop.
    let aliases = unsafe { &mut *aliases };
    if aliases.walk.step(&aliases.packet) { GO_ON } else { STOP }
}

/// Where the names are that the question's stands for, see [`ResponseWalk::aliases`].
#[inline(never)]
fn read_aliases(packet: &Packet, records: Records) -> u64 {
    let mut aliases = Aliases { packet: *packet, walk: ResponseWalk::new(packet, records.at, records.count) };
    // SAFETY: the callback has the signature that the helper documents, and its context outlives the loop.
    unsafe { bpf_loop(ResponseWalk::STEPS, walk_aliases as *mut c_void, (&raw mut aliases).cast(), 0) };
    if !aliases.walk.is_whole() {
        count(Counter::NamesUnread);
    }
    aliases.walk.aliases()
}

/// Addresses on their way into the map.
struct Lesson {
    packet: Packet,
    walk: ResponseWalk,
    start_boot_ns: u64,
    pid: u64,
    entry: u64,
    generation: u64,
    boot_ns: u64,
}

extern "C" fn walk_addresses(_index: u64, lesson: *mut Lesson) -> i64 {
    // SAFETY: `learn` passes its own `Lesson`, which outlives the loop.
    let lesson = unsafe { &mut *lesson };
    let go_on = lesson.walk.step(&lesson.packet);
    if let Some(data) = lesson.walk.data() {
        keep(lesson, data);
    }
    if go_on { GO_ON } else { STOP }
}

#[inline(always)]
fn keep(lesson: &Lesson, data: Data) {
    let (high, low) = match (data.kind, data.length) {
        (A, 4) => (Some(0), lesson.packet.word(data.at, 4).map(|word| mapped((word as u32).swap_bytes()))),
        (AAAA, 16) => (
            lesson.packet.word(data.at, 8).map(u64::swap_bytes),
            lesson.packet.word(data.at.wrapping_add(8), 8).map(u64::swap_bytes),
        ),
        _ => return,
    };
    let (Some(high), Some(low)) = (high, low) else { return };
    let ttl = if data.ttl < TTL.0 { TTL.0 } else { data.ttl };
    let ttl = if ttl > TTL.1 { TTL.1 } else { ttl };
    let until_boot_ns = lesson.boot_ns.wrapping_add(u64::from(ttl) * NANOSECONDS);
    let key = LearnedKey { high, low, start_boot_ns: lesson.start_boot_ns, pid: lesson.pid as u32, reserved: 0 };
    let learned = Learned { until_boot_ns, generation: lesson.generation as u32, entry: lesson.entry as u32 };
    let _ = LEARNED.insert(key, learned, ANY);
    if let Some(until) = LEARNED_UNTIL.get_ptr_mut(0) {
        // SAFETY: a live map value. Of two at once the earlier may win; both are far ahead of what is asked.
        unsafe {
            if read_volatile(until) < until_boot_ns {
                until.write_volatile(until_boot_ns);
            }
        }
    }
}

/// Tells of a name that is listed, as which entry.
// verifier: two frames, for the flow is read in one of its own, and with that the record has no room.
#[inline(never)]
fn tell_of(packet: &Packet, name: &Name, generation: Generation, entry: u32) {
    let mut flow = Flow::default();
    if packet::read_origin(&Packet { base: 0, ..*packet }, &mut flow) {
        tell_asker(packet, &flow, name, generation, entry);
    }
}

/// Tells of it as of whoever made the socket.
#[inline(never)]
fn tell_asker(packet: &Packet, flow: &Flow, name: &Name, generation: Generation, entry: u32) {
    let Some(now) = Now::read() else { return };
    let judged = weigh(&generation, &now, entry);
    if judged.is_hit() {
        tell(packet, &now, flow, name, &judged, &Asker::of(packet));
    }
}

/// Keeps the addresses of a response for whoever asked.
#[inline(never)]
fn learn(packet: &Packet, records: Records, generation: Generation, entry: u32) {
    let (start_boot_ns, pid) = Asker::of(packet).key();
    let Ok(number) = image::generation(&generation) else { return };
    if pid == 0 {
        return;
    }
    let mut lesson = Lesson {
        packet: *packet,
        walk: ResponseWalk::new(packet, records.at, records.count),
        start_boot_ns,
        pid: pid.into(),
        entry: entry.into(),
        generation: number.into(),
        // SAFETY: the helper takes nothing.
        boot_ns: unsafe { bpf_ktime_get_boot_ns() },
    };
    // SAFETY: as above.
    unsafe { bpf_loop(ResponseWalk::STEPS, walk_addresses as *mut c_void, (&raw mut lesson).cast(), 0) };
}

/// In place of a segment's sequence number: it is none.
const DATAGRAM: u64 = u64::MAX;
/// In place of either: the packet holds no message.
const NO_MESSAGE: u64 = u64::MAX - 1;

/// Finds the message of a packet that comes from where names are asked for: the segment's sequence number, [`DATAGRAM`] or
/// [`NO_MESSAGE`]. From then on `packet` counts from the message.
// verifier: its own frame, for the deepest way, to a label's lookup, leaves no room for the flow: 6.1 counts each call as 32 octets more.
#[inline(never)]
fn find_message(packet: &mut Packet) -> u64 {
    let mut flow = Flow::default();
    if !packet::read_origin(packet, &mut flow) {
        return NO_MESSAGE;
    }
    let Some(names) = NAME_CONFIG.get(0) else { return NO_MESSAGE };
    if !is_among(&names.dns_ports, flow.port) {
        return NO_MESSAGE;
    }
    match flow.protocol {
        UDP | UDP_LITE => {
            *packet = packet.from(flow.transport.wrapping_add(dns::UDP_HEADER));
            DATAGRAM
        }
        TCP => {
            let Some(payload) = stream::payload(packet, &mut flow) else { return NO_MESSAGE };
            *packet = payload.from(dns::response_start(&payload));
            flow.sequence.into()
        }
        _ => NO_MESSAGE,
    }
}

/// Offset after the question's name, or [`UNREAD`].
// verifier: its own frame, for the deepest way, to a label's lookup, leaves no room for these labels.
#[inline(never)]
fn after_question(packet: &Packet) -> u32 {
    let mut labels = Labels::NONE;
    name::read_message(packet, dns::HEADER, &mut labels)
}

#[inline(always)]
fn judge(mut packet: Packet) -> i32 {
    let segment = find_message(&mut packet);
    if segment == NO_MESSAGE {
        return PASS;
    }
    let Some(answers) = dns::records(&packet) else { return PASS };
    if switched_on().is_none() || !is_asked_for(&packet) {
        return PASS;
    }
    if segment != DATAGRAM && is_refused(&packet, segment as u32, Way::In) {
        return REFUSE;
    }
    let Some(generation) = Generation::current() else { return PASS };
    let question = after_question(&packet);
    if question == UNREAD {
        count(Counter::NamesUnread);
        return PASS;
    }
    let records = Records { at: question.wrapping_add(dns::QUESTION), count: answers };
    let aliases = read_aliases(&packet, records);
    let mut search = Search::new(packet, generation, dns::HEADER, 0);
    search.aliases(aliases);
    if search.is_unread() {
        count(Counter::NamesUnread);
    }
    let (packet, entry) = (search.packet, search.entry);
    if entry == NOTHING {
        return PASS;
    }
    // A question that was let go was told of when it left.
    let is_told = search.start == dns::HEADER && !search.blocks()
        || segment != DATAGRAM && is_sent_again(&packet, segment as u32, search.blocks(), Way::In);
    if !is_told {
        let (at, length) = (search.start, search.end.wrapping_sub(search.start));
        let (hook, form) = (Hook::IngressDns as u32, NameForm::Labels as u32);
        let query_type = packet.be16(question).unwrap_or(0);
        tell_of(&packet, &Name { hook, form, count: 1, at, length, query_type }, generation, entry);
    }
    if search.blocks() {
        return REFUSE;
    }
    learn(&packet, records, generation, entry);
    PASS
}

/// A packet that a socket of the cgroup is about to get.
#[cgroup_skb(ingress)]
pub fn name_ingress(context: SkBuffContext) -> i32 {
    bit(judge(Packet::new(context.skb.skb)))
}
