//! The document of `cordon status`, as far as metrics are made of it. What an agent that is switched off does not say is absent.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

/// The document.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    pub(super) version: String,
    pub(super) mode: String,
    pub(super) started: Option<Timestamp>,
    pub(super) generation: Option<u32>,
    pub(super) published: Option<Timestamp>,
    pub(super) policy: Option<Policy>,
    pub(super) tables: Option<Tables>,
    pub(super) hits: Option<Hits>,
    #[serde(default)]
    pub(super) sources: Vec<Source>,
    pub(super) sightings: Option<Sightings>,
    #[serde(default)]
    pub(super) hooks: Vec<Hook>,
    /// What the kernel counts.
    #[serde(default)]
    pub(super) counters: BTreeMap<String, u64>,
    /// What the agent counts; a count is not there before its first.
    losses: Option<BTreeMap<String, u64>>,
    #[serde(default)]
    pub(super) stages: BTreeMap<String, Stage>,
    #[serde(default)]
    pub(super) faults: Vec<Fault>,
}

impl Status {
    /// What the agent counted by that name so far; `None` when it does not count, being switched off. A count that is not there yet
    /// is 0, so that the first is an increase to whoever compares.
    pub(super) fn count(&self, name: &str) -> Option<f64> {
        self.losses.as_ref().map(|losses| losses.get(name).map_or(0.0, |count| *count as f64))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Policy {
    pub(super) serial: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tables {
    pub(super) bytes: u64,
    pub(super) spaces: Vec<Space>,
    pub(super) excepted: u64,
    pub(super) not_enforced: Vec<Unenforced>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Space {
    pub(super) table: String,
    pub(super) entries: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Unenforced {
    pub(super) reason: String,
    pub(super) count: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Hits {
    pub(super) recorded: u64,
    pub(super) unrecorded: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Source {
    pub(super) name: String,
    pub(super) age_seconds: Option<i64>,
    pub(super) outcome: BTreeMap<String, u64>,
    pub(super) skipped: BTreeMap<String, u64>,
    pub(super) error: Option<String>,
    pub(super) fetch: Option<Fetch>,
}

impl Source {
    /// Whether the last attempt to read it, and to fetch it where it is fetched, succeeded.
    pub(super) fn is_good(&self) -> bool {
        self.error.is_none() && self.fetch.as_ref().is_none_or(|fetch| fetch.error.is_none())
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Fetch {
    pub(super) error: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Sightings {
    pub(super) destinations: Vec<Destination>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Destination {
    pub(super) name: String,
    pub(super) sent: u64,
    pub(super) waiting: u64,
    pub(super) refused: u64,
    pub(super) dropped: u64,
    #[serde(default)]
    pub(super) withheld: BTreeMap<String, u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Hook {
    pub(super) hook: String,
    pub(super) state: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Stage {
    pub(super) idle_ms: Option<u64>,
    pub(super) period_ms: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Fault {
    pub(super) number: String,
}
