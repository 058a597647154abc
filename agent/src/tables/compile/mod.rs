//! Keys with links → an image, in two steps: how large it is, then its blocks, wherever they are to be.

pub(super) mod ipv4;
pub(super) mod link;
mod placement;
pub(super) mod range;
mod segments;
mod write;

use agent_common::image::layout::ENTRIES_MAX;
use agent_common::image::{Action, Actions, Seed, Space, ipv6_tag};

use self::ipv4::Ipv4;
use self::link::{Cover, Links, NONE};
use self::range::{Node, Range, covering, flatten};
use self::segments::Segments;
use super::Error;
use super::claims::{Claimants, Grouped, is_exception};
use super::key::{Key, halves, parents, table_of};
use super::provenance::Provenance;
use crate::intel::packed::Damaged;

/// A prefix with the first of its links.
#[derive(Clone, Debug)]
pub(super) struct Prefix {
    pub key: Key,
    pub link: u32,
}

/// What a table is to hold: the tag of a key with the first of its links.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tagged {
    pub tag: u64,
    pub link: u32,
    rank: u8,
    /// The one before it is another key with the same tag, which takes another seed.
    pub is_twin: bool,
    is_excepted: bool,
}

impl Tagged {
    pub(super) fn new(key: &Key, seed: Seed, link: u32) -> Self {
        Self { tag: key.tag(seed), link, rank: key.rank(), is_twin: false, is_excepted: false }
    }

    /// Where it stands in its table: after all that may cover it.
    pub(super) const fn order(&self) -> (u8, u64) {
        (self.rank, self.tag)
    }
}

/// An image to be: everything is decided but what depends on the seed.
#[derive(Debug)]
pub(super) struct Plan {
    pub generation: u32,
    pub seed: Seed,
    pub links: Links,
    pub ipv4: Ipv4,
    /// Ranges of IPv6 prefixes.
    pub ipv6: Vec<Range<u128>>,
    /// How many IPv4 prefixes and single addresses without a slot there are.
    pub ipv4_prefixes: u64,
    pub ipv6_prefixes: u64,
    /// One for each of [`Space::KEYED`], in that order.
    pub tagged: [Vec<Tagged>; 5],
    /// The link that stands for all addresses that have a slot and no link of their own.
    pub uniform: Option<u32>,
    /// Links without a slot, in the order of their entries.
    pub listed: Vec<u32>,
    pub labels: u32,
    /// A bit for each kind of digest.
    pub digest_kinds: u64,
    pub segments: Segments,
    /// Links of keys inside exceptions.
    pub excepted: Vec<u32>,
    /// Links whose chain has an end out of reach.
    pub out_of_reach: Vec<u32>,
}

/// Makes keys again from where the provenance of a link is.
#[derive(Clone, Copy)]
pub(super) struct Keys<'a> {
    pub claimants: Claimants<'a>,
    /// See [`Provenance`].
    pub members: &'a [u32],
}

impl Keys<'_> {
    fn key(&self, position: u32) -> Result<Key, Damaged> {
        if is_exception(position) {
            return self.claimants.key(position);
        }
        let member = *self.members.get(position as usize).ok_or(Damaged)?;
        self.claimants.key(Provenance::index(member))
    }
}

/// A bit for each link.
struct Bits(Vec<u64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self(vec![0; count.div_ceil(64)])
    }

    fn get(&self, index: u32) -> bool {
        self.0.get(index as usize / 64).is_some_and(|word| word >> (index % 64) & 1 != 0)
    }

    /// Sets a bit; whether it was not set.
    fn set(&mut self, index: u32) -> bool {
        let Some(word) = self.0.get_mut(index as usize / 64) else { return false };
        let bit = 1 << (index % 64);
        let was_set = *word & bit != 0;
        *word |= bit;
        !was_set
    }
}

impl Plan {
    /// Takes what is grouped but its members.
    pub(super) fn new(
        grouped: Grouped,
        claimants: Claimants<'_>,
        generation: u32,
        seed: Seed,
    ) -> Result<(Self, Vec<u32>), Error> {
        let Grouped { singles, prefixes, tagged, links, members, .. } = grouped;
        let mut plan = Self::empty(links, generation, seed);
        plan.addresses(singles, &prefixes);
        plan.tables(tagged, Keys { claimants, members: &members })?;
        Ok((plan.finish()?, members))
    }

