//! What outlives the daemon, and what takes it away again.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, ErrorKind};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use agent::attribute::hook_name;
use agent::event::Hook;
use agent::kernel::{Bprm, Error, HookState, Kernel, NAME_HOOKS, unpin_all};
use agent_common::wire::Mode;

use crate::names::{domain, judges};
use crate::sandbox::{CGROUP_HOOKS, Rules, Sandbox, StopOnDrop, kernel_version};

fn blocked() -> bool {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    match socket.connect("127.0.0.9:53") {
        Ok(()) => false,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::PermissionDenied);
            true
        }
    }
}

#[test]
fn hooks_outlive_the_daemon_and_unpinning_ends_them() {
    let sandbox = Sandbox::new();
    let running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    assert!(blocked());
    drop(running);
    assert!(blocked(), "the links are pinned");
    let removed = unpin_all(&sandbox.pins).unwrap();
    assert!(
        removed.links >= CGROUP_HOOKS.len() && removed.maps == 19,
        "sixteen maps of the object, two tables of folds and the image: {removed:?}"
    );
    let until = std::time::Instant::now() + std::time::Duration::from_secs(5);
    while blocked() && std::time::Instant::now() < until {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(!blocked());
    assert!(!sandbox.pins.exists());
    assert_eq!(unpin_all(&sandbox.pins).unwrap(), agent::kernel::Removed::default());
}

#[test]
fn the_next_daemon_adopts_without_a_gap() {
    let sandbox = Sandbox::new();
    let running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    let exec = running.report.is_attached(Hook::SchedProcessExec);
    assert!(blocked());
    let counted = running.counted(1);
    drop(running);
    let (stop, probes) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                assert!(blocked(), "a gap");
                probes.fetch_add(1, Ordering::Relaxed);
            }
        });
        for _ in 0..3 {
            let mut next = sandbox.load();
            assert_eq!(next.kernel.mapped_image().unwrap().generation(), Ok(1));
            assert_eq!(next.kernel.switches().unwrap().mode, Mode::Enforce);
            assert!(next.counted(1) >= counted);
            next.attach();
            for hook in CGROUP_HOOKS.into_iter().chain(exec.then_some(Hook::SchedProcessExec)) {
                assert_eq!(next.report.state(hook), Some(&HookState::Attached { adopted: true }));
            }
        }
    });
    assert!(probes.load(Ordering::Relaxed) > 100);
}

/// In the child that [`a_killed_daemon_leaves_everything_blocking`] starts; nothing to do in any other process.
#[test]
fn daemon_of_a_child() {
    let (Some(pins), Some(cgroup)) = (std::env::var_os("CORDON_TEST_PINS"), std::env::var_os("CORDON_TEST_CGROUP"))
    else {
        return;
    };
    let sandbox = Sandbox::borrow(pins.into(), cgroup.into());
    let running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    println!("ready");
    std::thread::sleep(std::time::Duration::from_secs(60));
    drop(running);
}

#[test]
fn a_killed_daemon_leaves_everything_blocking() {
    let sandbox = Sandbox::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "lifecycle::daemon_of_a_child", "--nocapture"])
        .env("CORDON_TEST_PINS", &sandbox.pins)
        .env("CORDON_TEST_CGROUP", &sandbox.cgroup)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let ready = lines.map_while(Result::ok).any(|line| line.contains("ready"));
    assert!(ready, "the child did not start");
    assert!(blocked());
    child.kill().unwrap();
    child.wait().unwrap();
    for _ in 0..100 {
        assert!(blocked());
    }
}

#[test]
fn a_place_that_cannot_hold_pins_or_programs_is_named() {
    let sandbox = Sandbox::new();
    let mut options = sandbox.options();
    options.pin_dir = sandbox.files.path().join("no-bpffs/deep");
    let error = Kernel::load(options).err().unwrap();
    assert!(matches!(&error, Error::NotBpffs { .. }), "{error}");
    let mut options = sandbox.options();
    options.cgroup = sandbox.files.path().to_owned();
    let error = Kernel::load(options).err().unwrap();
    assert!(matches!(&error, Error::NotCgroup2 { .. }), "{error}");
}

#[test]
fn the_verifier_is_done_with_each_program_in_a_fraction_of_its_limit() {
    const NAME: &str = "the_verifier_is_done_with_each_program_in_a_fraction_of_its_limit";
    const MOST: u32 = 300_000;
    // Names at egress take 474,937 on 7.3.
    const MOST_OF_NAMES: u32 = 700_000;
    if kernel_version() < (5, 17) {
        println!(
            "NOT RUN {NAME}: the kernel tells how many instructions it verified since 5.16, and loads what judges names since 5.17"
        );
        return;
    }
    let sandbox = Sandbox::new();
    let mut seen = BTreeMap::new();
    for bprm in [Bprm::Ima, Bprm::Plain] {
        let mut running = sandbox.load_with(|options| options.bprm = bprm);
        running.publish(1, Rules::default().block(domain("evil.example")));
        running.attach();
        for (hook, instructions, _) in &running.report.verified {
            let most = if NAME_HOOKS.contains(hook) { MOST_OF_NAMES } else { MOST };
            assert!((1..most).contains(instructions), "{hook:?}: {instructions}");
            seen.insert(hook_name(*hook), *instructions);
        }
        assert!(judges(NAME, &running), "names are judged since 5.17");
        // These are judged by the program of `EgressDns`.
        let shared = [Hook::EgressTls, Hook::EgressHttp];
        let has_program = |hook: &Hook| running.report.is_attached(*hook) && !shared.contains(hook);
        let attached = running.report.hooks.iter().filter(|(hook, _)| has_program(hook)).count();
        assert_eq!(running.report.verified.len(), attached, "{:?}", running.report);
    }
    println!("VERIFIED {}", serde_json::to_string(&seen).unwrap());
}
