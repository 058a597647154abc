//! The host in an HTTP/1 request (RFC 9112 §3.2).

use crate::image::{Octets, lower_case};
use crate::stream::Named;

/// A line's end and the field's name, as the lower 48 bits of the last octets, the latest lowest.
const FIELD: u64 = u64::from_be_bytes(*b"\0\0\nhost:");
const FIELD_MASK: u64 = 0xffff_ffff_ffff;
/// The end of the header section, with carriage returns or without.
const END: u64 = u64::from_be_bytes(*b"\0\0\0\0\n\r\n\0") >> 8;
const BARE_END: u64 = u64::from_be_bytes(*b"\0\0\0\0\0\0\n\n");
/// Octets of a host with its port and blanks around it that are looked through.
const HOST_MAX: u64 = 255 + 8;

/// The way to the host: word by word to the field, then octet by octet through its value.
#[derive(Clone, Copy, Debug)]
pub struct RequestWalk {
    length: u64,
    at: u64,
    /// The last eight octets in lower case, the latest lowest.
    window: u64,
    /// Offset after the field's name; 0 until it was found.
    field: u64,
    /// Where the host begins; 0 until it does.
    start: u64,
    /// Where it ends; 0 until it does.
    end: u64,
    /// The header section is over.
    over: u64,
}

/// All ones where the two are the same, without a branch.
#[inline(always)]
fn equal<O: Octets + ?Sized>(octets: &O, one: u64, other: u64) -> u64 {
    let differs = one ^ other;
    octets.blurred((differs | differs.wrapping_neg()) >> 63).wrapping_sub(1)
}

impl RequestWalk {
    /// Words that are looked through for the field, and octets of its value: a host comes first in what programs send.
    pub const STEPS: u32 = 256 + HOST_MAX as u32;

    /// Starts at the method; `None` where the `length` octets do not begin with three capitals.
    #[inline(always)]
    pub fn new<O: Octets + ?Sized>(octets: &O, length: u32) -> Option<Self> {
        let method = octets.word(0, 3)?;
        // A capital is what lowering changes.
        if method ^ lower_case(method) != 0x20_2020 {
            return None;
        }
        let zero = || octets.blurred(0);
        let (at, window, field) = (zero(), zero(), zero());
        Some(Self { length: length.into(), at, window, field, start: zero(), end: zero(), over: zero() })
    }

    /// Whether the octets end before it is clear that a request begins with them.
    #[inline(always)]
    pub fn is_begun<O: Octets + ?Sized>(octets: &O) -> bool {
        let first = octets.word(0, 1);
        octets.word(0, 3).is_none() && first.is_some_and(|octet| octet ^ lower_case(octet) == 0x20)
    }

    /// Takes a word, or an octet of the value; whether to go on.
    #[inline(always)]
    pub fn step<O: Octets + ?Sized>(&mut self, octets: &O) -> bool {
        if self.field == 0 { self.find(octets) } else { self.value(octets) }
    }

    #[inline(always)]
    fn find<O: Octets + ?Sized>(&mut self, octets: &O) -> bool {
        let rest = self.length.wrapping_sub(self.at);
        if rest == 0 || rest > self.length || self.over != 0 {
            return false;
        }
        let count = if rest < 8 { rest } else { 8 };
        let Some(word) = octets.word(self.at as u32, count as u32) else { return false };
        let lowered = lower_case(word);
        let (mut window, mut field, mut over) = (self.window, 0, 0);
        let mut index = 0;
        while index < 8 {
            window = window << 8 | lowered >> (8 * index) & 0xff;
            let is_field = equal(octets, window & FIELD_MASK, FIELD);
            field |= (self.at.wrapping_add(index + 1)) & is_field & equal(octets, field, 0) & equal(octets, over, 0);
            over |= equal(octets, window & 0xff_ffff, END) | equal(octets, window & 0xffff, BARE_END);
            index += 1;
        }
        self.window = octets.blurred(window);
        self.over = octets.blurred(over);
        self.field = octets.blurred(field);
        self.at = octets.blurred(if field == 0 { self.at.wrapping_add(8) } else { field });
        true
    }

    #[inline(always)]
    fn value<O: Octets + ?Sized>(&mut self, octets: &O) -> bool {
        let at = self.at;
        let Some(octet) = octets.word(at as u32, 1) else { return false };
        let is_blank = octet == u64::from(b' ') || octet == u64::from(b'\t');
        let is_end = is_blank || octet == u64::from(b':') || octet == u64::from(b'\r') || octet == u64::from(b'\n');
        if self.start == 0 {
            if !is_blank {
                self.start = octets.blurred(at);
            }
            if is_end && !is_blank {
                self.end = octets.blurred(at);
                return false;
            }
        } else if is_end {
            self.end = octets.blurred(at);
            return false;
        }
        self.at = octets.blurred(at.wrapping_add(1));
        true
    }

    /// What was found on the way.
    #[inline(always)]
    #[must_use]
    pub const fn finish(&self) -> Named {
        if self.end != 0 {
            return match self.end.wrapping_sub(self.start) {
                0 => Named::Nothing,
                length => Named::Text { at: self.start as u32, length: length as u32 },
            };
        }
        if self.field == 0 && self.over != 0 { Named::Nothing } else { Named::Unread }
    }
}
