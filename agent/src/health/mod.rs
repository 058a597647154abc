//! What the agent knows about itself: named counters, numbered faults, stage liveness. A leaf that all rooms may use.
//!
//! [`Health`] is a handle: clones share one state. Everything here is safe to call from any thread and none of it waits
//! for anything but a short lock that is never held across I/O.

pub mod fault;
mod stage;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;

pub use fault::Fault;
pub use stage::{Stage, StageState};

/// A count that only grows, shared by all who ask for its name.
#[derive(Clone, Debug, Default)]
pub struct Counter(Arc<AtomicU64>);

impl Counter {
    /// Adds `count`.
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    /// Overwrites the count, for one that mirrors a counter kept elsewhere (in the kernel, say).
    pub fn set(&self, count: u64) {
        self.0.store(count, Ordering::Relaxed);
    }

    /// The count so far.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A fault that is there now, as `cordon status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RaisedFault {
    /// `C…`, see docs/faults.md.
    pub number: &'static str,
    /// The fault in a few words.
    pub title: &'static str,
    /// What it concerns (a source's name, a hook, a path); empty when there is only one of it.
    pub subject: String,
    /// What exactly went wrong, at the latest time it was raised.
    pub detail: String,
    /// What is not enforced, or not recorded, while it lasts.
    pub effect: &'static str,
    /// What to do.
    pub fix: &'static str,
    /// When it was first raised since it was last clear.
    pub since: Timestamp,
    /// How often it was raised since then.
    pub times: u64,
}

/// All of it at one moment.
#[derive(Clone, Debug, Serialize)]
pub struct Snapshot {
    /// By name.
    pub counters: BTreeMap<String, u64>,
    /// By number and subject.
    pub faults: Vec<RaisedFault>,
    /// By name.
    pub stages: BTreeMap<String, StageState>,
}

#[derive(Debug)]
struct Raised {
    detail: String,
    since: Timestamp,
    times: u64,
}

#[derive(Debug, Default)]
struct State {
    counters: Mutex<BTreeMap<String, Counter>>,
    faults: Mutex<BTreeMap<(Fault, String), Raised>>,
    stages: Mutex<BTreeMap<String, Stage>>,
}

/// The shared state of the agent's health.
#[derive(Clone, Debug, Default)]
pub struct Health(Arc<State>);

/// A panic while the lock was held leaves plain counts behind, which are still good to read.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Health {
    /// A state with no counter, no fault and no stage.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The counter of that name (dotted, lower case: `journal.lost.queue_full`), made at 0 on first use.
    #[must_use]
    pub fn counter(&self, name: &str) -> Counter {
        lock(&self.0.counters).entry(name.to_owned()).or_default().clone()
    }

    /// Raises `fault` for `subject` (empty when there is only one of it), or counts it once more and takes the new detail.
    /// The first time, and only then, it is also logged: a fault that lasts must not flood the log.
    pub fn raise(&self, fault: Fault, subject: &str, detail: impl Into<String>) {
        let detail = detail.into();
        let is_new = {
            let mut faults = lock(&self.0.faults);
            let raised = faults.entry((fault, subject.to_owned())).or_insert_with(|| Raised {
                detail: String::new(),
                since: Timestamp::now(),
                times: 0,
            });
            raised.detail.clone_from(&detail);
            raised.times = raised.times.saturating_add(1);
            raised.times == 1
        };
        if is_new {
            tracing::error!(fault = fault.number(), subject, "{}: {detail}", fault.title());
        }
    }

    /// Clears `fault` for `subject`; returns whether it was raised.
    pub fn clear(&self, fault: Fault, subject: &str) -> bool {
        let was_raised = lock(&self.0.faults).remove(&(fault, subject.to_owned())).is_some();
        if was_raised {
            tracing::info!(fault = fault.number(), subject, "over: {}", fault.title());
        }
        was_raised
    }

    /// Clears `fault` for every subject.
    pub fn clear_all(&self, fault: Fault) {
        let subjects: Vec<String> = lock(&self.0.faults)
            .keys()
            .filter(|(raised, _)| *raised == fault)
            .map(|(_, subject)| subject.clone())
            .collect();
        for subject in subjects {
            self.clear(fault, &subject);
        }
    }

    /// Whether `fault` is raised, for any subject.
    #[must_use]
    pub fn is_raised(&self, fault: Fault) -> bool {
        lock(&self.0.faults).keys().any(|(raised, _)| *raised == fault)
    }

    /// The faults that are there now, by number and subject.
    #[must_use]
    pub fn faults(&self) -> Vec<RaisedFault> {
        lock(&self.0.faults)
            .iter()
            .map(|((fault, subject), raised)| RaisedFault {
                number: fault.number(),
                title: fault.title(),
                subject: subject.clone(),
                detail: raised.detail.clone(),
                effect: fault.effect(),
                fix: fault.fix(),
                since: raised.since,
                times: raised.times,
            })
            .collect()
    }

    /// Registers a stage that promises to [`Stage::tick`] at least every `period`; a stage of that name is replaced.
    #[must_use]
    pub fn stage(&self, name: &str, period: Duration) -> Stage {
        let stage = Stage::new(period);
        lock(&self.0.stages).insert(name.to_owned(), stage.clone());
        stage
    }

    /// The names of the stages that have not ticked for longer than their own period and `grace` together. The watchdog is
    /// fed only while this is empty. A stage that ended ([`Stage::end`]) is not waited for.
    #[must_use]
    pub fn stalled(&self, grace: Duration) -> Vec<String> {
        let now = Instant::now();
        lock(&self.0.stages)
            .iter()
            .filter(|(_, stage)| stage.is_stalled(now, grace))
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// All of it at one moment, for `cordon status`.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let now = Instant::now();
        Snapshot {
            counters: lock(&self.0.counters).iter().map(|(name, counter)| (name.clone(), counter.get())).collect(),
            faults: self.faults(),
            stages: lock(&self.0.stages).iter().map(|(name, stage)| (name.clone(), stage.state(now))).collect(),
        }
    }
}
