//! Every verb that has `--json` prints a document that begins with its schema.

use std::collections::BTreeSet;
use std::process::Command;

use crate::network::settings;
use crate::sandbox::{CORDON, Sandbox, connect, is_blocked};

/// The verbs whose page in the manual names `--json`.
fn verbs_with_json() -> BTreeSet<String> {
    let manual = Command::new(CORDON).arg("manual").output().unwrap();
    let manual = String::from_utf8(manual.stdout).unwrap();
    let pages = manual.split(".TH ").skip(1).filter(|page| page.contains("\\-\\-json"));
    let titles = pages.map(|page| page.split_whitespace().next().unwrap().to_owned());
    titles.map(|title| title.trim_start_matches("cordon-").replace('-', " ")).collect()
}

#[test]
fn every_document_begins_with_its_schema() {
    let mut sandbox = Sandbox::new(&format!("{}\n[telemetry]\ncontacts = true\n", settings("enforce", "block")));
    let list = sandbox.intel("lab.txt", "127.7.7.7\n");
    let list = list.to_str().unwrap();
    sandbox.start();
    assert!(is_blocked(&connect("127.7.7.7:0")));
    sandbox.record("the hit", |_| true);
    let page = sandbox.root.path().join("report.html");
    let mut untried = verbs_with_json();
    // `Organisation::done` and `fleet::document` hold these to it.
    untried.retain(|verb| !verb.starts_with("policy ") && !verb.starts_with("fleet "));
    // In this order: the last two switch it off and on again.
    for arguments in [
        &["status"][..],
        &["doctor"],
        &["selftest", "--only", "tcp_connect"],
        &["log"],
        &["log", "--verify"],
        &["log", "stats"],
        &["log", "contacts"],
        &["report", "-o", page.to_str().unwrap()],
        &["explain", "127.7.7.7"],
        &["explain", "192.0.2.77"],
        &["hunt", "127.7.7.7"],
        &["intel", "check", list],
        &["intel", "list"],
        &["intel", "refresh"],
        &["block", "192.0.2.1"],
        &["unblock", "192.0.2.1"],
        &["allow", "192.0.2.2"],
        &["reload"],
        &["off", "--for", "10m", "--reason", "test"],
        &["status"],
        &["on"],
    ] {
        let output = sandbox.cordon(&[arguments, &["--json"]].concat());
        let said = String::from_utf8(output.stdout).unwrap();
        let lines: Vec<&str> = said.lines().collect();
        assert!(!lines.is_empty(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        for line in lines {
            assert!(line.starts_with("{\"schema\":1,"), "{arguments:?}: {line}");
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        for words in 1..=2 {
            untried.remove(&arguments[..words.min(arguments.len())].join(" "));
        }
    }
    assert!(untried.is_empty(), "say here how to call {untried:?}");
}
