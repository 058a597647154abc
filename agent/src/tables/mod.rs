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

mod compile;
mod key;
mod lookup;
mod provenance;
mod summary;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::num::NonZeroU32;

use agent_common::image::{self, Block, Seed};
use jiff::Timestamp;

pub use self::key::UnenforcedReason;
pub use self::lookup::{Bearing, look_up};
pub use self::provenance::{Matched, Provenance};
pub use self::summary::{Summary, TableSummary, Unenforced};

use self::compile::link::{Links, NONE};
use self::compile::{Keyed, Plan};
use self::key::Key;
use self::summary::Losses;
use crate::intel::Observable;
use crate::policy::{Action, Ruled, Ruling};

/// Why no image can be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// An image cannot number so many entries.
    #[error("{entries} entries are more than one image can hold (2^30): load fewer indicators")]
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
    ruled: Vec<Ruled>,
    members: Vec<u32>,
    summary: Summary,
}

impl Compilation {
    /// Compiles all but what depends on the seed.
    pub fn new(ruling: Ruling, generation: u32, seed: Seed) -> Result<Self, Error> {
        let Ruling { ruled, exceptions, .. } = ruling;
        let mut losses = Losses::default();
        let claims = claims(&ruled, &exceptions, &mut losses);
        let mut grouped = Grouped::default();
        for group in claims.chunk_by(|one, other| one.key == other.key) {
            grouped.add(group, &ruled);
        }
        let Grouped { keys, links, members, merged, mut excepted } = grouped;
        let plan = Plan::new(keys, links, generation, seed)?;
        excepted += plan.excepted.iter().map(|link| group_of(&plan, *link, &members).count() as u64).sum::<u64>();
        for link in &plan.out_of_reach {
            for member in group_of(&plan, *link, &members) {
                if let Some(ruled) = ruled.get(member as usize) {
                    losses.add(UnenforcedReason::ChainTooLong, &ruled.observable);
                }
            }
        }
        let summary = Summary::new(&plan, merged, excepted, losses);
        Ok(Self { plan, ruled, members, summary })
    }

    /// How many blocks the image has, at least 4.
    #[must_use]
    pub const fn blocks(&self) -> usize {
        self.plan.segments.blocks as usize
    }

    /// Writes the image to the first [`blocks`](Self::blocks) of `image`, whatever they hold.
    pub fn write(mut self, image: &mut [Block]) -> Result<(Provenance, Summary), Error> {
        let mut entries = self.plan.write(image)?;
        for entry in &mut entries {
            let position = self.plan.links.get(*entry).map_or(NONE, |link| link.position);
            *entry = position.wrapping_add(1);
        }
        Ok((Provenance::new(self.ruled, self.members, entries), self.summary))
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
        self.0.write(image).map(|_| ())
    }
}

/// A key that an indicator or, with `ruled` of `None`, an exception asks for.
struct Claim {
    key: Key,
    ruled: Option<u32>,
    /// Seconds since the epoch; `None` for never.
    expires: Option<NonZeroU32>,
}

/// All claims, those for one key side by side: exceptions, then by action, life, confidence, source and id.
fn claims(ruled: &[Ruled], exceptions: &[Observable], losses: &mut Losses) -> Vec<Claim> {
    let observables = (0_u32..).zip(ruled).map(|(index, ruled)| (Some(index), &ruled.observable));
    let observables = observables.chain(exceptions.iter().map(|exception| (None, exception)));
    let mut claims = Vec::with_capacity(ruled.len() + exceptions.len());
    for (index, observable) in observables {
        // Domains have a key and are in the image, but as yet no hook asks for them.
        if matches!(observable, Observable::Domain(_)) {
            losses.add(UnenforcedReason::NoHook, observable);
        }
        match Key::of(observable) {
            Ok(key) => {
                let ruled = index.and_then(|index| ruled.get(index as usize));
                claims.push(Claim { key, ruled: index, expires: ruled.and_then(|ruled| seconds(ruled.expires)) });
            }
            Err(reason) => losses.add(reason, observable),
        }
    }
    let rank = |claim: &Claim| claim.ruled.and_then(|index| ruled.get(index as usize)).map(strength);
    claims.sort_unstable_by(|one, other| one.key.cmp(&other.key).then_with(|| rank(one).cmp(&rank(other))));
    claims
}

