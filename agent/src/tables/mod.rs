//! Indicators and policy → tables: the image that the kernel looks things up in, and the provenance that says whose
//! intelligence an entry is (pure).
//!
//! # What wins
//! - An exception wins over everything that is the same or lies inside it: an address inside an excepted prefix, an endpoint
//!   of an excepted address, a domain below an excepted one. Such values are left out of the image and counted. Inside
//!   something broader an exception is an entry of its own that lets pass.
//! - Otherwise the most specific value that has not expired decides: an endpoint before its address, a longer prefix before a
//!   shorter one, a domain before its parents.
//! - Where several indicators have one value, `block` comes before `report` as long as one that blocks is live. The others
//!   are kept in the provenance.
//!
//! The kernel holds to expiries by itself: each entry names the one that takes over.

mod claims;
mod compile;
mod file;
mod key;
mod lookup;
mod pages;
mod provenance;
mod summary;
#[cfg(test)]
mod tests;
mod watch;

use agent_common::image::layout::ENTRIES_MAX;
use agent_common::image::{self, Block, Seed};

pub use self::file::{Identity, KeptGeneration};
pub use self::key::{UnenforcedReason, path_key};
pub use self::lookup::{Bearing, look_up};
pub use self::provenance::{Matched, Provenance};
pub use self::summary::{Summary, TableSummary, Unenforced};
pub use self::watch::Watch;

use self::claims::{Claimants, Claims, Grouped, is_exception};
use self::compile::{Keys, Plan};
use self::summary::Losses;
use crate::intel::Observable;
use crate::intel::packed::{Damaged, Numbers};
use crate::policy::{RuledValues, Ruling};

/// Why no image can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An image cannot number so many entries.
    #[error("{entries} entries are more than one image can hold (2^28): load fewer indicators")]
    TooManyEntries {
        /// Entries, free slots included.
        entries: u64,
    },
    /// The memory that the image was to be written to is smaller than [`Compilation::blocks`].
    #[error("the image needs {needed} blocks of 64 bytes, the map has {given}")]
    TooSmall {
        /// Blocks needed.
        needed: usize,
        /// Blocks there are.
        given: usize,
    },
    /// The indicators are not in memory whole.
    #[error(transparent)]
    Damaged(#[from] Damaged),
    /// No placement of the keys was found, which does not happen by chance.
    #[error("no placement found with {attempts} seeds: report this with the intelligence that was loaded")]
    Unplaceable {
        /// How many seeds were tried.
        attempts: u64,
    },
}

/// One generation: what the kernel gets and what user space keeps.
#[derive(Debug)]
pub struct Tables {
    /// Counts up with each change, from 1.
    pub generation: u32,
    /// What the kernel looks things up in.
    pub image: Vec<Block>,
    /// Whose intelligence an entry is.
    pub provenance: Provenance,
    /// What the image holds.
    pub summary: Summary,
}

/// Compiles a ruling. `seed` must be random and secret, and new for each generation.
pub fn compile(ruling: Ruling, generation: u32, seed: Seed) -> Result<Tables, Error> {
    let compilation = Compilation::new(ruling, generation, seed)?;
    let mut image = vec![[0; 8]; compilation.blocks()];
    let (provenance, summary) = compilation.write(&mut image)?;
    Ok(Tables { generation, image, provenance, summary })
}

/// A ruling whose image is sized but not yet written, so that it can be written straight into a map.
#[derive(Debug)]
pub struct Compilation {
    plan: Plan,
    ruled: RuledValues,
    exceptions: Vec<Observable>,
    members: Vec<u32>,
    watch: Watch,
    /// Positions of the first members of what is watched, in the order of its entries, which follow those of the image.
    watched: Vec<u32>,
    summary: Summary,
}

impl Compilation {
    /// Compiles all but what depends on the seed.
    pub fn new(ruling: Ruling, generation: u32, seed: Seed) -> Result<Self, Error> {
        let Ruling { ruled, exceptions, .. } = ruling;
        let mut losses = Losses::default();
        let claimants = Claimants { ruled: &ruled, exceptions: &exceptions };
        let mut grouped = Claims::of(claimants, seed, &mut losses)?.group(&ruled)?;
        let sought = std::mem::take(&mut grouped.watched);
        let Grouped { merged, mut excepted, .. } = grouped;
        let (plan, members) = Plan::new(grouped, claimants, generation, seed)?;
        let of = |link: &u32| members_of(&plan, *link, &members);
        excepted += plan.excepted.iter().map(|link| Provenance::count(of(link))).sum::<u64>();
        for group in plan.out_of_reach.iter().map(of) {
            let first = Provenance::index(*group.first().ok_or(Damaged)?);
            losses.add(UnenforcedReason::ChainTooLong, &ruled.value(first as usize)?, Provenance::count(group));
        }
        let (mut watch, mut watched) = (Watch::default(), Vec::new());
        for (value, position) in sought {
            let entry = plan.segments.entries + watched.len() as u64;
            let entry = u32::try_from(entry).ok().filter(|entry| *entry < ENTRIES_MAX);
            let entry = entry.ok_or(Error::TooManyEntries { entries: plan.segments.entries })?;
            let times = Provenance::count(members.get(position as usize..).unwrap_or_default());
            if watch.add(&value, entry, times, &mut losses) {
                watched.push(position);
            }
        }
        let summary = Summary::new(&plan, watch.len() as u64, merged, excepted, losses);
        Ok(Self { plan, ruled, exceptions, members, watch, watched, summary })
    }

    /// How many blocks the image has, at least 4.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.plan.segments.blocks as usize
    }

    /// Takes out what user space looks for.
    #[must_use]
    pub fn take_watch(&mut self) -> Watch {
        std::mem::take(&mut self.watch)
    }

    /// Writes the image to the first [`blocks`](Self::blocks) of `image`, whatever they hold.
    pub fn write(mut self, image: &mut [Block]) -> Result<(Provenance, Summary), Error> {
        let claimants = Claimants { ruled: &self.ruled, exceptions: &self.exceptions };
        let mut entries = self.plan.write(image, Keys { claimants, members: &self.members })?;
        for entry in &mut entries {
            let position = self.plan.links.position(*entry);
            *entry = if is_exception(position) { 0 } else { position + 1 };
        }
        entries.extend(self.watched.iter().map(|position| position + 1));
        let provenance = Provenance::new(self.ruled, Numbers::Here(self.members), Numbers::Here(entries));
        Ok((provenance, self.summary))
    }
}

/// IPv4 addresses that all block for ever, without provenance: what an image costs at its least.
#[derive(Debug)]
pub struct AddressCompilation(Plan);

impl AddressCompilation {
    /// Takes addresses in host order, in any order, with repeats.
    pub fn new(addresses: Vec<u32>, generation: u32, seed: Seed) -> Result<Self, Error> {
        Ok(Self(Plan::of_addresses(addresses, image::Action::Block, generation, seed)?))
    }

    /// How many blocks the image has.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.0.segments.blocks as usize
    }

    /// Writes the image to the first [`blocks`](Self::blocks) of `image`, whatever they hold.
    pub fn write(mut self, image: &mut [Block]) -> Result<(), Error> {
        let claimants = Claimants { ruled: &RuledValues::default(), exceptions: &[] };
        self.0.write(image, Keys { claimants, members: &[] }).map(|_| ())
    }
}

/// The members from that on which a link is for.
fn members_of<'a>(plan: &Plan, link: u32, members: &'a [u32]) -> &'a [u32] {
    members.get(plan.links.position(link) as usize..).unwrap_or_default()
}
