//! Which block of the image starts what.

use agent_common::image::layout::{CLASSES, Space};
use agent_common::image::table::Table;

use super::Plan;
use super::placement::blocks_for;
use crate::tables::key::table_of;

/// Addresses in a block of the exact segment.
const ADDRESSES: usize = 16;
/// Tags in a block of a table.
const TAGS: usize = 8;

/// The first block of each segment, and what is needed besides.
#[derive(Clone, Debug, Default)]
pub(in crate::tables) struct Segments {
    pub directory: u32,
    pub tops: u32,
    pub leaves: u32,
    pub runs: u32,
    pub exact: u32,
    pub exact_blocks: u32,
    /// One for each of [`Space::KEYED`].
    pub tables: [Table; 5],
    pub ipv6_starts: u32,
    pub ipv6_runs: u32,
    pub class_index: u32,
    /// Base-2 logarithm of the bits per class in the index; 0 for none.
    pub class_bits: u32,
    /// Entry of the first link without a slot.
    pub first_listed: u32,
    pub entries: u64,
    /// Of the whole image. More than [`u32::MAX`] cannot be addressed.
    pub blocks: u64,
}

impl Segments {
    pub(super) fn new(plan: &Plan) -> Self {
        let mut segments = Self::default();
        let mut next = u64::from(CLASSES);
        // More blocks than a u32 counts come with more entries than an image can have, which is refused.
        let mut take = |blocks: usize| {
            let base = next;
            next += blocks as u64;
            base as u32
        };
        take(plan.links.classes().len().max(1).div_ceil(8));
        segments.directory = take(plan.ipv4.directory_blocks() as usize);
        segments.tops = take(plan.ipv4.tops.len());
        segments.leaves = take(plan.ipv4.leaves.len());
        segments.runs = take(plan.ipv4.runs.len().div_ceil(16));
        let exact_blocks = blocks_for(plan.ipv4.exact.len(), ADDRESSES);
        segments.exact = take(exact_blocks);
        segments.exact_blocks = exact_blocks as u32;
        let mut entries = (exact_blocks * ADDRESSES) as u64;
        for (table, keys) in segments.tables.iter_mut().zip(&plan.tagged) {
            let blocks = blocks_for(keys.len(), TAGS);
            let base = take(blocks);
            *table = Table { base, blocks: blocks as u32, first_entry: entries as u32, used: keys.len() as u32 };
            entries += (blocks * TAGS) as u64;
        }
        segments.ipv6_starts = take(plan.ipv6.len().div_ceil(4));
        segments.ipv6_runs = take(plan.ipv6.len().div_ceil(16));
        segments.first_listed = entries as u32;
        segments.entries = entries + plan.listed.len() as u64;
        segments.class_bits = match plan.links.classes().len() {
            0 | 1 => 0,
            2..=0x100 => 3,
            0x101..=0x1_0000 => 4,
            _ => 5,
        };
        segments.class_index = take(segments.index_blocks() as usize);
        segments.blocks = next;
        segments
    }

    /// Blocks of the class index.
    pub(in crate::tables) const fn index_blocks(&self) -> u64 {
        if self.class_bits == 0 { 0 } else { (self.entries << self.class_bits).div_ceil(512) }
    }

    pub(in crate::tables) fn table(&self, space: Space) -> Option<&Table> {
        table_of(space).and_then(|table| self.tables.get(table))
    }
}
