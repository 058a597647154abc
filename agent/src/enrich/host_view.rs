//! The real host behind [`Surroundings`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Surroundings;
use crate::event::{FileKey, FileStamp};
use crate::host::process::{command_line, executable, open_executable, thread_name};
use crate::host::{Algorithms, CgroupPaths, DigestCache, ProcessSnapshot, StartTick, Users, clock, snapshot};

/// A hit is not held up longer than this for the digest of the program that did it.
const DIGEST_TIME: Duration = Duration::from_millis(500);
/// The wall clock is compared with the boot clock again after this long.
const CLOCK_AGE_NS: u64 = 1_000_000_000;

/// The host that this process runs on.
#[derive(Debug)]
pub struct HostView {
    users: Users,
    cgroups: CgroupPaths,
    digests: Arc<DigestCache>,
    /// Boot time of the comparison, and the difference.
    clock: Option<(u64, u64)>,
}

impl HostView {
    /// Looks at the host with these.
    #[must_use]
    pub fn new(users: Users, cgroups: CgroupPaths, digests: Arc<DigestCache>) -> Self {
        Self { users, cgroups, digests, clock: None }
    }
}

impl Surroundings for HostView {
    fn process(&mut self, pid: u32) -> Option<ProcessSnapshot> {
        snapshot(pid).ok().flatten()
    }

    fn executable(&mut self, pid: u32) -> Option<(String, FileKey)> {
        executable(pid)
    }

    fn command_line(&mut self, pid: u32, start: StartTick, file: FileKey) -> Option<String> {
        command_line(pid, start, file)
    }

    fn thread_name(&mut self, pid: u32, tid: u32) -> Option<String> {
        thread_name(pid, tid)
    }

    fn user(&mut self, uid: u32) -> Option<Arc<str>> {
        self.users.name(uid)
    }

    fn cgroup(&mut self, id: u64) -> Option<Arc<str>> {
        self.cgroups.path(id)
    }

    fn known_sha256(&mut self, file: FileKey, stamp: FileStamp) -> Option<[u8; 32]> {
        self.digests.known(file, stamp).map(|digests| digests.sha256)
    }

    fn executable_sha256(&mut self, pid: u32, start: StartTick) -> Option<[u8; 32]> {
        let file = open_executable(pid, start)?;
        let deadline = Instant::now() + DIGEST_TIME;
        let found = self.digests.digest_until(&file, Algorithms::default(), Some(deadline)).ok()?;
        Some(found.digests.sha256)
    }

    fn boot_ns(&mut self) -> u64 {
        clock::boot_ns().unwrap_or(0)
    }

    fn wall_minus_boot_ns(&mut self) -> u64 {
        let now = self.boot_ns();
        if let Some((at, difference)) = self.clock
            && now.saturating_sub(at) < CLOCK_AGE_NS
        {
            return difference;
        }
        let difference = clock::wall_minus_boot_ns().unwrap_or(0);
        self.clock = Some((now, difference));
        difference
    }
}
