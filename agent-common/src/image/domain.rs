//! Names of hosts: read label by label from wherever they are written, and looked up by suffix.

use crate::image::layout::{self, HEADER, Space};
use crate::image::table::{self, Table};
use crate::image::{Blocks, Damaged, Found, NameHasher, generation_of, key_seed, read};
use crate::limits::DOMAIN_DEPTH;

/// 64-bit words that hold a label of 63 octets, the most that RFC 1035 §2.3.4 allows.
pub const LABEL_WORDS: usize = 8;
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

    /// The same number, of which the kernel's verifier knows nothing: for what a loop starts with and carries from step to
    /// step, so that the steps look alike to it. Before Linux 6.7 it looks at the first only, and takes out what that does not reach.
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
    text_end: u64,
}

impl Labels {
    /// No label: the root.
    pub const NONE: Self = Self { lanes: [0; 4], text_end: 0 };

    /// The labels of the name at `at` of a DNS message, and the offset of what follows the name. Pointers are followed,
    /// wherever they lead (RFC 1035 §4.1.4).
    pub fn of_message<O: Octets + ?Sized>(octets: &O, at: u32) -> Result<(Self, u32), Unreadable> {
        let mut walk = MessageWalk::new(octets, at);
        for _ in 0..MessageWalk::STEPS {
            if !walk.step(octets) {
                break;
            }
        }
        walk.finish()
    }

    /// The labels of a name as text, `length` octets from `at` on, a trailing dot among them or not. A name with an empty
    /// label, or a longer one than there can be, is known only by the labels after that.
    pub fn of_text<O: Octets + ?Sized>(octets: &O, at: u32, length: u32) -> Result<Self, Unreadable> {
        let mut walk = TextWalk::new(octets, at, length)?;
        for _ in 0..TextWalk::STEPS {
            if !walk.step(octets) {
                break;
            }
        }
        walk.finish()
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

    /// Makes all labels look alike to the verifier, see [`Octets::blurred`].
    #[inline(always)]
    fn blur<O: Octets + ?Sized>(&mut self, octets: &O) {
        let [first, second, third, fourth] = self.lanes;
        self.lanes = [octets.blurred(first), octets.blurred(second), octets.blurred(third), octets.blurred(fourth)];
        self.text_end = octets.blurred(self.text_end);
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
            let length = (self.text_end as u32).wrapping_sub(start);
            self.text_end = u64::from(start.wrapping_sub(1));
            (start, length)
        };
        (length != 0 && length <= LABEL_MAX).then_some((start, length))
    }
}

/// The way through a name of a DNS message, step by step, for a caller whose loops are not plain ones.
#[derive(Clone, Copy, Debug)]
pub struct MessageWalk {
    labels: Labels,
    next: u64,
    /// Offset of what follows the name; 0 until the first pointer or the end.
    after: u64,
    arrived: u64,
}

impl MessageWalk {
    /// Labels, compression pointers and the root of one name: RFC 1035 §2.3.4 leaves room for 127 labels.
    pub const STEPS: u32 = 128;

    /// Starts at an offset of the message.
    #[inline(always)]
    #[must_use]
    pub fn new<O: Octets + ?Sized>(octets: &O, at: u32) -> Self {
        let mut labels = Labels::NONE;
        labels.blur(octets);
        Self { labels, next: octets.blurred(at.into()), after: octets.blurred(0), arrived: octets.blurred(0) }
    }

    /// Goes past one label or pointer; whether to go on.
    #[inline(always)]
    pub fn step<O: Octets + ?Sized>(&mut self, octets: &O) -> bool {
        let Some(length) = octets.word(self.next as u32, 1) else { return false };
        let mut next = self.next.wrapping_add(length).wrapping_add(1);
        if length == 0 || length & KIND == KIND {
            let end = if length == 0 { next } else { next.wrapping_sub(length).wrapping_add(1) };
            if self.after == 0 {
                self.after = end;
            }
            if length == 0 {
                self.arrived = 1;
                return false;
            }
            let Some(pointer) = octets.word(self.next as u32, 2) else { return false };
            next = (pointer & 0x3f) << 8 | pointer >> 8;
        } else if length & KIND == 0 {
            self.labels.push(self.next);
        } else {
            return false;
        }
        self.labels.blur(octets);
        self.after = octets.blurred(self.after);
        self.next = octets.blurred(next) & 0xffff;
        true
    }

    /// What was found on the way.
    #[inline(always)]
    pub fn finish(self) -> Result<(Labels, u32), Unreadable> {
        if self.arrived == 0 { Err(Unreadable) } else { Ok((self.labels, self.after as u32)) }
    }
}

/// The way through a name as text, as [`MessageWalk`].
#[derive(Clone, Copy, Debug)]
pub struct TextWalk {
    labels: Labels,
    next: u64,
}

impl TextWalk {
    /// Words of the longest name.
    pub const STEPS: u32 = (TEXT_MAX + 1).div_ceil(8);

