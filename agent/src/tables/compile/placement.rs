//! Cuckoo placement: each value goes into one of two blocks, and what is in the way goes into its other one.

use agent_common::image::{Block, ipv4_alternate, ipv4_hash, ipv4_primary, table};

/// How often values may be moved for one to be placed. Blocks filled to 90 % need a handful.
const MOVES_MAX: u32 = 2_000;

/// How values lie in blocks.
pub(in crate::tables) trait Cells {
    const LANES: u32;
    fn get(&self, block: &Block, lane: u32) -> u64;
    fn set(&self, block: &mut Block, lane: u32, value: u64);
    /// First and second choice.
    fn choices(&self, value: u64) -> (u32, u32);
}

/// IPv4 addresses, 16 in a block.
pub(in crate::tables) struct AddressCells {
    pub seed: u64,
    pub blocks: u32,
}

impl Cells for AddressCells {
    const LANES: u32 = 16;

    fn get(&self, block: &Block, lane: u32) -> u64 {
        block.get(lane as usize / 2).map_or(0, |word| word >> (lane % 2 * 32) & 0xffff_ffff)
    }

    fn set(&self, block: &mut Block, lane: u32, value: u64) {
        if let Some(word) = block.get_mut(lane as usize / 2) {
            let shift = lane % 2 * 32;
            *word = *word & !(0xffff_ffff << shift) | value << shift;
        }
    }

    fn choices(&self, value: u64) -> (u32, u32) {
        let hash = ipv4_hash(value as u32, self.seed);
        (ipv4_primary(hash, self.blocks), ipv4_alternate(hash, self.blocks))
    }
}

/// Tags of 63 bits, 8 in a block.
pub(in crate::tables) struct TagCells {
    pub blocks: u32,
}

impl Cells for TagCells {
    const LANES: u32 = 8;

    fn get(&self, block: &Block, lane: u32) -> u64 {
        block.get(lane as usize).map_or(0, |word| word & table::TAG)
    }

    fn set(&self, block: &mut Block, lane: u32, value: u64) {
        if let Some(word) = block.get_mut(lane as usize) {
            *word = value;
        }
    }

    fn choices(&self, value: u64) -> (u32, u32) {
        (table::primary(value, self.blocks), table::alternate(value, self.blocks))
    }
}

/// Blocks for so many values: 90 % full, or fewer where a single block will do.
pub(in crate::tables) const fn blocks_for(values: usize, lanes: usize) -> usize {
    if values <= lanes { values.div_ceil(lanes) } else { (values * 10).div_ceil(lanes * 9) + 1 }
}

/// Puts a value, which is not 0, into a free lane. `false` if none could be made free.
pub(in crate::tables) fn place<C: Cells>(cells: &C, blocks: &mut [Block], value: u64, random: &mut u64) -> bool {
    let (first, second) = cells.choices(value);
    if put(cells, blocks, first, value) || put(cells, blocks, second, value) {
        return true;
    }
    let (mut value, mut at) = (value, second);
    for _ in 0..MOVES_MAX {
        *random = random.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        let lane = (*random >> 33) as u32 % C::LANES;
        let Some(block) = blocks.get_mut(at as usize) else { return false };
        let moved = cells.get(block, lane);
        cells.set(block, lane, value);
        let (first, second) = cells.choices(moved);
        value = moved;
        at = if at == first { second } else { first };
        if put(cells, blocks, at, value) {
            return true;
        }
    }
    false
}

fn put<C: Cells>(cells: &C, blocks: &mut [Block], at: u32, value: u64) -> bool {
    let Some(block) = blocks.get_mut(at as usize) else { return false };
    match (0..C::LANES).find(|lane| cells.get(block, *lane) == 0) {
        Some(lane) => {
            cells.set(block, lane, value);
            true
        }
        None => false,
    }
}

/// The slot of a value that was placed, and whether it is in its first choice.
pub(in crate::tables) fn slot<C: Cells>(cells: &C, blocks: &[Block], value: u64) -> Option<(u32, bool)> {
    let (first, second) = cells.choices(value);
    let lane_in = |at: u32| {
        let block = blocks.get(at as usize)?;
        (0..C::LANES).find(|lane| cells.get(block, *lane) == value).map(|lane| at * C::LANES + lane)
    };
    lane_in(first).map(|slot| (slot, true)).or_else(|| lane_in(second).map(|slot| (slot, false)))
}
