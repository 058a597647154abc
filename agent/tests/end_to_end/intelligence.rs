//! Intelligence that comes, goes and expires while the agent runs, and what records and `explain` say of it.

use std::fs;
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::network::settings;
use crate::sandbox::{Sandbox, connect, is_blocked};

#[test]
fn a_file_dropped_in_goes_live_and_a_file_taken_away_goes() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.start();
    connect("127.6.6.6:0").unwrap();
    let path = sandbox.intel("late.txt", "127.6.6.6\n");
    sandbox.wait_for("the new indicator", |_| is_blocked(&connect("127.6.6.6:0")).then_some(()));
    fs::remove_file(path).unwrap();
    sandbox.wait_for("the indicator to go", |_| connect("127.6.6.6:0").ok());
}

#[test]
fn a_record_names_indicator_actor_malware_and_report() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel(
        "bundle.json",
        &attributed_bundle(
            "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '127.5.5.5']",
        ),
    );
    sandbox.start();
    assert!(is_blocked(&connect("127.5.5.5:0")));
    let record = sandbox.record("the hit", |_| true);
    assert_eq!(record["indicator"]["id"], "indicator--2c7e0d52-6cc1-4dd4-8f2c-0a7f3fd0b0aa");
    assert_eq!(record["indicator"]["confidence"], 85);
    assert_eq!(record["indicator"]["tlp"], "green");
    assert_eq!(record["attribution"]["actors"][0], "Paper Heron");
    assert_eq!(record["attribution"]["malware"][0], "INKWELL");
    assert_eq!(record["attribution"]["techniques"][0], "T1071.001");
    assert_eq!(record["attribution"]["reports"][0], "Paper Heron returns");
    let path = |name: &str, path: &str| serde_json::json!([{ "name": name, "path": path }]);
    assert_eq!(record["attribution"]["paths"]["actors"], path("Paper Heron", "report"));
    assert_eq!(record["attribution"]["paths"]["malware"], path("INKWELL", "indicates"));
    assert_eq!(record["attribution"]["paths"]["techniques"], path("T1071.001", "report"));

    let explained = sandbox.json(&["explain", "127.5.5.5", "--json"]);
    assert_eq!(explained["schema"], 1);
    assert_eq!(explained["outcome"], "blocked");
    assert_eq!(explained["indicators"][0]["id"], record["indicator"]["id"]);
    // The whole way: source, rule, table, hooks.
    let source = &explained["sources"][0];
    assert_eq!(source["name"], explained["indicators"][0]["source"]);
    assert!(source["path"].as_str().unwrap().contains("intel.d") && source["age_seconds"].is_i64(), "{source}");
    assert_eq!(explained["indicators"][0]["in_force"], true);
    assert_eq!((&explained["table"]["type"], &explained["table"]["entry"]), (&"ipv4".into(), &"127.5.5.5".into()));
    assert_eq!(explained["hooks"][0], serde_json::json!({"hook": "cgroup_connect4", "state": "attached"}));
    assert_eq!(explained["mode"], "enforce");
    let said = String::from_utf8(sandbox.cordon(&["explain", "127.5.5.5"]).stdout).unwrap();
    for step in [
        "  source    ",
        "  object    ",
        "  rule      ",
        "  table     ipv4 127.5.5.5, generation ",
        "  here      enforce; looked up by cgroup_connect4",
    ] {
        assert!(said.contains(step), "{step}:\n{said}");
    }
    let harmless = sandbox.json(&["explain", "127.5.5.6", "--json"]);
    assert_eq!(harmless["outcome"], "passed");
    assert_eq!(sandbox.log(&["--actor", "paper heron"]).len(), 1);
}

