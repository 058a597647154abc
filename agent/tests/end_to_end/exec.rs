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

/// Whether `path` was stopped before its first instruction, by `EPERM` or by a kill, whichever this kernel offers.
fn is_stopped(path: &Path) -> bool {
    let result = Command::new(path).status();
    is_blocked(&result) || result.is_ok_and(|status| status.signal() == Some(9))
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

    assert!(Command::new(&good).status().unwrap().success());
    assert!(is_stopped(&bad));
    assert!(is_stopped(&bad), "the second time, from the kernel's own memory");
    let record = exec_record(&mut sandbox, &bad);
    assert!(record["verdict"] == "blocked" || record["verdict"] == "killed", "{record}");
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
    assert!(is_stopped(&by_md5));
    assert!(is_stopped(&by_md5), "the second time, from the kernel's own memory");
    let record = exec_record(&mut sandbox, &by_md5);
    assert_eq!((&record["indicator"]["type"], &record["indicator"]["value"]), (&"md5".into(), &md5.as_str().into()));
    // Hashed while no SHA-1 was listed: it must be hashed anew when one is.
    assert!(Command::new(&by_sha1).status().unwrap().success());
    let path = sandbox.intel("more.txt", &format!("{sha1}\n"));
    sandbox.wait_for("the SHA-1 to be in force", |_| is_stopped(&by_sha1).then_some(()));
    let record = exec_record(&mut sandbox, &by_sha1);
    assert_eq!(record["indicator"]["type"], "sha1");
    assert!(Command::new(&good).status().unwrap().success());
    fs::remove_file(path).unwrap();
    sandbox.wait_for("the SHA-1 to be gone", |_| (!is_stopped(&by_sha1)).then_some(()));
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
    assert!(is_stopped(&beside("copy")));
    assert!(is_stopped(&beside("link")));
    fs::rename(&bad, beside("renamed")).unwrap();
    assert!(is_stopped(&beside("renamed")));
}

#[test]
fn a_file_that_changes_is_judged_anew() {
    let mut sandbox = Sandbox::new(SETTINGS);
    let (bad, digest) = sandbox.program("bad");
    let (good, _) = sandbox.program("good");
    sandbox.intel("hashes.txt", &format!("{digest}\n"));
    sandbox.start();
    assert!(Command::new(&good).status().unwrap().success());
    fs::copy(&bad, &good).unwrap();
    assert!(is_stopped(&good), "good now has bad's contents");
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
    let sleeper = sandbox.root.path().join("sleeper");
    fs::copy("/bin/sleep", &sleeper).unwrap();
    let mut bytes = fs::read(&sleeper).unwrap();
    bytes.extend_from_slice(b"of this test");
    fs::write(&sleeper, bytes).unwrap();
    let mut running = Command::new(&sleeper).arg("60").spawn().unwrap();
    sandbox.intel("hashes.txt", &format!("{}\n", crate::sandbox::sha256(&sleeper)));
    sandbox.start();
    let pid = running.id();
    let record = sandbox.record("the running program", move |record| record["process"]["pid"] == pid);
    assert_eq!(record["enforced_by"], "scan");
    let ended = sandbox.wait_for("it to be killed", |_| running.try_wait().unwrap());
    assert_eq!(ended.signal(), Some(9));
    assert_eq!(record["verdict"], "killed");
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
    let stopped = is_stopped(&bad);
    crate::sandbox::signal(agent, "CONT");
    assert!(ran.unwrap().success());
    assert!(took < Duration::from_secs(10), "an exec hung for {took:?}");
    assert!(stopped, "blocking must not need the daemon");
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
    assert!(is_stopped(&bad));
    // Every program of every package is read once, which takes a debug build longer than anything else here.
    let end = std::time::Instant::now() + Duration::from_secs(300);
    while is_stopped(own) {
        assert!(std::time::Instant::now() < end, "not learnt: {}", sandbox.agent_log());
        std::thread::sleep(Duration::from_millis(500));
    }
    let status = sandbox.json(&["intel", "list", "--json"]);
    let skipped = serde_json::to_string(&status["sources"]).unwrap();
    assert!(skipped.contains("\"skipped\":1"), "{status}");
    assert!(sandbox.root.path().join("var/lib/cordon/own-files").exists(), "kept for the next start");
    assert!(is_stopped(&bad), "and nothing else is let go");
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
