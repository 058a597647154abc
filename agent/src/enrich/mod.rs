//! Event and host → [`Observation`]: who did it, in full, and when by the clock on the wall.
//!
//! The [`Enricher`] owns the process table. It must see the exec events in order, and **before** it is given a hit, all
//! exec events that the kernel wrote before that hit: drain the exec ring after taking hits from theirs, then observe
//! the hits.

use std::sync::Arc;

use jiff::Timestamp;

use crate::event::{Action, Event, FileKey, FileStamp, Hook, Task, Verdict};
use crate::host::{ProcessSnapshot, StartTick, container_of, unit_of};

mod host_view;
mod table;

pub use host_view::HostView;
use table::{Image, Started, Table};

/// Ancestors named at most.
const MAX_ANCESTORS: usize = 16;

/// What enrichment asks of the host. Whatever cannot be told is `None`; nothing is guessed.
pub trait Surroundings {
    /// The process `pid` as it is now.
    fn process(&mut self, pid: u32) -> Option<ProcessSnapshot>;
    /// Path and identity of what `pid` runs now.
    fn executable(&mut self, pid: u32) -> Option<(String, FileKey)>;
    /// All arguments of a process that still runs that file, with a space between each two.
    fn command_line(&mut self, pid: u32, start: StartTick, file: FileKey) -> Option<String>;
    /// The name of one thread of a process now. An exec ends all threads but one and names that after the new program.
    fn thread_name(&mut self, pid: u32, tid: u32) -> Option<String>;
    /// The name of a user.
    fn user(&mut self, uid: u32) -> Option<Arc<str>>;
    /// The path of a cgroup below the cgroup2 mount point.
    fn cgroup(&mut self, id: u64) -> Option<Arc<str>>;
    /// The SHA-256 of a file of these contents, if it is known without reading.
    fn known_sha256(&mut self, file: FileKey, stamp: FileStamp) -> Option<[u8; 32]>;
    /// The SHA-256 of what the process runs, read if need be. Asked only of processes that an indicator matched.
    fn executable_sha256(&mut self, pid: u32, start: StartTick) -> Option<[u8; 32]>;
    /// Now, nanoseconds since boot.
    fn boot_ns(&mut self) -> u64;
    /// Wall clock minus boot clock, nanoseconds.
    fn wall_minus_boot_ns(&mut self) -> u64;
}

/// An ancestor of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// Path of its executable.
    pub exe: Option<String>,
}

/// Who acted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessDetails {
    /// Process id in the initial namespace.
    pub pid: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Its name in the passwd file.
    pub user: Option<String>,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Task name.
    pub comm: Option<String>,
    /// Its arguments; the last may be cut.
    pub args: Vec<String>,
    /// SHA-256 of its executable.
    pub sha256: Option<[u8; 32]>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The container's id.
    pub container: Option<String>,
    /// Nearest first.
    pub ancestors: Vec<Ancestor>,
}

/// An event with all that the host says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// What the kernel said.
    pub event: Event,
    /// When, on the wall clock.
    pub time: Timestamp,
    /// Who. For an exec that failed (`blocked`) the process as it was before; else as it was after the exec.
    pub process: ProcessDetails,
}

/// What enrichment could not do, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EnrichCounters {
    /// Processes whose executable could not be told.
    pub unknown_executable: u64,
    /// Processes pushed out of the full table.
    pub evicted: u64,
    /// Processes read from `/proc` because no exec event told of them.
    pub read_from_proc: u64,
    /// Processes that were gone and took over what their parent ran when it forked them.
    pub inherited: u64,
}

/// Names processes.
#[derive(Debug)]
pub struct Enricher<S> {
    surroundings: S,
    table: Table,
    counters: EnrichCounters,
    /// Exec events were lost at this time: what a process that is older ran cannot be concluded from its parent.
    execs_lost_ns: u64,
}

impl<S: Surroundings> Enricher<S> {
    /// An empty table of `capacity` processes.
    #[must_use]
    pub fn new(surroundings: S, capacity: std::num::NonZeroUsize) -> Self {
        Self { surroundings, table: Table::new(capacity), counters: EnrichCounters::default(), execs_lost_ns: 0 }
    }

    /// Takes in the processes that run already. Called once the exec hook is attached, so that none falls between.
    pub fn fill(&mut self, processes: impl IntoIterator<Item = ProcessSnapshot>) {
        for process in processes {
            let now = self.surroundings.boot_ns();
            self.insert_snapshot(process, now);
        }
    }

