//! IPv6: single addresses in a table of keyed hashes, prefixes by binary search.

use crate::image::layout::{IPV6_RUNS, IPV6_STARTS, SPACES_HEADER, Space, element, has, high, low};
use crate::image::{Block, Blocks, Damaged, Seed, find_keyed, ipv6_tag, layout, read};

/// Steps that search any number of range starts.
const SEARCH_STEPS: u32 = 32;

/// The entry for an address, dead or alive.
#[inline(always)]
pub(super) fn find<B: Blocks + ?Sized>(
    image: &B,
    header: &Block,
    address_high: u64,
    address_low: u64,
) -> Result<Option<u32>, Damaged> {
    if has(header, Space::Ipv6) {
        let seed = Seed(header[layout::SEED], header[layout::SEED + 1]);
        let found = find_keyed(image, Space::Ipv6, ipv6_tag(seed, address_high, address_low))?;
        if found.is_some() {
            return Ok(found);
        }
    }
    if !has(header, Space::Ipv6Prefix) {
        return Ok(None);
    }
    let spaces = read(image, SPACES_HEADER)?;
    let (starts, runs) = (low(spaces[IPV6_STARTS]), low(spaces[IPV6_RUNS]));
    let count = high(spaces[IPV6_STARTS]);
    // Ends at the first start above the address, from which on all are. Steps are constants and the position never is:
    // verifier: of a range that shrinks with each step it follows every path by itself, more than it ever ends, seen on 6.18.
    let mut above = count;
    for step in 0..SEARCH_STEPS {
        let candidate = above.wrapping_sub(1 << (SEARCH_STEPS - 1 - step));
        if candidate >= count {
            continue;
        }
        let block = read(image, starts.wrapping_add(candidate >> 2))?;
        let word = ((candidate & 3) << 1) as usize;
        let (start_high, start_low) = (block[word], block[word | 1]);
        if start_high > address_high || (start_high == address_high && start_low > address_low) {
            above = candidate;
        }
    }
    let Some(run) = above.checked_sub(1) else { return Ok(None) };
    Ok(element(read(image, runs.wrapping_add(run >> 4))?, run).checked_sub(1))
}
