//! The blocks of an image.

use agent_common::image::layout::{
    CLASS_INDEX, CLASSES, DIGEST_KINDS, DIRECT, DIRECTORY, DOMAIN_LABELS, EXACT, GENERATION, HEADER, IDENTITY,
    IPV6_RUNS, IPV6_STARTS, NO_DIRECTORY, PLAIN, ROOTED, RUNS, SEED, SPACES_HEADER, Space, TOP_FORM, class_word,
    descriptor, hash_bit, identity, pack,
};
use agent_common::image::table::MOVED;
use agent_common::image::{Block, Seed, SipHasher13, ipv4_hash};

use super::link::NONE;
use super::placement::{AddressCells, Cells, TagCells, place, slot};
use super::{Keys, Plan, Tagged};
use crate::intel::packed::Damaged;
use crate::tables::Error;
use crate::tables::key::halves;

/// How many seeds are tried. One fails only when keys crowd by chance, or two keys have one tag.
const ATTEMPTS: u64 = 8;

/// The link behind each entry, or [`NONE`].
pub(in crate::tables) type EntryLinks = Vec<u32>;

impl Plan {
    /// Writes the image and returns the link behind each entry, which is empty for an image of bare addresses.
    pub(in crate::tables) fn write(&mut self, image: &mut [Block], keys: Keys<'_>) -> Result<EntryLinks, Error> {
        let needed = self.segments.blocks as usize;
        let given = image.len();
        let Some(image) = image.get_mut(..needed) else { return Err(Error::TooSmall { needed, given }) };
        let (addresses, links) = (&self.ipv4.exact, self.ipv4.exact_links.iter().copied());
        let singles = addresses.iter().copied().zip(links.chain(std::iter::repeat(NONE)));
        let mut placed = self.by_block(singles, self.seed);
        // From here on they are in what is placed, which a large set has no room for twice.
        (self.ipv4.exact, self.ipv4.exact_links) = (Vec::new(), Vec::new());
        for attempt in 0..ATTEMPTS {
            let seed = derived(self.seed, attempt);
            if attempt > 0 {
                placed = self.by_block(placed.iter().copied(), seed);
                self.tag_again(seed, keys)?;
            }
            image.fill([0; 8]);
            if let Some(entries) = self.write_keys(image, seed, &placed) {
                self.write_rest(image, seed, &entries, &placed);
                return Ok(entries);
            }
        }
        Err(Error::Unplaceable { attempts: ATTEMPTS })
    }

    /// Places all that has a slot.
    fn write_keys(&mut self, image: &mut [Block], seed: Seed, placed: &[(u32, u32)]) -> Option<EntryLinks> {
        let mut random = seed.1 | 1;
        let exact = segment(image, self.segments.exact, self.segments.exact_blocks)?;
        let cells = AddressCells { seed: seed.0, blocks: self.segments.exact_blocks };
        for (address, _) in placed {
            if !place(&cells, exact, u64::from(*address), &mut random) {
                return None;
            }
        }
        if self.uniform.is_some() {
            return Some(Vec::new());
        }
        let mut entries = vec![NONE; self.segments.entries as usize];
        for (address, link) in placed {
            let (slot, _) = slot(&cells, exact, u64::from(*address))?;
            *entries.get_mut(slot as usize)? = *link;
        }
        for (tagged, table) in self.tagged.iter().zip(self.segments.tables) {
            let blocks = segment(image, table.base, table.blocks)?;
            let entries = entries.get_mut(table.first_entry as usize..)?;
            write_table(tagged, blocks, entries, &mut random)?;
        }
        for (place, link) in entries.iter_mut().skip(self.segments.first_listed as usize).zip(&self.listed) {
            *place = *link;
        }
        self.links.number_successors(&entries);
        Some(entries)
    }

    /// Gives all that is in a table the tag that it has with another seed.
    fn tag_again(&mut self, seed: Seed, keys: Keys<'_>) -> Result<(), Damaged> {
        for claim in self.tagged.iter_mut().flatten() {
            claim.tag = keys.key(self.links.position(claim.link))?.tag(seed);
        }
        Ok(())
    }

