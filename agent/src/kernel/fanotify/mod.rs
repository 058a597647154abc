//! Exec by digest where the kernel cannot decide alone: fanotify `FAN_OPEN_EXEC_PERM`, answered in user space.
//!
//! This is the one place where a process stands in the way of a system call, so it is built to step aside:
//! - the descriptor is held by a child process of its own ([`run_guard`]), never by the daemon. When the child dies, is
//!   killed or loses the daemon, the kernel closes the descriptor and allows whatever waits;
//! - in the child, threads of their own read events, judge, and watch the clock: an exec that is not judged within
//!   [`GuardOptions::deadline_ms`] is allowed and counted;
//! - the daemon ([`ExecGuard`]) kills a child that stops reporting progress, and starts another.
//!
//! It sees neither a `memfd`, nor a library, nor `sh script`, nor `ld.so program`, nor files on filesystems that are only
//! mounted in other mount namespaces.

mod frame;
mod guard;
mod marks;
mod raw;
mod supervisor;

use std::fs::File;
use std::path::PathBuf;
use std::time::Instant;

use agent_common::wire::ExecRecord;
use serde::{Deserialize, Serialize};

pub use guard::{GuardError, run_guard};
pub(super) use raw::probe;
pub use supervisor::{ExecGuard, GuardCommand, GuardReport};

/// How the guard works; the daemon sends it to the child.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardOptions {
    /// Milliseconds after which an exec that is not judged is allowed.
    pub deadline_ms: u64,
    /// Threads that judge, 1..=64.
    pub workers: usize,
    /// Execs that wait for a thread, 1..=512; more are allowed at once and counted.
    pub backlog: usize,
    /// A path on each filesystem to watch; `None` for every one that is mounted and can hold programs.
    pub filesystems: Option<Vec<PathBuf>>,
    /// Milliseconds without a sign of progress after which the daemon replaces the child.
    pub stall_ms: u64,
    /// For whoever makes the [`Judge`]: its own options.
    pub judge: serde_json::Value,
}

impl Default for GuardOptions {
    fn default() -> Self {
        let judge = serde_json::Value::Null;
        Self { deadline_ms: 2000, workers: 4, backlog: 256, filesystems: None, stall_ms: 3000, judge }
    }
}

/// What is to become of an exec.
#[derive(Debug)]
pub enum Judgement {
    /// Let it go on.
    Allow,
    /// Let it go on, and journal this: an indicator matched, and no exec hook follows that would say so.
    Report(Box<ExecRecord>),
    /// Fail it with `EPERM`, and journal this.
    Deny(Box<ExecRecord>),
}

/// Why an exec could not be judged. It is allowed and counted by this reason.
#[derive(Debug, thiserror::Error)]
#[error("{reason}: {detail}")]
pub struct JudgeFailure {
    /// A name to count under, such as `too_large`.
    pub reason: &'static str,
    /// What exactly.
    pub detail: String,
}

/// Decides about execs. Called from several threads at once.
pub trait Judge: Send + Sync + 'static {
    /// Whether execs by this process are of interest. Called for every exec, before anything else, so it must be quick.
    fn applies(&self, pid: u32) -> bool;
    /// Decides about the exec of `file` by the process `pid`, which waits meanwhile. An answer after `deadline` is not heard.
    ///
    /// # Errors
    /// The file cannot be judged.
    fn judge(&self, pid: u32, file: &File, deadline: Instant) -> Result<Judgement, JudgeFailure>;
}

/// What the guard did since it was started; each status replaces the one before.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// Execs asked about.
    pub asked: u64,
    /// Allowed without being judged: out of scope, or the agent's own program.
    pub passed_over: u64,
    /// Judged and allowed.
    pub allowed: u64,
    /// Judged and denied.
    pub denied: u64,
    /// Allowed because the deadline had come.
    pub deadline_missed: u64,
    /// Allowed because too many waited.
    pub overloaded: u64,
    /// Times the kernel's queue was full; it allows what does not fit.
    pub queue_overflows: u64,
    /// Events that the kernel could not hand over, for which it denies the exec.
    pub unreadable_events: u64,
    /// Hits whose record could not be sent to the daemon.
    pub records_lost: u64,
    /// Allowed because it could not be judged, by reason.
    pub failures: std::collections::BTreeMap<String, u64>,
    /// Filesystems watched.
    pub filesystems: u64,
    /// Filesystems that cannot be watched, with the reason.
    pub unwatched: Vec<String>,
}

impl GuardStatus {
    /// Execs that were let pass though they should have been judged.
    #[must_use]
    pub fn unjudged(&self) -> u64 {
        self.deadline_missed + self.overloaded + self.queue_overflows + self.failures.values().sum::<u64>()
    }
}
