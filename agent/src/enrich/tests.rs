use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::sync::Arc;

use super::{Ancestor, Enricher, Surroundings};
use crate::event::{Action, Event, FileKey, FileStamp, Hook, Match, ProcessKey, Task, Verdict};
use crate::host::{ProcessSnapshot, StartTick};

const SECOND: u64 = 1_000_000_000;
const STAMP: FileStamp = FileStamp { size: 1, mtime_ns: 2, ctime_ns: 3 };

/// A host of the test's making.
#[derive(Debug, Default)]
struct Fake {
    processes: HashMap<u32, ProcessSnapshot>,
    digests: HashMap<u64, [u8; 32]>,
    now: u64,
    proc_reads: usize,
    files_read: usize,
    command_line: Option<String>,
}

impl Surroundings for Fake {
    fn process(&mut self, pid: u32) -> Option<ProcessSnapshot> {
        self.proc_reads += 1;
        self.processes.get(&pid).cloned()
    }
    fn executable(&mut self, pid: u32) -> Option<(String, FileKey)> {
        let process = self.processes.get(&pid)?;
        Some((process.exe.clone()?, process.file?.0))
    }
    fn command_line(&mut self, _: u32, _: StartTick, _: FileKey) -> Option<String> {
        self.command_line.clone()
    }

    fn thread_name(&mut self, pid: u32, tid: u32) -> Option<String> {
        self.processes.get(&pid).filter(|_| pid == tid).map(|process| process.comm.clone())
    }
    fn user(&mut self, uid: u32) -> Option<Arc<str>> {
        (uid == 33).then(|| Arc::from("www-data"))
    }
    fn cgroup(&mut self, id: u64) -> Option<Arc<str>> {
        (id == 7).then(|| Arc::from("/system.slice/nginx.service"))
    }
    fn known_sha256(&mut self, file: FileKey, _: FileStamp) -> Option<[u8; 32]> {
        self.digests.get(&file.inode).copied()
    }
    fn executable_sha256(&mut self, pid: u32, start: StartTick) -> Option<[u8; 32]> {
        self.files_read += 1;
        self.processes.get(&pid).filter(|process| process.start == start).map(|_| [9; 32])
    }
    fn boot_ns(&mut self) -> u64 {
        self.now
    }
    fn wall_minus_boot_ns(&mut self) -> u64 {
        1_700_000_000 * SECOND
    }
}

fn file(inode: u64) -> FileKey {
    FileKey { device: 1, inode }
}

fn snapshot(pid: u32, start_ns: u64, ppid: u32, exe: &str, inode: u64) -> ProcessSnapshot {
    ProcessSnapshot {
        pid,
        start: StartTick::from_boot_ns(start_ns),
        ppid,
        uid: 33,
        gid: 33,
        comm: "task".into(),
        exe: Some(exe.into()),
        file: Some((file(inode), STAMP)),
        args: vec![exe.into()],
        cgroup: None,
        loginuid: None,
    }
}

fn event(pid: u32, start_ns: u64, ppid: u32, boot_ns: u64, hook: Hook, verdict: Verdict, action: Action) -> Event {
    let key = ProcessKey { pid, start_boot_ns: start_ns };
    let comm = "task".into();
    let task = Task { key, tid: pid, ppid, uid: 33, gid: 33, loginuid: None, cgroup_id: 7, comm };
    let matched = (verdict != Verdict::Passed).then_some(Match { generation: 1, entry: 2 });
    Event { boot_ns, hook, verdict, matched, task, action }
}

fn exec(pid: u32, start_ns: u64, ppid: u32, boot_ns: u64, path: &str, inode: u64) -> Event {
    let action = Action::Exec {
        file: file(inode),
        stamp: STAMP,
        sha256: None,
        has_sha1: false,
        has_md5: false,
        path: path.into(),
        args: vec![path.into(), "-x".into()],
        cut: false,
    };
    event(pid, start_ns, ppid, boot_ns, Hook::SchedProcessExec, Verdict::Passed, action)
}

fn connect(pid: u32, start_ns: u64, ppid: u32, boot_ns: u64) -> Event {
    let address = "203.0.113.7".parse().unwrap();
    let action = Action::Network { address, port: 443, local_port: 0, protocol: 6, socket_type: 1 };
    event(pid, start_ns, ppid, boot_ns, Hook::Connect4, Verdict::Blocked, action)
}

fn enricher() -> Enricher<Fake> {
    Enricher::new(Fake { now: 100 * SECOND, ..Fake::default() }, NonZeroUsize::new(64).unwrap())
}

