//! What a file contains, by digest, read once for as long as it does not change.
//!
//! A digest is only as good as the proof that the file is still what was read. That proof is the [`FileStamp`], taken
//! before and after reading, and it holds under three conditions, each of which is checked:
//! - the file had come to rest: a write in the same tick of the kernel's clock would leave the same times (kernels before
//!   6.13), so a file that changed a moment ago is read a moment later;
//! - nobody had it open for writing: a page that is dirty already is written through a mapping without a new time;
//! - the filesystem stamps writes at all: memory filesystems do not, see [`WriteVisibility`].
//!
//! Where one does not hold the digest is returned, marked [`Reuse::Once`], and not remembered.

use std::fs::{File, Metadata};
use std::io;
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use agent_common::wire::{FileDigests, FileKey, FileStamp};
use lru::LruCache;
use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::device;
use crate::kernel::DigestKinds;
use crate::kernel::stat::{WriteVisibility, has_writer, write_visibility};

mod store;

/// Longer than one tick of the kernel's coarse clock at 100 Hz.
const REST: Duration = Duration::from_millis(20);
const CHUNK: usize = 256 << 10;

/// Which digests are wanted beside SHA-256, which always is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Algorithms {
    /// SHA-1 too.
    pub sha1: bool,
    /// MD5 too.
    pub md5: bool,
}

impl Algorithms {
    /// What is needed to compare with indicators of these kinds; `None` when there are none. SHA-256 names the file in records.
    #[must_use]
    pub fn for_kinds(kinds: DigestKinds) -> Option<Self> {
        kinds.any().then_some(Self { sha1: kinds.sha1, md5: kinds.md5 })
    }
}

/// Whether a digest may be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reuse {
    /// As long as the stamp is the same.
    WhileStampHolds,
    /// Not at all, for this reason.
    Once(Unstable),
}

/// Why a digest may not be used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unstable {
    /// Somebody has the file open for writing, or it cannot be told.
    Writer,
    /// The filesystem does not stamp every write.
    Unstamped,
    /// It changed within the last clock tick, or its times lie in the future.
    Recent,
}

/// A file that was read, now or earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digested {
    /// Which file, as the kernel names it.
    pub key: FileKey,
    /// What it contains.
    pub digests: FileDigests,
    /// Whether that may be remembered: only then does it belong into the kernel's map.
    pub reuse: Reuse,
}

