use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use serde_json::json;

use super::{harmless_program, is_connect, is_exec, is_ready, sentence};

#[test]
fn readiness_is_a_line_of_its_own() {
    assert!(is_ready(b"READY=1"));
    assert!(is_ready(b"STATUS=live\nREADY=1\n"));
    assert!(!is_ready(b"STATUS=READY=1"));
}

#[test]
fn the_harmless_program_runs_and_is_unlike_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    let (one, other) = (harmless_program(&first).unwrap(), harmless_program(&second).unwrap());
    assert_ne!(one, other);
    assert_eq!(one.len(), 64);
    assert_eq!(first.metadata().unwrap().permissions().mode() & 0o777, 0o755);
    assert!(Command::new(&first).status().unwrap().success());
}

#[test]
fn only_the_record_of_this_block_counts() {
    let address = Ipv4Addr::new(203, 0, 113, 7);
    let mut record = json!({"kind": "connect", "verdict": "blocked", "destination": {"ip": "203.0.113.7"}});
    assert!(is_connect(&record, address));
    record["verdict"] = json!("would_block");
    assert!(!is_connect(&record, address));
    let mut record = json!({"kind": "exec", "verdict": "killed", "indicator": {"value": "ab"}});
    assert!(is_exec(&record, "ab") && !is_exec(&record, "cd"));
    record["verdict"] = json!("reported");
    assert!(!is_exec(&record, "ab"));
}

#[test]
fn a_record_is_told_with_its_source_and_actor() {
    let record = json!({
        "kind": "connect", "verdict": "blocked", "enforced_by": "cgroup_connect4",
        "indicator": {"value": "203.0.113.7", "source": "amber-heron"},
        "attribution": {"actors": ["AMBER HERON"], "malware": [], "references": ["https://research.example/x"]},
    });
    assert_eq!(
        sentence(&record),
        "connect blocked by cgroup_connect4; indicator 203.0.113.7 of `amber-heron`; actor AMBER HERON; \
         from https://research.example/x"
    );
}
