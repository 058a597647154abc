//! `cordon top` and the pager on a terminal: the real binary on a pseudo-terminal. The agent is one of the test, so that neither root
//! nor a kernel that allows anything is needed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use agent::control::{Answer, Failure, Handler, Request, Server};
use jiff::Timestamp;
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};
use serde_json::json;

use super::{cordon, example};

/// What a terminal is sent first and last: the alternate screen, xterm's private mode 1049.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// A terminal with a program on it.
struct Screen {
    keys: File,
    /// Held open, so that its settings can be compared after the program's end.
    terminal: OwnedFd,
    before: Termios,
    child: Child,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    fn start(root: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Self {
        let keys = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&keys).unwrap();
        unlockpt(&keys).unwrap();
        let name = ptsname(&keys, Vec::new()).unwrap();
        let terminal = rustix::fs::open(&*name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        tcsetwinsize(&terminal, Winsize { ws_row: 24, ws_col: 80, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let before = tcgetattr(&terminal).unwrap();
        let end = || Stdio::from(terminal.try_clone().unwrap());
        let child = Command::new(env!("CARGO_BIN_EXE_cordon"))
            .arg("--root")
            .arg(root)
            .args(arguments)
            .env_clear()
            .envs([("TERM", "xterm-256color"), ("TZ", "UTC"), ("PATH", "/usr/bin:/bin")])
            .envs(environment.iter().copied())
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .unwrap();
        let keys = File::from(keys);
        let shown = Arc::new(Mutex::new(String::new()));
        let (mut from, into) = (keys.try_clone().unwrap(), Arc::clone(&shown));
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(length @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..length]));
            }
        });
        Self { keys, terminal, before, child, shown }
    }

    fn wait_for(&self, text: &str) {
        let end = Instant::now() + Duration::from_secs(30);
        while !self.shown.lock().unwrap().contains(text) {
            assert!(Instant::now() < end, "waited for {text:?}, shown:\n{}", self.shown.lock().unwrap());
            sleep(Duration::from_millis(20));
        }
    }

    fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for the end; then the terminal must be as it was.
    fn end(mut self) -> (ExitStatus, String) {
        let end = Instant::now() + Duration::from_secs(30);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None if Instant::now() > end => {
                    self.child.kill().unwrap();
                    panic!("it did not end; shown:\n{}", self.shown.lock().unwrap());
                }
                None => sleep(Duration::from_millis(20)),
            }
        };
        let after = tcgetattr(&self.terminal).unwrap();
        assert_eq!(after.local_modes, self.before.local_modes, "line editing and echo are back");
        // What was written last is read by the other thread a moment later.
        sleep(Duration::from_millis(100));
        (status, self.shown.lock().unwrap().clone())
    }
}

/// Answers as an agent does.
struct Agent;

impl Handler for Agent {
    async fn handle(&self, request: Request) -> Answer {
        match request {
            Request::Status => Answer::Done(json!({
                "schema": 1, "mode": "enforce", "generation": 12, "tables": {"entries": 3}, "faults": [], "counters": {"blocked": 1, "reported": 0},
                "hits": {"counted": 1, "recorded": 1}, "losses": {},
            })),
            Request::Explain { value } => Answer::Done(json!({
                "schema": 1, "value": value, "type": "ipv4_prefix", "outcome": "blocked", "why": "it is so in this test", "indicators": [], "skipped": [],
            })),
            Request::AddRule { .. } => Answer::failed(Failure::NotPossible, "only root may change what the agent does"),
            _ => Answer::failed(Failure::Failed, "not in this test"),
        }
    }
}

/// An agent below `root` for as long as the runtime lives.
fn agent(root: &Path) -> tokio::runtime::Runtime {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let socket = root.join("run/cordon/cordon.sock");
    let server = runtime.block_on(async { Server::bind(&socket, None).unwrap() });
    runtime.spawn(server.serve(Arc::new(Agent)));
    runtime
}

