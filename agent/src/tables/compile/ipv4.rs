//! The IPv4 segments before entries have numbers: tops, leaves, runs and the addresses of the exact segment.

use std::cmp::Reverse;

use agent_common::image::Block;
use agent_common::image::layout::{
    DIRECT, LEAF_BASE, NO_DIRECTORY, PLAIN, ROOTED, TOP_BASES, TOP_FORM, TOP_HIGH, TOP_LOW, TOP_STARTS, TOPS, pack,
    place_bit,
};

use super::link::Links;
use super::range::{Flattened, Node, Range, flatten};

/// Blocks of a directory in [`ROOTED`] form.
const ROOT_BLOCKS: u32 = TOPS / 16;

/// The IPv4 part of an image to be. Numbers in it count from the start of their segment.
#[derive(Debug, Default)]
pub(in crate::tables) struct Ipv4 {
    /// Sorted by address; these have a slot.
    pub exact: Vec<u32>,
    /// Their links; empty where all are of class 0 and without provenance.
    pub exact_links: Vec<u32>,
    /// What applies where, single addresses that cannot have a slot included.
    pub ranges: Vec<Range<u32>>,
    /// One per /17 in use.
    pub tops: Vec<Block>,
    pub leaves: Vec<Block>,
    pub runs: Vec<Option<u32>>,
    /// 1 + top of each /17, 0 for none; empty unless in [`ROOTED`] form.
    pub root: Vec<u32>,
    /// How a /17 finds its top.
    pub form: u32,
}

/// What was left out, by link.
#[derive(Debug, Default)]
pub(in crate::tables) struct Left {
    pub excepted: Vec<u32>,
    pub out_of_reach: Vec<u32>,
}

impl Ipv4 {
    /// `prefixes` are sorted by first address, the larger first, each once; so are `singles`, with their links.
    pub(in crate::tables) fn new(
        prefixes: &[Node<u32>],
        mut singles: Vec<(u32, u32)>,
        links: &mut Links,
    ) -> (Self, Left) {
        let mut others = Vec::new();
        let mut ahead = prefixes.iter().peekable();
        // The last /24 that any range so far touches. 0.0.0.0 marks a free slot, so it is a range, and none of the other
        // addresses of its /24 can then have a slot.
        let mut reach = singles.first().filter(|(address, _)| *address == 0).map(|_| 0);
        singles.retain(|(address, link)| {
            while let Some(prefix) = ahead.next_if(|prefix| prefix.first >> 8 <= address >> 8) {
                reach = reach.max(Some(prefix.last >> 8));
                others.push(*prefix);
            }
            let has_slot = reach < Some(address >> 8);
            if !has_slot {
                others.push(Node { first: *address, last: *address, link: *link });
            }
            has_slot
        });
        let exact = singles.iter().map(|(address, _)| *address).collect();
        // In the memory of the pairs, half of which then goes back.
        let mut exact_links: Vec<u32> = singles.into_iter().map(|(_, link)| link).collect();
        exact_links.shrink_to_fit();
        others.extend(ahead);
        // A prefix comes in with the first address of its /24, which may lie before it.
        others.sort_by_key(|node| (node.first, Reverse(node.last)));
        let Flattened { ranges, excepted, out_of_reach } = flatten(&others, links);
        let mut ipv4 = Self { exact, exact_links, ranges, ..Self::default() };
        ipv4.lay_out();
        (ipv4, Left { excepted, out_of_reach })
    }

    /// Single addresses that all have a slot, sorted, each once; the /24 that a range is in has none of them.
    pub(in crate::tables) fn of_addresses(exact: Vec<u32>, ranges: Vec<Range<u32>>) -> Self {
        let mut ipv4 = Self { exact, ranges, ..Self::default() };
        ipv4.lay_out();
        ipv4
    }

    /// Which of [`Ipv4::tops`] the /17 of an address has.
    pub(in crate::tables) fn top_of(&self, address: u32) -> Option<u32> {
        let seventeen = address >> 15;
        if self.form == ROOTED { self.root.get(seventeen as usize)?.checked_sub(1) } else { Some(seventeen) }
    }

    pub(in crate::tables) fn directory_blocks(&self) -> u32 {
        if self.form == ROOTED { ROOT_BLOCKS } else { 0 }
    }