    /// IPv4 addresses only, all with the same action and without expiry or provenance.
    pub(super) fn of_addresses(
        mut addresses: Vec<u32>,
        action: Action,
        generation: u32,
        seed: Seed,
    ) -> Result<Self, Error> {
        if !addresses.is_sorted() {
            addresses.sort_unstable();
        }
        addresses.dedup();
        let mut links = Links::default();
        let link = links.add(None, 0, Actions::both(action), NONE);
        let mut ipv4_prefixes = 0;
        let ipv4 = if addresses.first() == Some(&0) {
            // 0.0.0.0 cannot have a slot, and neither can then the rest of its /24.
            let rest = addresses.split_off(addresses.partition_point(|address| *address < 256));
            let node = |address: &u32| Node {
                first: *address,
                last: *address,
                link: links.add(None, 0, Actions::both(action), NONE),
            };
            let nodes: Vec<_> = addresses.iter().map(node).collect();
            ipv4_prefixes = nodes.len() as u64;
            Ipv4::of_addresses(rest, flatten(&nodes, &mut links).ranges)
        } else {
            Ipv4::of_addresses(addresses, Vec::new())
        };
        Self { ipv4, ipv4_prefixes, uniform: Some(link), ..Self::empty(links, generation, seed) }.finish()
    }

    fn empty(links: Links, generation: u32, seed: Seed) -> Self {
        Self {
            generation,
            seed,
            links,
            ipv4: Ipv4::default(),
            ipv6: Vec::new(),
            ipv4_prefixes: 0,
            ipv6_prefixes: 0,
            tagged: Default::default(),
            uniform: None,
            listed: Vec::new(),
            labels: 0,
            digest_kinds: 0,
            segments: Segments::default(),
            excepted: Vec::new(),
            out_of_reach: Vec::new(),
        }
    }

    /// All are sorted, each once.
    fn addresses(&mut self, singles: Vec<(u32, u32)>, prefixes: &[Prefix]) {
        let ipv4: Vec<Node<u32>> = prefixes
            .iter()
            .filter_map(|prefix| match prefix.key {
                Key::Ipv4(first, length) => {
                    let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                    Some(Node { first, last: first | rest, link: prefix.link })
                }
                _ => None,
            })
            .collect();
        let nodes = ipv4.len() + singles.len();
        let (ipv4, left) = Ipv4::new(&ipv4, singles, &mut self.links);
        self.ipv4_prefixes = (nodes - ipv4.exact.len() - left.excepted.len()) as u64;
        self.ipv4 = ipv4;
        self.excepted.extend(left.excepted);
        self.out_of_reach.extend(left.out_of_reach);
        let ipv6: Vec<Node<u128>> = prefixes
            .iter()
            .filter_map(|prefix| match prefix.key {
                Key::Ipv6(first, length) => {
                    let rest = u128::MAX.checked_shr(length.into()).unwrap_or(0);
                    Some(Node { first, last: first | rest, link: prefix.link })
                }
                _ => None,
            })
            .collect();
        let flattened = flatten(&ipv6, &mut self.links);
        self.ipv6_prefixes = (ipv6.len() - flattened.excepted.len()) as u64;
        self.ipv6 = flattened.ranges;
        self.excepted.extend(flattened.excepted);
        self.out_of_reach.extend(flattened.out_of_reach);
    }