#[test]
fn a_short_lived_process_is_named_by_its_exec_alone() {
    let mut enricher = enricher();
    enricher.fill([snapshot(1, 1, 0, "/sbin/init", 1)]);
    enricher.surroundings().processes.insert(1, snapshot(1, 1, 0, "/sbin/init", 1));
    enricher.learn(&exec(50, 90 * SECOND, 1, 101 * SECOND, "/usr/bin/curl", 5));
    let seen = enricher.observe(connect(50, 90 * SECOND + 3, 1, 101 * SECOND + 5));
    assert_eq!(seen.process.exe.as_deref(), Some("/usr/bin/curl"));
    assert_eq!(seen.process.args, ["/usr/bin/curl", "-x"]);
    assert_eq!(seen.process.user.as_deref(), Some("www-data"));
    assert_eq!(seen.process.unit.as_deref(), Some("nginx.service"));
    assert_eq!(seen.process.container, None);
    assert_eq!(seen.process.ancestors, [Ancestor { pid: 1, exe: Some("/sbin/init".into()) }]);
    assert_eq!(seen.time.as_nanosecond(), i128::from(1_700_000_101 * SECOND + 5));
}

#[test]
fn a_reused_pid_is_not_mistaken() {
    let mut enricher = enricher();
    enricher.learn(&exec(50, 90 * SECOND, 1, 91 * SECOND, "/usr/bin/old", 5));
    // The same pid, another start, and /proc shows a third one.
    enricher.surroundings().processes.insert(50, snapshot(50, 99 * SECOND, 1, "/usr/bin/third", 6));
    let seen = enricher.observe(connect(50, 95 * SECOND, 1, 96 * SECOND));
    assert_eq!((seen.process.exe, seen.process.args.len(), seen.process.sha256), (None, 0, None));
    assert_eq!(enricher.counters().unknown_executable, 1);
    // A kernel that does not tell the start leaves nothing to compare.
    assert_eq!(enricher.observe(connect(50, 0, 1, 96 * SECOND)).process.exe, None);
}

#[test]
fn a_process_without_an_exec_event_is_read_from_proc() {
    let mut enricher = enricher();
    enricher.surroundings().processes.insert(50, snapshot(50, 95 * SECOND, 1, "/usr/bin/daemon", 5));
    let seen = enricher.observe(connect(50, 95 * SECOND + 9_000_000, 1, 99 * SECOND));
    assert_eq!(seen.process.exe.as_deref(), Some("/usr/bin/daemon"));
    assert_eq!(seen.process.sha256, Some([9; 32]));
    // Known from now on, digest too.
    let reads = (enricher.surroundings().proc_reads, enricher.surroundings().files_read);
    let again = enricher.observe(connect(50, 95 * SECOND, 1, 101 * SECOND));
    assert_eq!(again.process.sha256, Some([9; 32]));
    assert_eq!((enricher.surroundings().proc_reads, enricher.surroundings().files_read), reads);
}

#[test]
fn an_exec_between_the_hit_and_the_look_is_noticed() {
    let mut enricher = enricher();
    let mut changed = snapshot(50, 95 * SECOND, 1, "/usr/bin/after", 5);
    changed.comm = "after".into();
    enricher.surroundings().processes.insert(50, changed);
    assert_eq!(enricher.observe(connect(50, 95 * SECOND, 1, 99 * SECOND)).process.exe, None);
    assert_eq!(
        enricher.observe(connect(50, 95 * SECOND, 1, 100 * SECOND)).process.exe.as_deref(),
        Some("/usr/bin/after")
    );
}

#[test]
fn a_hit_told_late_names_what_ran_then() {
    let mut enricher = enricher();
    enricher.learn(&exec(50, 90 * SECOND, 1, 91 * SECOND, "/usr/bin/first", 5));
    enricher.learn(&exec(50, 90 * SECOND, 1, 95 * SECOND, "/usr/bin/second", 6));
    assert_eq!(
        enricher.observe(connect(50, 90 * SECOND, 1, 94 * SECOND)).process.exe.as_deref(),
        Some("/usr/bin/first")
    );
    assert_eq!(
        enricher.observe(connect(50, 90 * SECOND, 1, 95 * SECOND)).process.exe.as_deref(),
        Some("/usr/bin/second")
    );
    assert_eq!(enricher.observe(connect(50, 90 * SECOND, 1, 90 * SECOND)).process.exe, None);
}

