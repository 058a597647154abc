//! The local log: every hit is a record, kept in SQLite files of bounded number and size (docs/journal.md).
//!
//! [`Journal`] writes, one file per segment, so that bounding the disk is deleting the oldest file. [`Writer`] is the stage
//! that does so on a thread of its own. [`Reader`] reads beside a live writer, or without one.

mod batch;
mod chain;
mod contacts;
mod head;
mod mirror;
mod packed;
mod plan;
mod query;
mod reader;
mod row;
mod segment;
mod store;
mod verify;
mod writer;

#[cfg(test)]
mod tests;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub use contacts::{Contacts, Met, Seen};
pub use mirror::MirrorSettings;
pub use query::{Destination, DestinationParseError, Order, Query};
pub use reader::{Cursor, Follow, Followed, Reader, Records};
pub use store::Journal;
pub use verify::{Breach, Break, Verification};
pub use writer::{Offered, QUEUE, STAGE, Sink, Writer};

use crate::attribute::Finding;

/// What bounds the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Bytes at which a segment is closed and the next one begun; at least [`Limits::MIN_SEGMENT_BYTES`].
    pub segment_bytes: u64,
    /// Bytes that all segments together may take; at least four segments. The oldest go first.
    pub total_bytes: u64,
    /// Hours after which a segment is deleted, counted from its newest record.
    pub max_age_hours: u64,
}

impl Limits {
    /// Smaller segments would be mostly SQLite's own pages.
    pub const MIN_SEGMENT_BYTES: u64 = 256 << 10;

    /// `max_age_hours` as a duration.
    #[must_use]
    pub const fn max_age(&self) -> Duration {
        Duration::from_secs(self.max_age_hours.saturating_mul(3600))
    }

    fn check(&self) -> Result<(), JournalError> {
        if self.segment_bytes < Self::MIN_SEGMENT_BYTES {
            return Err(JournalError::Limits {
                name: "segment_bytes",
                value: self.segment_bytes,
                least: Self::MIN_SEGMENT_BYTES,
            });
        }
        let least = self.segment_bytes.saturating_mul(4);
        if self.total_bytes < least {
            return Err(JournalError::Limits { name: "total_bytes", value: self.total_bytes, least });
        }
        if self.max_age_hours == 0 {
            return Err(JournalError::Limits { name: "max_age_hours", value: 0, least: 1 });
        }
        Ok(())
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, total_bytes: 1 << 30, max_age_hours: 90 * 24 }
    }
}

/// Why records are missing from the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LossReason {
    /// The kernel's ring was full.
    RingFull,
    /// The writer's queue was full.
    QueueFull,
    /// The disk was full.
    DiskFull,
    /// The journal could not be written.
    WriteFailed,
    /// A record of the kernel could not be decoded.
    Undecodable,
    /// A segment was damaged, and with it what it held.
    SegmentDamaged,
}

impl LossReason {
    /// Every reason.
    pub const ALL: [Self; 6] =
        [Self::RingFull, Self::QueueFull, Self::DiskFull, Self::WriteFailed, Self::Undecodable, Self::SegmentDamaged];

    /// The name, as the journal keeps it and as in the counter `journal.lost.<name>`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::RingFull => "ring_full",
            Self::QueueFull => "queue_full",
            Self::DiskFull => "disk_full",
            Self::WriteFailed => "write_failed",
            Self::Undecodable => "undecodable",
            Self::SegmentDamaged => "segment_damaged",
        }
    }

    /// What happened, for people.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::RingFull => "the kernel's ring was full",
            Self::QueueFull => "the journal's queue was full",
            Self::DiskFull => "the disk was full",
            Self::WriteFailed => "the journal could not be written",
            Self::Undecodable => "the kernel's records could not be decoded",
            Self::SegmentDamaged => "a segment of the journal was damaged, and it is kept as `damaged-…`",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reason| reason.name() == name)
    }
}

/// Records known to be missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Why.
    pub reason: LossReason,
    /// How many.
    pub count: u64,
    /// Not before.
    pub from: Timestamp,
    /// Not after.
    pub to: Timestamp,
}

/// What the journal takes.
#[derive(Clone, Debug)]
pub enum Entry {
    /// A hit: a new record.
    Hit(Arc<Finding>),
    /// Repeats of a hit that was recorded before.
    Repeat {
        /// The hit as it was recorded; it is recorded again if its segment is no longer the one being written.
        of: Arc<Finding>,
        /// How many more.
        repeats: u64,
        /// The latest of them.
        last_time: Timestamp,
    },
    /// Records known to be missing.
    Loss(Loss),
}

impl Entry {
    /// How many hits are lost if the entry is.
    #[must_use]
    pub fn hits(&self) -> u64 {
        match self {
            Self::Hit(finding) => finding.count,
            Self::Repeat { repeats, .. } => *repeats,
            Self::Loss(_) => 0,
        }
    }
}

/// Why the journal cannot be opened, written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// A limit is too small.
    #[error("journal: {name} = {value} is too small: set at least {least}")]
    Limits {
        /// The setting.
        name: &'static str,
        /// What it says.
        value: u64,
        /// What it must at least say.
        least: u64,
    },
    /// There is no journal.
    #[error("no journal at {path}: has an agent run here? (--root DIR looks elsewhere)")]
    Missing {
        /// Its directory.
        path: PathBuf,
    },
    /// The caller may not read or write it.
    #[error("journal {path}: not permitted; run as root or as a member of the directory's group")]
    NotPermitted {
        /// Directory or segment.
        path: PathBuf,
    },
    /// Another agent writes it.
    #[error("journal {path}: another agent is writing it; stop that one or use --root DIR")]
    Locked {
        /// Its directory.
        path: PathBuf,
    },
    /// A file operation failed.
    #[error("journal {path}: cannot {action}: {source}")]
    File {
        /// Directory or file.
        path: PathBuf,
        /// What was attempted.
        action: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// SQLite failed.
    #[error("journal segment {path}: {source}")]
    Sqlite {
        /// The segment.
        path: PathBuf,
        /// Why it failed.
        source: rusqlite::Error,
    },
    /// A segment is torn or was changed from outside.
    #[error("journal segment {path} is damaged: {detail}; the agent sets it aside when it next starts")]
    Damaged {
        /// The segment.
        path: PathBuf,
        /// What is wrong with it.
        detail: String,
    },
    /// A segment was written by a newer Cordon.
    #[error("journal segment {path} has schema {found}; this Cordon reads up to {known}: use the newer one")]
    Newer {
        /// The segment.
        path: PathBuf,
        /// Its schema.
        found: i64,
        /// The newest known.
        known: i64,
    },
    /// No space is left, even after all older segments were deleted.
    #[error("journal {path}: the disk is full and there is no older segment to give up; free space there")]
    DiskFull {
        /// Its directory.
        path: PathBuf,
    },
    /// A record cannot be written as JSON or read from it.
    #[error("journal {path}: record {id}: {source}")]
    Record {
        /// Directory or segment.
        path: PathBuf,
        /// The record's id.
        id: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

/// Why a batch was not written to its end.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub struct WriteError {
    /// How many entries, from the first on, were written all the same.
    pub written: usize,
    /// What stopped the next one.
    pub source: JournalError,
}

impl JournalError {
    fn file(path: impl Into<PathBuf>, action: &'static str, source: io::Error) -> Self {
        let path = path.into();
        if source.kind() == io::ErrorKind::PermissionDenied {
            Self::NotPermitted { path }
        } else {
            Self::File { path, action, source }
        }
    }
}