    /// Starts at the first of `length` octets.
    #[inline(always)]
    pub fn new<O: Octets + ?Sized>(octets: &O, at: u32, length: u32) -> Result<Self, Unreadable> {
        if length == 0 || length > TEXT_MAX + 1 || at > OFFSET_MAX - TEXT_MAX - 1 {
            return Err(Unreadable);
        }
        let last = octets.word(at.wrapping_add(length).wrapping_sub(1), 1).ok_or(Unreadable)?;
        let end = at.wrapping_add(length).wrapping_sub(u32::from(last == u64::from(b'.')));
        let mut labels = Labels { text_end: u64::from(end), ..Labels::NONE };
        labels.push(u64::from(at));
        labels.blur(octets);
        Ok(Self { labels, next: octets.blurred(at.into()) })
    }

    /// Goes past eight octets; whether to go on.
    #[inline(always)]
    pub fn step<O: Octets + ?Sized>(&mut self, octets: &O) -> bool {
        let rest = (self.labels.text_end as u32).wrapping_sub(self.next as u32);
        if rest == 0 || rest > TEXT_MAX + 1 {
            return false;
        }
        let Some(word) = octets.word(self.next as u32, if rest < 8 { rest } else { 8 }) else { return false };
        let mut index = 0;
        while index < 8 {
            let differs = word >> (8 * index) & 0xff ^ b'.' as u64;
            // All ones after a dot. Without a branch, of which the verifier would follow either side of each.
            let is_dot = octets.blurred(differs.wrapping_sub(1)) >> 63;
            self.labels.push_if(self.next.wrapping_add(index + 1), is_dot.wrapping_neg());
            index += 1;
        }
        self.labels.blur(octets);
        self.next = octets.blurred(self.next.wrapping_add(8));
        true
    }

    /// What was found on the way.
    #[inline(always)]
    pub fn finish(self) -> Result<Labels, Unreadable> {
        if self.next < self.labels.text_end { Err(Unreadable) } else { Ok(self.labels) }
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

/// A search for the longest suffix of a name that is listed, step by step, as [`MessageWalk`].
#[derive(Debug)]
pub struct NameSearch<'a> {
    labels: &'a mut Labels,
    table: Table,
    hasher: NameHasher,
    found: u64,
    generation: u32,
    /// Most labels of any listed domain.
    depth: u32,
}

impl<'a> NameSearch<'a> {
    const NOTHING: u64 = u32::MAX as u64;

    /// Starts with the top-level domain, and takes the labels as it goes. Where no domain is listed at all there are no steps.
    #[inline(always)]
    pub fn new<B, O>(image: &B, octets: &O, labels: &'a mut Labels) -> Result<Self, Damaged>
    where
        B: Blocks + ?Sized,
        O: Octets + ?Sized,
    {
        let header = read(image, HEADER)?;
        let generation = generation_of(header)?;
        let hasher = NameHasher::domain(key_seed(header));
        let (block, word) = layout::descriptor(Space::Domain);
        let spaces = read(image, block)?;
        let table = Table::unpack([spaces[word & 7], spaces[(word + 1) & 7]]);
        let depth = layout::low(spaces[layout::DOMAIN_LABELS]);
        let depth = if depth < DOMAIN_DEPTH { depth } else { DOMAIN_DEPTH };
        Ok(Self { labels, table, hasher, found: octets.blurred(Self::NOTHING), generation, depth })
    }

    /// How many steps there are.
    #[inline(always)]
    #[must_use]
    pub const fn steps(&self) -> u32 {
        self.depth
    }

    /// Takes the next label to the left; whether to go on.
    #[inline(always)]
    pub fn step<B: Blocks + ?Sized, O: Octets + ?Sized>(&mut self, image: &B, octets: &O) -> Result<bool, Damaged> {
        let Some((start, length)) = self.labels.pop(octets) else { return Ok(false) };
        let mut words = [0; LABEL_WORDS];
        if !octets.label(start, length, &mut words) {
            return Ok(false);
        }
        self.hasher.length(length);
        // Blurred, so that the compiler keeps the bound that the verifier looks for.
        let count = octets.blurred(u64::from(NameHasher::words(length)));
        let mut index = 0;
        while index < LABEL_WORDS && (index as u64) < count {
            self.hasher.word(lower_case(words[index & (LABEL_WORDS - 1)]));
            index += 1;
        }
        self.hasher.blur(|bytes| octets.blurred(bytes));
        if let Some(entry) = table::find(image, self.table, self.hasher.key())? {
            self.found = u64::from(entry);
        }
        self.found = octets.blurred(self.found);
        self.labels.blur(octets);
        Ok(true)
    }

    /// The entry of the longest suffix, dead or alive, if any is listed.
    #[inline(always)]
    #[must_use]
    pub fn finish(&self) -> Option<Found> {
        (self.found != Self::NOTHING).then_some(Found { generation: self.generation, entry: self.found as u32 })
    }
}

/// Looks up a name: the longest of its suffixes that is listed, dead or alive, or nothing.
pub fn find_name<B: Blocks + ?Sized, O: Octets + ?Sized>(
    image: &B,
    octets: &O,
    mut labels: Labels,
) -> Result<Option<Found>, Damaged> {
    let mut search = NameSearch::new(image, octets, &mut labels)?;
    for _ in 0..search.steps() {
        if !search.step(image, octets)? {
            break;
        }
    }
    Ok(search.finish())
}
