//! What was met before anybody listed it becomes a record when intelligence arrives.

use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::Value;

use crate::intelligence::attributed_bundle;
use crate::network::settings;
use crate::sandbox::Sandbox;

fn keeping() -> Sandbox {
    Sandbox::new(&format!("{}\n[telemetry]\ncontacts = true\n", settings("enforce", "block")))
}

fn is_retro_of(port: u16) -> impl Fn(&Value) -> bool {
    move |record| record["retro"] == true && record["destination"]["port"] == port
}

fn time(record: &Value, name: &str) -> Timestamp {
    record[name].as_str().unwrap().parse().unwrap()
}

/// A listener, and so many connections to it that are over.
fn meet(address: &str, times: usize) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let to = listener.local_addr().unwrap();
    for _ in 0..times {
        drop(TcpStream::connect(to).unwrap());
        drop(listener.accept().unwrap());
    }
    to
}

fn wait_until_kept(sandbox: &mut Sandbox, hunted: &str, times: u64) -> Value {
    sandbox.wait_for("the contact to be kept", |sandbox| {
        let document = sandbox.json(&["hunt", "--value", hunted, "--json"]);
        let kept = |found: &&Value| found["where"] == "contact" && found["count"] == times;
        document["found"].as_array().unwrap().iter().find(kept).cloned()
    })
}

#[test]
fn a_past_contact_becomes_a_record_when_its_indicator_arrives_and_only_once() {
    let mut sandbox = keeping();
    sandbox.start();
    let before = Timestamp::now();
    let met = meet("127.91.7.7", 3);
    let other = meet("127.91.9.9", 1);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.send_to(b"x", ("127.91.7.8", 9999)).unwrap();
    let found = wait_until_kept(&mut sandbox, "127.91.7.7", 3);
    let after = Timestamp::now();
    assert_eq!((&found["count"], &found["verdict"]), (&Value::from(3), &Value::Null));
    assert_eq!(sandbox.log(&[]).len(), 0, "nothing is listed yet");

    // By the address and by a prefix.
    let arrived = Timestamp::now();
    sandbox.intel("late.txt", "127.91.7.7\n127.91.7.8/31\n");
    let record = sandbox.record("the record of the past", is_retro_of(met.port()));
    assert!(Timestamp::now().duration_since(arrived).as_secs() < 10, "within seconds");
    assert_eq!((&record["kind"], &record["verdict"]), (&"connect".into(), &"reported".into()));
    assert_eq!(record["enforced_by"], "hindsight");
    assert_eq!(record["destination"]["ip"], "127.91.7.7");
    assert_eq!(record["destination"]["protocol"], "tcp");
    assert_eq!((&record["count"], &record["indicator"]["value"]), (&Value::from(3), &"127.91.7.7".into()));
    assert_eq!(record["process"]["pid"], std::process::id());
    assert_eq!(record["process"]["exe"], std::env::current_exe().unwrap().to_str().unwrap());
    // A clock that is read in ticks may differ from the kernel's by some milliseconds.
    let slack = jiff::SignedDuration::from_millis(100);
    let (first, last) = (time(&record, "time"), time(&record, "last_time"));
    assert!(before - slack <= first && first <= last && last <= after + slack, "{before} {record} {after}");
    let datagram = sandbox.record("the datagram", is_retro_of(9999));
    assert_eq!(datagram["indicator"]["value"], "127.91.7.8/31");

    // Neither another generation nor a restart tells it again.
    sandbox.intel("more.txt", "192.0.2.9\n");
    sleep(Duration::from_secs(3));
    assert!(sandbox.stop().success());
    sandbox.start();
    sleep(Duration::from_secs(3));
    let told = sandbox.log(&[]).iter().filter(|record| record["retro"] == true).count();
    assert_eq!(told, 2, "{:?}", sandbox.log(&[]));
    assert!(!sandbox.log(&[]).iter().any(|record| record["destination"]["port"] == other.port()));
    let verified = sandbox.json(&["log", "--verify", "--json"]);
    assert_eq!(verified["intact"], true);
}

#[test]
fn a_program_that_ran_is_recorded_when_it_is_listed() {
    let mut sandbox = keeping();
    sandbox.start();
    let (program, _) = sandbox.program("ran-once");
    assert!(Command::new(&program).status().unwrap().success());
    let path = program.to_str().unwrap();
    let found = wait_until_kept(&mut sandbox, path, 1);
    assert_eq!((&found["attempted"], &found["count"]), (&"exec".into(), &Value::from(1)));
    let (directory, name) = path.rsplit_once('/').unwrap();
    let pattern = format!("[file:parent_directory_ref.path = '{directory}' AND file:name = '{name}']");
    sandbox.intel("late.json", &attributed_bundle(&pattern));
    let record = sandbox.record("the record of the past", |record| record["retro"] == true);
    assert_eq!((&record["kind"], &record["file"]["path"]), (&"exec".into(), &path.into()));
    assert_eq!(record["attribution"]["actors"][0], "Paper Heron");
}

#[test]
fn without_the_setting_nothing_is_kept() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.start();
    meet("127.91.7.7", 1);
    sleep(Duration::from_secs(3));
    assert!(!sandbox.root.path().join("var/log/cordon/contacts.sqlite").exists());
    sandbox.intel("late.txt", "127.91.7.7\n");
    sleep(Duration::from_secs(3));
    assert_eq!(sandbox.log(&[]).len(), 0);
}
