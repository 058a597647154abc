//! Numbers from rounds: their median, and how far they lie apart.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;

/// CPU time of the calling thread, in its own and in the kernel's code.
pub fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// One number a round.
#[derive(Clone, Debug, Default)]
pub struct Sample(Vec<f64>);

/// Half of the rounds lie between the quartiles.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Spread {
    /// The middle one.
    pub median: f64,
    /// A quarter lies below.
    pub lower: f64,
    /// A quarter lies above.
    pub upper: f64,
    /// How many.
    pub rounds: usize,
}

impl Sample {
    /// Takes the number of one more round.
    pub fn push(&mut self, value: f64) {
        self.0.push(value);
    }

    /// Round by round divided by another.
    pub fn over(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one / other).collect())
    }

    /// Round by round less another.
    pub fn minus(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(one, other)| one - other).collect())
    }

    /// The spread; zeros for no round at all.
    pub fn spread(&self) -> Spread {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let at = |part: f64| {
            let index = (part * sorted.len().saturating_sub(1) as f64).round() as usize;
            sorted.get(index).copied().unwrap_or(0.0)
        };
        Spread { median: at(0.5), lower: at(0.25), upper: at(0.75), rounds: sorted.len() }
    }
}