    fn lay_out(&mut self) {
        if self.exact.is_empty() && self.ranges.is_empty() {
            self.form = NO_DIRECTORY;
            return;
        }
        let mut root = vec![0_u32; TOPS as usize];
        let mut source = Source { exact: &self.exact, ranges: &self.ranges, current: None };
        let mut segments = Segments { tops: &mut self.tops, leaves: &mut self.leaves, runs: &mut self.runs };
        let mut shared: Option<(u32, u32)> = None;
        for (seventeen, slot) in (0_u32..).zip(root.iter_mut()) {
            let first = seventeen << 15;
            *slot = match source.uniform(first, first | 0x7fff) {
                Some(None) if source.exact_through(first | 0x7fff).is_empty() => 0,
                Some(Some(link)) if shared.is_some_and(|(of, _)| of == link) => {
                    shared.map(|(_, top)| top).unwrap_or_default()
                }
                Some(None) => segments.plain_top(&mut source, first),
                uniform => {
                    let top = segments.top(&mut source, first);
                    if let Some(Some(link)) = uniform {
                        shared = Some((link, top));
                    }
                    top
                }
            };
        }
        // With nearly all /17s in use the directory would cost more than it saves.
        if segments.tops.len() as u32 + ROOT_BLOCKS >= TOPS {
            let spread = root.iter().map(|top| {
                top.checked_sub(1).and_then(|top| segments.tops.get(top as usize)).copied().unwrap_or_default()
            });
            self.tops = spread.collect();
            self.form = DIRECT;
        } else {
            self.root = root;
            self.form = ROOTED;
        }
    }
}

/// What is still to be laid out, in address order.
struct Source<'a> {
    exact: &'a [u32],
    ranges: &'a [Range<u32>],
    current: Option<u32>,
}

impl<'a> Source<'a> {
    /// What applies to all of `first..=last`, if one thing does.
    fn uniform(&mut self, first: u32, last: u32) -> Option<Option<u32>> {
        while let Some((range, rest)) = self.ranges.split_first()
            && range.start <= first
        {
            self.current = range.link;
            self.ranges = rest;
        }
        match self.ranges.first() {
            Some(next) if next.start <= last => None,
            _ => Some(self.current),
        }
    }

    /// Single addresses up to `last`.
    fn exact_through(&self, last: u32) -> &'a [u32] {
        let end = self.exact.iter().take_while(|address| **address <= last).count();
        self.exact.get(..end).unwrap_or_default()
    }

    fn take_exact_through(&mut self, last: u32) -> &'a [u32] {
        let taken = self.exact_through(last);
        self.exact = self.exact.get(taken.len()..).unwrap_or_default();
        taken
    }
}

struct Segments<'a> {
    tops: &'a mut Vec<Block>,
    leaves: &'a mut Vec<Block>,
    runs: &'a mut Vec<Option<u32>>,
}

impl Segments<'_> {
    /// Lays out the /17 that starts at `seventeen` and that no range touches, but for what depends on the seed; returns 1 +
    /// its top.
    fn plain_top(&mut self, source: &mut Source<'_>, seventeen: u32) -> u32 {
        let mut top: Block = [0; 8];
        set(&mut top, TOP_FORM, PLAIN);
        for address in source.take_exact_through(seventeen | 0x7fff) {
            let bit = place_bit(*address);
            set(&mut top, bit as usize / 64, 1 << (bit % 64));
        }
        self.tops.push(top);
        self.tops.len() as u32
    }

    /// The same of one that ranges touch.
    fn top(&mut self, source: &mut Source<'_>, seventeen: u32) -> u32 {
        let mut top: Block = [0; 8];
        let first_leaf = self.leaves.len() as u32;
        let mut runs: Vec<Option<u32>> = Vec::new();
        for index in 0..128 {
            let (half, bit) = (index as usize / 64, 1_u64 << (index % 64));
            let first = seventeen | index << 8;
            match source.uniform(first, first | 0xff) {
                Some(None) => {}
                Some(covered) => {
                    set(&mut top, TOP_LOW + half, bit);
                    set(&mut top, TOP_HIGH + half, bit);
                    if runs.last() != Some(&covered) {
                        set(&mut top, TOP_STARTS + half, bit);
                        runs.push(covered);
                    }
                }
                None => {
                    set(&mut top, TOP_HIGH + half, bit);
                    let leaf = self.leaf(source, first);
                    self.leaves.push(leaf);
                }
            }
        }
        for address in source.take_exact_through(seventeen | 0x7fff) {
            let index = address >> 8 & 127;
            set(&mut top, TOP_LOW + index as usize / 64, 1 << (index % 64));
        }
        if let Some(bases) = top.get_mut(TOP_BASES) {
            *bases = pack(self.runs.len() as u32, first_leaf);
        }
        self.runs.extend(runs);
        self.tops.push(top);
        self.tops.len() as u32
    }

    fn leaf(&mut self, source: &mut Source<'_>, first: u32) -> Block {
        let mut leaf: Block = [0; 8];
        if let Some(base) = leaf.get_mut(LEAF_BASE) {
            *base = self.runs.len() as u64;
        }
        set(&mut leaf, 0, 1);
        self.runs.push(source.current);
        while let Some((range, rest)) = source.ranges.split_first()
            && range.start <= first | 0xff
        {
            set(&mut leaf, (range.start >> 6 & 3) as usize, 1 << (range.start & 63));
            self.runs.push(range.link);
            source.current = range.link;
            source.ranges = rest;
        }
        leaf
    }
}

fn set(block: &mut Block, word: usize, bit: u64) {
    if let Some(word) = block.get_mut(word) {
        *word |= bit;
    }
}