    /// The single addresses with their links, ordered by where they are looked for first, in steps of a cache's worth of
    /// blocks: placing them touches memory that is at hand, where the order of addresses would touch all of it.
    fn by_block(&self, singles: impl Iterator<Item = (u32, u32)> + Clone, seed: Seed) -> Vec<(u32, u32)> {
        const STEP: u32 = 512;
        let cells = AddressCells { seed: seed.0, blocks: self.segments.exact_blocks };
        let step = |address: u32| (cells.choices(u64::from(address)).0 / STEP) as usize;
        let mut starts = vec![0_usize; (cells.blocks / STEP) as usize + 2];
        for (address, _) in singles.clone() {
            if let Some(after) = starts.get_mut(step(address) + 1) {
                *after += 1;
            }
        }
        let mut before = 0;
        for start in &mut starts {
            before += *start;
            *start = before;
        }
        let mut ordered = vec![(0, NONE); before];
        for (address, link) in singles {
            if let Some(next) = starts.get_mut(step(address)) {
                if let Some(place) = ordered.get_mut(*next) {
                    *place = (address, link);
                }
                *next += 1;
            }
        }
        ordered
    }

    /// Completes the tops in plain form.
    fn write_hash_bits(&self, image: &mut [Block], seed: Seed, placed: &[(u32, u32)]) {
        for (address, _) in placed {
            let top = self.ipv4.top_of(*address).and_then(|top| image.get_mut((self.segments.tops + top) as usize));
            if let Some(top) = top
                && top.get(TOP_FORM).is_some_and(|form| form & PLAIN != 0)
            {
                let bit = hash_bit(ipv4_hash(*address, seed.0));
                if let Some(word) = top.get_mut(bit as usize / 64) {
                    *word |= 1 << (bit % 64);
                }
            }
        }
    }

    fn write_rest(&self, image: &mut [Block], seed: Seed, entries: &[u32], placed: &[(u32, u32)]) {
        self.write_header(image, seed);
        let segments = &self.segments;
        let entry = |link: u32| self.links.entry(link);
        let classes = self.links.classes().iter();
        let classes = classes.map(|(expires, actions, next)| class_word(*expires, *actions, entry(*next)));
        put_words(image, CLASSES, classes);
        let root = self.ipv4.root.iter();
        put_numbers(image, segments.directory, root.map(|top| if *top == 0 { 0 } else { segments.tops + top - 1 }));
        put_blocks(image, segments.tops, &self.ipv4.tops);
        self.write_hash_bits(image, seed, placed);
        put_blocks(image, segments.leaves, &self.ipv4.leaves);
        let run = |link: Option<u32>| link.and_then(entry).map_or(0, |entry| entry + 1);
        put_numbers(image, segments.runs, self.ipv4.runs.iter().map(|link| run(*link)));
        let starts = self.ipv6.iter().flat_map(|range| <[u64; 2]>::from(halves(range.start)));
        put_words(image, segments.ipv6_starts, starts);
        put_numbers(image, segments.ipv6_runs, self.ipv6.iter().map(|range| run(range.link)));
        if segments.class_bits > 0 {
            let classes = entries.iter().map(|link| if *link == NONE { 0 } else { self.links.class(*link) });
            for (entry, class) in (0_u64..).zip(classes) {
                let bit = entry << segments.class_bits;
                let block = image.get_mut(segments.class_index as usize + (bit >> 9) as usize);
                if let Some(word) = block.and_then(|block| block.get_mut((bit >> 6) as usize & 7)) {
                    *word |= u64::from(class) << (bit & 63);
                }
            }
        }
    }

