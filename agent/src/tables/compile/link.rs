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
    /// Where the provenance is, or [`NONE`].
    pub position: u32,
    /// Its number in the image, or [`NONE`] as long as it has none.
    pub entry: u32,
}

/// All entries of an image to be.
#[derive(Debug, Default)]
pub(in crate::tables) struct Links {
    all: Vec<Link>,
    /// The class of each link that is in use.
    classes: Vec<u32>,
    /// What the distinct classes are: expiry, actions and the link that takes over.
    distinct: Vec<(u32, Actions, u32)>,
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
    pub(in crate::tables) fn with_capacity(links: usize) -> Self {
        Self { all: Vec::with_capacity(links), ..Self::default() }
    }

    /// Adds a link, which takes over from `before` if there is one.
    pub(in crate::tables) fn add(&mut self, before: Option<u32>, expires: u32, actions: Actions, position: u32) -> u32 {
        let index = self.all.len() as u32;
        self.all.push(Link { expires, actions, next: NONE, position, entry: NONE });
        if let Some(before) = before
            && let Some(link) = self.all.get_mut(before as usize)
        {
            link.next = index;
        }
        index
    }

    pub(in crate::tables) fn get(&self, index: u32) -> Option<&Link> {
        self.all.get(index as usize)
    }

    /// The link and those that take over from it.
    pub(in crate::tables) fn chain(&self, first: u32) -> impl Iterator<Item = (u32, &Link)> {
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
        if let (Some(later), Some(link)) = (later, self.all.get_mut(last as usize)) {
            link.next = later;
        }
        if self.chain(first).count() > CHAIN_MAX as usize { Cover::OutOfReach } else { Cover::Kept }
    }

    pub(in crate::tables) fn number(&mut self, index: u32, entry: u32) {
        if let Some(link) = self.all.get_mut(index as usize) {
            link.entry = entry;
        }
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
        self.classes = vec![0; self.all.len()];
        let mut numbers = HashMap::new();
        let mut last = None;
        for index in used {
            let Some(link) = self.all.get(index as usize) else { continue };
            let class = (link.expires, link.actions, link.next);
            let number = match last {
                Some((before, number)) if before == class => number,
                _ => *numbers.entry(class).or_insert_with(|| {
                    self.distinct.push(class);
                    self.distinct.len() as u32 - 1
                }),
            };
            last = Some((class, number));
            if let Some(slot) = self.classes.get_mut(index as usize) {
                *slot = number;
            }
        }
    }

    pub(in crate::tables) fn class(&self, index: u32) -> u32 {
        self.classes.get(index as usize).copied().unwrap_or_default()
    }

    pub(in crate::tables) fn classes(&self) -> &[(u32, Actions, u32)] {
        &self.distinct
    }

    pub(in crate::tables) fn all(&self) -> &[Link] {
        &self.all
    }
}
