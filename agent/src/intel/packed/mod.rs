//! Indicators and what was skipped, packed: a list's line with an IPv4 address takes 12 bytes instead of some 300, and the same
//! bytes are what a generation's file in the state directory holds (docs/decisions/0005).
//!
//! What many share (file, attribution, reasons) is written once and referred to by how far back it lies, so that packed bytes
//! can be appended to others as they are. Bytes that make no sense are [`Damaged`], never a panic.

mod attribution;
mod held;
mod indicators;
mod numbers;
mod record;
mod skips;
#[cfg(test)]
mod tests;
mod value;

pub use held::{Held, HeldSkips, Stored};
pub use indicators::Indicators;
pub use numbers::Numbers;
pub use record::{Dates, View};
pub use skips::Skips;

use std::sync::Arc;

/// The packed bytes make no sense, or cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, thiserror::Error)]
#[error("the packed indicators are damaged or cannot be read")]
pub struct Damaged;

/// Bytes that lie elsewhere, such as in a file.
pub trait Bytes: std::fmt::Debug + Send + Sync {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `into` with those from `at` on.
    ///
    /// # Errors
    /// They cannot be read, or are not what was written.
    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Damaged>;
}

/// A part of what lies elsewhere.
#[derive(Clone, Debug)]
pub struct Part {
    /// The whole.
    pub whole: Arc<dyn Bytes>,
    /// Where the part begins.
    pub at: u64,
    /// How long it is.
    pub length: u64,
}

impl Bytes for Part {
    fn len(&self) -> u64 {
        self.length
    }

    fn read(&self, at: u64, into: &mut [u8]) -> Result<(), Damaged> {
        let end = at.checked_add(into.len() as u64).filter(|end| *end <= self.length).ok_or(Damaged)?;
        let _inside = self.at.checked_add(end).ok_or(Damaged)?;
        self.whole.read(self.at + at, into)
    }
}

/// What is shared is stated again at this distance, where a reference to it still takes two bytes…
const NEAR: usize = 1 << 14;
/// …or at this many times its own length, so that repeats stay below 2 % of the whole.
const SELDOM: usize = 64;

/// Whether what was stated `distance` ago in `length` bytes is to be stated again.
fn is_far(distance: usize, length: usize) -> bool {
    distance >= NEAR.max(length.saturating_mul(SELDOM))
}

/// LEB128.
fn put_number(bytes: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        bytes.push(number as u8 | 0x80);
        number >>= 7;
    }
    bytes.push(number as u8);
}

fn put_text(bytes: &mut Vec<u8>, text: &str) {
    put_number(bytes, text.len() as u64);
    bytes.extend_from_slice(text.as_bytes());
}

/// Takes packed bytes apart; `None` where they end early or make no sense.
#[derive(Clone, Copy, Debug)]
struct Reader<'a> {
    all: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    const fn new(all: &'a [u8], at: usize) -> Self {
        Self { all, at }
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = *self.all.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    fn number(&mut self) -> Option<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Some(number);
            }
        }
        None
    }

    fn count(&mut self) -> Option<usize> {
        usize::try_from(self.number()?).ok()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let taken = self.all.get(self.at..)?.get(..length)?;
        self.at += length;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.count()?;
        std::str::from_utf8(self.take(length)?).ok()
    }
}
