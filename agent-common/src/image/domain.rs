//! Names of hosts: read label by label from wherever they are written, and looked up by suffix.

use crate::image::layout::{self, HEADER, Space};
use crate::image::table::{self, Table};
use crate::image::{Block, Blocks, Damaged, Found, NameHasher, generation_of, key_seed, read};
use crate::limits::DOMAIN_DEPTH;

/// 64-bit words that hold a label of 63 octets, the most that RFC 1035 §2.3.4 allows.
pub const LABEL_WORDS: usize = 8;
/// Labels, compression pointers and the root of one name: RFC 1035 §2.3.4 leaves room for 127 labels.
const STEPS: u32 = 128;
/// Octets of a name as text: RFC 1035 §2.3.4 less the first length and the root.
const TEXT_MAX: u32 = 253;
const LABEL_MAX: u32 = 63;
/// What the upper bits of a length octet say (RFC 1035 §4.1.4).
const KIND: u64 = 0xc0;
/// Offsets are kept in 16 bits.
const OFFSET_MAX: u32 = 0xfffe;

/// Where the octets of a name are: a packet in the kernel, a slice on the host. Offsets count from the start of the message
/// for a DNS name, since that is what its pointers do, and from anywhere else for text.
pub trait Octets {
    /// `count` octets, 1..=8, from `at` on, little-endian and zero-padded; `None` where they end before that.
    fn word(&self, at: u32, count: u32) -> Option<u64>;

    /// Puts `count` octets, 1..=63, from `at` on into zeroed `words`, little-endian; whether they are all there.
    fn label(&self, at: u32, count: u32, words: &mut [u64; LABEL_WORDS]) -> bool;

    /// The same number, of which the kernel's verifier knows nothing: for what a loop carries from step to step, so that
    /// the steps look alike to it.
    #[inline(always)]
    fn blurred(&self, number: u64) -> u64 {
        number
    }
}

impl Octets for [u8] {
    fn word(&self, at: u32, count: u32) -> Option<u64> {
        let octets = self.get(at as usize..)?.get(..count as usize)?;
        Some(octets.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet)))
    }

    fn label(&self, at: u32, count: u32, words: &mut [u64; LABEL_WORDS]) -> bool {
        let octets = self.get(at as usize..).and_then(|rest| rest.get(..count as usize));
        for (word, part) in words.iter_mut().zip(octets.unwrap_or_default().chunks(8)) {
            *word = part.iter().rev().fold(0, |word, octet| word << 8 | u64::from(*octet));
        }
        octets.is_some()
    }
}

/// The octets end before the name does, or it is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unreadable;

/// Where the last [`DOMAIN_DEPTH`] labels of a name start: 1 + offset in 16 bits each, the top-level domain lowest.
#[derive(Clone, Copy, Debug)]
pub struct Labels {
    lanes: [u64; 4],
    /// Offset after the last label of a text; 0 for a name of a DNS message, whose labels say their length.
    text_end: u32,
}

impl Labels {
    /// The labels of the name at `at` of a DNS message, and the offset of what follows the name. Pointers are followed,
    /// wherever they lead (RFC 1035 §4.1.4).
    #[inline(always)]
    pub fn of_message<O: Octets + ?Sized>(octets: &O, at: u32) -> Result<(Self, u32), Unreadable> {
        let mut labels = Self { lanes: [0; 4], text_end: 0 };
        let mut next = u64::from(at);
        let mut after = 0_u64;
        for _ in 0..STEPS {
            let length = octets.word(next as u32, 1).ok_or(Unreadable)?;
            if length == 0 {
                return Ok((labels, if after == 0 { next as u32 + 1 } else { after as u32 }));
            }
            if length & KIND == KIND {
                let pointer = octets.word(next as u32, 2).ok_or(Unreadable)?;
                if after == 0 {
                    after = next + 2;
                }
                next = (pointer & 0x3f) << 8 | pointer >> 8;
            } else if length & KIND == 0 {
                labels.push(next);
                next += length + 1;
            } else {
                return Err(Unreadable);
            }
            next = octets.blurred(next) & 0xffff;
            after = octets.blurred(after);
        }
        Err(Unreadable)
    }

    /// The labels of a name as text, `length` octets from `at` on, a trailing dot among them or not. A name with an empty
    /// label, or a longer one than there can be, is known only by the labels after that.
    #[inline(always)]
    pub fn of_text<O: Octets + ?Sized>(octets: &O, at: u32, length: u32) -> Result<Self, Unreadable> {
        if length == 0 || length > TEXT_MAX + 1 || at > OFFSET_MAX - TEXT_MAX - 1 {
            return Err(Unreadable);
        }
        let last = octets.word(at.wrapping_add(length).wrapping_sub(1), 1).ok_or(Unreadable)?;
        let end = at.wrapping_add(length).wrapping_sub(u32::from(last == u64::from(b'.')));
        let mut labels = Self { lanes: [0; 4], text_end: end };
        labels.push(u64::from(at));
        let mut next = at;
        for _ in 0..(TEXT_MAX + 1).div_ceil(8) {
            if next >= end {
                break;
            }
            let rest = end.wrapping_sub(next);
            let word = octets.word(next, if rest < 8 { rest } else { 8 }).ok_or(Unreadable)?;
            for index in 0..8 {
                let differs = word >> (8 * index) & 0xff ^ u64::from(b'.');
                // All ones after a dot. Without a branch, of which the verifier would follow either side of each.
                let is_dot = octets.blurred(differs.wrapping_sub(1)) >> 63;
                labels.push_if(u64::from(next) + index + 1, is_dot.wrapping_neg());
            }
            next = octets.blurred(u64::from(next) + 8) as u32;
        }
        Ok(labels)
    }

