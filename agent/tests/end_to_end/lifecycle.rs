//! Blocking that outlives the agent: kill -9, restarts under a prober, stop, break-glass.

use std::fs;
use std::net::TcpStream;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::network::settings;
use crate::sandbox::{CORDON, Sandbox, StopOnDrop, connect, is_blocked};

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

/// A hit while no agent runs, of an indicator that its publisher takes back before one runs again; `meanwhile` happens to the
/// files of the generations.
fn hit_of_the_past(meanwhile: impl Fn(&Path)) -> (Sandbox, Value) {
    let mut sandbox = lab();
    sandbox.kill();
    assert!(is_blocked(&connect("127.7.7.7:0")));
    sandbox.intel("lab.txt", "127.7.7.9\n");
    let files = sandbox.root.path().join("var/lib/cordon/generations");
    for entry in fs::read_dir(files).unwrap() {
        meanwhile(&entry.unwrap().path());
    }
    sandbox.start();
    connect("127.7.7.7:0").unwrap();
    let record = sandbox.record("the hit of the past", |record| record["destination"]["ip"] == "127.7.7.7");
    (sandbox, record)
}

fn faults(sandbox: &Sandbox) -> Vec<String> {
    let status = sandbox.json(&["status", "--json"]);
    status["faults"].as_array().unwrap().iter().map(|fault| fault["number"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_hit_from_before_a_restart_is_named_though_its_indicator_is_gone() {
    let (sandbox, record) = hit_of_the_past(|_| ());
    assert_eq!((&record["indicator"]["value"], &record["indicator"]["source"]), (&"127.7.7.7".into(), &"lab".into()));
    assert_eq!(record["policy"]["rule"], "feeds.lab");
    assert_eq!(record["attribution"]["reports"][0], "lab");
    assert_eq!(faults(&sandbox), [""; 0]);
}

#[test]
fn a_damaged_or_missing_file_of_a_generation_is_a_fault_and_never_another_name() {
    let change = |path: &Path| {
        let mut bytes = fs::read(path).unwrap();
        let at = bytes.len() / 3;
        bytes[at] ^= 1;
        fs::write(path, bytes).unwrap();
    };
    let swap = |path: &Path| {
        let other = path.with_file_name("other");
        fs::write(&other, b"cordon of another time").unwrap();
        fs::rename(other, path).unwrap();
    };
    let cut = |path: &Path| fs::File::options().write(true).open(path).unwrap().set_len(4000).unwrap();
    let remove = |path: &Path| fs::remove_file(path).unwrap();
    type Damage<'a> = (&'a str, &'a dyn Fn(&Path));
    let damages: [Damage<'_>; 4] = [("missing", &remove), ("changed", &change), ("swapped", &swap), ("cut", &cut)];
    for (what, damage) in damages {
        let (sandbox, record) = hit_of_the_past(damage);
        assert_eq!(record["indicator"]["value"], "unknown", "{what}");
        assert!(faults(&sandbox).contains(&"C018".to_owned()), "{what}: {:?}", faults(&sandbox));
    }
}

/// Kills the agent or stops it, starts it from another file, and reloads it, twenty times or as often as `CORDON_CYCLES` says,
/// while somebody tries without pause to get through.
#[test]
fn kills_upgrades_and_reloads_let_no_hit_through() {
    let cycles = std::env::var("CORDON_CYCLES").map_or(20, |cycles| cycles.parse().expect("CORDON_CYCLES is a number"));
    let mut sandbox = lab();
    let upgrade = sandbox.root.path().join("cordon-upgrade");
    fs::copy(CORDON, &upgrade).unwrap();
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
        for cycle in 0..cycles {
            if cycle % 3 == 2 {
                assert!(sandbox.stop().success())
            } else {
                sandbox.kill()
            }
            sandbox.start_program(if cycle % 2 == 0 { &upgrade } else { Path::new(CORDON) });
            assert!(sandbox.cordon(&["reload"]).status.success());
        }
    });
    let probes = probes.into_inner();
    assert_eq!(leaks.into_inner(), 0, "of {probes} probes");
    assert!(probes > 1_000, "only {probes} probes ran: that proves nothing");
    println!("MEASURED {cycles} restarts with reloads, {probes} probes, 0 let through");
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
        let status: Value = serde_json::from_slice(&status.stdout).ok()?;
        status["faults"].as_array()?.iter().find(|fault| fault["number"] == "C033").cloned()
    });
    assert!(fault["detail"].as_str().unwrap().contains("the link connect4 was removed"), "{fault}");
    assert!(is_blocked(&connect("127.7.7.7:0")), "put back");
    assert!(sandbox.cordon(&["reload"]).status.success());
    assert_eq!(sandbox.json(&["status", "--json"])["faults"], serde_json::json!([]));
}

#[test]
fn hits_go_to_journald_when_the_settings_ask_for_it() {
    let socket = Path::new("/run/systemd/journal/socket");
    if socket.exists() {
        println!("NOT RUN hits_go_to_journald_when_the_settings_ask_for_it: this host's own journald listens here");
        return;
    }
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let journald = UnixDatagram::bind(socket).unwrap();
    let goes_in_any_case = tempfile::TempPath::try_from_path(socket).unwrap();
    journald.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let mut sandbox = Sandbox::new(&format!("{}\n[journal]\njournald = true\n", settings("enforce", "block")));
    sandbox.intel("lab.txt", "127.9.9.9\n");
    sandbox.start();
    assert!(is_blocked(&connect("127.9.9.9:0")));
    let mut entry = vec![0; 1 << 16];
    let received = journald.recv(&mut entry);
    goes_in_any_case.close().unwrap();
    // Only if it was made for this.
    fs::remove_dir(socket.parent().unwrap()).ok();
    let entry = String::from_utf8_lossy(&entry[..received.unwrap()]).into_owned();
    for field in [
        "SYSLOG_IDENTIFIER=cordon\n",
        "CORDON_VERDICT=blocked\n",
        "CORDON_IP=127.9.9.9\n",
        "CORDON_INDICATOR=127.9.9.9\n",
    ] {
        assert!(entry.contains(field), "{field}{entry}");
    }
    // With nobody listening that is a fault, and nothing else.
    drop(journald);
    assert!(is_blocked(&connect("127.9.9.9:1")));
    sandbox.wait_for("the fault", |sandbox| {
        sandbox.json(&["status", "--json"])["faults"].to_string().contains("C009").then_some(())
    });
}
