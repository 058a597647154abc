//! The current generation as the lookup code of agent-common wants it.

use agent_common::image::{Block, Blocks};

use crate::maps::{GENERATIONS, Image};

/// One generation: every read of a decision goes through the same reference, so none sees half of each.
#[derive(Clone, Copy)]
pub struct Generation(&'static Image);

impl Generation {
    /// The current one; `None` when nothing has been published.
    #[inline(always)]
    pub fn current() -> Option<Self> {
        GENERATIONS.get(0).map(Self)
    }
}

impl Blocks for Generation {
    #[inline(always)]
    fn block(&self, index: u32) -> Option<&Block> {
        self.0.get(index)
    }
}
