//! Keys with links → an image, in two steps: how large it is, then its blocks, wherever they are to be.

pub(super) mod ipv4;
pub(super) mod link;
mod placement;
pub(super) mod range;
mod segments;
mod write;

use std::collections::HashMap;

use agent_common::image::layout::ENTRIES_MAX;
use agent_common::image::{Action, Actions, Seed, Space};

use self::ipv4::Ipv4;
use self::link::{Cover, Links, NONE};
use self::range::{Node, Range, covering, flatten};
use self::segments::Segments;
use super::Error;
use super::key::Key;

/// A key with the first of its links.
#[derive(Clone, Debug)]
pub(super) struct Keyed {
    pub key: Key,
    pub link: u32,
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
    pub keyed: [Vec<Keyed>; 5],
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
    /// `keys` and `singles`, which are IPv4 addresses with their links, are sorted, each once.
    pub(super) fn new(
        singles: Vec<(u32, u32)>,
        keys: Vec<Keyed>,
        links: Links,
        generation: u32,
        seed: Seed,
    ) -> Result<Self, Error> {
        let mut plan = Self::empty(links, generation, seed);
        plan.addresses(singles, &keys);
        plan.tables(keys);
        plan.finish()
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
            keyed: Default::default(),
            uniform: None,
            listed: Vec::new(),
            labels: 0,
            digest_kinds: 0,
            segments: Segments::default(),
            excepted: Vec::new(),
            out_of_reach: Vec::new(),
        }
    }

    fn addresses(&mut self, singles: Vec<(u32, u32)>, keys: &[Keyed]) {
        let ipv4: Vec<Node<u32>> = keys
            .iter()
            .filter_map(|keyed| match keyed.key {
                Key::Ipv4(first, length) => {
                    let rest = u32::MAX.checked_shr(length.into()).unwrap_or(0);
                    Some(Node { first, last: first | rest, link: keyed.link })
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
        let ipv6: Vec<Node<u128>> = keys
            .iter()
            .filter_map(|keyed| match keyed.key {
                Key::Ipv6(first, length) if length < 128 => {
                    Some(Node { first, last: first | u128::MAX >> length, link: keyed.link })
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

    /// Keyed spaces, in the order in which one covers another: addresses before endpoints, domains before their children.
    fn tables(&mut self, keys: Vec<Keyed>) {
        let mut ipv6 = HashMap::new();
        let mut domains = HashMap::new();
        for keyed in keys {
            let space = keyed.key.space();
            let covering = match &keyed.key {
                Key::Ipv6(address, 128) => {
                    ipv6.insert(*address, keyed.link);
                    covering(&self.ipv6, *address)
                }
                Key::Endpoint(address, _) => self.address_link(*address, &ipv6),
                Key::Domain(labels, name) => {
                    let parents = name.match_indices('.').filter_map(|(dot, _)| name.get(dot + 1..));
                    let parent = parents.into_iter().find_map(|parent| domains.get(parent).copied());
                    let excepted = parent
                        .and_then(|parent| self.links.get(parent))
                        .is_some_and(|link| link.actions.outbound == Action::Allow);
                    if !excepted {
                        domains.insert(name.clone(), keyed.link);
                        self.labels = self.labels.max(*labels);
                    }
                    parent
                }
                Key::Digest(kind, _) => {
                    self.digest_kinds |= 1 << *kind as u8;
                    None
                }
                _ => None,
            };
            let Some(table) = Space::KEYED.iter().position(|keyed| *keyed == space) else { continue };
            let cover = self.links.cover(keyed.link, covering);
            match cover {
                Cover::Excepted => self.excepted.push(keyed.link),
                Cover::OutOfReach => self.out_of_reach.push(keyed.link),
                Cover::Kept => {}
            }
            if let (true, Some(table)) = (cover != Cover::Excepted, self.keyed.get_mut(table)) {
                table.push(keyed);
            }
        }
    }

    /// What an endpoint's address comes to without its port.
    fn address_link(&self, address: u128, ipv6: &HashMap<u128, u32>) -> Option<u32> {
        let (high, low) = super::key::halves(address);
        match agent_common::canon::embedded_ipv4(high, low) {
            Some(ipv4) => match self.ipv4.exact.binary_search(&ipv4) {
                Ok(at) => self.ipv4.exact_links.get(at).copied(),
                Err(_) => covering(&self.ipv4.ranges, ipv4),
            },
            None => {
                let within = covering(&self.ipv6, address);
                let excepted = within
                    .and_then(|link| self.links.get(link))
                    .is_some_and(|link| link.actions.outbound == Action::Allow);
                if excepted { within } else { ipv6.get(&address).copied().or(within) }
            }
        }
    }

    /// Numbers what has no slot, and sizes everything.
    fn finish(mut self) -> Result<Self, Error> {
        let mut has_slot = Bits::new(self.links.len());
        let mut used = Bits::new(self.links.len());
        let slotted = self.ipv4.exact_links.iter().copied();
        let slotted = slotted.chain(self.keyed.iter().flatten().map(|keyed| keyed.link));
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
