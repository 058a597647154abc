//! Execs, by digest and by path.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::sandbox::{Sandbox, is_blocked};

const SETTINGS: &str = r#"
mode = "enforce"
[exec]
guard = true
[[source]]
name = "lab"
path = "/etc/cordon/intel.d"
action = "block"
allow_reserved = true
"#;

/// How an exec ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    Ran,
    /// `execve` failed with `EPERM`.
    Denied,
    /// Killed before the first instruction.
    Killed,
}

fn exec(path: &Path) -> Ended {
    let result = Command::new(path).status();
    match &result {
        Ok(status) if status.success() => Ended::Ran,
        Ok(status) if status.signal() == Some(9) => Ended::Killed,
        _ => {
            assert!(is_blocked(&result), "{result:?}");
            Ended::Denied
        }
    }
}

/// The hook that stops a program that nobody has hashed yet.
fn first_judge(sandbox: &Sandbox) -> &'static str {
    match sandbox.exec_path().as_str() {
        "lsm_ima" => "lsm_bprm_check_security_ima",
        _ => "fanotify_open_exec",
    }
}

fn exec_record(sandbox: &mut Sandbox, path: &Path) -> Value {
    let path = path.to_str().unwrap().to_owned();
    sandbox.record("the blocked exec", move |record| record["kind"] == "exec" && record["file"]["path"] == path)
}

#[test]
fn a_program_whose_sha256_is_an_indicator_is_stopped_before_it_runs() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (bad, digest) = sandbox.program("bad");
    let (good, _) = sandbox.program("good");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();

    assert_eq!(exec(&good), Ended::Ran);
    assert_eq!(exec(&bad), Ended::Denied);
    assert_eq!(exec(&bad), Ended::Denied, "the second time, from memory");
    let record = exec_record(&mut sandbox, &bad);
    assert_eq!(record["verdict"], "blocked");
    assert_eq!(record["enforced_by"], first_judge(&sandbox));
    assert_eq!(record["file"]["sha256"], digest.as_str());
    assert_eq!(record["indicator"]["type"], "sha256");
    assert_eq!(record["indicator"]["value"], digest.as_str());
    assert_eq!(record["indicator"]["source"], "lab");
    assert_eq!(record["process"]["ppid"], std::process::id());
}

#[test]
fn md5_and_sha1_stop_a_program_as_sha256_does() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (by_md5, _) = sandbox.program("by-md5");
    let (by_sha1, _) = sandbox.program("by-sha1");
    let (good, _) = sandbox.program("good");
    let digest = |tool: &str, path: &Path| {
        let output = Command::new(tool).arg(path).output().unwrap();
        String::from_utf8(output.stdout).unwrap().split(' ').next().unwrap().to_owned()
    };
    let (md5, sha1) = (digest("md5sum", &by_md5), digest("sha1sum", &by_sha1));
    sandbox.intel("hashes.txt", &format!("{md5}\n"));
    sandbox.start();
    assert_eq!(exec(&by_md5), Ended::Denied);
    assert_eq!(exec(&by_md5), Ended::Denied, "the second time, from memory");
    let record = exec_record(&mut sandbox, &by_md5);
    assert_eq!((&record["indicator"]["type"], &record["indicator"]["value"]), (&"md5".into(), &md5.as_str().into()));
    // Hashed while no SHA-1 was listed: it must be hashed anew when one is.
    assert_eq!(exec(&by_sha1), Ended::Ran);
    let path = sandbox.intel("more.txt", &format!("{sha1}\n"));
    sandbox.wait_for("the SHA-1 to be in force", |_| (exec(&by_sha1) == Ended::Denied).then_some(()));
    let record = exec_record(&mut sandbox, &by_sha1);
    assert_eq!(record["indicator"]["type"], "sha1");
    assert_eq!(exec(&good), Ended::Ran);
    fs::remove_file(path).unwrap();
    sandbox.wait_for("the SHA-1 to be gone", |_| (exec(&by_sha1) == Ended::Ran).then_some(()));
}

