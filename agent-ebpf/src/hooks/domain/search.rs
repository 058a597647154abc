//! The names of a packet, looked up one after the other in a loop of the kernel's.
// verifier: written as a plain loop, 6.1 and 7.3 go through more than a million instructions.

use core::ffi::c_void;

use agent_common::image::{Labels, Octets};
use agent_common::stream::ResponseWalk;
use agent_common::wire::Counter;
use aya_ebpf::helpers::generated::bpf_loop;

use super::name::{self, NOTHING, UNREAD};
use super::packet::Packet;
use super::{dns, weigh};
use crate::clock::Now;
use crate::emit::count;
use crate::image::Generation;

const GO_ON: i64 = 0;
const STOP: i64 = 1;

/// An entry is nothing to tell of; it is; it refuses.
const NONE: u32 = 0;
const HIT: u32 = 1;
const BLOCKS: u32 = 2;

/// What an entry comes to.
#[inline(never)]
fn weight(generation: Generation, entry: u32) -> u32 {
    let Some(now) = Now::read() else { return NONE };
    let judged = weigh(&generation, &now, entry);
    match (judged.is_hit(), judged.blocks()) {
        (false, _) => NONE,
        (true, false) => HIT,
        (true, true) => BLOCKS,
    }
}

/// A way through the names of a packet, and the one that decides: the first that is refused, else the last that is listed.
pub struct Search {
    pub packet: Packet,
    generation: Generation,
    labels: Labels,
    /// Where those after the next are, 16 bits each, the next lowest.
    others: u64,
    /// Where the next name is.
    at: u32,
    /// Octets of it as text; 0 for the labels of a DNS message.
    length: u32,
    /// Entry of the name that decides, or [`NOTHING`].
    pub entry: u32,
    /// Where that begins and ends.
    pub start: u32,
    pub end: u32,
    /// It is refused.
    blocks: u32,
    unread: u32,
}

impl Search {
    /// Begins at a name: text of so many octets, or with none the labels of a message.
    #[inline(always)]
    pub fn new(packet: Packet, generation: Generation, at: u32, length: u32) -> Self {
        let number = |number: u32| packet.blurred(number.into()) as u32;
        let (at, entry, start, end) = (number(at), number(NOTHING), number(0), number(0));
        let (blocks, unread) = (number(0), number(0));
        Self { packet, generation, labels: Labels::NONE, others: 0, at, length, entry, start, end, blocks, unread }
    }

    /// Looks so many names up that follow each other as questions do.
    #[inline(always)]
    pub fn questions(&mut self, count: u32) {
        // SAFETY: the callback has the signature that the helper documents, and its context outlives the loop.
        unsafe { bpf_loop(count, next_question as *mut c_void, (&raw mut *self).cast(), 0) };
    }

    /// Looks the name up, and those that it stands for, see [`ResponseWalk::aliases`].
    #[inline(always)]
    pub fn aliases(&mut self, aliases: u64) {
        self.others = aliases;
        // SAFETY: as above.
        unsafe { bpf_loop(ResponseWalk::ALIASES + 1, next_alias as *mut c_void, (&raw mut *self).cast(), 0) };
    }

    /// Whether the name that decides is refused.
    #[inline(always)]
    pub fn blocks(&self) -> bool {
        self.blocks != 0
    }

    /// Whether a name could not be read.
    #[inline(always)]
    pub fn is_unread(&self) -> bool {
        self.unread != 0
    }

    /// Looks one name up: the offset behind it, or [`UNREAD`] when the search is over.
    #[inline(always)]
    fn look(&mut self) -> u32 {
        count(Counter::NamesJudged);
        self.labels = Labels::NONE;
        let (packet, labels) = (&self.packet, &mut self.labels);
        let end = if self.length == 0 {
            name::read_message(packet, self.at, labels)
        } else {
            name::read_text(packet, self.at, self.length, labels)
        };
        if end == UNREAD {
            self.unread = packet.blurred(1) as u32;
            return UNREAD;
        }
        let entry = name::find(packet, self.generation, labels);
        let weight = if entry == NOTHING { NONE } else { weight(self.generation, entry) };
        if weight != NONE {
            self.entry = packet.blurred(entry.into()) as u32;
            self.start = packet.blurred(self.at.into()) as u32;
            self.end = packet.blurred(end.into()) as u32;
        }
        if weight == BLOCKS {
            self.blocks = packet.blurred(1) as u32;
            return UNREAD;
        }
        end
    }
}

extern "C" fn next_question(_index: u64, search: *mut Search) -> i64 {
    // SAFETY: `questions` passes its own `Search`, which outlives the loop.
    let search = unsafe { &mut *search };
    let end = search.look();
    search.at = search.packet.blurred(end.wrapping_add(dns::QUESTION).into()) as u32;
    if end == UNREAD { STOP } else { GO_ON }
}

extern "C" fn next_alias(_index: u64, search: *mut Search) -> i64 {
    // SAFETY: `aliases` passes its own `Search`, which outlives the loop.
    let search = unsafe { &mut *search };
    let end = search.look();
    search.at = search.packet.blurred(search.others & 0xffff) as u32;
    search.others = search.packet.blurred(search.others >> 16);
    if end == UNREAD || search.at == 0 { STOP } else { GO_ON }
}
