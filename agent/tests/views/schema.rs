//! OCSF as `cordon log` prints it, judged by the published schema.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

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