#[test]
fn a_copy_a_rename_and_a_hard_link_are_stopped_too() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (bad, digest) = sandbox.program("bad");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    let beside = |name: &str| bad.with_file_name(name);
    fs::copy(&bad, beside("copy")).unwrap();
    fs::hard_link(&bad, beside("link")).unwrap();
    assert_eq!(exec(&beside("copy")), Ended::Denied);
    assert_eq!(exec(&beside("link")), Ended::Denied);
    fs::rename(&bad, beside("renamed")).unwrap();
    assert_eq!(exec(&beside("renamed")), Ended::Denied);
}

#[test]
fn a_file_that_changes_is_judged_anew() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (bad, digest) = sandbox.program("bad");
    let (good, _) = sandbox.program("good");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    assert_eq!(exec(&good), Ended::Ran);
    fs::copy(&bad, &good).unwrap();
    assert_eq!(exec(&good), Ended::Denied, "good now has bad's contents");
}

#[test]
fn a_path_indicator_reports_and_lets_run() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (program, _) = sandbox.program("named");
    let pattern =
        format!("[file:name = 'named' AND file:parent_directory_ref.path = '{}']", sandbox.root.path().display());
    sandbox.intel("paths.json", &bundle(&pattern));
    sandbox.start();
    assert!(Command::new(&program).status().unwrap().success());
    let record = exec_record(&mut sandbox, &program);
    assert_eq!(record["verdict"], "reported");
    assert_eq!(record["indicator"]["type"], "path");
}

#[test]
fn a_program_that_already_runs_is_found_when_its_digest_becomes_an_indicator() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (sleeper, digest) = sandbox.copy_of("/bin/sleep", "sleeper");
    let mut running = Command::new(&sleeper).arg("60").spawn().unwrap();
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    let pid = running.id();
    let record = sandbox.record("the running program", move |record| record["process"]["pid"] == pid);
    assert_eq!(record["enforced_by"], "scan");
    let ended = sandbox.wait_for("it to be killed", |_| running.try_wait().unwrap());
    assert_eq!(ended.signal(), Some(9));
    assert_eq!(record["verdict"], "killed");
}

#[test]
fn without_the_guard_a_program_that_has_run_once_is_stopped_in_the_kernel() {
    let mut sandbox = Sandbox::new(&SETTINGS.replace("guard = true", "guard = false"));
    let (sleeper, digest) = sandbox.copy_of("/bin/sleep", "sleeper");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    let path = sandbox.exec_path();
    if path == "none" {
        println!(
            "NOT RUN without_the_guard_a_program_that_has_run_once_is_stopped_in_the_kernel: no exec hook loads here"
        );
        return;
    }
    let (ended, hook) = match path.as_str() {
        "lsm_ima" => (Ended::Denied, "lsm_bprm_check_security_ima"),
        "lsm" => (Ended::Denied, "lsm_bprm_check_security"),
        "kill" => (Ended::Killed, "sched_process_exec"),
        other => panic!("execs are judged by `{other}`"),
    };
    // Nobody has hashed it yet; only IMA does so within the exec. Otherwise it runs, is hashed, found and ended.
    match Command::new(&sleeper).arg("60").spawn() {
        Ok(mut child) if path != "lsm_ima" => {
            assert_eq!(sandbox.wait_for("the scan", |_| child.try_wait().unwrap()).signal(), Some(9));
        }
        other => assert!(path == "lsm_ima" && is_blocked(&other), "{other:?}"),
    }
    assert_eq!(exec(&sleeper), ended);
    sandbox.record("the stop in the kernel", move |record| record["enforced_by"] == hook);
}

#[test]
fn monitor_mode_lets_a_listed_program_run_and_says_so() {
    let mut sandbox = Sandbox::new(&SETTINGS.replace("enforce", "monitor"));
    let (bad, digest) = sandbox.program("bad");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    // The second time every mechanism knows its digest.
    assert_eq!((exec(&bad), exec(&bad)), (Ended::Ran, Ended::Ran));
    let record = exec_record(&mut sandbox, &bad);
    assert_eq!(record["verdict"], "would_block");
    assert_eq!(record["indicator"]["value"], digest.as_str());
}

