//! The exec guard on this kernel: what it denies, and above all that nothing that happens to it or to its daemon keeps a
//! program from starting. Each test watches one tmpfs of its own, in a mount namespace of its own.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::num::NonZeroUsize;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread::sleep;
use std::time::{Duration, Instant};

use agent::event::{Action, Hook, Verdict};
use agent::host::{Algorithms, DigestCache, DigestVerdicts, ExecJudge, Others, Wanted};
use agent::kernel::ExecHit;
use agent::kernel::fanotify::{
    ExecGuard, GuardCommand, GuardError, GuardOptions, GuardReport, GuardStatus, Judge, JudgeFailure, Judgement,
    run_guard,
};
use agent_common::wire::{FileDigests, FileKey};
use serde_json::json;

const EPERM: i32 = 1;
/// Nothing here hangs for this long, on a machine however slow.
const PATIENCE: Duration = Duration::from_secs(60);
/// Which part of the play this process has.
const ROLE: &str = "CORDON_GUARD_TEST_ROLE";
const OPTIONS: &str = "CORDON_GUARD_TEST_OPTIONS";
/// What makes a program bad, appended to it: the loader does not care.
const MARK: &[u8] = b"known bad";

/// Knows what ends with [`MARK`], by its digest.
struct Listed {
    digests: Vec<[u8; 32]>,
    verdict: Verdict,
}

impl DigestVerdicts for Listed {
    fn wanted(&self) -> Result<Wanted, String> {
        Ok(Wanted { digests: Some(Algorithms::default()), paths: false })
    }
    fn keep(&self, _: FileKey, _: &FileDigests) -> Result<(), String> {
        Ok(())
    }
    fn hit(&self, digests: &FileDigests, _: Option<&str>) -> Result<Option<ExecHit>, String> {
        let hit = ExecHit { generation: 7, entry: 9, verdict: self.verdict };
        Ok(self.digests.contains(&digests.sha256).then_some(hit))
    }
}

/// The real judge, with a program that it is slow about.
struct Slow {
    judge: ExecJudge<Listed>,
    inode: u64,
    pause: Duration,
}

impl Judge for Slow {
    fn applies(&self, pid: u32) -> bool {
        self.judge.applies(pid)
    }
    fn judge(&self, pid: u32, file: &File, deadline: Instant) -> Result<Judgement, JudgeFailure> {
        if file.metadata().unwrap().ino() == self.inode {
            sleep(self.pause);
        }
        self.judge.judge(pid, file, deadline)
    }
}

fn make_judge(options: &GuardOptions) -> Result<Slow, Box<dyn std::error::Error + Send + Sync>> {
    let told = &options.judge;
    let verdict = if told["alone"] == true { Verdict::Reported } else { Verdict::Blocked };
    let listed = Listed { digests: serde_json::from_value(told["listed"].clone())?, verdict };
    let others = if told["alone"] == true { Others::None } else { Others::Hooks };
    let scope = told["scope"].as_str().map(str::to_owned);
    let digests = Arc::new(DigestCache::new(NonZeroUsize::new(64).unwrap(), 64 << 20));
    let inode = told["slow_inode"].as_u64().unwrap_or(0);
    let pause = Duration::from_millis(told["slow_ms"].as_u64().unwrap_or(0));
    Ok(Slow { judge: ExecJudge::new(digests, listed, scope, others), inode, pause })
}

/// This test is also what the others start as guard and as daemon: a test binary has no other way in.
#[test]
fn a_guard_without_a_daemon_refuses() {
    match std::env::var(ROLE).as_deref() {
        Ok("daemon") => {
            let options = serde_json::from_str(&std::env::var(OPTIONS).unwrap()).unwrap();
            let _guard = ExecGuard::start(command(), options, |report| println!("\n{report:?}")).unwrap();
            sleep(Duration::from_secs(60));
        }
        Ok("guard") => run_guard(make_judge).unwrap(),
        _ => {
            let child =
                this_binary("a_guard_without_a_daemon_refuses").env(ROLE, "guard").stdin(Stdio::null()).output();
            let output = child.unwrap();
            assert!(!output.status.success());
            let told = String::from_utf8_lossy(&output.stderr).into_owned() + &String::from_utf8_lossy(&output.stdout);
            assert!(told.contains("NoDaemon"), "{told}");
            let error = GuardError::NoDaemon(std::io::Error::other("closed")).to_string();
            assert!(error.contains("cordon run"), "{error}");
        }
    }
}

fn this_binary(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command
}