    fn write_header(&self, image: &mut [Block], seed: Seed) {
        let segments = &self.segments;
        let mut spaces = 0_u64;
        let mut add = |space: Space, held: bool| spaces |= u64::from(held) << (space as u8);
        add(Space::Ipv4, self.ipv4.form != NO_DIRECTORY);
        add(Space::Ipv6Prefix, !self.ipv6.is_empty());
        let mut headers: [Block; 3] = Default::default();
        for (space, table) in Space::KEYED.into_iter().zip(segments.tables) {
            add(space, table.used > 0);
            let (block, word) = descriptor(space);
            for (offset, value) in table.pack().into_iter().enumerate() {
                set(&mut headers, block, word + offset, value);
            }
        }
        let directory = match self.ipv4.form {
            ROOTED => segments.directory,
            DIRECT => segments.tops,
            _ => 0,
        };
        set(&mut headers, HEADER, IDENTITY, identity());
        set(&mut headers, HEADER, GENERATION, pack(self.generation, segments.blocks as u32));
        set(&mut headers, HEADER, SEED, seed.0);
        set(&mut headers, HEADER, SEED + 1, seed.1);
        set(&mut headers, HEADER, DIRECTORY, pack(directory, self.ipv4.form));
        set(&mut headers, HEADER, EXACT, pack(segments.exact, segments.exact_blocks));
        set(&mut headers, HEADER, RUNS, pack(segments.runs, segments.leaves));
        set(&mut headers, HEADER, CLASS_INDEX, pack(segments.class_index, segments.class_bits) | spaces << 40);
        set(&mut headers, SPACES_HEADER, IPV6_STARTS, pack(segments.ipv6_starts, self.ipv6.len() as u32));
        set(&mut headers, SPACES_HEADER, IPV6_RUNS, u64::from(segments.ipv6_runs));
        set(&mut headers, SPACES_HEADER + 1, DOMAIN_LABELS, u64::from(self.labels));
        set(&mut headers, SPACES_HEADER + 1, DIGEST_KINDS, self.digest_kinds);
        put_blocks(image, HEADER, &headers);
    }
}

/// Fills a table, and says which link is behind each of its entries; `None` if that takes another seed.
fn write_table(tagged: &[Tagged], blocks: &mut [Block], entries: &mut [u32], random: &mut u64) -> Option<()> {
    let cells = TagCells { blocks: blocks.len() as u32 };
    for claim in tagged {
        if !place(&cells, blocks, claim.tag, random) {
            return None;
        }
    }
    for Tagged { tag, link, .. } in tagged {
        let (slot, first_choice) = slot(&cells, blocks, *tag)?;
        if !first_choice {
            let (first, _) = cells.choices(*tag);
            *blocks.get_mut(first as usize)?.get_mut(*tag as usize & 7)? |= MOVED;
        }
        // Two keys with one tag.
        if std::mem::replace(entries.get_mut(slot as usize)?, *link) != NONE {
            return None;
        }
    }
    Some(())
}

/// The seed itself, and then others that only its holder can know.
fn derived(seed: Seed, attempt: u64) -> Seed {
    if attempt == 0 {
        return seed;
    }
    let half = |which: u64| {
        let mut hasher = SipHasher13::new(seed.0, seed.1);
        hasher.write(attempt << 1 | which);
        hasher.finish()
    };
    Seed(half(0), half(1))
}

fn segment(image: &mut [Block], base: u32, blocks: u32) -> Option<&mut [Block]> {
    image.get_mut(base as usize..)?.get_mut(..blocks as usize)
}

fn set(blocks: &mut [Block], block: u32, word: usize, value: u64) {
    if let Some(place) = blocks.get_mut(block as usize).and_then(|block| block.get_mut(word)) {
        *place = value;
    }
}

fn put_blocks(image: &mut [Block], base: u32, blocks: &[Block]) {
    if let Some(segment) = segment(image, base, blocks.len() as u32) {
        segment.copy_from_slice(blocks);
    }
}

fn put_words(image: &mut [Block], base: u32, words: impl Iterator<Item = u64>) {
    let places = image.iter_mut().skip(base as usize).flatten();
    for (place, word) in places.zip(words) {
        *place = word;
    }
}

fn put_numbers(image: &mut [Block], base: u32, numbers: impl Iterator<Item = u32>) {
    let mut places = image.iter_mut().skip(base as usize).flatten();
    let mut numbers = numbers.fuse();
    while let Some(low) = numbers.next() {
        let Some(place) = places.next() else { return };
        *place = pack(low, numbers.next().unwrap_or_default());
    }
}
