//! Self-protection, where LSM programs are called: what another program tries is refused, and told.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use agent::event::Hook;
use agent::host::device::own_program;
use agent::kernel::attempt::tamper;
use agent::kernel::probe::{plan, probe};
use agent::kernel::{Bprm, HookState, Refusal, unpin_all};
use agent_common::image::Seed;
use agent_common::wire::{Attempt, Counter, Mode, ObjectKind};
use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit, test_kill_process};

use crate::sandbox::{Rules, Running, Sandbox};

const PASSED: i32 = 0;
const REFUSED: i32 = libc::EPERM;
/// What [`stranger`] is told to try: one attempt a line, words parted by blanks.
const ATTEMPTS: &str = "CORDON_TEST_ATTEMPTS";

fn start(sandbox: &Sandbox, name: &str) -> Option<Running> {
    if plan(&probe()).bprm == Bprm::None {
        println!("NOT RUN {name}: this kernel calls no LSM program");
        return None;
    }
    let mut running = sandbox.load_with(|options| {
        options.layers.lsm = true;
        options.protection = Some(own_program(Seed(7, 11)).unwrap());
    });
    running.configure(Mode::Enforce);
    running.publish(1, Rules::default().block_ip("127.0.0.9"));
    running.attach();
    let state = running.report.state(Hook::SelfProtection);
    assert!(running.report.is_attached(Hook::SelfProtection), "{state:?}");
    Some(running)
}

/// In the child that [`tries`] starts; nothing to do in any other process.
#[test]
fn stranger() {
    let Ok(attempts) = std::env::var(ATTEMPTS) else { return };
    for attempt in attempts.lines() {
        let errno = match act(attempt) {
            Ok(()) => PASSED,
            Err(error) => error.raw_os_error().unwrap(),
        };
        println!("\nTRIED {errno}");
    }
}

fn act(attempt: &str) -> io::Result<()> {
    let words: Vec<&str> = attempt.split(' ').collect();
    let number = |text: &str| text.parse::<i32>().unwrap();
    let pid = |text: &str| Pid::from_raw(number(text)).unwrap();
    let id = |text: &str| text.parse::<u32>().unwrap();
    match words.as_slice() {
        ["unlink", pin] => fs::remove_file(pin),
        ["rmdir", folder] => fs::remove_dir(folder),
        ["rename", from, to] => fs::rename(from, to),
        ["map", wanted] => tamper::open_by_id(ObjectKind::Map, id(wanted)).map(drop),
        ["program", wanted] => tamper::open_by_id(ObjectKind::Program, id(wanted)).map(drop),
        ["link", wanted] => tamper::open_by_id(ObjectKind::Link, id(wanted)).map(drop),
        ["pin", pin] => tamper::open_pin(Path::new(pin)).map(drop),
        ["detach", pin] => tamper::detach_link(Path::new(pin)),
        ["exists", process] => Ok(test_kill_process(pid(process))?),
        ["signal", process, signal] => Ok(kill_process(pid(process), Signal::from_named_raw(number(signal)).unwrap())?),
        ["descriptor", process, signal] => tamper::signal_by_descriptor(number(process), number(signal)),
        ["trace", process] => tamper::trace(number(process)),
        ["memory", process] => File::options().read(true).write(true).open(format!("/proc/{process}/mem")).map(drop),
        ["limit", process] => {
            let none = Rlimit { current: None, maximum: None };
            prlimit(Some(pid(process)), Resource::Cpu, none).map(drop).map_err(Into::into)
        }
        _ => panic!("no such attempt: {attempt}"),
    }
}

/// What became of each attempt in a process that runs `program`: an error number, or [`PASSED`].
fn tries(program: &Path, attempts: &[String]) -> Vec<i32> {
    let child = Command::new(program)
        .args(["--exact", "protect::stranger", "--nocapture"])
        .env(ATTEMPTS, attempts.join("\n"))
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let said = String::from_utf8(child.stdout).unwrap();
    let tried: Vec<i32> = said.lines().filter_map(|line| line.strip_prefix("TRIED ")?.parse().ok()).collect();
    assert_eq!(tried.len(), attempts.len(), "{said}");
    tried
}

