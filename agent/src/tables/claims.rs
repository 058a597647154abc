//! Who asks for which key: those for one key side by side, and the links that they come to.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use agent_common::image::{self, Seed};
use jiff::Timestamp;

use super::compile::link::{Kinds, Links};
use super::compile::{Prefix, Tagged};
use super::key::{Key, UnenforcedReason, table_of};
use super::provenance::{KEPT, Provenance};
use super::summary::Losses;
use super::watch::Watch;
use crate::intel::packed::Damaged;
use crate::intel::{Inbound, Observable};
use crate::policy::{Action, Ruled, RuledValues};

/// Marks the number of an exception, where that of an indicator's value could stand.
const EXCEPTION: u32 = 1 << 31;

/// Whether there is no indicator behind a claim or a link: it is an exception, or nothing at all.
pub(super) const fn is_exception(number: u32) -> bool {
    number & EXCEPTION != 0
}

/// What keys are made from: they are kept by tag, and made again when they are asked for.
#[derive(Clone, Copy)]
pub(super) struct Claimants<'a> {
    pub(super) ruled: &'a RuledValues,
    pub(super) exceptions: &'a [Observable],
}

impl Claimants<'_> {
    /// The key that an indicator's value or an exception asks for.
    pub(super) fn key(&self, number: u32) -> Result<Key, Damaged> {
        let key = if is_exception(number) {
            Key::of(self.exceptions.get((number & !EXCEPTION) as usize).ok_or(Damaged)?)
        } else {
            Key::of(&self.ruled.value(number as usize)?)
        };
        key.map_err(|_| Damaged)
    }
}

/// A claim for a single IPv4 address: the address, then whose it is. Large sets are made of these and of [`Tagged`], so they
/// are kept as small as they can be.
type Single = (u32, u32);

/// All claims, sorted by key; those for a single address by indicator. `link` is whose they are: the index of the indicator's
/// value or, with [`EXCEPTION`], of the exception.
pub(super) struct Claims {
    singles: Vec<Single>,
    prefixes: Vec<Prefix>,
    tagged: [Vec<Tagged>; 5],
    /// What user space looks for, by value.
    watched: BTreeMap<Observable, Vec<u32>>,
    kinds: Kinds,
}

impl Claims {
    /// What indicators and exceptions ask for; what nobody can ask for is counted.
    pub(super) fn of(claimants: Claimants<'_>, seed: Seed, losses: &mut Losses) -> Result<Self, Damaged> {
        let Claimants { ruled, exceptions } = claimants;
        let mut claims = Self {
            singles: Vec::new(),
            prefixes: Vec::new(),
            tagged: Default::default(),
            watched: BTreeMap::new(),
            kinds: Kinds::default(),
        };
        // Of an indicator with very many names its values are gone over once.
        let mut named: Option<((u32, u64), bool)> = None;
        for index in 0..ruled.len() as u32 {
            let (action, inbound, expires) = ruled.decision(index as usize)?;
            claims.kinds.push(seconds(expires).map_or(0, NonZeroU32::get), actions(action, inbound));
            let value = ruled.value(index as usize)?;
            if let Observable::FileName(_) = value {
                let owner = ruled.owner(index as usize)?;
                let (_, beside_digest) = match named.filter(|(known, _)| *known == owner) {
                    Some(known) => known,
                    None => *named.insert((owner, has_digest(&ruled.get(index as usize)?))),
                };
                if beside_digest {
                    losses.add(UnenforcedReason::NameBesideDigest, &value, 1);
                    continue;
                }
            }
            if Watch::is_for(&value) {
                claims.watched.entry(value).or_default().push(index);
            } else {
                claims.add(&value, index, seed, losses);
            }
        }
        for (index, exception) in (EXCEPTION..).zip(exceptions) {
            claims.add(exception, index, seed, losses);
        }
        // As one number each, which sorts in half the time of a pair.
        claims.singles.sort_unstable_by_key(|(address, index)| u64::from(*address) << 32 | u64::from(*index));
        claims.prefixes.sort_unstable_by(|one, other| one.key.cmp(&other.key));
        for table in &mut claims.tagged {
            table.sort_unstable_by_key(|claim| (claim.order(), claim.link));
            tell_apart(table, claimants)?;
        }
        Ok(claims)
    }

