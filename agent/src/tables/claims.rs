//! Who asks for which key: those for one key side by side, and the links that they come to.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroU32;

use agent_common::image;
use jiff::Timestamp;

use super::compile::Keyed;
use super::compile::link::{Links, NONE};
use super::key::Key;
use super::provenance::Provenance;
use super::summary::Losses;
use crate::intel::Observable;
use crate::policy::{Action, Ruled};

/// A key that an indicator or, with `ruled` of `None`, an exception asks for.
struct Claim {
    key: Key,
    ruled: Option<u32>,
    /// Seconds since the epoch; `None` for never.
    expires: Option<NonZeroU32>,
}

/// A claim for a single IPv4 address: the address, then the index of the indicator or, for an exception, [`NONE`]. Large sets
/// are made of these, so they are kept as small as they can be.
type Single = (u32, u32);

/// All claims, sorted by key; those for a single address by indicator, the others by [`strength`] within one key.
pub(super) struct Claims {
    singles: Vec<Single>,
    others: Vec<Claim>,
    terms: Terms,
}

impl Claims {
    /// What indicators and exceptions ask for; what nobody can ask for is counted.
    pub(super) fn of(ruled: &[Ruled], exceptions: &[Observable], losses: &mut Losses) -> Self {
        let mut claims =
            Self { singles: Vec::with_capacity(ruled.len()), others: Vec::new(), terms: Terms::new(ruled.len()) };
        for (index, ruled) in (0_u32..).zip(ruled) {
            let expires = seconds(ruled.expires);
            claims.terms.push(expires, ruled.action);
            claims.add(&ruled.observable, Some(index), expires, losses);
        }
        for exception in exceptions {
            claims.add(exception, None, None, losses);
        }
        // As one number each, which sorts in half the time of a pair.
        claims.singles.sort_unstable_by_key(|(address, index)| u64::from(*address) << 32 | u64::from(*index));
        let rank = |claim: &Claim| claim.ruled.and_then(|index| ruled.get(index as usize)).map(strength);
        claims.others.sort_unstable_by(|one, other| one.key.cmp(&other.key).then_with(|| rank(one).cmp(&rank(other))));
        claims
    }

    fn add(&mut self, observable: &Observable, ruled: Option<u32>, expires: Option<NonZeroU32>, losses: &mut Losses) {
        match Key::of(observable) {
            Ok(Key::Ipv4(address, 32)) => self.singles.push((address, ruled.unwrap_or(NONE))),
            Ok(key) => self.others.push(Claim { key, ruled, expires }),
            Err(reason) => losses.add(reason, observable),
        }
    }

    /// The keys with their links.
    pub(super) fn group(self, ruled: &[Ruled]) -> Grouped {
        let Self { singles, others, terms } = self;
        let mut grouped = Grouped {
            singles: Vec::with_capacity(singles.len()),
            links: Links::with_capacity(singles.len()),
            members: Vec::with_capacity(singles.len()),
            ..Grouped::default()
        };
        for group in singles.chunk_by(|one, other| one.0 == other.0) {
            let link = match group {
                [(_, index)] if *index != NONE => Some(grouped.add_lone(*index, &terms)),
                group => grouped.add(&ranked(group, ruled), ruled),
            };
            if let (Some((address, _)), Some(link)) = (group.first(), link) {
                grouped.singles.push((*address, link));
            }
        }
        for group in others.chunk_by(|one, other| one.key == other.key) {
            if let (Some(Claim { key, .. }), Some(link)) = (group.first(), grouped.add(group, ruled)) {
                grouped.keys.push(Keyed { key: key.clone(), link });
            }
        }
        grouped
    }
}

/// Several claims for one address in the form of all others.
fn ranked(group: &[Single], ruled: &[Ruled]) -> Vec<Claim> {
    let at = |index: u32| ruled.get(index as usize);
    let mut claims: Vec<Claim> = group
        .iter()
        .map(|(address, index)| Claim {
            key: Key::Ipv4(*address, 32),
            ruled: (*index != NONE).then_some(*index),
            expires: at(*index).and_then(|ruled| seconds(ruled.expires)),
        })
        .collect();
    claims.sort_unstable_by_key(|claim| claim.ruled.and_then(at).map(strength));
    claims
}