#[test]
fn status_says_how_execs_are_judged_as_the_doctor_promised() {
    let mut sandbox = Sandbox::new(SETTINGS);
    sandbox.start();
    let doctor = sandbox.json(&["doctor", "--json"]);
    let status = sandbox.wait_for("what the doctor promised", |sandbox| {
        Some(sandbox.json(&["status", "--json"])).filter(|status| status["exec"] == doctor["exec"])
    });
    let state = |name: &str| {
        let hooks = status["hooks"].as_array().unwrap();
        hooks.iter().find(|hook| hook["hook"] == name).unwrap_or_else(|| panic!("{status}"))["state"].clone()
    };
    for hook in doctor["network"].as_array().unwrap() {
        assert_eq!(state(hook.as_str().unwrap()), "attached", "{status}");
    }
    // What the doctor calls possible is attached, and what it does not is a fault with the same reason.
    let lines = doctor["capabilities"].as_array().unwrap();
    let line = lines.iter().find(|line| line["capability"] == "sched_process_exec").unwrap();
    if line["state"] == "available" {
        assert_eq!(state("sched_process_exec"), "attached");
        assert_eq!(status["faults"].as_array().unwrap().len(), 0, "{status}");
    } else {
        assert_eq!(state("sched_process_exec"), "unavailable");
        let faults = status["faults"].as_array().unwrap();
        let fault = faults.iter().find(|fault| fault["subject"] == "sched_process_exec").unwrap();
        assert_eq!((&fault["number"], &fault["detail"]), (&"C030".into(), &line["why"]));
    }
    println!("MEASURED exec path: {}", status["exec"]);
}

#[test]
fn a_stopped_daemon_hangs_no_exec() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (bad, digest) = sandbox.program("bad");
    let (good, _) = sandbox.program("good");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    let agent = sandbox.agent_pid();
    crate::sandbox::signal(agent, "STOP");
    let start = std::time::Instant::now();
    let ran = Command::new(&good).status();
    let took = start.elapsed();
    let ended = exec(&bad);
    crate::sandbox::signal(agent, "CONT");
    assert!(ran.unwrap().success());
    assert!(took < Duration::from_secs(10), "an exec hung for {took:?}");
    assert_eq!(ended, Ended::Denied, "blocking must not need the daemon");
}

#[test]
fn what_a_package_of_this_host_installed_is_not_blocked_by_a_source() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (bad, digest) = sandbox.program("bad");
    let own = Path::new("/usr/bin/true");
    let recorded = fs::read_to_string("/var/lib/dpkg/info/coreutils.md5sums").unwrap_or_default();
    // Before Debian 13 it is recorded below /bin.
    if !recorded.contains("bin/true\n") {
        println!(
            "NOT RUN what_a_package_of_this_host_installed_is_not_blocked_by_a_source: dpkg did not install {own:?}"
        );
        return;
    }
    sandbox.intel("hashes.txt", &format!("{digest}\n{}\n", crate::sandbox::sha256(own)));
    sandbox.start();
    assert_eq!(exec(&bad), Ended::Denied);
    // Every program of every package is read once, which takes a debug build longer than anything else here.
    let end = std::time::Instant::now() + Duration::from_secs(300);
    while exec(own) != Ended::Ran {
        assert!(std::time::Instant::now() < end, "not learnt: {}", sandbox.agent_log());
        std::thread::sleep(Duration::from_millis(500));
    }
    let status = sandbox.json(&["intel", "list", "--json"]);
    let skipped = serde_json::to_string(&status["sources"]).unwrap();
    assert!(skipped.contains("\"skipped\":1"), "{status}");
    assert!(sandbox.root.path().join("var/lib/cordon/own-files").exists(), "kept for the next start");
    assert_eq!(exec(&bad), Ended::Denied, "and nothing else is let go");
}

