//! What this host says of itself.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use agent_common::wire::Counter;
use jiff::Timestamp;

use crate::app::central;
use crate::app::shared::{Shared, read};
use crate::fleet::Heartbeat;
use crate::kernel::probe::kernel_release;

/// As it is now.
pub fn of(shared: &Shared, host: &str, interval: Duration) -> Heartbeat {
    let live = shared.live();
    let counters = read(&shared.kernel).counters().ok();
    let count = |counter| counters.as_ref().map_or(0, |counters| counters.get(counter));
    let faults = shared.health.faults();
    Heartbeat {
        schema: 1,
        host: host.to_owned(),
        time: Timestamp::now(),
        next_seconds: interval.as_secs(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: kernel_release(),
        policy: central::state(shared),
        mode: shared.mode().name().to_owned(),
        generation: live.as_ref().map(|live| live.generation),
        entries: live.as_ref().map_or(0, |live| live.summary.entries()),
        blocked: count(Counter::Blocked),
        reported: count(Counter::Reported),
        faults: faults.iter().map(|fault| format!("{} {}", fault.number, fault.detail)).collect(),
    }
}

/// What is told soon when it changes: not the counters, nor the time.
pub fn state(shared: &Shared) -> u64 {
    let generation = shared.live().map(|live| live.generation);
    let faults: Vec<(&str, String)> =
        shared.health.faults().into_iter().map(|fault| (fault.number, fault.detail)).collect();
    let mut hasher = DefaultHasher::new();
    (central::state(shared), shared.mode().name(), generation, faults).hash(&mut hasher);
    hasher.finish()
}
