//! Blocking that outlives the agent: kill -9, restarts under a prober, stop, break-glass.

use std::fs;
use std::net::TcpStream;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::network::settings;
use crate::sandbox::{Sandbox, StopOnDrop, connect, is_blocked};

fn lab() -> Sandbox {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox.start();
    sandbox
}

fn pins(sandbox: &Sandbox) -> PathBuf {
    PathBuf::from(sandbox.json(&["status", "--json"])["pins"].as_str().unwrap())
}

#[test]
fn kill_9_leaves_blocking_as_it_was_and_no_hit_is_lost() {
    let mut sandbox = lab();
    sandbox.kill();
    assert!(is_blocked(&connect("127.7.7.7:0")));
    connect("127.7.7.8:0").unwrap();
    sandbox.start();
    let record = sandbox.record("the hit from while it was dead", |_| true);
    assert_eq!(record["destination"]["ip"], "127.7.7.7");
    assert_eq!(record["indicator"]["source"], "lab");
}

#[test]
fn twenty_kills_and_restarts_let_no_hit_through() {
    let mut sandbox = lab();
    let (stop, probes, leaks) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        let _stop = StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                probes.fetch_add(1, Ordering::Relaxed);
                if !is_blocked(&TcpStream::connect("127.7.7.7:9")) {
                    leaks.fetch_add(1, Ordering::Relaxed);
                }
                std::thread::sleep(Duration::from_micros(200));
            }
        });
        for _ in 0..20 {
            sandbox.kill();
            sandbox.start();
        }
    });
    let probes = probes.into_inner();
    assert_eq!(leaks.into_inner(), 0, "of {probes} probes");
    assert!(probes > 1_000, "only {probes} probes ran: that proves nothing");
    println!("20 restarts, {probes} probes, 0 let through");
}

#[test]
fn a_clean_stop_keeps_blocking_and_off_removes_every_pin() {
    let mut sandbox = lab();
    let pins = pins(&sandbox);
    assert!(pins.exists());
    assert!(sandbox.stop().success());
    assert!(is_blocked(&connect("127.7.7.7:0")), "an upgrade stops the old agent before it starts the new one");
    let off = sandbox.json(&["off", "--reason", "test", "--json"]);
    assert_eq!(off["off"], true);
    assert!(!pins.exists());
    sandbox.wait_for("the kernel to let go", |_| connect("127.7.7.7:0").ok());
}

#[test]
fn off_holds_for_an_agent_that_is_started_later() {
    let mut sandbox = lab();
    sandbox.kill();
    assert!(is_blocked(&connect("127.7.7.7:0")));
    sandbox.json(&["off", "--for", "1h", "--reason", "locked out", "--json"]);
    sandbox.start();
    connect("127.7.7.7:0").unwrap();
    sandbox.json(&["on", "--json"]);
    assert!(is_blocked(&connect("127.7.7.7:0")));
}

#[test]
fn off_ends_by_itself_and_on_ends_it_early() {
    let mut sandbox = lab();
    let pins = pins(&sandbox);
    sandbox.json(&["off", "--for", "3s", "--reason", "test", "--json"]);
    sandbox.wait_for("off", |_| connect("127.7.7.7:0").ok());
    assert!(!pins.exists(), "off removes every pin");
    assert_eq!(sandbox.json(&["status", "--json"])["off"]["reason"], "test");
    sandbox.wait_for("its end", |_| is_blocked(&connect("127.7.7.7:0")).then_some(()));
    assert!(pins.exists());

    sandbox.json(&["off", "--for", "1h", "--reason", "test", "--json"]);
    sandbox.wait_for("off", |_| connect("127.7.7.7:0").ok());
    sandbox.json(&["on", "--json"]);
    assert!(is_blocked(&connect("127.7.7.7:0")));
}

#[test]
fn reload_takes_new_settings_and_refuses_broken_ones() {
    let sandbox = lab();
    let file = sandbox.root.path().join("etc/cordon/cordon.toml");
    fs::write(&file, settings("monitor", "block")).unwrap();
    assert!(sandbox.cordon(&["reload"]).status.success());
    connect("127.7.7.7:0").unwrap();
    fs::write(&file, "mood = \"enforce\"\n").unwrap();
    let refused = sandbox.cordon(&["reload"]);
    assert_eq!(refused.status.code(), Some(3));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("cordon.toml:1:1") && said.contains("did you mean `mode`?"), "{said}");
    assert_eq!(sandbox.json(&["status", "--json"])["mode"], "monitor");
}

#[test]
fn a_second_agent_in_the_same_place_is_refused() {
    let sandbox = lab();
    let second = sandbox.cordon(&["run", "--cgroup", sandbox.cgroup.to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(String::from_utf8(second.stderr).unwrap().contains("another agent"));
    assert!(is_blocked(&connect("127.7.7.7:0")));
}

#[test]
fn what_somebody_tears_out_of_the_kernel_is_put_back_and_said() {
    let mut sandbox = lab();
    let version = fs::read_dir(pins(&sandbox)).unwrap().flatten().next().unwrap().path();
    fs::remove_file(version.join("links/connect4")).unwrap();
    let fault = sandbox.wait_for("the fault", |sandbox| {
        let status = sandbox.cordon(&["status", "--json"]);
        let status: serde_json::Value = serde_json::from_slice(&status.stdout).ok()?;
        status["faults"].as_array()?.iter().find(|fault| fault["number"] == "C033").cloned()
    });
    assert!(fault["detail"].as_str().unwrap().contains("the link connect4 was removed"), "{fault}");
    assert!(is_blocked(&connect("127.7.7.7:0")), "put back");
    assert!(sandbox.cordon(&["reload"]).status.success());
    assert_eq!(sandbox.json(&["status", "--json"])["faults"], serde_json::json!([]));
}