/// The same program at another path: somebody else.
fn stranger_in(sandbox: &Sandbox) -> PathBuf {
    let copy = sandbox.files.path().join("stranger");
    if !copy.exists() {
        fs::copy(std::env::current_exe().unwrap(), &copy).unwrap();
    }
    copy
}

fn folder(sandbox: &Sandbox, name: &str) -> PathBuf {
    fs::read_dir(&sandbox.pins).unwrap().flatten().next().unwrap().path().join(name)
}

/// What was refused so far, by kind; each is by the stranger.
fn refused(running: &Running, refusals: &mut Vec<Refusal>) -> BTreeSet<u32> {
    refusals.extend(running.kernel.take_refusals().unwrap());
    refusals.iter().map(|refusal| refusal.attempt as u32).collect()
}

fn kinds(attempts: &[Attempt]) -> BTreeSet<u32> {
    attempts.iter().map(|attempt| *attempt as u32).collect()
}

/// A process that only sleeps.
fn sleeper() -> Child {
    Command::new("sleep").arg("60").spawn().unwrap()
}

/// The signal that ended it within five seconds.
fn ended_by(child: &mut Child) -> Option<i32> {
    let until = Instant::now() + Duration::from_secs(5);
    while Instant::now() < until {
        if let Some(status) = child.try_wait().unwrap() {
            return status.signal();
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    None
}

#[test]
fn without_self_protection_every_attempt_succeeds() {
    let sandbox = Sandbox::new();
    let running = sandbox.start(Mode::Enforce, Rules::default());
    assert!(matches!(running.report.state(Hook::SelfProtection), Some(HookState::Unused { .. })));
    let (links, maps) = (folder(&sandbox, "links"), folder(&sandbox, "maps"));
    let (link, program) = tamper::link_ids(&links.join("connect4")).unwrap();
    let map = tamper::map_id(&maps.join("CONFIG")).unwrap();
    let (mut traced, mut ended) = (sleeper(), sleeper());
    let attempts = [
        format!("map {map}"),
        format!("pin {}", maps.join("CONFIG").display()),
        format!("program {program}"),
        format!("link {link}"),
        format!("detach {}", links.join("connect4").display()),
        format!("rename {} {}", links.join("connect4").display(), links.join("elsewhere").display()),
        format!("unlink {}", links.join("connect6").display()),
        format!("trace {}", traced.id()),
        format!("memory {}", traced.id()),
        format!("limit {}", traced.id()),
        format!("descriptor {} {}", ended.id(), libc::SIGKILL),
        format!("signal {} {}", traced.id(), libc::SIGKILL),
    ];
    assert_eq!(tries(&stranger_in(&sandbox), &attempts), vec![PASSED; attempts.len()]);
    assert_eq!(ended_by(&mut ended), Some(libc::SIGKILL), "a descriptor sends any signal");
    assert_eq!(ended_by(&mut traced), Some(libc::SIGKILL));
    assert_eq!(running.kernel.take_refusals().unwrap(), []);
}

#[test]
fn nobody_else_removes_a_pin_or_its_mount() {
    let sandbox = Sandbox::new();
    let Some(running) = start(&sandbox, "nobody_else_removes_a_pin_or_its_mount") else { return };
    let (links, maps) = (folder(&sandbox, "links"), folder(&sandbox, "maps"));
    let mount = sandbox.pins.parent().unwrap();
    let (other, another) = (mount.join("other"), mount.join("another"));
    fs::create_dir(&other).unwrap();
    let pin = |name: &str| links.join(name).display().to_string();
    let attempts = [
        format!("unlink {}", pin("connect4")),
        format!("unlink {}", pin("protect_inode_unlink")),
        format!("unlink {}", maps.join("CONFIG").display()),
        format!("rename {} {}", pin("connect4"), pin("connect6")),
        format!("rename {} {}", pin("connect4"), mount.join("taken").display()),
        format!("rename {} {}", sandbox.pins.display(), mount.join("moved").display()),
        format!("rmdir {}", links.display()),
    ];
    let stranger = stranger_in(&sandbox);
    assert_eq!(tries(&stranger, &attempts), vec![REFUSED; attempts.len()]);
    assert!(!Command::new("umount").arg(mount).status().unwrap().success());
    let mut refusals = Vec::new();
    assert_eq!(refused(&running, &mut refusals), kinds(&[Attempt::RemovePin, Attempt::Unmount]));
    assert_eq!(running.kernel.changes(), Vec::<String>::new());

    let others = [format!("rename {} {}", other.display(), another.display()), format!("rmdir {}", another.display())];
    assert_eq!(tries(&stranger, &others), [PASSED, PASSED], "what is not Cordon's is left alone");
    // As systemd does for a service that has a /sys of its own.
    let elsewhere = Command::new("unshare").args(["-m", "umount"]).arg(mount).status().unwrap();
    assert!(elsewhere.success(), "another mount of the file system holds the pins");
    assert_eq!(running.kernel.changes(), Vec::<String>::new());
    assert_eq!(running.kernel.take_refusals().unwrap(), []);
}

#[test]
fn nobody_else_opens_a_map_or_program_or_changes_a_link() {
    let sandbox = Sandbox::new();
    let Some(running) = start(&sandbox, "nobody_else_opens_a_map_or_program_or_changes_a_link") else { return };
    let (links, maps) = (folder(&sandbox, "links"), folder(&sandbox, "maps"));
    let (link, program) = tamper::link_ids(&links.join("connect4")).unwrap();
    let attempts = [
        format!("map {}", tamper::map_id(&maps.join("CONFIG")).unwrap()),
        format!("map {}", tamper::map_id(&maps.join("PROTECTION")).unwrap()),
        format!("pin {}", maps.join("GENERATIONS").display()),
        format!("program {program}"),
        format!("link {link}"),
        format!("detach {}", links.join("connect4").display()),
    ];
    let stranger = stranger_in(&sandbox);
    assert_eq!(tries(&stranger, &attempts), vec![REFUSED; attempts.len()]);
    let mut refusals = Vec::new();
    let expected = [Attempt::OpenMap, Attempt::OpenProgram, Attempt::OpenLink, Attempt::ChangeLink];
    assert_eq!(refused(&running, &mut refusals), kinds(&expected));
    for refusal in &refusals {
        assert_eq!((refusal.program.as_str(), refusal.ppid, refusal.uid), ("stranger", std::process::id(), 0));
        assert_eq!(refusal.count, if refusal.attempt == Attempt::OpenMap { 3 } else { 1 }, "{refusal}");
    }
    assert_eq!(running.kernel.counters().unwrap().get(Counter::ProtectionRefused), attempts.len() as u64);
    assert_eq!(running.kernel.changes(), Vec::<String>::new());

    let (_map, id) = tamper::new_map().unwrap();
    assert_eq!(tries(&stranger, &[format!("map {id}")]), [PASSED], "the maps of others are left alone");
}

#[test]
fn nobody_else_ends_or_traces_the_agent() {
    let sandbox = Sandbox::new();
    let Some(running) = start(&sandbox, "nobody_else_ends_or_traces_the_agent") else { return };
    let agent = std::process::id();
    let attempts = [
        // Harmless ones first: where they pass, the others would end this very process.
        format!("signal {agent} {}", libc::SIGWINCH),
        format!("trace {agent}"),
        format!("limit {agent}"),
    ];
    let stranger = stranger_in(&sandbox);
    assert_eq!(tries(&stranger, &attempts), vec![REFUSED; attempts.len()]);
    let deadly = [libc::SIGSTOP, libc::SIGTERM, libc::SIGKILL].map(|signal| format!("signal {agent} {signal}"));
    assert_eq!(tries(&stranger, &deadly), [REFUSED; 3]);
    let sent = format!("descriptor {agent} {}", libc::SIGKILL);
    assert_eq!(tries(&stranger, &[sent]), [PASSED], "this process would be gone");
    assert_eq!(tries(&stranger, &[format!("memory {agent}")]), [libc::EACCES], "the kernel's word for it");
    let mut refusals = Vec::new();
    assert_eq!(refused(&running, &mut refusals), kinds(&[Attempt::Signal, Attempt::Trace, Attempt::Limit]));

    assert_eq!(tries(&stranger, &[format!("exists {agent}")]), [PASSED], "asking changes nothing");
    let mut other = sleeper();
    let others = [format!("trace {}", other.id()), format!("signal {} {}", other.id(), libc::SIGKILL)];
    assert_eq!(tries(&stranger, &others), [PASSED, PASSED], "other processes are left alone");
    assert_eq!(ended_by(&mut other), Some(libc::SIGKILL));
    assert_eq!(running.kernel.take_refusals().unwrap(), []);
}

#[test]
fn its_own_program_may_do_everything_and_leaves_nothing_behind() {
    let sandbox = Sandbox::new();
    let name = "its_own_program_may_do_everything_and_leaves_nothing_behind";
    let Some(running) = start(&sandbox, name) else { return };
    let (links, maps) = (folder(&sandbox, "links"), folder(&sandbox, "maps"));
    let (link, program) = tamper::link_ids(&links.join("connect4")).unwrap();
    let own = std::env::current_exe().unwrap();
    let attempts = [
        format!("pin {}", maps.join("CONFIG").display()),
        format!("program {program}"),
        format!("link {link}"),
        format!("signal {} {}", std::process::id(), libc::SIGWINCH),
        format!("trace {}", std::process::id()),
        format!("unlink {}", links.join("connect4").display()),
    ];
    assert_eq!(tries(&own, &attempts), vec![PASSED; attempts.len()]);
    assert_eq!(running.kernel.take_refusals().unwrap(), []);

    // The agent is gone: what it left in the kernel is protected still, and the next one takes it over.
    drop(running);
    let stranger = stranger_in(&sandbox);
    let unlink = [format!("unlink {}", links.join("connect6").display())];
    assert_eq!(tries(&stranger, &unlink), [REFUSED]);
    let mut next = sandbox.load_with(|options| {
        options.layers.lsm = true;
        options.protection = Some(own_program(Seed(8, 12)).unwrap());
    });
    next.configure(Mode::Enforce);
    next.attach();
    assert_eq!(next.report.state(Hook::SelfProtection), Some(&HookState::Attached { adopted: true }));
    assert_eq!(tries(&stranger, &unlink), [REFUSED]);
    assert_eq!(next.kernel.take_refusals().unwrap().len(), 2, "also what was refused while no agent ran");

    unpin_all(&sandbox.pins).unwrap();
    assert!(!sandbox.pins.exists());
    let agent = std::process::id();
    let winch = [format!("signal {agent} {}", libc::SIGWINCH)];
    assert_eq!(tries(&stranger, &winch), [PASSED], "it ends at once");
}

#[test]
fn an_agent_that_is_not_to_be_protected_takes_protection_away() {
    let sandbox = Sandbox::new();
    let name = "an_agent_that_is_not_to_be_protected_takes_protection_away";
    let Some(running) = start(&sandbox, name) else { return };
    drop(running);
    let mut next = sandbox.load_with(|options| options.layers.lsm = true);
    next.configure(Mode::Enforce);
    next.attach();
    let links = folder(&sandbox, "links");
    assert!(matches!(next.report.state(Hook::SelfProtection), Some(HookState::Unused { .. })));
    assert!(!links.join("protect_inode_unlink").exists());
    let unlink = [format!("unlink {}", links.join("connect6").display())];
    assert_eq!(tries(&stranger_in(&sandbox), &unlink), [PASSED], "it ends at once");
}