    fn add(&mut self, observable: &Observable, index: u32, seed: Seed, losses: &mut Losses) {
        match Key::of(observable) {
            Ok(Key::Ipv4(address, 32)) => self.singles.push((address, index)),
            Ok(key) => match table_of(key.space()).and_then(|table| self.tagged.get_mut(table)) {
                Some(table) => table.push(Tagged::new(&key, seed, index)),
                None => self.prefixes.push(Prefix { key, link: index }),
            },
            Err(reason) => losses.add(reason, observable, 1),
        }
    }

    /// The keys with their links, each in the place of the first claim for it.
    pub(super) fn group(self, ruled: &RuledValues) -> Result<Grouped, Damaged> {
        let Self { mut singles, mut prefixes, mut tagged, watched, kinds } = self;
        let mut grouped = Grouped::default();
        let mut add = |group: &mut Vec<u32>| grouped.add(group, ruled, &kinds);
        merge(&mut singles, |one, other| one.0 == other.0, |single| &mut single.1, &mut add)?;
        merge(&mut prefixes, |one, other| one.key == other.key, |prefix| &mut prefix.link, &mut add)?;
        for table in &mut tagged {
            let is_same = |one: &Tagged, other: &Tagged| one.order() == other.order() && !other.is_twin;
            merge(table, is_same, |claim| &mut claim.link, &mut add)?;
        }
        for (value, mut group) in watched {
            let position = grouped.members.len() as u32;
            grouped.list(&mut group, ruled)?;
            grouped.watched.push((value, position));
        }
        (grouped.singles, grouped.prefixes, grouped.tagged) = (singles, prefixes, tagged);
        Ok(grouped)
    }
}

/// Whether its indicator names a file by what it holds, too.
fn has_digest(ruled: &Ruled) -> bool {
    let is_digest =
        |value: &Observable| matches!(value, Observable::Sha256(_) | Observable::Sha1(_) | Observable::Md5(_));
    ruled.indicator.observables.iter().any(is_digest)
}