    /// Tables in the order in which one covers another: addresses before endpoints, domains before their children.
    fn tables(&mut self, tagged: [Vec<Tagged>; 5], keys: Keys<'_>) -> Result<(), Damaged> {
        for ((space, mut table), done) in Space::KEYED.into_iter().zip(tagged).zip(0..) {
            for at in 0..table.len() {
                let Some((claim, before)) = table.get_mut(..=at).and_then(<[_]>::split_last_mut) else { break };
                let covering = self.covering(space, claim, before, keys)?;
                match self.links.cover(claim.link, covering) {
                    Cover::Excepted => {
                        claim.is_excepted = true;
                        self.excepted.push(claim.link);
                        continue;
                    }
                    Cover::OutOfReach => self.out_of_reach.push(claim.link),
                    Cover::Kept => {}
                }
                match space {
                    Space::Digest => self.digest_kinds |= 1 << claim.rank,
                    Space::Domain => self.labels = self.labels.max(claim.rank.into()),
                    _ => {}
                }
            }
            table.retain(|claim| !claim.is_excepted);
            if let Some(place) = self.tagged.get_mut(done) {
                *place = table;
            }
        }
        Ok(())
    }

    /// The link of what a key lies in, of which only that may be in the same table which comes `before`.
    fn covering(
        &self,
        space: Space,
        claim: &Tagged,
        before: &[Tagged],
        keys: Keys<'_>,
    ) -> Result<Option<u32>, Damaged> {
        let key = || keys.key(self.links.position(claim.link));
        Ok(match space {
            Space::Ipv6 if !self.ipv6.is_empty() => match key()? {
                Key::Ipv6(address, _) => covering(&self.ipv6, address),
                _ => None,
            },
            Space::Endpoint => match key()? {
                Key::Endpoint(address, _) => self.address_link(address),
                _ => None,
            },
            Space::Domain if before.first().is_some_and(|first| first.rank < claim.rank) => match key()? {
                Key::Domain(_, name) => {
                    let mut parents = parents(self.seed, &name).into_iter().rev();
                    parents.find_map(|order| find(before, order)).map(|parent| parent.link)
                }
                _ => None,
            },
            _ => None,
        })
    }

    /// What an endpoint's address comes to without its port.
    fn address_link(&self, address: u128) -> Option<u32> {
        let (high, low) = halves(address);
        if let Some(ipv4) = agent_common::canon::embedded_ipv4(high, low) {
            return match self.ipv4.exact.binary_search(&ipv4) {
                Ok(at) => self.ipv4.exact_links.get(at).copied(),
                Err(_) => covering(&self.ipv4.ranges, ipv4),
            };
        }
        let table = table_of(Space::Ipv6).and_then(|table| self.tagged.get(table))?;
        let exact = find(table, (0, ipv6_tag(self.seed, high, low)));
        exact.map(|exact| exact.link).or_else(|| covering(&self.ipv6, address))
    }

    /// Numbers what has no slot, and sizes everything.
    fn finish(mut self) -> Result<Self, Error> {
        let mut has_slot = Bits::new(self.links.len());
        let mut used = Bits::new(self.links.len());
        let slotted = self.ipv4.exact_links.iter().copied();
        let slotted = slotted.chain(self.tagged.iter().flatten().map(|claim| claim.link));
        let prefixes = self.ipv4.ranges.iter().filter_map(|range| range.link);
        let prefixes = prefixes.chain(self.ipv6.iter().filter_map(|range| range.link));
        let heads = slotted.map(|link| (link, true)).chain(prefixes.map(|link| (link, false)));
        for (head, slot) in heads.chain(self.uniform.map(|link| (link, true))) {
            if slot {
                has_slot.set(head);
            }
            for (index, _) in self.links.chain(head) {
                if !used.set(index) {
                    break;
                }
            }
        }
        let in_use = (0..self.links.len() as u32).filter(|link| used.get(*link));
        self.links.classify(in_use.clone());
        self.listed = in_use.filter(|link| !has_slot.get(*link)).collect();
        self.segments = Segments::new(&self);
        if self.segments.entries > u64::from(ENTRIES_MAX) {
            return Err(Error::TooManyEntries { entries: self.segments.entries });
        }
        for (entry, link) in (self.segments.first_listed..).zip(&self.listed) {
            self.links.number(*link, entry);
        }
        Ok(self)
    }
}

/// What is in a table and not excepted.
fn find(table: &[Tagged], order: (u8, u64)) -> Option<&Tagged> {
    let at = table.binary_search_by_key(&order, Tagged::order).ok()?;
    table.get(at).filter(|claim| !claim.is_excepted)
}