/// What comes first of those with one key, whatever order they were read in.
fn strength(ruled: &Ruled) -> impl Ord + use<'_> {
    let life = seconds(ruled.expires).map_or(u32::MAX, NonZeroU32::get);
    let indicator = &*ruled.indicator;
    let name = (&*ruled.source, indicator.id.as_deref(), &*ruled.rule, &indicator.origin, &ruled.observable);
    (Reverse(ruled.action), Reverse(life), Reverse(indicator.confidence), name)
}

/// Whole seconds since the epoch, rounded up so that nothing ends before its time; `None` for never, which what ends
/// after 2106 is taken for.
fn seconds(expires: Option<Timestamp>) -> Option<NonZeroU32> {
    let expires = expires?;
    let up = expires.as_second() + i64::from(expires.subsec_nanosecond() > 0);
    match u32::try_from(up.max(1)) {
        Ok(seconds) if seconds < u32::MAX => NonZeroU32::new(seconds),
        _ => None,
    }
}

/// Claims by key.
#[derive(Default)]
struct Grouped {
    keys: Vec<Keyed>,
    links: Links,
    members: Vec<u32>,
    merged: u64,
    excepted: u64,
}

impl Grouped {
    /// Takes all claims for one key.
    fn add(&mut self, group: &[Claim], ruled: &[Ruled]) {
        let Some(Claim { key, .. }) = group.first() else { return };
        if group.iter().any(|claim| claim.ruled.is_none()) {
            self.excepted += group.iter().filter(|claim| claim.ruled.is_some()).count() as u64;
            let link = self.links.add(None, 0, image::Action::Allow, NONE);
            self.keys.push(Keyed { key: key.clone(), link });
            return;
        }
        self.merged += group.len() as u64 - 1;
        let (mut head, mut last): (Option<u32>, Option<(u32, Option<NonZeroU32>)>) = (None, None);
        for (member, claim) in group.iter().enumerate() {
            let Some(index) = claim.ruled else { continue };
            let position = self.members.len() as u32;
            self.members.push(if member == 0 { Provenance::first(index) } else { index });
            // What does not outlive the one before it never decides.
            let outlives =
                |before: Option<NonZeroU32>| before.is_some_and(|before| claim.expires.is_none_or(|own| own > before));
            if last.is_none_or(|(_, before)| outlives(before)) {
                let action = ruled.get(index as usize).map_or(image::Action::Report, |ruled| match ruled.action {
                    Action::Block => image::Action::Block,
                    Action::Report => image::Action::Report,
                });
                let expires = claim.expires.map_or(0, NonZeroU32::get);
                let link = self.links.add(last.map(|(link, _)| link), expires, action, position);
                head = head.or(Some(link));
                last = Some((link, claim.expires));
            }
        }
        if let Some(link) = head {
            self.keys.push(Keyed { key: key.clone(), link });
        }
    }
}

/// Indexes of all ruled whose key a link is the first for.
fn group_of<'a>(plan: &Plan, link: u32, members: &'a [u32]) -> impl Iterator<Item = u32> + use<'a> {
    let position = plan.links.get(link).map_or(NONE, |link| link.position) as usize;
    let group = members.get(position..).unwrap_or_default();
    let end = group.iter().skip(1).position(|member| Provenance::is_first(*member)).map_or(group.len(), |end| end + 1);
    group.get(..end).unwrap_or_default().iter().map(|member| Provenance::index(*member))
}
