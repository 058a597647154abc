//! What people see of a journal: the report, the statistics, the live view.

#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

mod chromium;
mod example;
mod metrics;
#[path = "../python/mod.rs"]
mod packages;
mod schema;
mod terminal;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};

fn cordon(root: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cordon"));
    command.arg("--root").arg(root).args(arguments).env("TZ", "UTC").output().unwrap()
}

fn report(root: &Path, page: &Path, more: &[&str]) -> Output {
    cordon(root, &[&["report", "--until", example::UNTIL, "-o", page.to_str().unwrap()], more].concat())
}

#[test]
fn a_report_is_one_file_for_its_owner_and_the_same_each_time() {
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    let page = root.path().join("report.html");
    let said = report(root.path(), &page, &["--json"]);
    let said: Value = serde_json::from_slice(&said.stdout).unwrap();
    assert_eq!(
        (&said["schema"], &said["since"], &said["records"]),
        (&json!(1), &json!("2026-11-16T20:00:00Z"), &json!(400))
    );
    assert_eq!(fs::metadata(&page).unwrap().permissions().mode() & 0o777, 0o600);
    let first = fs::read_to_string(&page).unwrap();
    assert!(report(root.path(), &page, &[]).status.success());
    assert_eq!(fs::read_to_string(&page).unwrap(), first);
    assert_eq!(String::from_utf8(report(root.path(), Path::new("-"), &[]).stdout).unwrap(), first);
    assert!(first.contains("1,204 hits are not in the journal"));
    assert!(!first.contains("<script>alert"), "what a stranger named a file is text");
}

#[test]
fn a_report_says_what_is_wrong_with_what_it_was_asked_for() {
    let root = tempfile::tempdir().unwrap();
    let page = root.path().join("report.html");
    let exit = |output: &Output| (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned());
    let (code, said) = exit(&report(root.path(), &page, &[]));
    assert!(code == Some(1) && said.contains("no journal at"), "{code:?} {said}");
    example::empty_journal(root.path()).close();
    let (code, said) = exit(&report(root.path(), &page, &["--since", "2027-01-01"]));
    assert!(code == Some(2) && said.contains("is after"), "{code:?} {said}");
    let (code, said) = exit(&report(root.path(), &root.path().join("nowhere/report.html"), &[]));
    assert!(code == Some(1) && said.contains("nowhere/report.html"), "{code:?} {said}");
    assert!(report(root.path(), &page, &[]).status.success());
    assert!(fs::read_to_string(&page).unwrap().contains("No hits"));
}

#[test]
fn a_damaged_segment_is_said_in_the_page_and_by_the_exit() {
    let root = tempfile::tempdir().unwrap();
    example::journal(root.path());
    fs::write(root.path().join("var/log/cordon/hits-0000000000.sqlite"), vec![7; 9000]).unwrap();
    let page = root.path().join("report.html");
    let output = report(root.path(), &page, &[]);
    assert_eq!(output.status.code(), Some(1));
    let html = fs::read_to_string(&page).unwrap();
    assert!(html.contains("hits-0000000000.sqlite") && html.contains("Top indicators"), "the rest is reported");
}
