//! From an entry to what is to be done: its class, or that of the entry that takes its place.

use crate::image::layout::{CLASS_INDEX, CLASSES, low};
use crate::image::{Action, Block, Blocks, Damaged, Hit, read};

/// Most entries that are tried one after the other, each having expired. The compiler leaves out what never can be live,
/// so a chain grows only where nested prefixes each expire later than the next longer one.
pub const CHAIN_MAX: u32 = 16;

/// The first live entry of the chain that starts at `found`.
#[inline(always)]
pub(super) fn resolve<B: Blocks + ?Sized>(
    image: &B,
    header: &Block,
    found: Option<u32>,
    now: u32,
) -> Result<Option<Hit>, Damaged> {
    let Some(mut entry) = found else { return Ok(None) };
    let index = header[CLASS_INDEX];
    for _ in 0..CHAIN_MAX {
        let class = class_of(image, index, entry)?;
        let word = read(image, CLASSES.wrapping_add(class >> 3))?[(class & 7) as usize];
        let expires = low(word);
        if expires == 0 || now < expires {
            return Ok(Some(Hit { entry, action: action(word >> 32)?, inbound: action(word >> 34)? }));
        }
        let next = (word >> 36) as u32;
        if next == 0 {
            return Ok(None);
        }
        entry = next.wrapping_sub(1);
    }
    Ok(None)
}

#[inline(always)]
fn action(bits: u64) -> Result<Action, Damaged> {
    match bits & 3 {
        0 => Ok(Action::Allow),
        1 => Ok(Action::Report),
        2 => Ok(Action::Block),
        _ => Err(Damaged),
    }
}

#[inline(always)]
fn class_of<B: Blocks + ?Sized>(image: &B, index: u64, entry: u32) -> Result<u32, Damaged> {
    let bits_log2 = (index >> 32) as u32 & 7;
    if bits_log2 == 0 {
        return Ok(0);
    }
    let word = u64::from(entry) >> (6 - bits_log2.min(6));
    let block = read(image, low(index).wrapping_add((word >> 3) as u32))?;
    let shift = (entry << bits_log2) & 63;
    let mask = u64::MAX >> (64 - (1_u32 << bits_log2.min(5)));
    Ok((block[(word & 7) as usize] >> shift & mask) as u32)
}
