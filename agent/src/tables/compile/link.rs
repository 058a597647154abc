//! Entries before they have a number: until when, what to do, and what takes over.

use std::collections::{HashMap, HashSet};

use agent_common::image::{Action, Actions, CHAIN_MAX};

/// No link, no entry, no provenance.
pub(in crate::tables) const NONE: u32 = u32::MAX;

/// An entry to be.
#[derive(Clone, Copy, Debug)]
pub(in crate::tables) struct Link {
    /// Seconds since the epoch; 0 for never.
    pub expires: u32,
    pub actions: Actions,
    /// What takes over on expiry, or [`NONE`].
    pub next: u32,
}

/// All entries of an image to be. Most are of the few kinds there are and have nothing that takes over from them, so that
/// four bytes say all about them.
#[derive(Debug, Default)]
pub(in crate::tables) struct Links {
    /// Where the provenance of each is, or [`NONE`].
    positions: Vec<u32>,
    kinds: Kinds,
    /// What takes over from those from which anything does.
    next: HashMap<u32, u32>,
    /// The numbers in the image of those of which they are asked for.
    entries: HashMap<u32, u32>,
    numbers: HashMap<(u32, u32), u32>,
    /// What the distinct classes are: expiry, actions and the link that takes over.
    distinct: Vec<(u32, Actions, u32)>,
}

/// Expiry and actions by number: once each, since a set has few different ones. As long as all have the same, nothing is
/// kept for each.
#[derive(Debug, Default)]
pub(in crate::tables) struct Kinds {
    distinct: Vec<(u32, Actions)>,
    numbers: HashMap<(u32, Actions), u32>,
    count: usize,
    of: Vec<u32>,
}

impl Kinds {
    pub(in crate::tables) fn push(&mut self, expires: u32, actions: Actions) {
        let kind = (expires, actions);
        let last = self.distinct.len().checked_sub(1).filter(|last| self.distinct.get(*last) == Some(&kind));
        let number = last.map(|last| last as u32).unwrap_or_else(|| {
            *self.numbers.entry(kind).or_insert_with(|| {
                self.distinct.push(kind);
                self.distinct.len() as u32 - 1
            })
        });
        if self.distinct.len() > 1 {
            // All before were of the first kind, or are here.
            self.of.resize(self.count, 0);
            self.of.push(number);
        }
        self.count += 1;
    }

    fn number(&self, index: u32) -> u32 {
        if self.distinct.len() > 1 { self.of.get(index as usize).copied().unwrap_or_default() } else { 0 }
    }

    pub(in crate::tables) fn get(&self, index: u32) -> (u32, Actions) {
        self.distinct.get(self.number(index) as usize).copied().unwrap_or((0, Actions::both(Action::Report)))
    }
}

/// How a link that is covered by another one stands to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::tables) enum Cover {
    /// It may stay.
    Kept,
    /// It may stay, but the far end of its chain is out of reach.
    OutOfReach,
    /// It lies inside an exception and must go.
    Excepted,
}

impl Links {
    /// Adds a link, which takes over from `before` if there is one.
    pub(in crate::tables) fn add(&mut self, before: Option<u32>, expires: u32, actions: Actions, position: u32) -> u32 {
        let index = self.positions.len() as u32;
        self.positions.push(position);
        self.kinds.push(expires, actions);
        if let Some(before) = before {
            self.next.insert(before, index);
        }
        index
    }

    pub(in crate::tables) fn len(&self) -> usize {
        self.positions.len()
    }

    fn next(&self, index: u32) -> u32 {
        // Asked of all, and most sets have none.
        if self.next.is_empty() { NONE } else { self.next.get(&index).copied().unwrap_or(NONE) }
    }

    pub(in crate::tables) fn get(&self, index: u32) -> Option<Link> {
        self.positions.get(index as usize)?;
        let (expires, actions) = self.kinds.get(index);
        Some(Link { expires, actions, next: self.next(index) })
    }

    /// Where the provenance of a link is, or [`NONE`].
    pub(in crate::tables) fn position(&self, index: u32) -> u32 {
        self.positions.get(index as usize).copied().unwrap_or(NONE)
    }

    /// The number of a link in the image, if it was asked for.
    pub(in crate::tables) fn entry(&self, index: u32) -> Option<u32> {
        self.entries.get(&index).copied()
    }

    /// The link and those that take over from it.
    pub(in crate::tables) fn chain(&self, first: u32) -> impl Iterator<Item = (u32, Link)> {
        let mut at = first;
        std::iter::from_fn(move || {
            let index = at;
            let link = self.get(index)?;
            at = link.next;
            Some((index, link))
        })
    }

    /// Lets what covers a key take over when the last of its own links has expired, where it lives longer.
    pub(in crate::tables) fn cover(&mut self, first: u32, covering: Option<u32>) -> Cover {
        let Some(covering) = covering else { return Cover::Kept };
        if self.get(covering).is_some_and(|link| link.actions.outbound == Action::Allow) {
            return Cover::Excepted;
        }
        let Some((last, expires)) = self.chain(first).last().map(|(index, link)| (index, link.expires)) else {
            return Cover::Kept;
        };
        if expires == 0 {
            return Cover::Kept;
        }
        let later =
            self.chain(covering).find(|(_, link)| link.expires == 0 || link.expires > expires).map(|(index, _)| index);
        if let Some(later) = later {
            self.next.insert(last, later);
        }
        if self.chain(first).count() > CHAIN_MAX as usize { Cover::OutOfReach } else { Cover::Kept }
    }

    pub(in crate::tables) fn number(&mut self, index: u32, entry: u32) {
        self.entries.insert(index, entry);
    }

    /// Numbers the links that take over from others, given the link behind each entry: nobody asks for the numbers of the rest.
    pub(in crate::tables) fn number_successors(&mut self, entries: &[u32]) {
        let successors: HashSet<u32> = self.distinct.iter().map(|class| class.2).filter(|next| *next != NONE).collect();
        if successors.is_empty() {
            return;
        }
        for (entry, link) in (0_u32..).zip(entries) {
            if successors.contains(link) {
                self.number(*link, entry);
            }
        }
    }

    /// Finds the distinct classes of the links in `used`, numbered in that order.
    pub(in crate::tables) fn classify(&mut self, used: impl Iterator<Item = u32>) {
        let mut last = None;
        for index in used {
            let key = (self.kinds.number(index), self.next(index));
            if last == Some(key) {
                continue;
            }
            last = Some(key);
            if !self.numbers.contains_key(&key) {
                let (expires, actions) = self.kinds.get(index);
                self.numbers.insert(key, self.distinct.len() as u32);
                self.distinct.push((expires, actions, key.1));
            }
        }
    }

    pub(in crate::tables) fn class(&self, index: u32) -> u32 {
        self.numbers.get(&(self.kinds.number(index), self.next(index))).copied().unwrap_or_default()
    }

    pub(in crate::tables) fn classes(&self) -> &[(u32, Actions, u32)] {
        &self.distinct
    }
}