#[test]
fn records_name_the_right_indicator_while_generations_change_under_the_hits() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    // More or fewer values below it move its entry about.
    let list = |below: u32| (0..below).map(|n| format!("127.50.0.{n}\n")).collect::<String>() + "127.50.9.9\n";
    sandbox.intel("lab.txt", &list(1));
    sandbox.start();
    let generation = |sandbox: &Sandbox| sandbox.json(&["status", "--json"])["generation"].as_u64().unwrap();
    let first = generation(&sandbox);
    let is_over = Arc::new(AtomicBool::new(false));
    let hits = std::thread::spawn({
        let is_over = Arc::clone(&is_over);
        move || {
            while !is_over.load(Ordering::Relaxed) {
                assert!(is_blocked(&TcpStream::connect("127.50.9.9:9")));
            }
        }
    });
    for round in 0..12 {
        sandbox.intel("lab.txt", &list(2 + round % 7));
        sandbox.json(&["intel", "refresh", "--json"]);
    }
    is_over.store(true, Ordering::Relaxed);
    hits.join().unwrap();
    assert!(generation(&sandbox) >= first + 12);
    for record in sandbox.log(&[]) {
        assert_eq!(record["indicator"]["value"], record["destination"]["ip"], "{record}");
    }
}

#[test]
fn an_indicator_expires_in_the_kernel_even_when_the_agent_is_dead() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    // Longer each time until this machine is quick enough to see both sides of the end.
    for margin in [4, 16, 50] {
        sandbox.start();
        let until = Timestamp::now() + Duration::from_secs(margin);
        let bundle =
            attributed_bundle("[ipv4-addr:value = '127.4.4.4']").replace("2099-01-01T00:00:00Z", &until.to_string());
        sandbox.intel("short.json", &bundle);
        sandbox.wait_for("the indicator", |_| {
            (is_blocked(&connect("127.4.4.4:0")) || Timestamp::now() >= until).then_some(())
        });
        sandbox.kill();
        let while_dead = connect("127.4.4.4:0");
        if Timestamp::now() < until {
            assert!(is_blocked(&while_dead));
            sandbox.wait_for("the expiry", |_| connect("127.4.4.4:0").ok());
            assert!(Timestamp::now() >= until);
            return;
        }
    }
    panic!("this machine takes 50 s to load an indicator");
}

#[test]
fn a_broken_file_leaves_the_last_good_set_in_force_and_raises_a_fault() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel("feed.json", &attributed_bundle("[ipv4-addr:value = '127.3.3.3']"));
    sandbox.start();
    assert!(is_blocked(&connect("127.3.3.3:0")));
    sandbox.intel("feed.json", "{\"type\": \"bundle\", \"objects\": [");
    sandbox.wait_for("the fault", |sandbox| {
        let status = sandbox.json(&["status", "--json"]);
        let faults = status["faults"].as_array().unwrap().clone();
        faults.into_iter().find(|fault| fault["detail"].as_str().is_some_and(|detail| detail.contains("feed.json:1:")))
    });
    assert!(is_blocked(&connect("127.3.3.3:0")), "the last good set must stay");
}

#[test]
fn a_source_that_broke_while_no_agent_ran_is_in_force_as_it_last_was() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel("feed.json", &attributed_bundle("[ipv4-addr:value = '127.3.3.3']"));
    sandbox.intel("other.txt", "127.3.3.4\n");
    sandbox.start();
    sandbox.stop();
    sandbox.intel("feed.json", "{\"type\": \"bundle\", \"objects\": [");
    fs::remove_file(sandbox.root.path().join("etc/cordon/intel.d/other.txt")).unwrap();
    sandbox.start();
    assert!(is_blocked(&connect("127.3.3.3:0")), "{}", sandbox.agent_log());
    connect("127.3.3.4:0").expect("what was taken away is not in force");
    let record = sandbox.record("the hit", |_| true);
    assert_eq!(record["attribution"]["actors"][0], "Paper Heron");
    let status = sandbox.json(&["status", "--json"]);
    assert!(status["faults"].to_string().contains("feed.json:1:"), "{status}");
}

