//! IPv4: at most a directory, a top, a leaf and a run, or a top and two blocks of addresses.

use crate::image::layout::{
    DIRECT, DIRECTORY, EXACT, LEAF_BASE, NO_DIRECTORY, PLAIN, RUNS, SEED, TOP_BASES, TOP_FORM, TOP_HIGH, TOP_LOW,
    TOP_STARTS, element, hash_bit, high, low, place_bit,
};
use crate::image::{Block, Blocks, Damaged, read};

/// Spreads addresses over blocks. Keyed, so that a publisher cannot choose addresses that crowd one block.
#[inline(always)]
#[must_use]
pub const fn hash(address: u32, seed: u64) -> u64 {
    let mixed = (address as u64 ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    mixed ^ mixed >> 32
}

/// The block of the exact segment where an address is looked for first; `blocks` is at least 1.
#[inline(always)]
#[must_use]
pub const fn primary(hash: u64, blocks: u32) -> u32 {
    (((hash >> 32) * blocks as u64) >> 32) as u32
}

/// The other block where an address may be, different from the first unless there is only one.
#[inline(always)]
#[must_use]
pub const fn alternate(hash: u64, blocks: u32) -> u32 {
    let step = (((hash & 0xffff_ffff) * (blocks.wrapping_sub(1) as u64)) >> 32) as u32;
    let other = primary(hash, blocks).wrapping_add(1).wrapping_add(step);
    if other >= blocks { other.wrapping_sub(blocks) } else { other }
}

/// The entry for an address, dead or alive.
#[inline(always)]
pub(super) fn find<B: Blocks + ?Sized>(image: &B, header: &Block, address: u32) -> Result<Option<u32>, Damaged> {
    let directory = header[DIRECTORY];
    let top = match high(directory) {
        NO_DIRECTORY => return Ok(None),
        DIRECT => low(directory).wrapping_add(address >> 15),
        _ => match element(read(image, low(directory).wrapping_add(address >> 19))?, address >> 15) {
            0 => return Ok(None),
            top => top,
        },
    };
    let top = read(image, top)?;
    let run = match run_of(image, header, top, address)? {
        Way::Nothing => return Ok(None),
        Way::Exact => return find_exact(image, header, address),
        Way::Run(run) => run,
    };
    let runs = read(image, low(header[RUNS]).wrapping_add(run >> 4))?;
    Ok(element(runs, run).checked_sub(1))
}

/// Where a top leads.
enum Way {
    Nothing,
    Exact,
    Run(u32),
}

#[inline(always)]
fn run_of<B: Blocks + ?Sized>(image: &B, header: &Block, top: &Block, address: u32) -> Result<Way, Damaged> {
    if top[TOP_FORM] & PLAIN != 0 {
        let has = |bit: u32| top[((bit >> 6) & 7) as usize] >> (bit & 63) & 1 != 0;
        let may_be = has(place_bit(address)) && has(hash_bit(hash(address, header[SEED])));
        return Ok(if may_be { Way::Exact } else { Way::Nothing });
    }
    let half = ((address >> 14) & 1) as usize;
    let bit = (address >> 8) & 63;
    let single = top[TOP_LOW + half] >> bit & 1 != 0;
    let covered = top[TOP_HIGH + half] >> bit & 1 != 0;
    let through = u64::MAX >> (63 - bit);
    Ok(match (covered, single) {
        (false, false) => Way::Nothing,
        (false, true) => Way::Exact,
        (true, true) => {
            let before = if half == 0 { 0 } else { top[TOP_STARTS].count_ones() };
            let starts = before.wrapping_add((top[TOP_STARTS + half] & through).count_ones());
            Way::Run(low(top[TOP_BASES]).wrapping_add(starts).wrapping_sub(1))
        }
        (true, false) => {
            let divided = top[TOP_HIGH + half] & !top[TOP_LOW + half];
            let before = if half == 0 { 0 } else { (top[TOP_HIGH] & !top[TOP_LOW]).count_ones() };
            let rank = before.wrapping_add((divided & (through >> 1)).count_ones());
            let leaf = high(header[RUNS]).wrapping_add(high(top[TOP_BASES])).wrapping_add(rank);
            Way::Run(run_in_leaf(read(image, leaf)?, address))
        }
    })
}

#[inline(always)]
fn run_in_leaf(leaf: &Block, address: u32) -> u32 {
    let own = (address >> 6) & 3;
    let through = u64::MAX >> (63 - (address & 63));
    let mut starts = (leaf[own as usize] & through).count_ones();
    for word in 0..3 {
        if word < own {
            starts = starts.wrapping_add(leaf[word as usize].count_ones());
        }
    }
    low(leaf[LEAF_BASE]).wrapping_add(starts).wrapping_sub(1)
}

#[inline(always)]
fn find_exact<B: Blocks + ?Sized>(image: &B, header: &Block, address: u32) -> Result<Option<u32>, Damaged> {
    let (base, blocks) = (low(header[EXACT]), high(header[EXACT]));
    let hash = hash(address, header[SEED]);
    let first = primary(hash, blocks);
    if let Some(lane) = lane(read(image, base.wrapping_add(first))?, address) {
        return Ok(Some((first << 4) | lane));
    }
    let second = alternate(hash, blocks);
    Ok(lane(read(image, base.wrapping_add(second))?, address).map(|lane| (second << 4) | lane))
}

#[inline(always)]
fn lane(block: &Block, address: u32) -> Option<u32> {
    let mut word = 0_u32;
    while word < 8 {
        let pair = block[word as usize];
        if low(pair) == address {
            return Some(word << 1);
        }
        if high(pair) == address {
            return Some(word << 1 | 1);
        }
        word = word.wrapping_add(1);
    }
    None
}
