//! A journal on a file system that runs full: blocking goes on, it is said, and what is missing is counted.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::network::settings;
use crate::sandbox::{CORDON, Sandbox, connect, is_blocked};

fn is_raised(status: &Value, number: &str) -> bool {
    status["faults"].as_array().unwrap().iter().any(|fault| fault["number"] == number)
}

/// Blocked connects to so many places from the first on, each a record of its own.
fn hit(first: u16, count: u16) {
    for n in first..first + count {
        let place = format!("127.5.5.{}:{}", 1 + n / 500, port_of(n));
        assert!(is_blocked(&connect(&place)), "{place}");
    }
}

fn port_of(n: u16) -> u16 {
    1 + n % 500
}

#[test]
fn a_full_disk_costs_records_and_no_blocking_and_mends_by_itself() {
    let mut sandbox = Sandbox::new(&format!(
        "{}\n[journal]\ntotal_bytes = 67108864\nsegment_bytes = 1048576\n",
        settings("enforce", "block")
    ));
    sandbox.intel("lab.txt", "127.5.5.0/24\n");
    // The agent in a mount namespace of its own, in which the journal is 3 MiB of memory.
    let journal = sandbox.root.path().join("var/log/cordon");
    fs::create_dir_all(&journal).unwrap();
    let program = sandbox.root.path().join("in-little-space");
    let inside = format!("mount -t tmpfs -o size=3m,mode=0750 tmpfs {} && exec {CORDON} \"$@\"", journal.display());
    fs::write(&program, format!("#!/bin/sh\nexec unshare --mount sh -c '{inside}' sh \"$@\"\n")).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    sandbox.start_program(&program);
    let root = PathBuf::from(format!("/proc/{}/root{}", sandbox.agent_pid(), sandbox.root.path().display()));
    let counter =
        |sandbox: &Sandbox, name: &str| sandbox.json(&["status", "--json"])["losses"][name].as_u64().unwrap_or(0);

    // More than fits: the oldest goes.
    let mut port = 1;
    sandbox.wait_for("the oldest segment to be given up", |sandbox| {
        hit(port, 100);
        port += 100;
        (counter(sandbox, "journal.segments_deleted") > 0).then_some(())
    });
    assert!(!is_raised(&sandbox.json(&["status", "--json"]), "C002"), "there is room for what is new");

    // Somebody else takes the rest, and what is given up for it.
    let mut ballast = 0;
    sandbox.wait_for("the fault", |sandbox| {
        let _until_full = fs::write(root.join(format!("var/log/cordon/ballast-{ballast}")), vec![1; 4 << 20]);
        ballast += 1;
        hit(port, 50);
        port += 50;
        is_raised(&sandbox.json(&["status", "--json"]), "C002").then_some(())
    });
    sandbox
        .wait_for("the loss to be counted", |sandbox| (counter(sandbox, "journal.lost.disk_full") > 0).then_some(()));

    for number in 0..ballast {
        fs::remove_file(root.join(format!("var/log/cordon/ballast-{number}"))).unwrap();
    }
    hit(port, 1);
    sandbox.wait_for("the fault to go", |sandbox| {
        (!is_raised(&sandbox.json(&["status", "--json"]), "C002")).then_some(())
    });
    let pid = sandbox.agent_pid().to_string();
    let root = sandbox.root.path().to_owned();
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["-m", "-t", &pid, CORDON, "--root"]).arg(&root).args(arguments);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        output.stdout
    };
    sandbox.wait_for("what came after that to be recorded", |_| {
        let record: Value = serde_json::from_slice(&inside(&["log", "-o", "json", "-n", "1"])).unwrap();
        (record["destination"]["port"] == port_of(port)).then_some(())
    });
    let said = String::from_utf8(inside(&["log", "-n", "0"])).unwrap();
    let lost: u64 = said
        .lines()
        .filter(|line| line.contains("the disk was full"))
        .map(|line| line.trim_start_matches("-- ").split(' ').next().unwrap().parse::<u64>().unwrap())
        .sum();
    assert_eq!(lost, counter(&sandbox, "journal.lost.disk_full"), "the log says what is missing");
    let verified: Value = serde_json::from_slice(&inside(&["log", "--verify", "--json"])).unwrap();
    assert_eq!(verified["intact"], true, "{verified}");
    assert!(sandbox.stop().success());
}
