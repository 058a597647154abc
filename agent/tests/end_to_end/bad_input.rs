//! Settings and intelligence that must be refused, each with the file, the place and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;

use crate::sandbox::Sandbox;

/// Runs `cordon run`, which must refuse to start with `code`, and gives what it said.
fn refused(sandbox: &Sandbox, code: i32) -> String {
    let output = sandbox.cordon(&["run", "--cgroup", sandbox.cgroup.to_str().unwrap()]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(code), "{said}");
    said
}

#[test]
fn an_unknown_key_is_refused_with_a_suggestion() {
    let sandbox = Sandbox::new("mode = \"enforce\"\n[[source]]\nname = \"a\"\npth = \"x\"\n");
    let said = refused(&sandbox, 3);
    assert!(said.contains("cordon.toml:4:1"), "{said}");
    assert!(said.contains("did you mean `path`?"), "{said}");
}

#[test]
fn settings_that_others_can_write_are_refused() {
    let sandbox = Sandbox::new("mode = \"enforce\"\n");
    let file = sandbox.root.path().join("etc/cordon/cordon.toml");
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    let said = refused(&sandbox, 3);
    assert!(said.contains("cordon.toml") && said.contains("0666") && said.contains("chmod go-w"), "{said}");
}

#[test]
fn a_source_without_a_file_raises_a_fault_and_the_rest_works() {
    let mut sandbox =
        Sandbox::new("mode = \"enforce\"\n[[source]]\nname = \"gone\"\npath = \"/nonexistent/feed.json\"\n");
    sandbox.start();
    let status = sandbox.json(&["status", "--json"]);
    let faults = status["faults"].to_string();
    assert!(faults.contains("/nonexistent/feed.json"), "{faults}");
}

#[test]
fn intel_check_names_file_line_and_column() {
    let sandbox = Sandbox::new("");
    let file = sandbox.intel("cut.json", "{\n  \"type\": \"bundle\",\n  \"objects\": [\n");
    let output = sandbox.cordon(&["intel", "check", file.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("cut.json:4:"), "{said}");
}

#[test]
fn without_an_agent_the_verbs_that_need_one_exit_5() {
    let sandbox = Sandbox::new("");
    for arguments in [&["status"][..], &["on"], &["block", "192.0.2.1"], &["intel", "list"], &["reload"]] {
        assert_eq!(sandbox.cordon(arguments).status.code(), Some(5), "{arguments:?}");
    }
}

#[test]
fn without_root_the_agent_exits_4_and_says_what_to_do() {
    let sandbox = Sandbox::new("mode = \"enforce\"\n");
    let output = std::process::Command::new(crate::sandbox::CORDON)
        .uid(65534)
        .gid(65534)
        .arg("run")
        .arg("--cgroup")
        .arg(&sandbox.cgroup)
        .arg("--root")
        .arg("/nonexistent-cordon-root")
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert!(said.contains("root") || said.contains("CAP_BPF"), "{said}");
}
