//! Who asks for which key: those for one key side by side, and the links that they come to.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::Arc;

use agent_common::image;
use jiff::Timestamp;

use super::compile::Keyed;
use super::compile::link::{Links, NONE};
use super::key::{Key, UnenforcedReason};
use super::provenance::Provenance;
use super::summary::Losses;
use crate::intel::Observable;
use crate::intel::packed::Damaged;
use crate::policy::{Action, Ruled, RuledValues};

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

/// All claims, sorted by key; those for a single address by indicator.
pub(super) struct Claims {
    singles: Vec<Single>,
    others: Vec<Claim>,
    terms: Terms,
}

impl Claims {
    /// What indicators and exceptions ask for; what nobody can ask for is counted.
    pub(super) fn of(ruled: &RuledValues, exceptions: &[Observable], losses: &mut Losses) -> Result<Self, Damaged> {
        let mut claims = Self { singles: Vec::new(), others: Vec::new(), terms: Terms::default() };
        for index in 0..ruled.len() as u32 {
            let (action, expires) = ruled.decision(index as usize)?;
            let expires = seconds(expires);
            claims.terms.push(expires, action);
            claims.add(&ruled.value(index as usize)?, Some(index), expires, losses);
        }
        for exception in exceptions {
            claims.add(exception, None, None, losses);
        }
        // As one number each, which sorts in half the time of a pair.
        claims.singles.sort_unstable_by_key(|(address, index)| u64::from(*address) << 32 | u64::from(*index));
        claims.others.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        Ok(claims)
    }

    fn add(&mut self, observable: &Observable, ruled: Option<u32>, expires: Option<NonZeroU32>, losses: &mut Losses) {
        // Domains have a key and are in the image, but as yet no hook asks for them.
        if matches!(observable, Observable::Domain(_)) {
            losses.add(UnenforcedReason::NoHook, observable);
        }
        match Key::of(observable) {
            Ok(Key::Ipv4(address, 32)) => self.singles.push((address, ruled.unwrap_or(NONE))),
            Ok(key) => self.others.push(Claim { key, ruled, expires }),
            Err(reason) => losses.add(reason, observable),
        }
    }

    /// The keys with their links.
    pub(super) fn group(self, ruled: &RuledValues) -> Result<Grouped, Damaged> {
        let Self { singles, mut others, terms } = self;
        let mut grouped = Grouped {
            singles: Vec::with_capacity(singles.len()),
            links: Links::with_capacity(singles.len()),
            members: Vec::with_capacity(singles.len()),
            ..Grouped::default()
        };
        for group in singles.chunk_by(|one, other| one.0 == other.0) {
            let link = match group {
                [(_, index)] if *index != NONE => Some(grouped.add_lone(*index, &terms)),
                group => grouped.add(&mut claims_of(group, &terms), ruled, &terms)?,
            };
            if let (Some((address, _)), Some(link)) = (group.first(), link) {
                grouped.singles.push((*address, link));
            }
        }
        for group in others.chunk_by_mut(|one, other| one.key == other.key) {
            if let (Some(link), Some(Claim { key, .. })) = (grouped.add(group, ruled, &terms)?, group.first()) {
                grouped.keys.push(Keyed { key: key.clone(), link });
            }
        }
        Ok(grouped)
    }
}

/// Several claims for one address in the form of all others.
fn claims_of(group: &[Single], terms: &Terms) -> Vec<Claim> {
    let claim = |(address, index): &Single| {
        let ruled = (*index != NONE).then_some(*index);
        let expires = ruled.and_then(|index| NonZeroU32::new(terms.get(index).0));
        Claim { key: Key::Ipv4(*address, 32), ruled, expires }
    };
    group.iter().map(claim).collect()
}

/// What comes first of those with one key, whatever order they were read in. A publisher's object comes before a line of a
/// list: publishers give both, and only the object names actors and reports.
fn strength(ruled: &Ruled) -> impl Ord + use<> {
    let life = seconds(ruled.expires).map_or(u32::MAX, NonZeroU32::get);
    let indicator = &*ruled.indicator;
    let (source, rule) = (Arc::clone(&ruled.source), Arc::clone(&ruled.rule));
    let name = (source, indicator.id.clone(), rule, indicator.origin.clone(), ruled.observable.clone());
    (Reverse(ruled.action), Reverse(life), Reverse(indicator.confidence), indicator.id.is_none(), name)
}

/// Sorts claims for one key, the strongest first.
fn rank(group: &mut [Claim], ruled: &RuledValues) -> Result<(), Damaged> {
    let strengths = group.iter().map(|claim| {
        let Some(index) = claim.ruled else { return Ok((None, None)) };
        Ok((Some(index), Some(strength(&ruled.get(index as usize)?))))
    });
    let strengths: HashMap<Option<u32>, _> = strengths.collect::<Result<_, Damaged>>()?;
    group.sort_by(|one, other| strengths.get(&one.ruled).cmp(&strengths.get(&other.ruled)));
    Ok(())
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
/// where the indicators themselves lie all over the memory. As long as all have the same, nothing is kept by indicator.
#[derive(Default)]
struct Terms {
    distinct: Vec<(u32, image::Action)>,
    numbers: HashMap<(u32, image::Action), u32>,
    count: usize,
    of: Vec<u32>,
}

impl Terms {
    fn push(&mut self, expires: Option<NonZeroU32>, action: Action) {
        let terms = (expires.map_or(0, NonZeroU32::get), image_action(action));
        self.count += 1;
        if self.distinct.last() == Some(&terms) {
            if self.distinct.len() > 1 {
                self.of.push(self.distinct.len() as u32 - 1);
            }
            return;
        }
        let number = *self.numbers.entry(terms).or_insert_with(|| {
            self.distinct.push(terms);
            self.distinct.len() as u32 - 1
        });
        if self.distinct.len() > 1 {
            self.of.resize(self.count - 1, 0);
            self.of.push(number);
        }
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

    /// Takes all claims for one key; the first of their links.
    fn add(&mut self, group: &mut [Claim], ruled: &RuledValues, terms: &Terms) -> Result<Option<u32>, Damaged> {
        if group.iter().any(|claim| claim.ruled.is_none()) {
            self.excepted += group.iter().filter(|claim| claim.ruled.is_some()).count() as u64;
            return Ok(Some(self.links.add(None, 0, image::Action::Allow, NONE)));
        }
        if group.len() > 1 {
            rank(group, ruled)?;
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
                let (expires, action) = terms.get(index);
                let link = self.links.add(last.map(|(link, _)| link), expires, action, position);
                head = head.or(Some(link));
                last = Some((link, claim.expires));
            }
        }
        Ok(head)
    }
}