    /// Exec records were lost at or before `boot_ns`.
    pub fn note_lost_execs(&mut self, boot_ns: u64) {
        self.execs_lost_ns = self.execs_lost_ns.max(boot_ns);
    }

    /// What could not be done so far.
    #[must_use]
    pub fn counters(&self) -> EnrichCounters {
        EnrichCounters { evicted: self.table.evicted(), ..self.counters }
    }

    /// What the host is asked with.
    pub fn surroundings(&mut self) -> &mut S {
        &mut self.surroundings
    }

    /// Takes an exec into the table without describing it: what an exec event that matched nothing needs.
    pub fn learn(&mut self, event: &Event) {
        if let (Action::Exec { .. }, Hook::SchedProcessExec) = (&event.action, event.hook) {
            self.insert_exec(event);
        }
    }

    /// Says who acted and when.
    pub fn observe(&mut self, event: Event) -> Observation {
        self.learn(&event);
        let started = self.locate(&event.task, event.boot_ns);
        let process = self.describe(&event, started);
        Observation { time: self.wall_time(event.boot_ns), process, event }
    }

    /// Path of what a process ran at that moment, as far as is known, and its SHA-256.
    pub fn program(&mut self, task: &Task, boot_ns: u64) -> Option<(String, Option<[u8; 32]>)> {
        let started = self.locate(task, boot_ns)?;
        let entry = self.table.get(started)?;
        let image = entry.image_at(boot_ns).unwrap_or(entry.latest());
        Some((image.exe.clone()?, image.sha256))
    }

    /// The command line of an exec, its arguments with a space between each two. What is longer than a record holds is known as
    /// long as the process runs it.
    pub fn command_line(&mut self, event: &Event) -> Option<String> {
        let Action::Exec { file, args, cut, .. } = &event.action else { return None };
        if !cut {
            return Some(args.join(" "));
        }
        let started = Started::from_key(event.task.key)?;
        self.surroundings.command_line(started.pid, started.tick, *file)
    }

    fn wall_time(&mut self, boot_ns: u64) -> Timestamp {
        let wall = i128::from(boot_ns) + i128::from(self.surroundings.wall_minus_boot_ns());
        Timestamp::from_nanosecond(wall).unwrap_or(Timestamp::MAX)
    }

    fn insert_exec(&mut self, event: &Event) {
        let Action::Exec { file, stamp, sha256, path, args, .. } = &event.action else { return };
        let Some(started) = Started::from_key(event.task.key) else { return };
        // The kernel gives the path as it was asked for: relative, a symbolic link, or a script whose interpreter is
        // what runs. What /proc says is better as long as it is the same file.
        let seen = self.surroundings.executable(started.pid).filter(|(_, key)| key == file).map(|(exe, _)| exe);
        let image = Image {
            since_ns: event.boot_ns,
            exe: seen.or_else(|| path.starts_with('/').then(|| path.clone())),
            args: args.clone(),
            sha256: sha256.or_else(|| self.surroundings.known_sha256(*file, *stamp)),
            file: Some((*file, *stamp)),
        };
        let parent = self.parent_of(started, event.task.ppid, event.boot_ns);
        self.table.insert(started, event.task.ppid, parent, image, event.boot_ns);
    }

    fn insert_snapshot(&mut self, process: ProcessSnapshot, now: u64) -> Started {
        let started = Started { pid: process.pid, tick: process.start };
        let sha256 = process.file.and_then(|(key, stamp)| self.surroundings.known_sha256(key, stamp));
        let image = Image { since_ns: now, exe: process.exe, args: process.args, sha256, file: process.file };
        self.counters.read_from_proc += 1;
        // A snapshot of a process whose exec event came first says nothing new, and says it later.
        if self.table.get(started).is_none() {
            self.table.insert(started, process.ppid, None, image, now);
            let parent = self.parent_of(started, process.ppid, now);
            self.table.set_parent(started, parent);
        } else {
            self.table.see(started, now);
        }
        started
    }

