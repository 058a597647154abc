//! From an entry back to the indicators behind it.

use crate::policy::Ruled;

/// Marks the first member of a group.
const FIRST: u32 = 1 << 31;

/// For each entry of one generation, whose intelligence it is.
#[derive(Debug, Default)]
pub struct Provenance {
    ruled: Vec<Ruled>,
    /// Indexes into `ruled`, those with one key side by side, the first of them marked with [`FIRST`].
    members: Vec<u32>,
    /// 1 + position in `members` of what each entry stands for first of all; 0 for none.
    entries: Vec<u32>,
}

/// What an entry stands for.
#[derive(Clone, Copy, Debug)]
pub struct Matched<'a> {
    ruled: &'a [Ruled],
    group: &'a [u32],
    primary: u32,
}

impl Provenance {
    pub(super) const fn new(ruled: Vec<Ruled>, members: Vec<u32>, entries: Vec<u32>) -> Self {
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
    #[must_use]
    pub fn get(&self, entry: u32) -> Option<Matched<'_>> {
        let position = (*self.entries.get(entry as usize)?).checked_sub(1)? as usize;
        let primary = self.members.get(position)? & !FIRST;
        let start = self.members.get(..=position)?.iter().rposition(|member| Self::is_first(*member))?;
        let after = self.members.get(start + 1..)?;
        let others = after.iter().position(|member| Self::is_first(*member)).unwrap_or(after.len());
        Some(Matched { ruled: &self.ruled, group: self.members.get(start..=start + others)?, primary })
    }

    /// Everything that was compiled or could not be, in the order in which the policy gave it.
    #[must_use]
    pub fn ruled(&self) -> &[Ruled] {
        &self.ruled
    }
}

impl<'a> Matched<'a> {
    /// The one that decides: of those with the entry's action the one that lives longest, then the most confident, then the
    /// first by source and id.
    #[must_use]
    pub fn primary(&self) -> Option<&'a Ruled> {
        self.ruled.get(self.primary as usize)
    }

    /// All others for the same value, strongest action first; some may have expired.
    pub fn others(&self) -> impl Iterator<Item = &'a Ruled> {
        let (ruled, primary) = (self.ruled, self.primary);
        let others = self.group.iter().map(|member| member & !FIRST).filter(move |member| *member != primary);
        others.filter_map(|member| ruled.get(member as usize))
    }
}
