//! The indicator image: an immutable array of 64-byte blocks that user space compiles and both sides read.

/// 64 bytes: one cache line, one element of the image's array map.
pub type Block = [u64; 8];

/// Reads block `index` of an image. In the kernel this is an array map lookup, on the host a slice.
pub trait Blocks {
    /// The block, or `None` past the end.
    fn block(&self, index: u32) -> Option<&Block>;
}

impl Blocks for [Block] {
    #[inline(always)]
    fn block(&self, index: u32) -> Option<&Block> {
        self.get(index as usize)
    }
}

/// What the policy says of an entry.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Never block, never report: an exception inside something broader.
    Allow = 0,
    /// Let pass and report.
    Report = 1,
    /// Block.
    Block = 2,
}

/// The most specific live entry for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Index into the generation's provenance.
    pub entry: u32,
    /// What to do.
    pub action: Action,
}
