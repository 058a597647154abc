//! Whether an address is what a listed name led this process to.

use core::ptr::read_volatile;

use agent_common::image::{self, Found};
use agent_common::wire::LearnedKey;

use super::destination::Target;
use crate::clock::boot_ns;
use crate::image::Generation;
use crate::kmem::task;
use crate::maps::{LEARNED, LEARNED_UNTIL};

/// The name that led here, if it is one of this generation. Where nothing was ever learned it costs one load.
#[inline(always)]
pub fn find(generation: &Generation, target: &Target) -> Option<Found> {
    let until = LEARNED_UNTIL.get_ptr(0)?;
    // SAFETY: a live map value.
    let until = unsafe { read_volatile(until) };
    if until == 0 {
        return None;
    }
    let now = boot_ns();
    if until < now {
        return None;
    }
    let (start_boot_ns, pid) = task::key();
    let learned =
        LEARNED.get_ptr(LearnedKey { high: target.high, low: target.low, start_boot_ns, pid, reserved: 0 })?;
    // SAFETY: a live map value.
    let learned = unsafe { read_volatile(learned) };
    let generation = image::generation(generation).ok()?;
    let is_fresh = learned.generation == generation && learned.until_boot_ns > now;
    is_fresh.then_some(Found { generation, entry: learned.entry })
}