/// Why there is no digest.
#[derive(Debug, thiserror::Error)]
pub enum DigestError {
    /// It cannot be read.
    #[error("cannot read the file: {0}")]
    Io(#[from] io::Error),
    /// It is larger than the limit.
    #[error("the file has {size} bytes, more than the {limit} that are hashed; raise the size limit to include it")]
    TooLarge {
        /// Its bytes.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// A directory, device, pipe or socket.
    #[error("not a regular file")]
    NotRegular,
    /// It changed while it was read, twice.
    #[error("the file changed while it was read, twice")]
    Changing,
    /// Reading was given up at the deadline.
    #[error("reading took longer than allowed")]
    TimedOut,
}

/// What a cache did since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct DigestCounters {
    /// Answered from memory.
    pub remembered: u64,
    /// Files read.
    pub read: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Refused as larger than the limit.
    pub too_large: u64,
    /// Given up because the file changed while it was read.
    pub changing: u64,
    /// Given up at the deadline.
    pub timed_out: u64,
    /// Read and not remembered, see [`Unstable`].
    pub unstable: u64,
    /// Could not be read.
    pub failed: u64,
}

/// Digests of files, the least recently used first out.
#[derive(Debug)]
pub struct DigestCache {
    entries: Mutex<LruCache<FileKey, FileDigests>>,
    limit_bytes: u64,
    remembered: AtomicU64,
    read: AtomicU64,
    bytes: AtomicU64,
    too_large: AtomicU64,
    changing: AtomicU64,
    timed_out: AtomicU64,
    unstable: AtomicU64,
    failed: AtomicU64,
}

impl DigestCache {
    /// An empty cache of `capacity` files that reads no file larger than `limit_bytes`.
    #[must_use]
    pub fn new(capacity: NonZeroUsize, limit_bytes: u64) -> Self {
        Self {
            entries: Mutex::new(LruCache::new(capacity)),
            limit_bytes,
            remembered: AtomicU64::new(0),
            read: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            too_large: AtomicU64::new(0),
            changing: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            unstable: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    /// What `file` contains. It is read through this descriptor, whose offset stays.
    ///
    /// # Errors
    /// See [`DigestError`]; each is counted.
    pub fn digest(&self, file: &File, wanted: Algorithms) -> Result<Digested, DigestError> {
        self.digest_until(file, wanted, None)
    }

    /// As [`DigestCache::digest`], given up at `deadline`.
    ///
    /// # Errors
    /// See [`DigestError`]; each is counted.
    pub fn digest_until(
        &self,
        file: &File,
        wanted: Algorithms,
        deadline: Option<Instant>,
    ) -> Result<Digested, DigestError> {
        let result = self.answer(file, wanted, deadline);
        let counter = match &result {
            Ok(Digested { reuse: Reuse::WhileStampHolds, .. }) => return result,
            Ok(_) => &self.unstable,
            Err(DigestError::TooLarge { .. }) => &self.too_large,
            Err(DigestError::Changing) => &self.changing,
            Err(DigestError::TimedOut) => &self.timed_out,
            Err(DigestError::Io(_) | DigestError::NotRegular) => &self.failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
        result
    }

    /// As [`DigestCache::digest`], of the file at `path`.
    ///
    /// # Errors
    /// See [`DigestError`]; each is counted.
    pub fn digest_path(&self, path: &Path, wanted: Algorithms) -> Result<Digested, DigestError> {
        let file = File::open(path).inspect_err(|_| {
            self.failed.fetch_add(1, Ordering::Relaxed);
        })?;
        self.digest(&file, wanted)
    }

    /// What is remembered of a file, if it is of these contents. Nothing is read.
    #[must_use]
    pub fn known(&self, key: FileKey, stamp: FileStamp) -> Option<FileDigests> {
        self.entries().get(&key).filter(|known| known.stamp == stamp).copied()
    }

    /// All that is remembered: what a new kernel map is filled with.
    #[must_use]
    pub fn all(&self) -> Vec<(FileKey, FileDigests)> {
        self.entries().iter().map(|(key, digests)| (*key, *digests)).collect()
    }

    /// What was done so far.
    #[must_use]
    pub fn counters(&self) -> DigestCounters {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        DigestCounters {
            remembered: count(&self.remembered),
            read: count(&self.read),
            bytes: count(&self.bytes),
            too_large: count(&self.too_large),
            changing: count(&self.changing),
            timed_out: count(&self.timed_out),
            unstable: count(&self.unstable),
            failed: count(&self.failed),
        }
    }

    fn entries(&self) -> std::sync::MutexGuard<'_, LruCache<FileKey, FileDigests>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self, file: &File, wanted: Algorithms, deadline: Option<Instant>) -> Result<Digested, DigestError> {
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(DigestError::NotRegular);
        }
        let key = FileKey { device: device::shared().of(file, metadata.dev()), inode: metadata.ino() };
        if let Some(digests) = self.known(key, stamp_of(&metadata)).filter(|known| has(known, wanted)) {
            self.remembered.fetch_add(1, Ordering::Relaxed);
            return Ok(Digested { key, digests, reuse: Reuse::WhileStampHolds });
        }
        for _attempt in 0..2 {
            if let Some((digests, reuse)) = self.read_once(file, wanted, deadline)? {
                if reuse == Reuse::WhileStampHolds {
                    self.entries().put(key, digests);
                }
                return Ok(Digested { key, digests, reuse });
            }
        }
        Err(DigestError::Changing)
    }

    /// `None` when the file changed while it was read.
    fn read_once(
        &self,
        file: &File,
        wanted: Algorithms,
        deadline: Option<Instant>,
    ) -> Result<Option<(FileDigests, Reuse)>, DigestError> {
        let (stamp, at_rest) = wait_for_rest(file, deadline)?;
        if stamp.size > self.limit_bytes {
            return Err(DigestError::TooLarge { size: stamp.size, limit: self.limit_bytes });
        }
        // Before reading: a writer that comes later has to fault and thereby changes the stamp.
        let reuse = if write_visibility(file)? == WriteVisibility::Unstamped {
            Reuse::Once(Unstable::Unstamped)
        } else if has_writer(file).unwrap_or(true) {
            Reuse::Once(Unstable::Writer)
        } else if !at_rest {
            Reuse::Once(Unstable::Recent)
        } else {
            Reuse::WhileStampHolds
        };
        self.read.fetch_add(1, Ordering::Relaxed);
        let digests = self.hash(file, wanted, stamp, deadline)?;
        Ok((stamp_of(&file.metadata()?) == stamp).then_some((digests, reuse)))
    }

    fn hash(
        &self,
        file: &File,
        wanted: Algorithms,
        stamp: FileStamp,
        deadline: Option<Instant>,
    ) -> Result<FileDigests, DigestError> {
        let mut sha256 = Sha256::new();
        let mut sha1 = wanted.sha1.then(Sha1::new);
        let mut md5 = wanted.md5.then(Md5::new);
        let mut chunk = vec![0; CHUNK];
        let mut offset = 0;
        loop {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(DigestError::TimedOut);
            }
            let length = match file.read_at(&mut chunk, offset) {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error.into()),
            };
            // A file that grows faster than it is read never ends; what lies beyond the stamp is a change anyhow.
            if length == 0 || offset > stamp.size {
                break;
            }
            let bytes = chunk.get(..length).unwrap_or_default();
            sha256.update(bytes);
            sha1.iter_mut().for_each(|state| state.update(bytes));
            md5.iter_mut().for_each(|state| state.update(bytes));
            offset += length as u64;
        }
        self.bytes.fetch_add(offset, Ordering::Relaxed);
        let mut flags = 0;
        flags |= if sha1.is_some() { FileDigests::SHA1 } else { 0 };
        flags |= if md5.is_some() { FileDigests::MD5 } else { 0 };
        Ok(FileDigests {
            stamp,
            sha256: sha256.finalize().into(),
            sha1: sha1.map_or([0; 20], |state| state.finalize().into()),
            md5: md5.map_or([0; 16], |state| state.finalize().into()),
            flags,
        })
    }
}

