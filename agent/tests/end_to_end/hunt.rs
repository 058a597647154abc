//! `cordon hunt`: what was, what is open and what runs, by value and by file, without an agent.

use std::net::{TcpListener, TcpStream};
use std::process::Command;

use serde_json::{Value, json};

use crate::network::settings;
use crate::sandbox::{Sandbox, connect, is_blocked};

fn found<'a>(document: &'a Value, place: &str) -> Vec<&'a Value> {
    document["found"].as_array().unwrap().iter().filter(|found| found["where"] == place).collect()
}

#[test]
fn what_was_blocked_is_found_after_the_agent_has_gone() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel("lab.txt", "127.5.5.0/24\n");
    sandbox.start();
    for port in [81, 81, 82] {
        assert!(is_blocked(&connect(&format!("127.5.5.5:{port}"))));
    }
    sandbox.record("the last hit", |record| record["destination"]["port"] == 82);
    // A new second begins a new record: repeats are in one, or in two.
    let repeats = |records: &[&Value]| -> u64 {
        let of_81 = records.iter().filter(|record| record["destination"]["port"] == 81);
        of_81.map(|record| record["count"].as_u64().unwrap()).sum()
    };
    sandbox.wait_for("the repeat", |sandbox| (repeats(&Vec::from_iter(&sandbox.log(&[]))) == 2).then_some(()));
    sandbox.stop();
    for hunted in ["127.5.5.5", "127.5.0.0/16", "127.5.5.5:82", "::ffff:127.5.5.5"] {
        let document = sandbox.json(&["hunt", hunted, "--json"]);
        assert_eq!((&document["schema"], &document["values"]), (&json!(1), &json!(1)));
        let records = found(&document, "journal");
        let of_82 = records.iter().find(|found| found["destination"]["port"] == 82).unwrap();
        assert_eq!((&of_82["verdict"], &of_82["attempted"]), (&json!("blocked"), &json!("connect")));
        assert_eq!(of_82["process"]["pid"], std::process::id());
        assert!(of_82["first_seen"].is_string() && of_82["record"].is_string(), "{of_82}");
        assert_eq!(repeats(&records), if hunted == "127.5.5.5:82" { 0 } else { 2 }, "{hunted}");
    }
    // Whose record it is does not matter: the indicator is what was hunted, too.
    assert_eq!(repeats(&found(&sandbox.json(&["hunt", "127.5.5.0/24", "--json"]), "journal")), 2);
    let nothing = sandbox.json(&["hunt", "192.0.2.1", "--json"]);
    assert_eq!(nothing["found"], json!([]));
    let table = String::from_utf8(sandbox.cordon(&["hunt", "127.5.5.5"]).stdout).unwrap();
    assert!(table.contains("127.5.5.5:81/tcp") && table.contains("connect blocked"), "{table}");
}

#[test]
fn open_flows_and_running_programs_are_found_without_any_agent() {
    let sandbox = Sandbox::new(&settings("enforce", "block"));
    let listener = TcpListener::bind("127.82.7.7:0").unwrap();
    let _open = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let document = sandbox.json(&["hunt", "127.82.0.0/16", "--json"]);
    let unseen = document["not_looked_at"].as_array().unwrap();
    assert!(unseen.iter().any(|unseen| unseen["what"] == "journal"), "there is none: {unseen:?}");
    if unseen.len() > 1 {
        println!("NOT RUN open_flows_and_running_programs_are_found_without_any_agent: flows: {unseen:?}");
    } else {
        let flows = found(&document, "socket");
        assert_eq!(flows[0]["process"]["pid"], std::process::id());
        assert_eq!(flows[0]["destination"]["protocol"], "tcp");
    }

    let (program, sha256) = sandbox.copy_of("/bin/sleep", "sleeper");
    let mut running = Command::new(&program).arg("60").spawn().unwrap();
    for hunted in [sha256.as_str(), program.to_str().unwrap()] {
        let document = sandbox.json(&["hunt", "--value", hunted, "--json"]);
        let processes = found(&document, "process");
        assert_eq!(processes.len(), 1, "{hunted}: {document}");
        assert_eq!(processes[0]["process"]["pid"], running.id());
        assert_eq!(processes[0]["path"], program.to_str().unwrap());
    }
    running.kill().unwrap();
    running.wait().unwrap();
    assert_eq!(sandbox.json(&["hunt", &sha256, "--json"])["found"], json!([]));
}

#[test]
fn a_file_of_intelligence_is_hunted_whole_and_says_whose_each_value_is() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel("lab.txt", "127.5.5.5\n127.5.5.6\n");
    sandbox.start();
    for address in ["127.5.5.5:81", "127.5.5.6:81"] {
        assert!(is_blocked(&connect(address)));
    }
    sandbox.record("the hit", |record| record["destination"]["ip"] == "127.5.5.6");
    let pattern = "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '127.5.5.5']";
    let bundle = sandbox.root.path().join("bundle.json");
    std::fs::write(&bundle, crate::intelligence::attributed_bundle(pattern)).unwrap();
    let document = sandbox.json(&["hunt", bundle.to_str().unwrap(), "--json"]);
    let records = found(&document, "journal");
    assert_eq!(records.len(), 1, "{document}");
    assert_eq!(records[0]["indicator"], "indicator--2c7e0d52-6cc1-4dd4-8f2c-0a7f3fd0b0aa");
    assert_eq!(records[0]["names"], json!(["Paper Heron"]));
    // Too many to ask for one by one.
    let list = sandbox.root.path().join("list.txt");
    std::fs::write(&list, (0..200).map(|n| format!("127.5.5.{n}\n")).collect::<String>()).unwrap();
    let document = sandbox.json(&["hunt", list.to_str().unwrap(), "--json"]);
    assert_eq!((&document["values"], found(&document, "journal").len()), (&json!(200), 2));
}

#[test]
fn what_is_no_value_and_no_intelligence_is_said_with_its_exit() {
    let sandbox = Sandbox::new(&settings("enforce", "block"));
    let broken = sandbox.root.path().join("broken.json");
    std::fs::write(&broken, "{\"type\": \"bundle\", \"objects\": [").unwrap();
    for (hunted, exit, said) in [("no such thing", 2, "is no address"), ("", 2, "is no address")] {
        let output = sandbox.cordon(&["hunt", hunted]);
        assert_eq!(output.status.code(), Some(exit), "{hunted}");
        assert!(String::from_utf8_lossy(&output.stderr).contains(said), "{hunted}");
    }
    let name = broken.file_name().unwrap().to_str().unwrap();
    let output =
        Command::new(crate::sandbox::CORDON).current_dir(sandbox.root.path()).args(["hunt", name]).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8_lossy(&output.stderr).contains("broken.json"));
}
