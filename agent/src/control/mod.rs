//! The Unix socket between the daemon and the command line: one JSON request a connection, one JSON answer.
//!
//! root may ask for everything; members of the group that owns the socket may ask what changes nothing. Nobody else can
//! connect, by the socket's mode.

mod client;
mod server;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use thiserror::Error;

pub use client::{ask, is_running};
pub use server::{Handler, Server};

/// Bytes of a request, more than any verb needs.
const MAX_REQUEST: u64 = 64 << 10;

/// What the command line asks of the daemon.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verb", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// Mode, generation, sources, hooks, counters, faults.
    Status,
    /// What would happen to a value, and why.
    Explain {
        /// Address, endpoint, prefix, domain, URL, hash, path or record id.
        value: String,
    },
    /// The sources with what each gave.
    Sources,
    /// Read settings and all sources again.
    Reload,
    /// Read one source again, or all.
    Refresh {
        /// Its name.
        source: Option<String>,
    },
    /// Switch everything off for a while.
    Off {
        /// How long, seconds.
        seconds: u64,
        /// For the log.
        reason: String,
    },
    /// Switch on again.
    On,
    /// Add a local rule.
    AddRule {
        /// The rule.
        rule: LocalRule,
    },
    /// Remove the local rules for a value.
    RemoveRule {
        /// The value.
        value: String,
    },
}

/// A rule of this host's operator; it wins over every source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LocalRule {
    /// Address, endpoint, prefix, domain, hash or path.
    pub value: String,
    /// Block or allow.
    pub effect: Effect,
    /// When it ends by itself.
    pub until: Option<jiff::Timestamp>,
    /// For the log.
    pub reason: Option<String>,
}

/// What a local rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Block the value.
    Block,
    /// Never block the value.
    Allow,
}

impl Request {
    /// Whether it changes nothing, so that members of the group may ask it.
    #[must_use]
    pub const fn is_read_only(&self) -> bool {
        matches!(self, Self::Status | Self::Explain { .. } | Self::Sources)
    }
}

/// What the daemon answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// The document that the verb prints.
    Done(Value),
    /// Why not.
    Failed {
        /// What the daemon's refusal means to the caller.
        failure: Failure,
        /// In words.
        message: String,
    },
}

/// Kinds of refusal; the command line turns them into exit codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// It was tried and failed.
    Failed,
    /// Settings, policy or intelligence are invalid; what was in force stays so.
    Invalid,
    /// Not permitted, or not possible on this kernel.
    NotPossible,
}

impl Answer {
    /// A refusal.
    pub fn failed(failure: Failure, message: impl Into<String>) -> Self {
        Self::Failed { failure, message: message.into() }
    }
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no agent is running ({0}); start it with: systemctl start cordon")]
    NotRunning(String),
    /// The socket's mode forbids it.
    #[error("{0}: permission denied; run as root, or as a member of the group `cordon` for what changes nothing")]
    NotPermitted(String),
    /// The connection broke.
    #[error("the agent did not answer: {0}")]
    Broken(#[from] std::io::Error),
    /// Not JSON, or not what this version knows.
    #[error("the agent answered something this version does not know: {0}")]
    Unknown(#[from] serde_json::Error),
}

#[cfg(test)]
mod tests;
