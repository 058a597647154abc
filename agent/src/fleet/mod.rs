//! The message bus: NATS with JetStream, in the organisation's own account there. It carries what was signed elsewhere, and is
//! trusted with nothing: policies are verified as from any other carrier, orders by the keys that the policy names.
//!
//! Names on the bus:
//!
//! | stream | subject | holds |
//! |---|---|---|
//! | `KV_cordon-policy` | `$KV.cordon-policy.metadata.FILE` | signed metadata |
//! | | `$KV.cordon-policy.targets.SHA256.N` | the N-th piece of a signed file |
//! | | `$KV.cordon-policy.news.…` | what hosts hear of at once: it is published again as `cordon.news.…` |
//! | `KV_cordon-hosts` | `$KV.cordon-hosts.HOST` | the latest heartbeat of a host |
//! | `cordon-findings` | `cordon.findings.HOST` | records, as JSON lines |

mod bus;
mod findings;
mod heartbeat;
mod orders;
mod repository;
mod setup;

pub use bus::{Bus, Heard};
pub use findings::{hosts, receive, send};
pub use heartbeat::{Heartbeat, PolicyState};
pub use orders::{Orders, Topic};
pub use orders::{give, given, orders};
pub use repository::{Pushed, open, push};
pub use setup::{Sizes, set_up};

use crate::http;

/// Bucket of what is signed.
const POLICY: &str = "cordon-policy";
/// Bucket of heartbeats.
const HOSTS: &str = "cordon-hosts";
/// Stream of records.
const FINDINGS: &str = "cordon-findings";
/// Begins the subjects that hosts listen to.
const NEWS: &str = "cordon.news";

/// Why the bus did not do what was asked of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A secret or certificate that cannot be used.
    #[error(transparent)]
    Access(#[from] http::Error),
    /// It is not there, or does not let us in.
    #[error("the bus {servers} cannot be reached: {why}")]
    Unreachable {
        /// Those that were tried.
        servers: String,
        /// Why.
        why: String,
    },
    /// It was asked and did not do it.
    #[error("the bus did not {what}: {why}")]
    Refused {
        /// What was asked.
        what: String,
        /// Why.
        why: String,
    },
    /// Streams are missing.
    #[error("the bus has no `{0}`; whoever runs it makes what Cordon needs there with `cordon fleet init`")]
    NotSetUp(&'static str),
    /// It has something newer.
    #[error("the bus has version {there} of the repository, and this is {here}; push the latest, or sign it again")]
    Older {
        /// On the bus.
        there: u64,
        /// In the directory.
        here: u64,
    },
    /// A file of this machine, or what it holds.
    #[error("{path}: {why}")]
    File {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        why: String,
    },
}
