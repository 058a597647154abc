//! The steps of agent-common through a name, each loop a `bpf_loop`.
// verifier: as plain loops it follows every step of a name by itself, more than a million instructions, seen on 6.18.

use core::ffi::c_void;

use agent_common::image::{self, Damaged, Labels, MessageWalk, NameSearch, TextWalk};
use aya_ebpf::helpers::generated::bpf_loop;

use super::packet::Packet;
use crate::emit::damaged;
use crate::image::Generation;

/// In place of an entry: no suffix is listed.
pub const NOTHING: u32 = u32::MAX;
/// In place of an offset: the name cannot be read.
pub const UNREAD: u32 = u32::MAX - 1;

const GO_ON: i64 = 0;
const STOP: i64 = 1;

/// A name on its way through a loop.
struct Job {
    packet: Packet,
    walk: MessageWalk,
}

extern "C" fn walk_message(_index: u64, job: *mut Job) -> i64 {
    // SAFETY: `in_message` passes its own `Job`, which outlives the loop.
    let job = unsafe { &mut *job };
    if job.walk.step(&job.packet) { GO_ON } else { STOP }
}

/// Reads the labels of the name at `at` of the DNS message at the packet's base; the offset of what follows the name, or
/// [`UNREAD`].
// verifier: a frame of its own, as all that is not inlined here, for 512 bytes of stack hold no more.
#[inline(never)]
pub fn read_message(packet: &Packet, at: u32, labels: &mut Labels) -> u32 {
    let mut job = Job { packet: *packet, walk: MessageWalk::new(packet, at) };
    // SAFETY: the callback has the signature that the helper documents, and its context outlives the loop.
    unsafe { bpf_loop(MessageWalk::STEPS, walk_message as *mut c_void, (&raw mut job).cast(), 0) };
    match job.walk.finish() {
        Ok((read, after)) => {
            *labels = read;
            after
        }
        Err(image::Unreadable) => UNREAD,
    }
}

/// A name as text on its way through a loop.
struct TextJob {
    packet: Packet,
    walk: TextWalk,
}

extern "C" fn walk_text(_index: u64, job: *mut TextJob) -> i64 {
    // SAFETY: `read_text` passes its own `TextJob`, which outlives the loop.
    let job = unsafe { &mut *job };
    if job.walk.step(&job.packet) { GO_ON } else { STOP }
}

/// Reads the labels of a name as text; as [`read_message`].
#[inline(never)]
pub fn read_text(packet: &Packet, at: u32, length: u32, labels: &mut Labels) -> u32 {
    let Ok(walk) = TextWalk::new(packet, at, length) else { return UNREAD };
    let mut job = TextJob { packet: *packet, walk };
    // SAFETY: as above.
    unsafe { bpf_loop(TextWalk::STEPS, walk_text as *mut c_void, (&raw mut job).cast(), 0) };
    match job.walk.finish() {
        Ok(read) => {
            *labels = read;
            at.wrapping_add(length)
        }
        Err(image::Unreadable) => UNREAD,
    }
}

/// A search on its way through a loop.
struct Search<'a> {
    packet: Packet,
    generation: Generation,
    search: NameSearch<'a>,
}

extern "C" fn look_up(_index: u64, search: *mut Search<'_>) -> i64 {
    // SAFETY: `find` passes its own `Search`, which outlives the loop.
    let search = unsafe { &mut *search };
    match search.search.step(&search.generation, &search.packet) {
        Ok(true) => GO_ON,
        Ok(false) => STOP,
        Err(Damaged) => {
            damaged();
            STOP
        }
    }
}

/// The entry of the longest suffix that is listed, or [`NOTHING`].
#[inline(never)]
pub fn find(packet: &Packet, generation: Generation, labels: &mut Labels) -> u32 {
    let Ok(search) = NameSearch::new(&generation, packet, labels) else {
        damaged();
        return NOTHING;
    };
    let mut search = Search { packet: *packet, generation, search };
    // SAFETY: as above.
    unsafe { bpf_loop(search.search.steps(), look_up as *mut c_void, (&raw mut search).cast(), 0) };
    search.search.finish().map_or(NOTHING, |found| found.entry)
}
