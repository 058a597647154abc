//! A table of keyed hashes: 8 tags of 63 bits per block, each tag in one of two blocks. The slot of a tag is its entry, so no
//! entry number is stored. Bit 63 of word `tag & 7` says that some tag of this block, its first choice, had to move.

use crate::image::{Block, Blocks, Damaged, layout, read};

/// Bits of a tag.
pub const TAG: u64 = u64::MAX >> 1;
/// The bit of a word that says that a tag had to move.
pub const MOVED: u64 = !TAG;

/// Where a table is and what its slots are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// Its first block.
    pub base: u32,
    /// How many blocks it has.
    pub blocks: u32,
    /// The entry of its first slot.
    pub first_entry: u32,
    /// How many slots are in use.
    pub used: u32,
}

impl Table {
    /// As two words of the header.
    #[must_use]
    pub const fn pack(self) -> [u64; 2] {
        [layout::pack(self.base, self.blocks), layout::pack(self.first_entry, self.used)]
    }

    /// From two words of the header.
    #[inline(always)]
    #[must_use]
    pub const fn unpack(words: [u64; 2]) -> Self {
        Self {
            base: layout::low(words[0]),
            blocks: layout::high(words[0]),
            first_entry: layout::low(words[1]),
            used: layout::high(words[1]),
        }
    }
}

/// The tag of a hash; never 0, which marks an empty slot.
#[inline(always)]
#[must_use]
pub const fn tag(hash: u64) -> u64 {
    let tag = hash & TAG;
    if tag == 0 { 1 } else { tag }
}

/// The block where a tag is looked for first; `blocks` is at least 1.
#[inline(always)]
#[must_use]
pub const fn primary(tag: u64, blocks: u32) -> u32 {
    ((((tag >> 31) & 0xffff_ffff) * blocks as u64) >> 32) as u32
}

/// The other block where a tag may be, different from the first unless there is only one.
#[inline(always)]
#[must_use]
pub const fn alternate(tag: u64, blocks: u32) -> u32 {
    let step = ((((tag << 1) & 0xffff_fffe) * (blocks.wrapping_sub(1) as u64)) >> 32) as u32;
    let other = primary(tag, blocks).wrapping_add(1).wrapping_add(step);
    if other >= blocks { other.wrapping_sub(blocks) } else { other }
}

/// The entry of a tag, dead or alive.
#[inline(always)]
pub fn find<B: Blocks + ?Sized>(image: &B, table: Table, tag: u64) -> Result<Option<u32>, Damaged> {
    if table.blocks == 0 {
        return Ok(None);
    }
    let first = primary(tag, table.blocks);
    let block = read(image, table.base.wrapping_add(first))?;
    if let Some(lane) = lane(block, tag) {
        return Ok(Some(entry(table, first, lane)));
    }
    if block[(tag & 7) as usize] & MOVED == 0 {
        return Ok(None);
    }
    let second = alternate(tag, table.blocks);
    let block = read(image, table.base.wrapping_add(second))?;
    Ok(lane(block, tag).map(|lane| entry(table, second, lane)))
}

#[inline(always)]
const fn entry(table: Table, block: u32, lane: u32) -> u32 {
    table.first_entry.wrapping_add(block.wrapping_mul(8)).wrapping_add(lane)
}

#[inline(always)]
fn lane(block: &Block, tag: u64) -> Option<u32> {
    let mut word = 0_u32;
    while word < 8 {
        if block[word as usize] & TAG == tag {
            return Some(word);
        }
        word = word.wrapping_add(1);
    }
    None
}
