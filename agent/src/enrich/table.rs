//! The process table: who runs what, since when, and whose child that is.

use std::collections::HashMap;
use std::num::NonZeroUsize;

use lru::LruCache;

use crate::event::{FileKey, FileStamp, ProcessKey};
use crate::host::StartTick;

/// Images remembered of one process: the latest and what it ran before, for hits that are told late.
const MAX_IMAGES: usize = 4;
/// A process that was alive this short a time ago still owns its pid: no host goes through all pids as fast (32,768 at
/// the least).
const ALIVE_NS: u64 = 1_000_000_000;

/// A process by pid and start, in the resolution that `/proc` has too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Started {
    pub(super) pid: u32,
    pub(super) tick: StartTick,
}

impl Started {
    /// `None` when the kernel could not tell the start: such a process cannot be told from one that had its pid before.
    pub(super) fn from_key(key: ProcessKey) -> Option<Self> {
        (key.start_boot_ns != 0).then(|| Self { pid: key.pid, tick: StartTick::from_boot_ns(key.start_boot_ns) })
    }
}

/// What a process ran from some moment on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) since_ns: u64,
    pub(super) exe: Option<String>,
    pub(super) args: Vec<String>,
    pub(super) sha256: Option<[u8; 32]>,
    pub(super) file: Option<(FileKey, FileStamp)>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ppid: u32,
    pub(super) parent: Option<Started>,
    latest: Image,
    /// Older ones, the newest last.
    before: Vec<Image>,
    seen_ns: u64,
}

impl Entry {
    pub(super) fn latest(&self) -> &Image {
        &self.latest
    }

    /// What the process ran at that moment, if that is known.
    pub(super) fn image_at(&self, boot_ns: u64) -> Option<&Image> {
        if self.latest.since_ns <= boot_ns {
            return Some(&self.latest);
        }
        self.before.iter().rev().find(|image| image.since_ns <= boot_ns)
    }
}

#[derive(Debug)]
pub(super) struct Table {
    entries: LruCache<Started, Entry>,
    /// The starts of the entries with that pid, oldest first: more than one after the pid was reused.
    by_pid: HashMap<u32, Vec<StartTick>>,
    evicted: u64,
}

impl Table {
    pub(super) fn new(capacity: NonZeroUsize) -> Self {
        Self { entries: LruCache::new(capacity), by_pid: HashMap::new(), evicted: 0 }
    }

    pub(super) fn evicted(&self) -> u64 {
        self.evicted
    }

    pub(super) fn get(&mut self, started: Started) -> Option<&Entry> {
        self.entries.get(&started)
    }

    /// As `get`, without making it the most recently used.
    pub(super) fn peek(&self, started: Started) -> Option<&Entry> {
        self.entries.peek(&started)
    }

    /// A new image of a process, known or not.
    pub(super) fn insert(&mut self, started: Started, ppid: u32, parent: Option<Started>, image: Image, seen_ns: u64) {
        if let Some(entry) = self.entries.get_mut(&started) {
            let earlier = std::mem::replace(&mut entry.latest, image);
            entry.before.push(earlier);
            if entry.before.len() >= MAX_IMAGES {
                entry.before.remove(0);
            }
            entry.ppid = ppid;
            entry.parent = parent.or(entry.parent.filter(|known| known.pid == ppid));
            entry.seen_ns = entry.seen_ns.max(seen_ns);
            return;
        }
        let entry = Entry { ppid, parent, latest: image, before: Vec::new(), seen_ns };
        if let Some((gone, _)) = self.entries.push(started, entry) {
            self.evicted += 1;
            if let Some(ticks) = self.by_pid.get_mut(&gone.pid) {
                ticks.retain(|tick| *tick != gone.tick);
                if ticks.is_empty() {
                    self.by_pid.remove(&gone.pid);
                }
            }
        }
        let ticks = self.by_pid.entry(started.pid).or_default();
        let place = ticks.partition_point(|tick| *tick < started.tick);
        ticks.insert(place, started.tick);
    }

    /// The process with that pid that is no younger than `child` and was certainly alive around `boot_ns`.
    pub(super) fn recent(&self, pid: u32, child: StartTick, boot_ns: u64) -> Option<Started> {
        let tick = *self.by_pid.get(&pid)?.iter().rev().find(|tick| **tick <= child)?;
        let started = Started { pid, tick };
        let seen = self.entries.peek(&started)?.seen_ns;
        (seen.saturating_add(ALIVE_NS) >= boot_ns).then_some(started)
    }

    /// The process was alive at that moment.
    pub(super) fn see(&mut self, started: Started, boot_ns: u64) {
        if let Some(entry) = self.entries.get_mut(&started) {
            entry.seen_ns = entry.seen_ns.max(boot_ns);
        }
    }

    pub(super) fn set_parent(&mut self, started: Started, parent: Option<Started>) {
        if let Some(entry) = self.entries.peek_mut(&started) {
            entry.parent = parent;
        }
    }

    /// The latest image is known to have run since that earlier moment.
    pub(super) fn backdate(&mut self, started: Started, since_ns: u64) {
        if let Some(entry) = self.entries.peek_mut(&started) {
            entry.latest.since_ns = entry.latest.since_ns.min(since_ns);
        }
    }

    pub(super) fn set_digest(&mut self, started: Started, file: FileKey, sha256: [u8; 32]) {
        let Some(entry) = self.entries.peek_mut(&started) else { return };
        let images = std::iter::once(&mut entry.latest).chain(&mut entry.before);
        for image in images.filter(|image| image.file.is_some_and(|(key, _)| key == file)) {
            image.sha256 = Some(sha256);
        }
    }
}