/// What comes first of those with one key, whatever order they were read in. A publisher's object comes before a line of a
/// list: publishers give both, and only the object names actors and reports.
fn strength(ruled: &Ruled) -> impl Ord + use<'_> {
    let life = seconds(ruled.expires).map_or(u32::MAX, NonZeroU32::get);
    let indicator = &*ruled.indicator;
    let name = (&*ruled.source, indicator.id.as_deref(), &*ruled.rule, &indicator.origin, &ruled.observable);
    (Reverse(ruled.action), Reverse(life), Reverse(indicator.confidence), indicator.id.is_none(), name)
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

fn image_action(action: Action) -> image::Action {
    match action {
        Action::Block => image::Action::Block,
        Action::Report => image::Action::Report,
    }
}

/// Expiry and action by indicator: once each, since a set has few different ones, and to be read in the order of addresses,
/// where the indicators themselves lie all over the memory.
struct Terms {
    distinct: Vec<(u32, image::Action)>,
    numbers: HashMap<(u32, image::Action), u32>,
    of: Vec<u32>,
}

impl Terms {
    fn new(indicators: usize) -> Self {
        Self { distinct: Vec::new(), numbers: HashMap::new(), of: Vec::with_capacity(indicators) }
    }

    fn push(&mut self, expires: Option<NonZeroU32>, action: Action) {
        let terms = (expires.map_or(0, NonZeroU32::get), image_action(action));
        let number = match self.of.last() {
            Some(last) if self.distinct.get(*last as usize) == Some(&terms) => *last,
            _ => *self.numbers.entry(terms).or_insert_with(|| {
                self.distinct.push(terms);
                self.distinct.len() as u32 - 1
            }),
        };
        self.of.push(number);
    }

    fn get(&self, index: u32) -> (u32, image::Action) {
        let only = match self.distinct.as_slice() {
            [only] => Some(only),
            distinct => self.of.get(index as usize).and_then(|number| distinct.get(*number as usize)),
        };
        only.copied().unwrap_or((0, image::Action::Report))
    }
}

/// Claims by key.
#[derive(Default)]
pub(super) struct Grouped {
    /// IPv4 addresses, each with the first of its links.
    pub(super) singles: Vec<(u32, u32)>,
    /// All other keys.
    pub(super) keys: Vec<Keyed>,
    pub(super) links: Links,
    /// Indexes of indicators, see [`Provenance`].
    pub(super) members: Vec<u32>,
    pub(super) merged: u64,
    pub(super) excepted: u64,
}

impl Grouped {
    /// Takes the only claim for a key.
    fn add_lone(&mut self, index: u32, terms: &Terms) -> u32 {
        let position = self.members.len() as u32;
        self.members.push(Provenance::first(index));
        let (expires, action) = terms.get(index);
        self.links.add(None, expires, action, position)
    }

    /// Takes all claims for one key, sorted by [`strength`]; the first of their links.
    fn add(&mut self, group: &[Claim], ruled: &[Ruled]) -> Option<u32> {
        if group.iter().any(|claim| claim.ruled.is_none()) {
            self.excepted += group.iter().filter(|claim| claim.ruled.is_some()).count() as u64;
            return Some(self.links.add(None, 0, image::Action::Allow, NONE));
        }
        self.merged += (group.len() as u64).saturating_sub(1);
        let (mut head, mut last): (Option<u32>, Option<(u32, Option<NonZeroU32>)>) = (None, None);
        for (member, claim) in group.iter().enumerate() {
            let Some(index) = claim.ruled else { continue };
            let position = self.members.len() as u32;
            self.members.push(if member == 0 { Provenance::first(index) } else { index });
            // What does not outlive the one before it never decides.
            let outlives =
                |before: Option<NonZeroU32>| before.is_some_and(|before| claim.expires.is_none_or(|own| own > before));
            if last.is_none_or(|(_, before)| outlives(before)) {
                let action =
                    ruled.get(index as usize).map_or(image::Action::Report, |ruled| image_action(ruled.action));
                let expires = claim.expires.map_or(0, NonZeroU32::get);
                let link = self.links.add(last.map(|(link, _)| link), expires, action, position);
                head = head.or(Some(link));
                last = Some((link, claim.expires));
            }
        }
        head
    }
}
