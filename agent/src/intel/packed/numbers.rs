//! A row of numbers.

use std::sync::Arc;

use super::{Bytes, Damaged};

/// Bytes of a number where it lies elsewhere.
const SIZE: u64 = size_of::<u32>() as u64;

/// Bytes read at once.
const AT_ONCE: usize = 1 << 16;

/// Numbers in memory, or little-endian bytes elsewhere.
#[derive(Clone, Debug)]
pub enum Numbers {
    /// In memory.
    Here(Vec<u32>),
    /// Elsewhere.
    Elsewhere(Arc<dyn Bytes>),
}

impl Default for Numbers {
    fn default() -> Self {
        Self::Here(Vec::new())
    }
}

impl Numbers {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Here(numbers) => numbers.len(),
            Self::Elsewhere(bytes) => usize::try_from(bytes.len() / SIZE).unwrap_or(usize::MAX),
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One of them; `None` beyond the last.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, index: usize) -> Result<Option<u32>, Damaged> {
        match self {
            Self::Here(numbers) => Ok(numbers.get(index).copied()),
            Self::Elsewhere(_) if index >= self.len() => Ok(None),
            Self::Elsewhere(bytes) => {
                let mut number = [0; 4];
                bytes.read(index as u64 * SIZE, &mut number)?;
                Ok(Some(u32::from_le_bytes(number)))
            }
        }
    }

    /// The same, in memory.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn resident(&self) -> Result<Self, Damaged> {
        let Self::Elsewhere(bytes) = self else { return Ok(self.clone()) };
        let (mut at, mut numbers) = (0, Vec::with_capacity(self.len()));
        let mut some = vec![0; AT_ONCE];
        while at < bytes.len() {
            let length = (bytes.len() - at).min(AT_ONCE as u64);
            let some = some.get_mut(..length as usize).ok_or(Damaged)?;
            bytes.read(at, some)?;
            numbers.extend(some.as_chunks::<4>().0.iter().map(|number| u32::from_le_bytes(*number)));
            at += length;
        }
        Ok(Self::Here(numbers))
    }

    /// Adds one; nothing is added to what lies elsewhere.
    pub fn push(&mut self, number: u32) {
        if let Self::Here(numbers) = self {
            numbers.push(number);
        }
    }

    /// Those in memory.
    #[must_use]
    pub fn here(&self) -> &[u32] {
        match self {
            Self::Here(numbers) => numbers,
            Self::Elsewhere(_) => &[],
        }
    }
}