    #[inline(always)]
    fn push(&mut self, start: u64) {
        self.push_if(start, u64::MAX);
    }

    /// Adds a label where `mask` is all ones, and nothing where it is 0.
    #[inline(always)]
    fn push_if(&mut self, start: u64, mask: u64) {
        let [first, second, third, fourth] = self.lanes;
        let pushed = [
            first << 16 | start.wrapping_add(1) & 0xffff,
            second << 16 | first >> 48,
            third << 16 | second >> 48,
            fourth << 16 | third >> 48,
        ];
        self.lanes = [
            pushed[0] & mask | first & !mask,
            pushed[1] & mask | second & !mask,
            pushed[2] & mask | third & !mask,
            pushed[3] & mask | fourth & !mask,
        ];
    }

    /// Takes the rightmost label: its offset and its length, which is 1..=63.
    #[inline(always)]
    fn pop<O: Octets + ?Sized>(&mut self, octets: &O) -> Option<(u32, u32)> {
        let [first, second, third, fourth] = self.lanes;
        let start = (first as u32 & 0xffff).checked_sub(1)?;
        self.lanes = [first >> 16 | second << 48, second >> 16 | third << 48, third >> 16 | fourth << 48, fourth >> 16];
        let (start, length) = if self.text_end == 0 {
            (start.wrapping_add(1), octets.word(start, 1)? as u32)
        } else {
            let length = self.text_end.wrapping_sub(start);
            self.text_end = start.wrapping_sub(1);
            (start, length)
        };
        (length != 0 && length <= LABEL_MAX).then_some((start, length))
    }
}

/// `A` to `Z` of eight octets as `a` to `z`, all else as it is: names differ in nothing by that (RFC 4343).
#[inline(always)]
#[must_use]
pub const fn lower_case(word: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low = word & (0x7f * EACH);
    let from_a = low + (0x80 - b'A' as u64) * EACH;
    let after_z = low + (0x80 - b'Z' as u64 - 1) * EACH;
    word | (from_a & !after_z & !word & (0x80 * EACH)) >> 2
}

/// Where domains are in an image, and what their keys start from.
struct Domains {
    generation: u32,
    table: Table,
    hasher: NameHasher,
    /// Most labels of any of them.
    depth: u32,
}

impl Domains {
    #[inline(always)]
    fn of<B: Blocks + ?Sized>(image: &B) -> Result<Option<Self>, Damaged> {
        let header: &Block = read(image, HEADER)?;
        let generation = generation_of(header)?;
        if !layout::has(header, Space::Domain) {
            return Ok(None);
        }
        let hasher = NameHasher::domain(key_seed(header));
        let (block, word) = layout::descriptor(Space::Domain);
        let spaces = read(image, block)?;
        let table = Table::unpack([spaces[word & 7], spaces[(word + 1) & 7]]);
        Ok(Some(Self { generation, table, hasher, depth: layout::low(spaces[layout::DOMAIN_LABELS]) }))
    }
}

/// Looks up a name: the longest of its suffixes that is listed, dead or alive, or nothing.
#[inline(always)]
pub fn find_name<B: Blocks + ?Sized, O: Octets + ?Sized>(
    image: &B,
    octets: &O,
    mut labels: Labels,
) -> Result<Option<Found>, Damaged> {
    const NOTHING: u64 = u64::MAX;
    let Some(mut domains) = Domains::of(image)? else { return Ok(None) };
    let mut found = NOTHING;
    for step in 0..DOMAIN_DEPTH {
        if step >= domains.depth {
            break;
        }
        let Some((start, length)) = labels.pop(octets) else { break };
        let mut words = [0; LABEL_WORDS];
        if !octets.label(start, length, &mut words) {
            break;
        }
        domains.hasher.length(length);
        for (index, word) in words.iter().enumerate() {
            if index as u32 >= NameHasher::words(length) {
                break;
            }
            domains.hasher.word(lower_case(*word));
        }
        if let Some(entry) = table::find(image, domains.table, domains.hasher.key())? {
            found = u64::from(entry);
        }
        found = octets.blurred(found);
    }
    Ok((found != NOTHING).then_some(Found { generation: domains.generation, entry: found as u32 }))
}
