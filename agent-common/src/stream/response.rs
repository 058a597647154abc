//! The records of a DNS response (RFC 1035 §4.1).

use crate::image::Octets;

/// An IPv4 address (RFC 1035 §3.4.1).
pub const A: u16 = 1;
/// An IPv6 address (RFC 3596 §2.1).
pub const AAAA: u16 = 28;
/// The name that this one stands for (RFC 1035 §3.3.1).
const CNAME: u16 = 5;
/// The domain that stands for all below this one (RFC 6672 §2.1).
const DNAME: u16 = 39;
/// What the upper bits of a length octet say (RFC 1035 §4.1.4).
const KIND: u64 = 0xc0;
/// Aliases whose offsets are kept, in 16 bits each.
const ALIASES: u64 = 0xffff << 48;

/// One record's data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Data {
    /// What it is.
    pub kind: u16,
    /// Seconds that it may be kept.
    pub ttl: u32,
    /// Offset of its first octet.
    pub at: u32,
    /// Octets.
    pub length: u16,
}

/// The way through the answer section, step by step: past a label of an owner's name, or past the rest of a record.
#[derive(Clone, Copy, Debug)]
pub struct ResponseWalk {
    next: u64,
    left: u64,
    /// Offsets of the names that records of the kinds `CNAME` and `DNAME` lead to, the latest lowest.
    aliases: u64,
    has_more_aliases: u64,
    fixed: u64,
    data: u64,
    length: u64,
}

impl ResponseWalk {
    /// Records and labels of one section; a response with more is not read to its end.
    pub const STEPS: u32 = 64;
    /// Names that a response may lead on to, the question's not among them; of more than that only the last are known.
    pub const ALIASES: u32 = 4;

    /// Starts at the first of `count` records.
    #[inline(always)]
    #[must_use]
    pub fn new<O: Octets + ?Sized>(octets: &O, at: u32, count: u16) -> Self {
        let zero = || octets.blurred(0);
        let (next, left) = (octets.blurred(at.into()), octets.blurred(count.into()));
        Self { next, left, aliases: zero(), has_more_aliases: zero(), fixed: zero(), data: zero(), length: zero() }
    }

    /// Takes a step; whether to go on. Where it led past a record, [`ResponseWalk::data`] has it.
    #[inline(always)]
    pub fn step<O: Octets + ?Sized>(&mut self, octets: &O) -> bool {
        self.data = octets.blurred(0);
        if self.left == 0 {
            return false;
        }
        let Some(label) = octets.word(self.next as u32, 1) else { return false };
        let is_pointer = label & KIND == KIND;
        if label & KIND != 0 && !is_pointer {
            return false;
        }
        if label != 0 && !is_pointer {
            self.next = octets.blurred(self.next.wrapping_add(label).wrapping_add(1)) & 0xffff;
            return true;
        }
        let at = self.next.wrapping_add(1 + u64::from(is_pointer));
        let Some(fixed) = octets.word(at as u32, 8) else { return false };
        let Some(length) = octets.word(at.wrapping_add(8) as u32, 2) else { return false };
        self.fixed = octets.blurred(fixed);
        self.length = octets.blurred(u64::from((length as u16).swap_bytes()));
        self.data = octets.blurred(at.wrapping_add(10)) & 0xffff;
        self.next = octets.blurred(self.data.wrapping_add(self.length)) & 0xffff;
        self.left = octets.blurred(self.left.wrapping_sub(1));
        let kind = (self.fixed as u16).swap_bytes();
        if kind == CNAME || kind == DNAME {
            self.has_more_aliases = octets.blurred(self.has_more_aliases | self.aliases & ALIASES);
            self.aliases = octets.blurred(self.aliases << 16 | self.data);
        }
        true
    }

    /// The record that the last step led past.
    #[inline(always)]
    #[must_use]
    pub const fn data(&self) -> Option<Data> {
        if self.data == 0 {
            return None;
        }
        Some(Data {
            kind: (self.fixed as u16).swap_bytes(),
            ttl: ((self.fixed >> 32) as u32).swap_bytes(),
            at: self.data as u32,
            length: self.length as u16,
        })
    }

    /// Offsets of the names that the question's stands for, in 16 bits each, the last to be read lowest; 0 after the last.
    #[inline(always)]
    #[must_use]
    pub const fn aliases(&self) -> u64 {
        self.aliases
    }

    /// Whether every record was read, and every alias kept.
    #[inline(always)]
    #[must_use]
    pub const fn is_whole(&self) -> bool {
        self.left == 0 && self.has_more_aliases == 0
    }
}