#[test]
fn top_shows_hits_as_they_come_and_gives_the_terminal_back() {
    let root = tempfile::tempdir().unwrap();
    let mut journal = example::empty_journal(root.path());
    let _agent = agent(root.path());
    let mut screen = Screen::start(root.path(), &["top"], &[]);
    screen.wait_for("none in the last hour");
    let mut finding = example::finding(0);
    (finding.time, finding.last_time) = (Timestamp::now(), Timestamp::now());
    journal.append(&[finding]).unwrap();
    screen.wait_for("203.0.113.0/24");
    screen.press("\r");
    screen.wait_for("it is so in this test");
    screen.press("\u{1b}");
    sleep(Duration::from_millis(500));
    screen.press("b");
    screen.wait_for("y/N");
    screen.press("y");
    screen.wait_for("only root may");
    screen.press("q");
    let (status, shown) = screen.end();
    assert_eq!(status.code(), Some(0));
    assert!(shown.contains(ENTER) && shown.rfind(LEAVE) > shown.rfind(ENTER), "{shown}");
}

#[test]
fn a_signal_ends_top_and_gives_the_terminal_back() {
    let root = tempfile::tempdir().unwrap();
    drop(example::empty_journal(root.path()));
    let _agent = agent(root.path());
    for signal in ["TERM", "HUP"] {
        let screen = Screen::start(root.path(), &["top"], &[]);
        screen.wait_for("none in the last hour");
        assert!(
            Command::new("kill")
                .arg(format!("-{signal}"))
                .arg(screen.child.id().to_string())
                .status()
                .unwrap()
                .success()
        );
        let (status, shown) = screen.end();
        assert_eq!(status.code(), Some(0), "{signal}");
        assert!(shown.ends_with(LEAVE) || shown.rfind(LEAVE) > shown.rfind(ENTER), "{signal}: {shown}");
    }
}

#[test]
fn top_says_what_it_needs() {
    let root = tempfile::tempdir().unwrap();
    drop(example::empty_journal(root.path()));
    let piped = cordon(root.path(), &["top"]);
    assert_eq!(piped.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&piped.stderr).contains("it needs a terminal"));
    let (status, shown) = Screen::start(root.path(), &["top"], &[]).end();
    assert_eq!(status.code(), Some(5), "{shown}");
    assert!(shown.contains("no agent is running") && !shown.contains(ENTER), "{shown}");
}

#[test]
fn a_log_longer_than_the_screen_is_paged_unless_told_not_to() {
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    // Numbers lines, so that what went through it is seen.
    let pager = [("PAGER", "cat -n")];
    let shown = |arguments: &[&str]| {
        let (status, shown) = Screen::start(root.path(), arguments, &pager).end();
        assert_eq!(status.code(), Some(0), "{shown}");
        shown
    };
    let is_paged = |shown: &str| shown.contains("     1\t") && shown.contains("    30\t");
    assert!(is_paged(&shown(&["log"])), "fifty records of two lines");
    assert!(!shown(&["log", "-n", "3"]).contains("     1\t"), "it fits");
    for arguments in [&["log", "--no-pager"][..], &["log", "-o", "json"]] {
        assert!(!shown(arguments).contains("     1\t"), "{arguments:?}");
    }
    let (_, plain) = Screen::start(root.path(), &["log", "--no-pager"], &[("NO_COLOR", "1")]).end();
    assert!(!plain.contains('\u{1b}'), "no colour");
    assert!(plain.lines().all(|line| line.trim_end_matches('\r').chars().count() <= 80), "{plain}");
}

#[test]
fn statistics_fit_the_terminal() {
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    for by in ["indicator", "dest", "exe", "actor", "source", "verdict"] {
        let arguments = ["log", "stats", "--by", by, "--since", "2026-11-16T20:00:00Z", "--until", example::UNTIL];
        let (status, shown) = Screen::start(root.path(), &arguments, &[("NO_COLOR", "1")]).end();
        assert_eq!(status.code(), Some(0), "{shown}");
        assert!(shown.contains("3588 hits") && shown.contains('█'), "{by}:\n{shown}");
        assert!(shown.lines().all(|line| line.trim_end_matches('\r').chars().count() <= 80), "{by}:\n{shown}");
        assert!(!shown.contains('\u{1b}'), "a name cannot steer the terminal");
    }
}