#[test]
fn a_fork_without_exec_runs_what_its_parent_ran_when_it_forked() {
    let mut enricher = enricher();
    enricher.learn(&exec(40, 90 * SECOND, 1, 91 * SECOND, "/usr/sbin/server", 5));
    enricher.learn(&exec(40, 90 * SECOND, 1, 93 * SECOND, "/usr/bin/other", 6));
    let worker = enricher.observe(connect(50, 92 * SECOND, 40, 93 * SECOND));
    assert_eq!(worker.process.exe.as_deref(), Some("/usr/sbin/server"));
    assert_eq!(worker.process.ancestors.first().unwrap().exe.as_deref(), Some("/usr/bin/other"));
    assert_eq!(enricher.counters().inherited, 1);
    // A parent that was last seen too long ago may have left its pid to another.
    assert_eq!(enricher.observe(connect(51, 98 * SECOND, 40, 99 * SECOND)).process.exe, None);
    // A parent that is younger than its child is not its parent.
    enricher.learn(&exec(60, 96 * SECOND, 1, 97 * SECOND, "/usr/bin/young", 7));
    assert_eq!(enricher.observe(connect(52, 95 * SECOND, 60, 97 * SECOND)).process.exe, None);
}

#[test]
fn lost_exec_records_forbid_conclusions_about_older_processes() {
    let mut enricher = enricher();
    enricher.learn(&exec(40, 90 * SECOND, 1, 91 * SECOND, "/usr/sbin/server", 5));
    enricher.note_lost_execs(92 * SECOND);
    assert_eq!(enricher.observe(connect(50, 91 * SECOND + 5, 40, 92 * SECOND)).process.exe, None);
    enricher.learn(&exec(41, 93 * SECOND, 1, 93 * SECOND, "/usr/sbin/server", 5));
    let later = enricher.observe(connect(51, 93 * SECOND + 5, 41, 94 * SECOND));
    assert_eq!(later.process.exe.as_deref(), Some("/usr/sbin/server"));
}

#[test]
fn the_kernels_path_gives_way_to_the_real_one_of_the_same_file() {
    let mut enricher = enricher();
    // `./tool` asked for, /proc knows where it is.
    enricher.surroundings().processes.insert(50, snapshot(50, 90 * SECOND, 1, "/opt/tool", 5));
    let seen = enricher.observe(exec(50, 90 * SECOND, 1, 91 * SECOND, "./tool", 5));
    assert_eq!(seen.process.exe.as_deref(), Some("/opt/tool"));
    // Gone, or running something else by now: a relative path says nothing.
    let seen = enricher.observe(exec(51, 90 * SECOND, 1, 91 * SECOND, "./tool", 5));
    assert_eq!(seen.process.exe, None);
    let seen = enricher.observe(exec(50, 90 * SECOND, 1, 92 * SECOND, "./other", 6));
    assert_eq!(seen.process.exe, None);
}

#[test]
fn a_blocked_exec_leaves_the_caller_what_it_was() {
    let mut enricher = enricher();
    enricher.learn(&exec(50, 90 * SECOND, 1, 91 * SECOND, "/bin/sh", 5));
    let mut blocked = exec(50, 90 * SECOND, 1, 92 * SECOND, "/tmp/bad", 6);
    (blocked.hook, blocked.verdict) = (Hook::BprmCheck, Verdict::Blocked);
    blocked.matched = Some(Match { generation: 1, entry: 2 });
    assert_eq!(enricher.observe(blocked).process.exe.as_deref(), Some("/bin/sh"));
    let mut killed = exec(50, 90 * SECOND, 1, 93 * SECOND, "/tmp/bad", 6);
    killed.verdict = Verdict::Killed;
    assert_eq!(enricher.observe(killed).process.exe.as_deref(), Some("/tmp/bad"));
}

#[test]
fn ancestors_are_named_in_order_and_end_where_knowledge_ends() {
    let mut enricher = enricher();
    enricher.learn(&exec(10, 80 * SECOND, 9, 91 * SECOND, "/usr/sbin/sshd", 1));
    enricher.learn(&exec(20, 81 * SECOND, 10, 91 * SECOND, "/bin/sh", 2));
    enricher.learn(&exec(30, 82 * SECOND, 20, 91 * SECOND, "/usr/bin/curl", 3));
    let seen = enricher.observe(connect(30, 82 * SECOND, 20, 92 * SECOND));
    let expected = [(20, Some("/bin/sh")), (10, Some("/usr/sbin/sshd")), (9, None)];
    let found: Vec<_> = seen.process.ancestors.iter().map(|ancestor| (ancestor.pid, ancestor.exe.as_deref())).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_full_table_forgets_the_least_recently_used() {
    let mut enricher = Enricher::new(Fake::default(), NonZeroUsize::new(2).unwrap());
    for pid in [50, 51, 52] {
        enricher.learn(&exec(pid, 90 * SECOND, 0, 91 * SECOND, "/usr/bin/tool", 5));
    }
    assert_eq!(enricher.counters().evicted, 1);
    assert_eq!(enricher.observe(connect(50, 90 * SECOND, 0, 92 * SECOND)).process.exe, None);
    assert!(enricher.observe(connect(52, 90 * SECOND, 0, 92 * SECOND)).process.exe.is_some());
}