/// The guard is this binary again; `env` hands it its role, since a guard command has no environment of its own.
fn command() -> GuardCommand {
    let own = std::env::current_exe().unwrap();
    let role = format!("{ROLE}=guard");
    let arguments = [role.as_ref(), own.as_os_str(), "--exact".as_ref(), "a_guard_without_a_daemon_refuses".as_ref()];
    let arguments = arguments.into_iter().map(Into::into).chain(["--nocapture".into()]).collect();
    GuardCommand { program: "/usr/bin/env".into(), arguments }
}

/// Runs `body` in a mount namespace of its own with a folder on a tmpfs of its own.
fn alone(name: &str, body: impl FnOnce(&Stage)) {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        println!("NOT RUN {name}: the exec guard needs root");
        return;
    }
    if std::env::var(ROLE).as_deref() != Ok("alone") {
        let test = this_binary(name);
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "--propagation", "private", "--"]).arg(test.get_program()).args(test.get_args());
        let output = unshare.env(ROLE, "alone").output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && told.contains("1 passed"), "{told}");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount").args(["-t", "tmpfs", "cordon-test"]).arg(folder.path()).status().unwrap();
    assert!(mounted.success());
    let stage = Stage { folder: folder.path().to_owned() };
    stage.program("good", b"");
    stage.program("bad", MARK);
    body(&stage);
    let unmounted = Command::new("umount").arg("-l").arg(folder.path()).status().unwrap();
    assert!(unmounted.success());
}

struct Stage {
    folder: PathBuf,
}

impl Stage {
    /// A copy of `true(1)` with a tail.
    fn program(&self, name: &str, tail: &[u8]) -> PathBuf {
        let path = self.folder.join(name);
        let mut contents = fs::read("/bin/true").unwrap();
        contents.extend_from_slice(tail);
        let beside = self.folder.join(".new");
        fs::write(&beside, contents).unwrap();
        fs::set_permissions(&beside, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(beside, &path).unwrap();
        path
    }

    fn options(&self, told: serde_json::Value) -> GuardOptions {
        let digests = DigestCache::new(NonZeroUsize::new(1).unwrap(), 64 << 20);
        let bad = digests.digest_path(&self.folder.join("bad"), Algorithms::default()).unwrap();
        let mut judge = json!({ "listed": [bad.digests.sha256] });
        judge.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
        let filesystems = Some(vec![self.folder.clone()]);
        GuardOptions { filesystems, stall_ms: 4000, judge, ..GuardOptions::default() }
    }

    /// How an exec ended.
    fn run(&self, name: &str) -> Result<(), i32> {
        match Command::new(self.folder.join(name)).status() {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => panic!("{status}"),
            Err(error) => Err(error.raw_os_error().unwrap()),
        }
    }

    /// Waits, for [`PATIENCE`] at most, until `name` runs, or is denied.
    fn until(&self, name: &str, wanted: Result<(), i32>) {
        let began = Instant::now();
        while self.run(name) != wanted {
            assert!(began.elapsed() < PATIENCE, "{name} never became {wanted:?}");
            sleep(Duration::from_millis(20));
        }
    }
}

/// A guard at work, with what it reports.
struct Running {
    guard: ExecGuard,
    reports: Mutex<Receiver<GuardReport>>,
}

impl Running {
    fn start(stage: &Stage, options: GuardOptions) -> Self {
        let (send, receive) = channel();
        let guard = ExecGuard::start(command(), options, move |report| drop(send.send(report))).unwrap();
        let running = Self { guard, reports: Mutex::new(receive) };
        running.wait(|report| matches!(report, GuardReport::Status(_)));
        stage.until("good", Ok(()));
        running
    }

    /// The next report of that kind, waited for [`PATIENCE`] at most.
    fn wait(&self, wanted: impl Fn(&GuardReport) -> bool) -> GuardReport {
        let began = Instant::now();
        while let Ok(report) = self.reports.lock().unwrap().recv_timeout(PATIENCE) {
            if wanted(&report) {
                return report;
            }
            assert!(began.elapsed() < PATIENCE, "the report never came; {report:?} did");
        }
        panic!("the report never came");
    }

    fn status(&self, wanted: impl Fn(&GuardStatus) -> bool) -> GuardStatus {
        match self.wait(|report| matches!(report, GuardReport::Status(status) if wanted(status))) {
            GuardReport::Status(status) => status,
            other => panic!("{other:?}"),
        }
    }

