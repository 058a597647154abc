//! A row of packed indicators.

use std::collections::HashMap;
use std::sync::Arc;

use super::record::{CONTEXT, DEAD, View, put_head, read_context};
use super::{Reader, attribution, is_far, put_number, put_text, value};
use crate::intel::{Attribution, Indicator, Tlp};

/// Contexts remembered while packing; when there are more they are stated again.
const CONTEXTS: usize = 4096;
/// Bytes of one row, so that a position is a `u32`, whatever comes last.
const FULL: usize = 3 << 30;
/// What indicators share, as it was last stated.
#[derive(Clone, Debug)]
struct Stated {
    at: usize,
    length: usize,
    /// Kept, so that no other is at the same address.
    _shared: (Arc<str>, Arc<Attribution>),
}

/// The indicators of one source, packed.
#[derive(Clone, Debug, Default)]
pub struct Indicators {
    bytes: Vec<u8>,
    live: usize,
    is_dated: bool,
    /// The marking of those that have none.
    unmarked: Option<Tlp>,
    stated: HashMap<(usize, usize), Stated>,
}

impl Indicators {
    /// What [`Self::bytes`] gave, with what else is known of them.
    pub(super) fn of(bytes: Vec<u8>, live: usize, is_dated: bool, unmarked: Option<Tlp>) -> Self {
        Self { bytes, live, is_dated, unmarked, stated: HashMap::new() }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether any says when it begins, ends or was changed.
    #[must_use]
    pub const fn is_dated(&self) -> bool {
        self.is_dated
    }

    /// The marking of those that have none.
    #[must_use]
    pub const fn unmarked(&self) -> Option<Tlp> {
        self.unmarked
    }

    /// Whether no more should be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.size() > FULL as u64
    }

    /// Bytes that they take.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// The packed bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Marks all that have no marking of their own.
    pub fn mark_unmarked(&mut self, tlp: Tlp) {
        self.unmarked = Some(tlp);
    }

    /// Ends the packing: gives back what only that needs.
    pub fn seal(&mut self) {
        self.stated = HashMap::new();
        self.bytes.shrink_to_fit();
    }

    /// Adds one; where it is.
    pub fn push(&mut self, indicator: &Indicator) -> u32 {
        self.put(indicator).0
    }

    /// Adds one; where its last value is.
    pub fn push_one(&mut self, indicator: &Indicator) -> u32 {
        self.put(indicator).1
    }

    fn put(&mut self, indicator: &Indicator) -> (u32, u32) {
        let context = self.context(&indicator.origin.file, &indicator.attribution);
        self.is_dated |= indicator.valid_from.or(indicator.valid_until).or(indicator.modified).is_some();
        self.live += 1;
        let bytes = &mut self.bytes;
        let start = bytes.len();
        put_head(bytes, indicator, start - context);
        let mut last = start;
        for observable in &indicator.observables {
            last = bytes.len();
            put_number(bytes, (last - start) as u64);
            value::put(bytes, observable);
        }
        (start as u32, last as u32)
    }

    /// Where what it shares with others is stated, which is done if need be.
    fn context(&mut self, file: &Arc<str>, attribution: &Arc<Attribution>) -> usize {
        let bytes = &mut self.bytes;
        let identity = (file.as_ptr() as usize, Arc::as_ptr(attribution) as usize);
        if let Some(stated) = self.stated.get(&identity)
            && !is_far(bytes.len() - stated.at, stated.length)
        {
            return stated.at;
        }
        let at = bytes.len();
        let mut packed = Vec::new();
        put_text(&mut packed, file);
        attribution::put(&mut packed, attribution);
        bytes.push(CONTEXT);
        put_number(bytes, packed.len() as u64);
        bytes.extend_from_slice(&packed);
        if self.stated.len() >= CONTEXTS {
            self.stated.clear();
        }
        let shared = (Arc::clone(file), Arc::clone(attribution));
        self.stated.insert(identity, Stated { at, length: bytes.len() - at, _shared: shared });
        at
    }

    /// Passes over one from now on: a later version takes its place.
    pub fn supersede(&mut self, at: u32) {
        if let Some(flags) = self.bytes.get_mut(at as usize)
            && *flags & DEAD == 0
        {
            *flags |= DEAD;
            self.live -= 1;
        }
    }

    /// Whether those of another row can be appended.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        self.size() + other.size() <= u64::from(u32::MAX)
    }

    /// Takes in those of another row.
    pub fn append(&mut self, other: Self) {
        self.is_dated |= other.is_dated;
        self.live += other.live;
        if self.bytes.is_empty() {
            self.bytes = other.bytes;
        } else {
            self.bytes.extend_from_slice(&other.bytes);
        }
    }

    /// Each, without copying it.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        let (bytes, unmarked) = (self.bytes(), self.unmarked);
        let mut reader = Reader::new(bytes, 0);
        std::iter::from_fn(move || {
            loop {
                match *bytes.get(reader.at)? {
                    CONTEXT => {
                        reader.at += 1;
                        let length = reader.count()?;
                        reader.take(length)?;
                    }
                    flags => {
                        let view = View::read(bytes, reader.at, reader.at as u32, unmarked)?;
                        reader.at = view.end()?;
                        if flags & DEAD == 0 {
                            return Some(view);
                        }
                    }
                }
            }
        })
    }

    /// Each as a whole.
    pub fn iter(&self) -> impl Iterator<Item = Indicator> {
        let mut last: Option<(usize, Arc<str>, Arc<Attribution>)> = None;
        self.views().filter_map(move |view| {
            let at = (view.at as usize).checked_sub(view.context)?;
            if last.as_ref().is_none_or(|(known, ..)| *known != at) {
                let (file, attribution) = read_context(self.bytes(), at)?;
                last = Some((at, file, attribution));
            }
            let (_, file, attribution) = last.clone()?;
            view.indicator(file, attribution)
        })
    }
}

impl PartialEq for Indicators {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl FromIterator<Indicator> for Indicators {
    fn from_iter<I: IntoIterator<Item = Indicator>>(indicators: I) -> Self {
        let mut packed = Self::default();
        indicators.into_iter().for_each(|indicator| {
            packed.push(&indicator);
        });
        packed
    }
}
