//! A row of what is not used, packed.

use std::collections::BTreeMap;
use std::collections::VecDeque;
use std::sync::Arc;

use super::{Reader, is_far, put_number, put_text};
use crate::intel::{Origin, Place, SkipReason, Skipped};

/// Begins a text that others refer to.
const TEXT: u8 = 0xff;
/// Its place is an object, not a line.
const OBJECT: u8 = 0x80;
/// Taken back.
const DEAD: u8 = 0x40;
/// Texts remembered while packing.
const RECENT: usize = 16;

const REASONS: [SkipReason; 12] = [
    SkipReason::Expired,
    SkipReason::Revoked,
    SkipReason::NotYetValid,
    SkipReason::UnsupportedPattern,
    SkipReason::UnsupportedType,
    SkipReason::Malformed,
    SkipReason::ReservedAddress,
    SkipReason::Benign,
    SkipReason::TooBroad,
    SkipReason::LowConfidence,
    SkipReason::NotToIds,
    SkipReason::Ignored,
];

/// What is not used, packed.
#[derive(Clone, Debug, Default)]
pub struct Skips {
    bytes: Vec<u8>,
    counts: BTreeMap<SkipReason, u64>,
    recent: VecDeque<(Arc<str>, usize)>,
}

impl Skips {
    /// Nothing.
    pub const EMPTY: Self = Self { bytes: Vec::new(), counts: BTreeMap::new(), recent: VecDeque::new() };

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.counts.values().sum::<u64>() as usize
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    /// How many for each reason.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<SkipReason, u64> {
        &self.counts
    }

    /// The packed bytes.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What [`Self::bytes`] gave.
    #[must_use]
    pub fn from_bytes(bytes: Vec<u8>) -> Self {
        let mut skips = Self { bytes, ..Self::default() };
        let mut counts = BTreeMap::new();
        skips.iter().for_each(|skipped| *counts.entry(skipped.reason).or_default() += 1);
        skips.counts = counts;
        skips
    }

    /// Adds one; where it is.
    pub fn push(&mut self, skipped: &Skipped) -> u32 {
        let Skipped { reason, origin, value, why } = skipped;
        let (file, why) = (self.text(&origin.file), self.text(why));
        *self.counts.entry(*reason).or_default() += 1;
        let bytes = &mut self.bytes;
        let start = bytes.len();
        let number = REASONS.iter().position(|known| known == reason).unwrap_or_default() as u8;
        bytes.push(number | if matches!(origin.place, Place::Object(_)) { OBJECT } else { 0 });
        put_number(bytes, (start - file) as u64);
        put_number(bytes, (start - why) as u64);
        match &origin.place {
            Place::Line(line) => put_number(bytes, (*line).into()),
            Place::Object(object) => put_text(bytes, object),
        }
        put_text(bytes, value);
        start as u32
    }

    /// Takes one back.
    pub fn remove(&mut self, at: u32) {
        let Some(kind) = self.bytes.get_mut(at as usize).filter(|kind| **kind & DEAD == 0) else { return };
        let reason = REASONS.get(usize::from(*kind & !OBJECT)).copied();
        *kind |= DEAD;
        if let Some(count) = reason.and_then(|reason| self.counts.get_mut(&reason)) {
            *count -= 1;
        }
        self.counts.retain(|_, count| *count > 0);
    }

    /// Where a text is stated, which is done if need be.
    fn text(&mut self, text: &str) -> usize {
        if let Some(known) = self.recent.iter().position(|(known, _)| **known == *text) {
            let Some((known, at)) = self.recent.remove(known) else { return 0 };
            if !is_far(self.bytes.len() - at, text.len()) {
                self.recent.push_front((known, at));
                return at;
            }
        }
        let at = self.bytes.len();
        self.bytes.push(TEXT);
        put_text(&mut self.bytes, text);
        self.recent.truncate(RECENT - 1);
        self.recent.push_front((Arc::from(text), at));
        at
    }

    /// Takes in those of another row.
    pub fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        other.counts.iter().for_each(|(reason, count)| *self.counts.entry(*reason).or_default() += count);
    }

    /// Ends the packing: gives back what only that needs.
    pub fn seal(&mut self) {
        self.recent = VecDeque::new();
        self.bytes.shrink_to_fit();
    }

    /// Each as a whole.
    pub fn iter(&self) -> impl Iterator<Item = Skipped> {
        let mut reader = Reader::new(&self.bytes, 0);
        std::iter::from_fn(move || {
            loop {
                let start = reader.at;
                match reader.byte()? {
                    TEXT => drop(reader.text()?),
                    kind => {
                        let mut text = || {
                            let mut at = Reader::new(reader.all, start.checked_sub(reader.count()?)? + 1);
                            at.text()
                        };
                        let (file, why) = (text()?, text()?);
                        let place = if kind & OBJECT == 0 {
                            Place::Line(u32::try_from(reader.number()?).ok()?)
                        } else {
                            Place::Object(Arc::from(reader.text()?))
                        };
                        let value = reader.text()?;
                        if kind & DEAD != 0 {
                            continue;
                        }
                        return Some(Skipped {
                            reason: *REASONS.get(usize::from(kind & !OBJECT))?,
                            origin: Origin { file: Arc::from(file), place },
                            value: value.to_owned(),
                            why: why.to_owned(),
                        });
                    }
                }
            }
        })
    }
}

impl PartialEq for Skips {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Extend<Skipped> for Skips {
    fn extend<I: IntoIterator<Item = Skipped>>(&mut self, skipped: I) {
        for skipped in skipped {
            self.push(&skipped);
        }
    }
}