    fn pid(&self) -> u32 {
        // The command is `env`, which becomes the guard without a new pid.
        match self.wait(|report| matches!(report, GuardReport::Started { .. })) {
            GuardReport::Started { pid } => pid,
            other => panic!("{other:?}"),
        }
    }
}

fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

#[test]
fn a_listed_program_gets_eperm_and_others_run() {
    alone("a_listed_program_gets_eperm_and_others_run", |stage| {
        let running = Running::start(stage, stage.options(json!({})));
        assert_eq!(stage.run("bad"), Err(EPERM));
        assert_eq!(stage.run("good"), Ok(()));
        let GuardReport::Hit(record) = running.wait(|report| matches!(report, GuardReport::Hit(_))) else {
            panic!("no record")
        };
        let event = agent::event::decode(zerocopy::IntoBytes::as_bytes(&*record)).unwrap();
        assert_eq!((event.hook, event.verdict), (Hook::FanotifyOpenExec, Verdict::Blocked));
        assert_eq!(event.matched.unwrap(), agent::event::Match { generation: 7, entry: 9 });
        assert_eq!(event.task.ppid, std::process::id());
        let Action::Exec { path, sha256, .. } = event.action else { panic!("{:?}", event.action) };
        assert_eq!(Path::new(&path), stage.folder.join("bad"));
        assert!(sha256.is_some());
        let status = running.status(|status| status.denied == 1 && status.allowed > 1);
        assert_eq!((status.unjudged(), status.filesystems, status.records_lost), (0, 1, 0), "{status:?}");
        // Stopped, it denies nothing any more.
        running.guard.stop();
        assert_eq!(stage.run("bad"), Ok(()));
    });
}

#[test]
fn a_guard_alone_tells_what_it_lets_run() {
    alone("a_guard_alone_tells_what_it_lets_run", |stage| {
        let running = Running::start(stage, stage.options(json!({ "alone": true })));
        assert_eq!(stage.run("bad"), Ok(()));
        let GuardReport::Hit(record) = running.wait(|report| matches!(report, GuardReport::Hit(_))) else {
            panic!("no record")
        };
        let event = agent::event::decode(zerocopy::IntoBytes::as_bytes(&*record)).unwrap();
        assert_eq!((event.hook, event.verdict), (Hook::FanotifyOpenExec, Verdict::Reported));
        let status = running.status(|status| status.allowed > 1);
        assert_eq!((status.denied, status.records_lost), (0, 0), "{status:?}");
    });
}

#[test]
fn a_changed_file_is_judged_again() {
    alone("a_changed_file_is_judged_again", |stage| {
        let _running = Running::start(stage, stage.options(json!({})));
        for _ in 0..3 {
            fs::OpenOptions::new()
                .append(true)
                .open(stage.folder.join("good"))
                .map(|mut file| {
                    std::io::Write::write_all(&mut file, MARK).unwrap();
                })
                .unwrap();
            assert_eq!(stage.run("good"), Err(EPERM));
            stage.program("good", b"");
            assert_eq!(stage.run("good"), Ok(()));
        }
        fs::hard_link(stage.folder.join("bad"), stage.folder.join("link")).unwrap();
        fs::copy(stage.folder.join("bad"), stage.folder.join("copy")).unwrap();
        assert_eq!((stage.run("link"), stage.run("copy")), (Err(EPERM), Err(EPERM)));
    });
}

#[test]
fn a_slow_judge_is_not_waited_for_beyond_the_deadline() {
    alone("a_slow_judge_is_not_waited_for_beyond_the_deadline", |stage| {
        let slow = stage.program("slow", b"slow");
        let told = json!({ "slow_inode": fs::metadata(&slow).unwrap().ino(), "slow_ms": 20_000 });
        let running = Running::start(stage, GuardOptions { deadline_ms: 300, ..stage.options(told) });
        let began = Instant::now();
        assert_eq!(stage.run("slow"), Ok(()));
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(300) && took < Duration::from_secs(15), "{took:?}");
        // The others are not held up by it.
        assert_eq!(stage.run("bad"), Err(EPERM));
        running.wait(|report| matches!(report, GuardReport::Fault(text) if text.contains("not judged in time")));
        let status = running.status(|status| status.deadline_missed == 1);
        assert_eq!(status.unjudged(), 1);
    });
}