/// The stamp of a file, as the kernel half sees it.
#[must_use]
pub fn stamp_of(metadata: &Metadata) -> FileStamp {
    let nanoseconds = |seconds: i64, rest: i64| (seconds as u64).wrapping_mul(1_000_000_000).wrapping_add(rest as u64);
    FileStamp {
        size: metadata.size(),
        mtime_ns: nanoseconds(metadata.mtime(), metadata.mtime_nsec()),
        ctime_ns: nanoseconds(metadata.ctime(), metadata.ctime_nsec()),
    }
}

fn has(known: &FileDigests, wanted: Algorithms) -> bool {
    (!wanted.sha1 || known.flags & FileDigests::SHA1 != 0) && (!wanted.md5 || known.flags & FileDigests::MD5 != 0)
}

/// The stamp, and whether it is old enough that a later write must differ from it. Waits once, for at most [`REST`].
fn wait_for_rest(file: &File, deadline: Option<Instant>) -> Result<(FileStamp, bool), DigestError> {
    let stamp = stamp_of(&file.metadata()?);
    let age = age_of(&stamp);
    if age.is_some_and(|age| age >= REST) {
        return Ok((stamp, true));
    }
    let Some(age) = age else { return Ok((stamp, false)) };
    let pause = REST.saturating_sub(age);
    if deadline.is_some_and(|deadline| Instant::now() + pause >= deadline) {
        return Ok((stamp, false));
    }
    std::thread::sleep(pause);
    let stamp = stamp_of(&file.metadata()?);
    Ok((stamp, age_of(&stamp).is_some_and(|age| age >= REST)))
}

/// Time since the file last changed in any way; `None` when that lies in the future.
fn age_of(stamp: &FileStamp) -> Option<Duration> {
    SystemTime::now().duration_since(UNIX_EPOCH + Duration::from_nanos(stamp.ctime_ns)).ok()
}

#[cfg(test)]
mod tests;