/// Marks the first claim for each key whose tag another key before it has too.
fn tell_apart(claims: &mut [Tagged], claimants: Claimants<'_>) -> Result<(), Damaged> {
    for same in claims.chunk_by_mut(|one, other| one.order() == other.order()).filter(|same| same.len() > 1) {
        let keyed = same.iter().map(|claim| Ok((claimants.key(claim.link)?, claim.link)));
        let mut keyed: Vec<_> = keyed.collect::<Result<_, Damaged>>()?;
        keyed.sort_unstable();
        let mut before = None;
        for (claim, (key, link)) in same.iter_mut().zip(&keyed) {
            claim.link = *link;
            claim.is_twin = before.is_some_and(|before| before != key);
            before = Some(key);
        }
    }
    Ok(())
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

/// Makes one of those with one key, where they are: what `add` makes of their numbers takes the place of the first's.
fn merge<T>(
    claims: &mut Vec<T>,
    is_same: impl Fn(&T, &T) -> bool,
    number: impl Fn(&mut T) -> &mut u32,
    add: &mut impl FnMut(&mut Vec<u32>) -> Result<Option<u32>, Damaged>,
) -> Result<(), Damaged> {
    let (mut kept, mut next, mut group) = (0, 0, Vec::new());
    while let Some((one, others)) = claims.get(next..).and_then(<[_]>::split_first) {
        let first = next;
        next += 1 + others.iter().take_while(|other| is_same(one, other)).count();
        group.clear();
        group.extend(claims.get_mut(first..next).into_iter().flatten().map(|claim| *number(claim)));
        if let Some(link) = add(&mut group)? {
            claims.swap(kept, first);
            if let Some(claim) = claims.get_mut(kept) {
                *number(claim) = link;
            }
            kept += 1;
        }
    }
    claims.truncate(kept);
    Ok(())
}

/// Sorts indexes of those with one key, the strongest first.
fn rank(group: &mut [u32], ruled: &RuledValues) -> Result<(), Damaged> {
    let strengths = group.iter().map(|index| Ok((strength(&ruled.get(*index as usize)?), *index)));
    let mut strengths: Vec<_> = strengths.collect::<Result<_, Damaged>>()?;
    strengths.sort();
    for (place, (_, index)) in group.iter_mut().zip(strengths) {
        *place = index;
    }
    Ok(())
}

/// The ids of indicators.
fn ids(group: &[u32], ruled: &RuledValues) -> Result<HashSet<Arc<str>>, Damaged> {
    let ids = group.iter().map(|index| Ok(ruled.get(*index as usize)?.indicator.id.clone()));
    ids.filter_map(Result::transpose).collect()
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

fn actions(action: Action, inbound: Inbound) -> image::Actions {
    image::Actions {
        outbound: match action {
            Action::Block => image::Action::Block,
            Action::Report => image::Action::Report,
        },
        inbound: match inbound {
            Inbound::Block => image::Action::Block,
            Inbound::Report => image::Action::Report,
            Inbound::Ignore => image::Action::Allow,
        },
    }
}

/// What the strongest of the claims for one key, of those that live at least until `expires`, asks for when the other end
/// begins: the one that decides about the outbound may have less to say of it.
fn strongest_inbound(group: &[u32], kinds: &Kinds, expires: u32) -> image::Action {
    let end = |expires: u32| if expires == 0 { u32::MAX } else { expires };
    let living = group.iter().map(|index| kinds.get(*index)).filter(|(own, _)| end(*own) >= end(expires));
    living.map(|(_, actions)| actions.inbound).max().unwrap_or(image::Action::Allow)
}

/// Claims by key, each with the first of its links.
#[derive(Default)]
pub(super) struct Grouped {
    /// IPv4 addresses.
    pub(super) singles: Vec<(u32, u32)>,
    pub(super) prefixes: Vec<Prefix>,
    /// One for each of [`image::Space::KEYED`], in that order.
    pub(super) tagged: [Vec<Tagged>; 5],
    pub(super) links: Links,
    /// Indexes of indicators, see [`Provenance`].
    pub(super) members: Vec<u32>,
    /// What user space looks for, each with the position of the first of its members.
    pub(super) watched: Vec<(Observable, u32)>,
    pub(super) merged: u64,
    pub(super) excepted: u64,
}

impl Grouped {
    /// Takes all that look for one value: the strongest of them become members.
    fn list(&mut self, group: &mut [u32], ruled: &RuledValues) -> Result<(), Damaged> {
        if group.len() > 1 {
            rank(group, ruled)?;
        }
        self.merged += (group.len() as u64).saturating_sub(1);
        let kept = group.iter().take(KEPT).enumerate();
        self.members.extend(kept.map(|(at, index)| if at == 0 { Provenance::first(*index) } else { *index }));
        if group.len() > KEPT {
            self.members.push(Provenance::beyond(group.len() - KEPT));
        }
        Ok(())
    }

    /// Takes all claims for one key, by whose they are; the first of their links.
    fn add(&mut self, group: &mut [u32], ruled: &RuledValues, kinds: &Kinds) -> Result<Option<u32>, Damaged> {
        let exceptions = group.iter().filter(|index| is_exception(**index)).count();
        if let Some(exception) = group.iter().find(|index| is_exception(**index)) {
            self.excepted += (group.len() - exceptions) as u64;
            return Ok(Some(self.links.add(None, 0, image::Actions::both(image::Action::Allow), *exception)));
        }
        if group.len() > 1 {
            rank(group, ruled)?;
        }
        self.merged += (group.len() as u64).saturating_sub(1);
        let (mut head, mut last): (Option<u32>, Option<(u32, u32)>) = (None, None);
        let told = ids(group.get(..KEPT).filter(|_| group.len() > KEPT).unwrap_or_default(), ruled)?;
        let is_told = |index: u32| -> Result<bool, Damaged> {
            Ok(ruled.get(index as usize)?.indicator.id.as_ref().is_some_and(|id| told.contains(id)))
        };
        let mut beyond = 0;
        for (member, index) in group.iter().enumerate() {
            let (expires, actions) = kinds.get(*index);
            // What does not outlive the one before it never decides.
            let decides = last.is_none_or(|(_, before)| before != 0 && (expires == 0 || expires > before));
            if member >= KEPT && !decides && !is_told(*index)? {
                beyond += 1;
                continue;
            }
            let position = self.members.len() as u32;
            self.members.push(if member == 0 { Provenance::first(*index) } else { *index });
            if decides {
                let actions = image::Actions { inbound: strongest_inbound(group, kinds, expires), ..actions };
                let link = self.links.add(last.map(|(link, _)| link), expires, actions, position);
                head = head.or(Some(link));
                last = Some((link, expires));
            }
        }
        if beyond > 0 {
            self.members.push(Provenance::beyond(beyond));
        }
        Ok(head)
    }
}