#[test]
fn more_than_can_be_judged_is_allowed_and_counted() {
    alone("more_than_can_be_judged_is_allowed_and_counted", |stage| {
        let slow = stage.program("slow", b"slow");
        let told = json!({ "slow_inode": fs::metadata(&slow).unwrap().ino(), "slow_ms": 600 });
        let options = GuardOptions { workers: 1, backlog: 1, ..stage.options(told) };
        let running = Running::start(stage, options);
        let children: Vec<Child> = std::thread::scope(|scope| {
            let started: Vec<_> = (0..8).map(|_| scope.spawn(|| Command::new(&slow).spawn().unwrap())).collect();
            started.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for mut child in children {
            assert!(child.wait().unwrap().success());
        }
        // Every one is accounted for in the end, whether it was judged or did not fit.
        let all = |status: &GuardStatus| status.overloaded + status.allowed == status.asked - status.passed_over;
        let status = running.status(|status| status.overloaded > 0 && all(status));
        assert_eq!((status.asked, status.denied, status.deadline_missed), (9, 0, 0), "{status:?}");
    });
}

#[test]
fn a_killed_guard_lets_execs_pass_and_comes_back() {
    alone("a_killed_guard_lets_execs_pass_and_comes_back", |stage| {
        let (send, receive) = channel();
        let options = stage.options(json!({}));
        let guard = ExecGuard::start(command(), options, move |report| drop(send.send(report))).unwrap();
        let running = Running { guard, reports: Mutex::new(receive) };
        let pid = running.pid();
        stage.until("bad", Err(EPERM));
        signal("-KILL", pid);
        stage.until("bad", Ok(()));
        let ended = running.wait(|report| matches!(report, GuardReport::Ended { .. }));
        assert!(
            matches!(&ended, GuardReport::Ended { next_in: Some(_), why } if why.contains("signal: 9")),
            "{ended:?}"
        );
        stage.until("bad", Err(EPERM));
    });
}

#[test]
fn a_stopped_guard_is_replaced_and_what_waits_goes_on() {
    alone("a_stopped_guard_is_replaced_and_what_waits_goes_on", |stage| {
        let (send, receive) = channel();
        let options = stage.options(json!({}));
        let guard = ExecGuard::start(command(), options, move |report| drop(send.send(report))).unwrap();
        let running = Running { guard, reports: Mutex::new(receive) };
        let pid = running.pid();
        stage.until("bad", Err(EPERM));
        signal("-STOP", pid);
        let began = Instant::now();
        assert_eq!(stage.run("good"), Ok(()));
        let took = began.elapsed();
        assert!(took < PATIENCE, "{took:?}");
        running.wait(|report| matches!(report, GuardReport::Ended { why, .. } if why.contains("no progress")));
        stage.until("bad", Err(EPERM));
    });
}

#[test]
fn a_stopped_daemon_holds_nothing_up_and_a_dead_one_takes_the_guard_along() {
    alone("a_stopped_daemon_holds_nothing_up_and_a_dead_one_takes_the_guard_along", |stage| {
        let options = serde_json::to_string(&stage.options(json!({}))).unwrap();
        let mut daemon = this_binary("a_guard_without_a_daemon_refuses");
        let mut daemon = daemon.env(ROLE, "daemon").env(OPTIONS, options).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.starts_with("Status(")));
        stage.until("bad", Err(EPERM));
        signal("-STOP", daemon.id());
        // More than the socket and the guard's own queue hold, so that the guard would feel a daemon that does not read.
        let began = Instant::now();
        for _ in 0..300 {
            assert_eq!(stage.run("bad"), Err(EPERM));
        }
        assert_eq!(stage.run("good"), Ok(()));
        assert!(began.elapsed() < PATIENCE, "{:?}", began.elapsed());
        signal("-KILL", daemon.id());
        daemon.wait().unwrap();
        stage.until("bad", Ok(()));
    });
}

#[test]
fn processes_outside_the_scope_are_passed_over() {
    alone("processes_outside_the_scope_are_passed_over", |stage| {
        let running = Running::start(stage, stage.options(json!({ "scope": "/no/such/cgroup" })));
        assert_eq!(stage.run("bad"), Ok(()));
        let status = running.status(|status| status.passed_over >= 2);
        assert_eq!((status.denied, status.allowed), (0, 0), "{status:?}");
    });
}

#[test]
fn nothing_to_watch_is_a_fault_that_says_so() {
    alone("nothing_to_watch_is_a_fault_that_says_so", |stage| {
        let options = GuardOptions { filesystems: Some(vec![stage.folder.join("none")]), ..stage.options(json!({})) };
        let (send, receive) = channel();
        let guard = ExecGuard::start(command(), options, move |report| drop(send.send(report))).unwrap();
        let running = Running { guard, reports: Mutex::new(receive) };
        running
            .wait(|report| matches!(report, GuardReport::Fault(text) if text.contains("no filesystem can be watched")));
        running.wait(|report| matches!(report, GuardReport::Ended { next_in: Some(_), .. }));
        running.guard.stop();
    });
}
