//! From an entry back to the indicators behind it.

use crate::intel::packed::{Damaged, Numbers};
use crate::policy::{Ruled, RuledValues};

/// Marks the first member of a group.
const FIRST: u32 = 1 << 31;
/// Marks, behind the members of a group, how many more have its key.
const BEYOND: u32 = 1 << 30;

/// Members of a group, the strongest, that are kept however many have its key: a hit names them all. Kept too is what
/// decides later, because it lives longer, and what other sources say of the same indicators, because that bounds what may be
/// told of them.
pub(super) const KEPT: usize = 32;

/// For each entry of one generation, whose intelligence it is.
#[derive(Debug, Default)]
pub struct Provenance {
    ruled: RuledValues,
    /// Indexes into `ruled`, those with one key side by side, the first of them marked with [`FIRST`]; behind those that are
    /// [`KEPT`] how many more there are, marked with [`BEYOND`].
    members: Numbers,
    /// 1 + position in `members` of what each entry stands for first of all; 0 for none.
    entries: Numbers,
}

/// What an entry stands for.
#[derive(Clone, Debug)]
pub struct Matched {
    primary: Ruled,
    others: Vec<Ruled>,
    beyond: u32,
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

    /// Stands for `count` more.
    pub(super) fn beyond(count: usize) -> u32 {
        u32::try_from(count).unwrap_or(u32::MAX).min(BEYOND - 1) | BEYOND
    }

    /// How many more a member stands for instead of one; `None` for an index.
    const fn more(member: u32) -> Option<u32> {
        if member & (FIRST | BEYOND) == BEYOND { Some(member & !BEYOND) } else { None }
    }

    /// How many have the key of the group that `members` begins in, from there on.
    pub(super) fn count(members: &[u32]) -> u64 {
        let rest = members.iter().skip(1).take_while(|member| !Self::is_first(**member));
        members.iter().take(1).chain(rest).map(|member| u64::from(Self::more(*member).unwrap_or(1))).sum()
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
        let (mut others, mut beyond) = (Vec::new(), 0);
        for at in start.. {
            let Some(found) = member(at)?.filter(|member| at == start || !Self::is_first(*member)) else { break };
            match Self::more(found) {
                Some(more) => beyond = more,
                None if at == position => {}
                None => others.push(self.ruled.get(Self::index(found) as usize)?),
            }
        }
        Ok(Some(Matched { primary: self.ruled.get(primary as usize)?, others, beyond }))
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

    /// The others for the same value, strongest action first, as many as are kept; some may have expired.
    pub fn others(&self) -> impl Iterator<Item = &Ruled> {
        self.others.iter()
    }

    /// How many more there are, which are not kept.
    #[must_use]
    pub const fn beyond(&self) -> u32 {
        self.beyond
    }
}