#[test]
fn what_is_never_blocked_wins_over_every_indicator() {
    let text = settings("enforce", "block").replace("host = false", "host = false\nvalues = [\"127.8.8.8\"]");
    let mut sandbox = Sandbox::new(&text);
    sandbox.intel("lab.txt", "127.8.0.0/16\n127.8.8.8\n");
    sandbox.start();
    connect("127.8.8.8:0").unwrap();
    assert!(is_blocked(&connect("127.8.8.9:0")));
    let explained = sandbox.json(&["explain", "127.8.8.8", "--json"]);
    assert_eq!(explained["outcome"], "passed");
    let because = format!("{} {}", explained["indicators"], explained["skipped"]);
    assert!(because.contains("never") || because.contains("benign"), "{explained}");
}

#[test]
fn reserved_addresses_are_refused_unless_asked_for() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block").replace("allow_reserved = true", ""));
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox.start();
    connect("127.7.7.7:0").unwrap();
    let sources = sandbox.json(&["intel", "list", "--json"]);
    assert_eq!(sources["sources"][0]["skipped"]["reserved_address"], 1, "{sources}");
}

#[test]
fn local_rules_block_allow_and_end() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox.start();
    sandbox.json(&["block", "127.2.2.2", "--for", "1h", "--reason", "test", "--json"]);
    assert!(is_blocked(&connect("127.2.2.2:0")));
    let record = sandbox.record("the local block", |record| record["destination"]["ip"] == "127.2.2.2");
    assert_eq!(record["indicator"]["source"], "local");
    sandbox.json(&["allow", "127.7.7.7", "--json"]);
    connect("127.7.7.7:0").unwrap();
    sandbox.json(&["unblock", "127.2.2.2", "--json"]);
    connect("127.2.2.2:0").unwrap();
    sandbox.json(&["unblock", "127.7.7.7", "--json"]);
    assert!(is_blocked(&connect("127.7.7.7:0")));
}

/// A report with an actor, malware and a technique around one indicator, as publishers write them.
pub fn attributed_bundle(pattern: &str) -> String {
    let stamp = "2026-01-05T10:00:00.000Z";
    let indicator = "indicator--2c7e0d52-6cc1-4dd4-8f2c-0a7f3fd0b0aa";
    let [actor, malware, technique, report] = [
        "threat-actor--5b1f4d7e-8a39-4b0f-a8f5-4f3ed10a1b01",
        "malware--8d1c8ab0-7c5f-4c4e-a3dd-7d9f8d2a1b02",
        "attack-pattern--6f2ac6b4-0b6e-4ae4-9d3b-2f4c1d9a1b03",
        "report--b0f2d9f5-49e5-4e49-8a3c-1f6e7c8a1b04",
    ];
    serde_json::json!({
        "type": "bundle", "id": "bundle--7c3a9c40-0e0d-4b5c-9d58-9a8d4a1b0f05",
        "objects": [
            { "type": "indicator", "spec_version": "2.1", "id": indicator, "created": stamp, "modified": stamp,
              "valid_from": "2026-01-05T10:00:00Z", "valid_until": "2099-01-01T00:00:00Z", "confidence": 85,
              "pattern_type": "stix", "pattern": pattern },
            { "type": "threat-actor", "spec_version": "2.1", "id": actor, "created": stamp, "modified": stamp, "name": "Paper Heron" },
            { "type": "malware", "spec_version": "2.1", "id": malware, "created": stamp, "modified": stamp, "name": "INKWELL", "is_family": true },
            { "type": "attack-pattern", "spec_version": "2.1", "id": technique, "created": stamp, "modified": stamp, "name": "Web Protocols",
              "external_references": [{ "source_name": "mitre-attack", "external_id": "T1071.001" }] },
            { "type": "relationship", "spec_version": "2.1", "id": "relationship--3a7be1a5-6a1a-4a0a-8c0f-2f5d3c6a1b06",
              "created": stamp, "modified": stamp, "relationship_type": "indicates", "source_ref": indicator, "target_ref": malware },
            { "type": "report", "spec_version": "2.1", "id": report, "created": stamp, "modified": stamp, "name": "Paper Heron returns",
              "published": stamp, "object_refs": [indicator, actor, technique],
              "object_marking_refs": ["marking-definition--34098fce-860f-48ae-8e50-ebd3cc5e41da"] }
        ]
    })
    .to_string()
}
