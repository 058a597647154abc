//! Packed indicators and skips wherever they lie: in memory, or in a file that is read where it is asked for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::record::{Dates, View, read_context};
use super::{Bytes, Damaged, Indicators, Reader, Skips, value};
use crate::intel::{Indicator, Observable, SkipReason, Tlp};

/// Read at once of what lies elsewhere: most indicators are shorter.
const WINDOW: u64 = 256;

/// Indicators that lie elsewhere.
#[derive(Clone, Debug)]
pub struct Stored {
    /// What [`Indicators::bytes`] gave.
    pub bytes: Arc<dyn Bytes>,
    /// How many there are.
    pub live: usize,
    /// Whether any says when it begins, ends or was changed.
    pub is_dated: bool,
    /// The marking of those that have none.
    pub unmarked: Option<Tlp>,
}

/// The indicators of one source.
#[derive(Clone, Debug)]
pub enum Held {
    /// In memory.
    Here(Arc<Indicators>),
    /// In a file.
    Elsewhere(Stored),
}

impl Held {
    /// All of them, in memory.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn resident(&self) -> Result<Arc<Indicators>, Damaged> {
        match self {
            Self::Here(indicators) => Ok(Arc::clone(indicators)),
            Self::Elsewhere(Stored { bytes, live, is_dated, unmarked }) => {
                Ok(Arc::new(Indicators::of(all(&**bytes)?, *live, *is_dated, *unmarked)))
            }
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Here(indicators) => indicators.len(),
            Self::Elsewhere(stored) => stored.live,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether any says when it begins, ends or was changed.
    #[must_use]
    pub fn is_dated(&self) -> bool {
        match self {
            Self::Here(indicators) => indicators.is_dated(),
            Self::Elsewhere(stored) => stored.is_dated,
        }
    }

    /// The marking of those that have none.
    #[must_use]
    pub fn unmarked(&self) -> Option<Tlp> {
        match self {
            Self::Here(indicators) => indicators.unmarked(),
            Self::Elsewhere(stored) => stored.unmarked,
        }
    }

    /// The value at a place that [`View::values`] gave.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn value(&self, at: u32) -> Result<Observable, Damaged> {
        self.read(at.into(), |bytes| {
            let mut reader = Reader::new(bytes, 0);
            reader.number()?;
            value::get(&mut reader)
        })
    }

    /// The value at a place that [`View::values`] gave, and the indicator that it is of.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, at: u32) -> Result<(Observable, Indicator), Damaged> {
        let observable = self.value(at)?;
        let start = self.start(at)?;
        let context = self.read(start, |bytes| Some(View::read(bytes, 0, 0, None)?.context as u64))?;
        let context = start.checked_sub(context).ok_or(Damaged)?;
        let (file, attribution) = self.read(context, |bytes| read_context(bytes, 0))?;
        let indicator = self.read(start, |bytes| {
            View::read(bytes, 0, 0, self.unmarked())?.indicator(Arc::clone(&file), Arc::clone(&attribution))
        })?;
        Ok((observable, indicator))
    }

    /// When the indicator of the value at this place begins, ends and was changed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn dates(&self, at: u32) -> Result<Dates, Damaged> {
        self.read(self.start(at)?, |bytes| Some(View::read(bytes, 0, 0, None)?.dates))
    }

    /// Where the indicator of a value begins: the same for all values of one.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn start(&self, at: u32) -> Result<u64, Damaged> {
        let distance = self.read(at.into(), |bytes| Reader::new(bytes, 0).number())?;
        u64::from(at).checked_sub(distance).ok_or(Damaged)
    }

    /// What `decode` makes of the bytes from `at` on, as many as it needs.
    fn read<T>(&self, at: u64, decode: impl Fn(&[u8]) -> Option<T>) -> Result<T, Damaged> {
        let bytes = match self {
            Self::Here(indicators) => {
                let from = usize::try_from(at).ok().and_then(|at| indicators.bytes().get(at..));
                return from.and_then(decode).ok_or(Damaged);
            }
            Self::Elsewhere(stored) => &stored.bytes,
        };
        let left = bytes.len().checked_sub(at).ok_or(Damaged)?;
        let mut length = WINDOW.min(left);
        loop {
            let window = some(&**bytes, at, length)?;
            match decode(&window) {
                Some(decoded) => return Ok(decoded),
                None if length >= left => return Err(Damaged),
                None => length = (length * 8).min(left),
            }
        }
    }
}

fn some(bytes: &dyn Bytes, at: u64, length: u64) -> Result<Vec<u8>, Damaged> {
    let mut window = vec![0; usize::try_from(length).map_err(|_| Damaged)?];
    bytes.read(at, &mut window)?;
    Ok(window)
}

fn all(bytes: &dyn Bytes) -> Result<Vec<u8>, Damaged> {
    some(bytes, 0, bytes.len())
}

/// What is not used.
#[derive(Clone, Debug)]
pub enum HeldSkips {
    /// In memory.
    Here(Skips),
    /// In a file: what [`Skips::bytes`] gave, and how many for each reason.
    Elsewhere(Arc<dyn Bytes>, BTreeMap<SkipReason, u64>),
}

impl Default for HeldSkips {
    fn default() -> Self {
        Self::Here(Skips::default())
    }
}

impl HeldSkips {
    /// How many for each reason.
    #[must_use]
    pub const fn counts(&self) -> &BTreeMap<SkipReason, u64> {
        match self {
            Self::Here(skips) => skips.counts(),
            Self::Elsewhere(_, counts) => counts,
        }
    }

    /// All of them, in memory.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn resident(&self) -> Result<Cow<'_, Skips>, Damaged> {
        match self {
            Self::Here(skips) => Ok(Cow::Borrowed(skips)),
            Self::Elsewhere(bytes, _) => Ok(Cow::Owned(Skips::from_bytes(all(&**bytes)?))),
        }
    }
}
