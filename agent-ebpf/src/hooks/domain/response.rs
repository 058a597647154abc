//! Which names DNS responses lead to, and where: cgroup_skb/ingress.
//!
//! A name that nobody lists may stand for one that somebody does (`CNAME`), which no question names. A response that leads to
//! a name that is refused is dropped. Of one that is let through, the addresses are kept for whoever asked, so that what
//! it connects to next is known for what it is.

use core::ffi::c_void;
use core::ptr::{null, read, read_volatile};

use agent_common::canon::mapped;
use agent_common::image::{Labels, Octets};
use agent_common::stream::ResponseWalk;
use agent_common::stream::response::{A, AAAA, Data};
use agent_common::wire::{Counter, Hook, Learned, LearnedKey, NameForm, Process};
use aya_ebpf::helpers::generated::{bpf_ktime_get_boot_ns, bpf_loop};
use aya_ebpf::macros::cgroup_skb;
use aya_ebpf::programs::SkBuffContext;

use super::name::{self, NOTHING, UNREAD};
use super::packet::{self, Flow, Packet, TCP, UDP, UDP_LITE};
use super::{Name, Who, dns, is_among, is_sent_again, stream, tell, weigh};
use crate::clock::{Now, switched_on};
use crate::emit::{ANY, count};
use crate::hooks::memory::{NOBODY, recall};
use crate::hooks::packet::socket_of;
use crate::hooks::{PASS, REFUSE, bit};
use crate::image::Generation;
use crate::maps::{LEARNED, LEARNED_UNTIL, NAME_CONFIG};

const GO_ON: i64 = 0;
const STOP: i64 = 1;
const NANOSECONDS: u64 = 1_000_000_000;
/// Seconds that an address is kept at least and at most: programs keep what they were told a while longer than they should.
const TTL: (u32, u32) = (60, 86_400);

/// Who made the socket that a packet is for: a packet arrives while anybody runs. Null where that is not known.
#[derive(Clone, Copy)]
struct Asker(*const Process);

impl Asker {
    #[inline(always)]
    fn of(packet: &Packet) -> Self {
        let socket = socket_of(packet.skb);
        if socket.is_null() {
            return Self(null());
        }
        // SAFETY: a full socket that was found not to be null.
        let memory = unsafe { recall(socket.cast()) };
        if memory.is_null() {
            return Self(null());
        }
        // SAFETY: a live map value.
        Self(unsafe { &raw const (*memory).process })
    }
}

impl Who for Asker {
    #[inline(always)]
    fn key(&self) -> (u64, u32) {
        if self.0.is_null() {
            return (0, 0);
        }
        // SAFETY: a live map value.
        unsafe { ((*self.0).start_boot_ns, (*self.0).pid) }
    }

    #[inline(always)]
    unsafe fn write(&self, to: *mut Process) {
        // SAFETY: the caller's promise, and a live map value where there is one.
        unsafe { to.write(if self.0.is_null() { NOBODY } else { read(self.0) }) };
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

/// A listed name as `answer` finds it, and which entry it stands for.
struct Listed {
    generation: u32,
    entry: u32,
    /// Its addresses are to be kept.
    is_let_through: bool,
}

/// What a listed name comes to that a response names.
#[inline(never)]
fn answer(packet: &Packet, generation: Generation, flow: &Flow, name: &Name, listed: &mut Listed) -> i32 {
    let Some(now) = Now::read() else { return PASS };
    let judged = weigh(&generation, &now, listed.entry);
    if !judged.is_hit() {
        return PASS;
    }
    // A question that was let go was told of when it left.
    let is_told = name.at == dns::HEADER && !judged.blocks();
    if !(is_told || flow.protocol == TCP && is_sent_again(packet, flow, judged.verdict)) {
        tell(packet, &now, flow, name, &judged, &Asker::of(packet));
    }
    if judged.blocks() {
        return REFUSE;
    }
    *listed = Listed { generation: judged.generation, entry: judged.entry, is_let_through: true };
    PASS
}

/// Keeps the addresses of a response for whoever asked.
// verifier: not called by `answer`, for 512 bytes of stack do not hold both.
#[inline(never)]
fn learn(packet: &Packet, records: Records, listed: &Listed) {
    let (start_boot_ns, pid) = Asker::of(packet).key();
    if pid == 0 {
        return;
    }
    let mut lesson = Lesson {
        packet: *packet,
        walk: ResponseWalk::new(packet, records.at, records.count),
        start_boot_ns,
        pid: pid.into(),
        entry: listed.entry.into(),
        generation: listed.generation.into(),
        // SAFETY: the helper takes nothing.
        boot_ns: unsafe { bpf_ktime_get_boot_ns() },
    };
    // SAFETY: as above.
    unsafe { bpf_loop(ResponseWalk::STEPS, walk_addresses as *mut c_void, (&raw mut lesson).cast(), 0) };
}

/// The message of a packet that comes from where names are asked for, from which `packet` then counts.
#[inline(always)]
fn message(packet: &mut Packet, flow: &mut Flow) -> bool {
    if !packet::read_origin(packet, flow) {
        return false;
    }
    let Some(names) = NAME_CONFIG.get(0) else { return false };
    if !is_among(&names.dns_ports, flow.port) {
        return false;
    }
    match flow.protocol {
        UDP | UDP_LITE => *packet = packet.from(flow.transport.wrapping_add(dns::UDP_HEADER)),
        TCP => {
            let Some(payload) = stream::payload(packet, flow) else { return false };
            *packet = payload.from(dns::response_start(&payload));
        }
        _ => return false,
    }
    true
}

#[inline(always)]
fn judge(mut packet: Packet) -> i32 {
    let mut flow = Flow::default();
    if !message(&mut packet, &mut flow) {
        return PASS;
    }
    let Some(answers) = dns::records(&packet) else { return PASS };
    if switched_on().is_none() {
        return PASS;
    }
    let Some(generation) = Generation::current() else { return PASS };
    let mut labels = Labels::NONE;
    let question = name::read_message(&packet, dns::HEADER, &mut labels);
    if question == UNREAD {
        count(Counter::NamesUnread);
        return PASS;
    }
    let records = Records { at: question.wrapping_add(dns::QUESTION), count: answers };
    let mut aliases = read_aliases(&packet, records);
    let mut name = Name {
        hook: Hook::IngressDns as u32,
        form: NameForm::Labels as u32,
        count: 1,
        at: dns::HEADER,
        length: 0,
        query_type: packet.be16(question).unwrap_or(0),
    };
    name.blur(&packet);
    for _ in 0..=ResponseWalk::ALIASES {
        count(Counter::NamesJudged);
        let after = name::read_message(&packet, name.at, &mut labels);
        if after == UNREAD {
            count(Counter::NamesUnread);
            return PASS;
        }
        let entry = name::find(&packet, generation, &mut labels);
        if entry != NOTHING {
            name.length = after.wrapping_sub(name.at);
            let mut listed = Listed { generation: 0, entry, is_let_through: false };
            if answer(&packet, generation, &flow, &name, &mut listed) == REFUSE {
                return REFUSE;
            }
            if listed.is_let_through {
                learn(&packet, records, &listed);
            }
        }
        name.at = aliases as u32 & 0xffff;
        aliases = packet.blurred(aliases >> 16);
        if name.at == 0 {
            break;
        }
    }
    PASS
}

/// A packet that a socket of the cgroup is about to get.
#[cgroup_skb(ingress)]
pub fn name_ingress(context: SkBuffContext) -> i32 {
    bit(judge(Packet::new(context.skb.skb)))
}
