//! Self-protection as the settings switch it on: who is refused, what is told, and that break-glass works all the same.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::network::settings;
use crate::sandbox::{CORDON, Sandbox, connect, is_blocked, wait_until};

fn protected() -> Sandbox {
    let settings = format!("{}\n[self_protection]\nenabled = true\n", settings("enforce", "block"));
    let sandbox = Sandbox::new(&settings);
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox
}

fn link(sandbox: &Sandbox) -> PathBuf {
    let pins = PathBuf::from(sandbox.json(&["status", "--json"])["pins"].as_str().unwrap().to_owned());
    let version = fs::read_dir(pins).unwrap().next().unwrap().unwrap().path();
    version.join("links/connect4")
}

fn faults(sandbox: &Sandbox, number: &str) -> Vec<Value> {
    let status = sandbox.json(&["status", "--json"]);
    let faults = status["faults"].as_array().unwrap();
    faults.iter().filter(|fault| fault["number"] == number).cloned().collect()
}

/// Whether the kernel calls LSM programs; where it does not, the agent goes on and says so.
fn is_attached(sandbox: &Sandbox, name: &str) -> bool {
    let status = sandbox.json(&["status", "--json"]);
    let hooks = status["hooks"].as_array().unwrap();
    let hook = hooks.iter().find(|hook| hook["hook"] == "lsm_self_protection").unwrap();
    if hook["state"] == "attached" {
        return true;
    }
    assert_eq!(hook["state"], "unavailable");
    assert!(faults(sandbox, "C030").iter().any(|fault| fault["subject"] == "lsm_self_protection"));
    assert!(is_blocked(&connect("127.7.7.7:0")), "everything else works");
    println!("NOT RUN {name}: {}", hook["why"]);
    false
}

fn kill(pid: u32) -> bool {
    Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success()
}

#[test]
fn who_kills_or_unpins_is_refused_and_told_and_break_glass_works() {
    let mut sandbox = protected();
    sandbox.start();
    if !is_attached(&sandbox, "who_kills_or_unpins_is_refused_and_told_and_break_glass_works") {
        return;
    }
    let link = link(&sandbox);
    assert!(!kill(sandbox.agent_pid()));
    assert_eq!(fs::remove_file(&link).unwrap_err().raw_os_error(), Some(1));
    let told = sandbox.wait_for("both to be told", |sandbox| {
        let told = faults(sandbox, "C035");
        (told.len() == 2).then_some(told)
    });
    let detail = |subject: &str| {
        let fault = told.iter().find(|fault| fault["subject"] == subject).unwrap();
        fault["detail"].as_str().unwrap().to_owned()
    };
    let signal = detail("send the agent a signal");
    assert!(signal.contains(&format!("child of {})", std::process::id())) && signal.contains("kill"), "{signal}");
    let pin = detail("remove or replace a pin");
    assert!(pin.starts_with(&format!("process {} (", std::process::id())), "{pin}");
    assert_eq!(sandbox.json(&["status", "--json"])["counters"]["protection_refused"], 2);
    assert!(sandbox.agent_log().contains("self-protection refused"), "{}", sandbox.agent_log());
    assert!(sandbox.cordon(&["reload"]).status.success());
    assert_eq!(faults(&sandbox, "C035"), Vec::<Value>::new());
    assert!(is_blocked(&connect("127.7.7.7:0")));

    sandbox.json(&["off", "--reason", "a test", "--json"]);
    assert!(!link.exists());
    wait_until("the kernel to let go", || connect("127.7.7.7:0").is_ok());
    sandbox.json(&["on", "--json"]);
    assert!(is_attached(&sandbox, "on"));
    assert_eq!(fs::remove_file(&link).unwrap_err().raw_os_error(), Some(1));
}

#[test]
fn a_program_that_was_upgraded_while_no_agent_runs_may_take_over_and_take_away() {
    let name = "a_program_that_was_upgraded_while_no_agent_runs_may_take_over_and_take_away";
    let mut sandbox = protected();
    let (program, fresh) = (sandbox.root.path().join("cordon"), sandbox.root.path().join("cordon-new"));
    fs::copy(CORDON, &program).unwrap();
    sandbox.start_program(&program);
    if !is_attached(&sandbox, name) {
        return;
    }
    let link = link(&sandbox);
    let upgrade = || {
        fs::copy(CORDON, &fresh).unwrap();
        fs::rename(&fresh, &program).unwrap();
    };
    // By its parent, as a supervisor may.
    sandbox.kill();
    upgrade();
    assert_eq!(fs::remove_file(&link).unwrap_err().raw_os_error(), Some(1), "it holds while no agent runs");
    assert!(is_blocked(&connect("127.7.7.7:0")));
    sandbox.start_program(&program);
    assert!(is_attached(&sandbox, name));
    assert!(is_blocked(&connect("127.7.7.7:0")));

    sandbox.kill();
    upgrade();
    let off = |program: &Path| {
        Command::new(program)
            .arg("--root")
            .arg(sandbox.root.path())
            .args(["off", "--reason", "a test"])
            .output()
            .unwrap()
    };
    let elsewhere = off(Path::new(CORDON));
    let said = String::from_utf8(elsewhere.stderr).unwrap();
    assert!(!elsewhere.status.success() && said.contains("only the program at the path"), "{said}");
    assert!(link.exists());
    assert!(off(&program).status.success());
    assert!(!link.exists());
}
