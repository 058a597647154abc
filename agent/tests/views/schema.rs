//! OCSF as `cordon log` prints it, judged by the published schema.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use agent::journal::{Contacts, Met, Seen};
use serde_json::Value;

use super::packages::environment;
use super::{cordon, example};

/// What the schema says of events, one a line: how many it judged, or what is wrong with the first that is.
fn judged(python: &Path, events: &str) -> Result<usize, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/views/python/check_ocsf.py");
    let mut child = Command::new(python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // It may have ended at the first event that is wrong.
    child.stdin.take().unwrap().write_all(events.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

#[test]
fn every_ocsf_event_is_valid_by_the_published_schema() {
    let test = "every_ocsf_event_is_valid_by_the_published_schema";
    let Some(environment) = environment(test, "views", "ocsf") else { return };
    let python = environment.join("bin/python");
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    let events = String::from_utf8(cordon(root.path(), &["log", "-o", "ocsf", "--limit", "0"]).stdout).unwrap();
    assert_eq!(judged(&python, &events), Ok(400));
    // The same judge finds what is wrong.
    let mut wrong: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    wrong["severity_id"] = 77.into();
    assert!(judged(&python, &wrong.to_string()).unwrap_err().contains("77 is not one of"));
    let misplaced = events.lines().next().unwrap().replacen("\"class_uid\"", "\"made_up\":1,\"class_uid\"", 1);
    assert!(judged(&python, &misplaced).unwrap_err().contains("made_up"));
}

/// Some that were met, whoever and whatever is known of them.
fn met() -> Vec<Seen> {
    let (first, last) = ("2026-11-20T08:00:00Z".parse().unwrap(), "2026-11-23T08:00:00Z".parse().unwrap());
    let contact = |ip: &str, protocol: u16, exe: &str| Met::Contact {
        ip: ip.parse().unwrap(),
        port: 443,
        protocol,
        exe: exe.to_owned(),
    };
    let run = |sha256: &str| Met::Executable { sha256: sha256.to_owned(), path: "/opt/\u{1b}[31mtool".to_owned() };
    [contact("203.0.113.7", 6, "/usr/bin/curl"), contact("2001:db8::7", 17, ""), run(&"ab".repeat(32)), run("")]
        .map(|met| Seen { met, pid: 7, first, last, count: 12 })
        .to_vec()
}

#[test]
fn activities_of_hits_and_of_contacts_are_valid_too() {
    let test = "activities_of_hits_and_of_contacts_are_valid_too";
    let Some(environment) = environment(test, "views", "ocsf") else { return };
    let python = environment.join("bin/python");
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    let printed = |arguments: &[&str]| String::from_utf8(cordon(root.path(), arguments).stdout).unwrap();
    let hits = printed(&["log", "-o", "ocsf-activity", "--limit", "0"]);
    assert_eq!(judged(&python, &hits), Ok(400));
    let classes = |events: &str| -> BTreeSet<u64> {
        let event = |line| serde_json::from_str::<Value>(line).unwrap()["class_uid"].as_u64().unwrap();
        events.lines().map(event).collect()
    };
    assert!(classes(&hits).is_superset(&[1007, 4001].into()), "{:?}", classes(&hits));
    let without = cordon(root.path(), &["log", "contacts"]);
    assert!(!without.status.success());
    assert!(String::from_utf8_lossy(&without.stderr).contains("telemetry.contacts"));
    Contacts::open(&root.path().join("var/log/cordon"), 1 << 20).unwrap().add(&met()).unwrap();
    let contacts = printed(&["log", "contacts", "-o", "ocsf"]);
    assert_eq!(judged(&python, &contacts), Ok(4));
    assert_eq!(classes(&contacts), [1007, 4001].into());
    let table = printed(&["log", "contacts"]);
    assert!(table.contains("203.0.113.7:443 tcp") && table.contains("[2001:db8::7]:443 udp"), "{table}");
    assert!(table.contains("/opt/\\u{1b}[31mtool") && !table.contains('\u{1b}'), "{table}");
    let lines = printed(&["log", "contacts", "--json"]);
    assert!(lines.lines().count() == 4 && lines.lines().all(|line| line.starts_with("{\"schema\":1,")), "{lines}");
}