    /// The process that has `ppid` and is no younger than its child.
    fn parent_of(&mut self, child: Started, ppid: u32, boot_ns: u64) -> Option<Started> {
        if ppid == 0 || ppid == child.pid {
            return None;
        }
        if let Some(known) = self.table.recent(ppid, child.tick, boot_ns) {
            self.table.see(known, boot_ns);
            return Some(known);
        }
        let process = self.surroundings.process(ppid).filter(|process| process.start <= child.tick)?;
        let started = Started { pid: process.pid, tick: process.start };
        let now = self.surroundings.boot_ns();
        if self.table.get(started).is_some() {
            self.table.see(started, now);
            return Some(started);
        }
        Some(self.insert_snapshot(process, now))
    }

    /// The entry of the acting process: from the table, else `/proc`, else what its parent ran when it forked.
    fn locate(&mut self, task: &Task, boot_ns: u64) -> Option<Started> {
        let key = task.key;
        let started = Started::from_key(key)?;
        if self.table.get(started).is_some() {
            self.table.see(started, boot_ns);
            return Some(started);
        }
        if let Some(process) = self.surroundings.process(key.pid).filter(|process| process.start == started.tick) {
            let now = self.surroundings.boot_ns();
            self.insert_snapshot(process, now);
            // The thread that acted still bears its name, so there was no exec since: what it runs now it ran then.
            if self.surroundings.thread_name(key.pid, task.tid).is_some_and(|name| name == task.comm) {
                self.table.backdate(started, boot_ns);
            }
            return Some(started);
        }
        self.inherit(started, key.start_boot_ns, task.ppid, boot_ns)
    }

    fn inherit(&mut self, child: Started, forked_ns: u64, ppid: u32, boot_ns: u64) -> Option<Started> {
        if forked_ns <= self.execs_lost_ns {
            return None;
        }
        let parent = self.parent_of(child, ppid, boot_ns)?;
        let mut image = self.table.get(parent)?.image_at(forked_ns)?.clone();
        image.since_ns = forked_ns;
        self.counters.inherited += 1;
        self.table.insert(child, ppid, Some(parent), image, boot_ns);
        Some(child)
    }

    fn describe(&mut self, event: &Event, started: Option<Started>) -> ProcessDetails {
        let task = &event.task;
        let cgroup = self.surroundings.cgroup(task.cgroup_id);
        let path = cgroup.as_deref().unwrap_or_default();
        let mut details = ProcessDetails {
            pid: task.key.pid,
            ppid: task.ppid,
            uid: task.uid,
            user: self.surroundings.user(task.uid).map(|name| name.to_string()),
            comm: (!task.comm.is_empty()).then(|| task.comm.clone()),
            unit: unit_of(path).map(str::to_owned),
            container: container_of(path).map(str::to_owned),
            ..ProcessDetails::default()
        };
        let image = started.and_then(|started| self.table.get(started)?.image_at(event.boot_ns)).cloned();
        if let Some(image) = image {
            let is_hit = event.matched.is_some() && event.verdict != Verdict::Passed;
            details.sha256 = image.sha256.or_else(|| self.late_digest(&image, started?, is_hit));
            details.exe = image.exe;
            details.args = image.args;
        }
        if details.exe.is_none() {
            self.counters.unknown_executable += 1;
        }
        details.ancestors = self.ancestors(started, task.ppid);
        details
    }

    /// A digest that was not known at the exec, if the process still runs what it ran then.
    fn late_digest(&mut self, image: &Image, started: Started, is_hit: bool) -> Option<[u8; 32]> {
        let (key, stamp) = image.file?;
        if let Some(known) = self.surroundings.known_sha256(key, stamp) {
            return Some(known);
        }
        let runs_it = is_hit && self.surroundings.executable(started.pid).is_some_and(|(_, now)| now == key);
        let digest = runs_it.then(|| self.surroundings.executable_sha256(started.pid, started.tick)).flatten()?;
        self.table.set_digest(started, key, digest);
        Some(digest)
    }

    fn ancestors(&self, started: Option<Started>, ppid: u32) -> Vec<Ancestor> {
        let mut found = Vec::new();
        let mut next_pid = ppid;
        let mut child = started;
        while next_pid != 0 && found.len() < MAX_ANCESTORS {
            let parent = child.and_then(|child| self.table.peek(child)?.parent);
            let entry = parent.and_then(|parent| self.table.peek(parent));
            found.push(Ancestor { pid: next_pid, exe: entry.and_then(|entry| entry.latest().exe.clone()) });
            let Some(entry) = entry else { break };
            next_pid = entry.ppid;
            child = parent;
        }
        found
    }
}

#[cfg(test)]
mod tests;
