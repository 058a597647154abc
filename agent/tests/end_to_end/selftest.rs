//! `cordon selftest`: it finds what is closed, what is open, and leaves nothing behind.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::sandbox::{CORDON, cgroup2};

fn selftest(arguments: &[&str]) -> (Option<i32>, Value) {
    let output = Command::new(CORDON).arg("selftest").arg("--json").args(arguments).output().unwrap();
    let document = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code(), document)
}

fn left_behind() -> Vec<String> {
    let names = |dir: &str| fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let cgroups = fs::read_dir(cgroup2()).unwrap().flatten().map(|entry| entry.path());
    let all = names("/sys/fs/bpf").chain(names("/tmp")).chain(cgroups);
    let ours = |path: &std::path::PathBuf| path.to_string_lossy().contains("cordon-selftest");
    all.filter(ours).map(|path| path.display().to_string()).collect()
}

#[test]
fn nothing_passes_that_the_hooks_in_force_should_stop() {
    let (code, document) = selftest(&[]);
    let rows = document["techniques"].as_array().unwrap();
    println!("SELFTEST {document}");
    let unexpected: Vec<&Value> = rows.iter().filter(|row| row["as_expected"] != true).collect();
    assert!(unexpected.is_empty(), "{unexpected:#?}");
    assert_eq!((code, &document["passed"]), (Some(0), &Value::Bool(true)));
    let outcomes: BTreeMap<&str, &Value> = rows.iter().map(|row| (row["technique"].as_str().unwrap(), row)).collect();
    // Whatever the kernel, these are closed; the record names the hook.
    for (technique, hook) in [("tcp_connect", "cgroup_connect4"), ("udp_send_ipv6", "cgroup_sendmsg6")] {
        assert_eq!(outcomes[technique]["outcome"], "blocked");
        assert_eq!(outcomes[technique]["enforced_by"], hook);
    }
    assert_eq!(outcomes["exec"]["outcome"], "blocked");
    assert_eq!(outcomes["exec_md5"]["recorded"], true);
    // And this is open on every kernel: a self-test that finds all closed would be lying.
    assert_eq!(outcomes["script_argument"]["outcome"], "missed");
    assert_eq!(outcomes["script_argument"]["expected"], "missed");
    assert_eq!(left_behind(), Vec::<String>::new());
}

#[test]
fn it_tries_only_what_it_is_told_and_knows_no_other() {
    let (code, document) = selftest(&["--only", "tcp_connect,exec"]);
    assert_eq!(code, Some(0));
    let names: Vec<&Value> = document["techniques"].as_array().unwrap().iter().map(|row| &row["technique"]).collect();
    assert_eq!(names, ["tcp_connect", "exec"]);
    let unknown = Command::new(CORDON).args(["selftest", "--only", "telepathy"]).output().unwrap();
    assert_eq!(unknown.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&unknown.stderr).contains("cordon selftest --list"));
}

#[test]
fn interrupted_it_takes_its_sandbox_down_and_says_that_it_did_not_pass() {
    let child = Command::new(CORDON).args(["selftest", "--json"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let cgroup = cgroup2().join(format!("cordon-selftest-{}", child.id()));
    crate::sandbox::wait_until("the sandbox", || cgroup.exists());
    crate::sandbox::signal(child.id(), "INT");
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["passed"], false);
    assert_eq!(left_behind(), Vec::<String>::new());
}
