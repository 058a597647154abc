//! What a host says of itself.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// How it goes with the organisation's policy on a host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PolicyState {
    /// The organisation that the host is enrolled with.
    pub tenant: Option<String>,
    /// The group.
    pub group: Option<String>,
    /// Serial of the policy in force.
    pub serial: Option<u64>,
    /// Its digest.
    pub sha256: Option<String>,
    /// When it was taken.
    pub accepted: Option<Timestamp>,
    /// Why the latest one that was seen is not in force.
    pub refused: Option<String>,
    /// Why nobody vouches for the one in force any more.
    pub stale: Option<String>,
}

/// What a host says of itself every so often, and when something changes. `cordon fleet status` shows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// Version of this form: 1.
    pub schema: u32,
    /// The host, as the subject has it: the bus lets nobody else write there.
    pub host: String,
    /// When it was sent.
    pub time: Timestamp,
    /// The next one comes within so many seconds.
    pub next_seconds: u64,
    /// Of the agent.
    pub version: String,
    /// Of the running kernel.
    pub kernel: String,
    /// How it goes with the organisation's policy.
    #[serde(flatten)]
    pub policy: PolicyState,
    /// `monitor` or `enforce`.
    pub mode: String,
    /// The live generation.
    pub generation: Option<u32>,
    /// Entries of its tables.
    pub entries: u64,
    /// Hits that were blocked or killed, as the kernel counts them.
    pub blocked: u64,
    /// Hits that were reported, those that mode `monitor` let pass among them.
    pub reported: u64,
    /// Numbers and details of what is wrong.
    pub faults: Vec<String>,
}

/// A host is silent when it missed so many.
const MISSED: i64 = 3;

impl Heartbeat {
    /// Whether the host was not heard of for too long.
    #[must_use]
    pub fn is_silent(&self, now: Timestamp) -> bool {
        let patience = i64::try_from(self.next_seconds).unwrap_or(i64::MAX / MISSED).saturating_mul(MISSED);
        now.duration_since(self.time) > SignedDuration::from_secs(patience)
    }
}
