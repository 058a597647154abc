//! From an entry back to the indicators behind it.

use crate::intel::packed::{Damaged, Numbers};
use crate::policy::{Ruled, RuledValues};

/// Marks the first member of a group.
const FIRST: u32 = 1 << 31;

/// For each entry of one generation, whose intelligence it is.
#[derive(Debug, Default)]
pub struct Provenance {
    ruled: RuledValues,
    /// Indexes into `ruled`, those with one key side by side, the first of them marked with [`FIRST`].
    members: Numbers,
    /// 1 + position in `members` of what each entry stands for first of all; 0 for none.
    entries: Numbers,
}

/// What an entry stands for.
#[derive(Clone, Debug)]
pub struct Matched {
    primary: Ruled,
    others: Vec<Ruled>,
}

impl Provenance {
    pub(super) const fn new(ruled: RuledValues, members: Numbers, entries: Numbers) -> Self {
        Self { ruled, members, entries }
    }

    pub(super) const fn first(index: u32) -> u32 {
        index | FIRST
    }

    pub(super) const fn is_first(member: u32) -> bool {
        member & FIRST != 0
    }

    pub(super) const fn index(member: u32) -> u32 {
        member & !FIRST
    }

    /// What is behind an entry; `None` for an exception, or an entry of another generation.
    ///
    /// # Errors
    /// It cannot be read from where it is kept.
    pub fn get(&self, entry: u32) -> Result<Option<Matched>, Damaged> {
        let Some(position) = self.entries.get(entry as usize)?.and_then(|position| position.checked_sub(1)) else {
            return Ok(None);
        };
        let member = |position: usize| self.members.get(position);
        let position = position as usize;
        let primary = Self::index(member(position)?.ok_or(Damaged)?);
        let mut start = position;
        while !Self::is_first(member(start)?.ok_or(Damaged)?) {
            start = start.checked_sub(1).ok_or(Damaged)?;
        }
        let mut others = Vec::new();
        for at in start.. {
            let Some(index) = member(at)?.filter(|member| at == start || !Self::is_first(*member)) else { break };
            if at != position {
                others.push(self.ruled.get(Self::index(index) as usize)?);
            }
        }
        Ok(Some(Matched { primary: self.ruled.get(primary as usize)?, others }))
    }

    pub(super) const fn parts(&self) -> (&Numbers, &Numbers) {
        (&self.members, &self.entries)
    }

    /// Everything that was compiled or could not be, in the order in which the policy gave it.
    #[must_use]
    pub const fn ruled(&self) -> &RuledValues {
        &self.ruled
    }
}

impl Matched {
    /// The one that decides: of those with the entry's action the one that lives longest, then the most confident, then the
    /// first by source and id.
    #[must_use]
    pub const fn primary(&self) -> &Ruled {
        &self.primary
    }

    /// All others for the same value, strongest action first; some may have expired.
    pub fn others(&self) -> impl Iterator<Item = &Ruled> {
        self.others.iter()
    }
}