/// A bundle of one indicator.
pub fn bundle(pattern: &str) -> String {
    serde_json::json!({
        "type": "bundle", "id": "bundle--5a2f0b1e-0c9e-4c4c-9a55-0f6f0d7f3a10",
        "objects": [{
            "type": "indicator", "spec_version": "2.1", "id": "indicator--0f1d7d0c-66c0-4f3e-9f6d-2b8f7a1c9e01",
            "created": "2026-01-05T10:00:00.000Z", "modified": "2026-01-05T10:00:00.000Z",
            "valid_from": "2026-01-05T10:00:00Z", "pattern_type": "stix", "pattern": pattern
        }]
    })
    .to_string()
}

/// A bundle with an indicator for each pattern.
fn indicators(patterns: &[(&str, String)]) -> String {
    let stamp = "2026-01-05T10:00:00.000Z";
    let objects: Vec<Value> = patterns
        .iter()
        .map(|(id, pattern)| {
            serde_json::json!({ "type": "indicator", "spec_version": "2.1", "id": id, "created": stamp, "modified": stamp,
                "valid_from": stamp, "pattern_type": "stix", "pattern": pattern })
        })
        .collect();
    let id = "bundle--7c3a9c40-0e0d-4b5c-9d58-9a8d4a1b0f06";
    serde_json::json!({ "type": "bundle", "id": id, "objects": objects }).to_string()
}

#[test]
fn a_command_line_and_a_pattern_of_a_name_are_reported_with_the_indicator_that_names_them() {
    const LINE: &str = "indicator--1f0d1c52-6cc1-4dd4-8f2c-0a7f3fd0b001";
    const LONG: &str = "indicator--1f0d1c52-6cc1-4dd4-8f2c-0a7f3fd0b002";
    const NAME: &str = "indicator--1f0d1c52-6cc1-4dd4-8f2c-0a7f3fd0b003";
    const BOTH: &str = "indicator--1f0d1c52-6cc1-4dd4-8f2c-0a7f3fd0b004";
    let mut sandbox = Sandbox::new(SETTINGS);
    let (beacon, _) = sandbox.copy_of("/bin/sleep", "beacon");
    let (other, _) = sandbox.copy_of("/bin/sleep", "other");
    let path = beacon.display();
    sandbox.intel(
        "lines.json",
        &indicators(&[
            (LINE, format!("[process:command_line = '{path} 0 0.01']")),
            (LONG, "[process:command_line LIKE '%0 0 0 0.75']".to_owned()),
            (NAME, "[file:name = 'other']".to_owned()),
            (BOTH, "[process:command_line MATCHES '0\\\\.02$' AND process:name LIKE 'beac%']".to_owned()),
        ]),
    );
    sandbox.start();
    let run = |program: &Path, arguments: &[&str]| {
        assert!(Command::new(program).args(arguments).status().unwrap().success(), "what is reported runs");
    };
    run(&beacon, &["0", "0.01"]);
    run(&beacon, &["0", "0.02"]);
    // Longer than a record holds: the process is asked.
    let zeros = vec!["0"; 1000];
    run(&beacon, &[&zeros[..], &["0.75"]].concat());
    run(&other, &["0", "0.02"]);
    for (id, program, last) in
        [(LINE, &beacon, "0.01"), (BOTH, &beacon, "0.02"), (LONG, &beacon, ""), (NAME, &other, "0.02")]
    {
        let record = sandbox.record(id, |record| record["indicator"]["id"] == id);
        assert_eq!((&record["kind"], &record["verdict"]), (&"exec".into(), &"reported".into()), "{record}");
        assert_eq!(record["enforced_by"], "sched_process_exec");
        assert_eq!(record["process"]["exe"], program.to_str().unwrap());
        let arguments = record["process"]["args"].as_array().unwrap();
        assert!(last.is_empty() || arguments.last().unwrap() == last, "{record}");
    }
    let told: Vec<Value> = sandbox.log(&[]).into_iter().map(|record| record["indicator"]["id"].clone()).collect();
    assert_eq!(told.len(), 4, "one record for each exec that an indicator names: {told:?}");
    let status = sandbox.json(&["status", "--json"]);
    let spaces = status["tables"]["spaces"].as_array().unwrap();
    let table = spaces.iter().find(|table| table["table"] == "exec").cloned();
    assert_eq!(table.unwrap()["entries"], 4);
}
