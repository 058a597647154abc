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

impl Now {
    /// `None` when there is no configuration yet, or when the agent is switched off.
    #[inline(always)]
    pub fn read() -> Option<Self> {
        let config = CONFIG.get(0)?;
        // SAFETY: the helper takes nothing and has no failure.
        let boot_ns = unsafe { bpf_ktime_get_boot_ns() };
        if config.off_until_boot_ns > boot_ns {
            return None;
        }
        let wall_s = (boot_ns.wrapping_add(config.wall_minus_boot_ns) / NANOSECONDS) as u32;
        Some(Self { boot_ns, wall_s, config })
    }

    /// Whether a `block` entry blocks.
    #[inline(always)]
    pub fn enforces(&self) -> bool {
        self.config.mode == Mode::Enforce as u32
    }
}
