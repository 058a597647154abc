//! Liveness of one stage: it ticks, and who watches sees when it last did.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

/// Ticks value of a stage that has ended on purpose.
const ENDED: u64 = u64::MAX;

/// A stage's handle; clones are the same stage.
#[derive(Clone, Debug)]
pub struct Stage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    started: Instant,
    period: Duration,
    /// Milliseconds after `started`, or [`ENDED`].
    last_tick: AtomicU64,
    ticks: AtomicU64,
}

/// A stage as `cordon status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageState {
    /// Ticks so far.
    pub ticks: u64,
    /// Milliseconds since the last one; `None` for a stage that ended on purpose.
    pub idle_ms: Option<u64>,
    /// Milliseconds within which it promises the next.
    pub period_ms: u64,
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(ENDED - 1)
}

impl Stage {
    pub(super) fn new(period: Duration) -> Self {
        Self(Arc::new(Inner {
            started: Instant::now(),
            period,
            last_tick: AtomicU64::new(0),
            ticks: AtomicU64::new(0),
        }))
    }

    /// Says that the stage made progress, or looked and found nothing to do.
    pub fn tick(&self) {
        self.0.last_tick.store(milliseconds(self.0.started.elapsed()), Ordering::Relaxed);
        self.0.ticks.fetch_add(1, Ordering::Relaxed);
    }

    /// Says that the stage ends on purpose: it is no longer waited for.
    pub fn end(&self) {
        self.0.last_tick.store(ENDED, Ordering::Relaxed);
    }

    fn idle(&self, now: Instant) -> Option<Duration> {
        match self.0.last_tick.load(Ordering::Relaxed) {
            ENDED => None,
            tick => Some(now.saturating_duration_since(self.0.started + Duration::from_millis(tick))),
        }
    }

    pub(super) fn is_stalled(&self, now: Instant, grace: Duration) -> bool {
        self.idle(now).is_some_and(|idle| idle > self.0.period + grace)
    }

    pub(super) fn state(&self, now: Instant) -> StageState {
        StageState {
            ticks: self.0.ticks.load(Ordering::Relaxed),
            idle_ms: self.idle(now).map(milliseconds),
            period_ms: milliseconds(self.0.period),
        }
    }
}
