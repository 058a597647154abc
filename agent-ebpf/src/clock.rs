//! What time it is, and whether Cordon is switched on.

use agent_common::wire::{Config, Mode};
use aya_ebpf::helpers::generated::bpf_ktime_get_boot_ns;

use crate::maps::CONFIG;

const NANOSECONDS: u64 = 1_000_000_000;

/// The configuration at the moment of a decision.
#[derive(Clone, Copy)]
pub struct Now {
    /// Nanoseconds since boot.
    pub boot_ns: u64,
    /// Seconds since the epoch, what an expiry is compared with.
    pub wall_s: u32,
    /// The configuration; it lives as long as the program's map.
    pub config: &'static Config,
}

/// The configuration; `None` when there is none yet, or when the agent is switched off.
#[inline(always)]
pub fn switched_on() -> Option<&'static Config> {
    let config = CONFIG.get(0)?;
    if config.off_until_boot_ns != 0 && config.off_until_boot_ns > boot_ns() {
        return None;
    }
    Some(config)
}

/// Nanoseconds since boot.
#[inline(always)]
pub fn boot_ns() -> u64 {
    // SAFETY: the helper takes nothing and has no failure.
    unsafe { bpf_ktime_get_boot_ns() }
}

impl Now {
    /// `None` when there is no configuration yet, or when the agent is switched off.
    #[inline(always)]
    pub fn read() -> Option<Self> {
        switched_on().map(Self::with)
    }

    /// Asks the clock, which costs a third of what looking an unlisted address up does.
    #[inline(always)]
    pub fn with(config: &'static Config) -> Self {
        let boot_ns = boot_ns();
        let wall_s = (boot_ns.wrapping_add(config.wall_minus_boot_ns) / NANOSECONDS) as u32;
        Self { boot_ns, wall_s, config }
    }

    /// Whether a `block` entry blocks.
    #[inline(always)]
    pub fn enforces(&self) -> bool {
        self.config.mode == Mode::Enforce as u32
    }
}
