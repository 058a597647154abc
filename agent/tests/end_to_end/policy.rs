//! An organisation's policy through a running agent and the real kernel: taken, refused, stale, over.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::organisation::{Organisation, copy};
use crate::sandbox::{Sandbox, connect, is_blocked};
use crate::served::Served;

/// Settings that block nothing by themselves and take the policy of group `web`.
fn settings(organisation: &Organisation, from: &str, more: &str) -> String {
    let root = organisation.root();
    format!(
        "mode = \"monitor\"\n[never_block]\nhost = false\n[exec]\nguard = false\n[policy]\nroot = \"{}\"\n\
         tenant = \"acme\"\ngroup = \"web\"\nfrom = \"{from}\"\ninterval = \"1s\"\n{more}",
        root.display()
    )
}

/// A policy that enforces, with a list and a rule for it.
fn policy(organisation: &Organisation, serial: u64, addresses: &str, more: &[&str]) {
    fs::write(organisation.path("list.txt"), addresses).unwrap();
    let rest = "mode = \"enforce\"\nnever_block = [\"127.44.0.9\"]\n\
                [[intelligence]]\nname = \"list\"\nfile = \"list.txt\"\naction = \"report\"\nallow_reserved = true\n\
                [[rule]]\nname = \"stop\"\naction = \"block\"\n[rule.which]\nsource = [\"bundle.list\"]\n";
    organisation.sign(serial, rest, more);
}

fn acme() -> (Organisation, PathBuf) {
    let acme = Organisation::new("acme");
    let repository = acme.repository();
    policy(&acme, 1, "127.44.0.1\n127.44.0.8/29\n", &[]);
    (acme, repository)
}

fn in_force(sandbox: &Sandbox) -> Value {
    sandbox.json(&["status", "--json"])["policy"].clone()
}

fn wait_for_serial(sandbox: &mut Sandbox, serial: u64) {
    sandbox.wait_for("the policy", |sandbox| (in_force(sandbox)["serial"] == serial).then_some(()));
}

fn wait_for_fault(sandbox: &mut Sandbox, number: &str, detail: &str) {
    sandbox.wait_for("the fault", |sandbox| {
        let status = sandbox.json(&["status", "--json"]);
        let faults = status["faults"].as_array().unwrap();
        let is_it = |fault: &&Value| fault["number"] == number && fault["detail"].as_str().unwrap().contains(detail);
        faults.iter().find(is_it).map(drop)
    });
}

fn has_fault(sandbox: &Sandbox, number: &str) -> bool {
    let status = sandbox.json(&["status", "--json"]);
    status["faults"].as_array().unwrap().iter().any(|fault| fault["number"] == number)
}

fn replace(repository: &Path, by: &Path) {
    fs::remove_dir_all(repository).unwrap();
    copy(by, repository);
}

#[test]
fn a_signed_policy_blocks_by_its_rule_and_nothing_older_ever_takes_its_place() {
    let (acme, repository) = acme();
    let mut sandbox = Sandbox::new(&settings(&acme, repository.to_str().unwrap(), ""));
    sandbox.start();
    wait_for_serial(&mut sandbox, 1);
    assert!(is_blocked(&connect("127.44.0.1:0")), "the policy's mode is enforce, whatever the settings say");
    connect("127.44.0.2:0").unwrap();
    assert!(is_blocked(&connect("127.44.0.10:0")));
    connect("127.44.0.9:0").unwrap();
    let record = sandbox.record("the hit", |record| record["destination"]["ip"] == "127.44.0.1");
    assert_eq!(record["policy"]["serial"], 1);
    assert_eq!(record["policy"]["rule"], "policy.stop");
    assert_eq!((&record["verdict"], &record["indicator"]["source"]), (&json!("blocked"), &json!("bundle.list")));

    let old = acme.path("old");
    copy(&repository, &old);
    policy(&acme, 2, "127.44.0.2\n", &[]);
    wait_for_serial(&mut sandbox, 2);
    assert!(is_blocked(&connect("127.44.0.2:0")));
    connect("127.44.0.1:0").unwrap();
    replace(&repository, &old);
    wait_for_fault(&mut sandbox, "C021", "rollback");
    assert_eq!(in_force(&sandbox)["serial"], 2);
    assert!(is_blocked(&connect("127.44.0.2:0")));

    sandbox.stop();
    sandbox.start();
    assert_eq!(in_force(&sandbox)["serial"], 2, "it is in force before anything is asked");
    assert!(is_blocked(&connect("127.44.0.2:0")));
    wait_for_fault(&mut sandbox, "C021", "rollback");
    let record = sandbox.record("the hit", |record| record["policy"]["serial"] == 2);
    assert_eq!(record["policy"]["rule"], "policy.stop");
}

#[test]
fn every_spoilt_repository_is_refused_with_its_reason_and_the_policy_stays() {
    let (acme, repository) = acme();
    let other = Organisation::new("acme");
    policy(&other, 9, "127.44.0.5\n", &[]);
    let mut sandbox = Sandbox::new(&settings(&acme, repository.to_str().unwrap(), "max_bytes = 4096\n"));
    sandbox.start();
    wait_for_serial(&mut sandbox, 1);

    replace(&repository, &other.repository());
    wait_for_fault(&mut sandbox, "C021", "bad signature");
    fs::remove_dir_all(&repository).unwrap();
    wait_for_fault(&mut sandbox, "C023", "No such file");
    assert!(is_blocked(&connect("127.44.0.1:0")) && in_force(&sandbox)["serial"] == 1);

    fs::remove_dir_all(acme.keys()).unwrap();
    let acme_keys = acme.path("fresh");
    fs::create_dir(&acme_keys).unwrap();
    assert!(
        is_blocked(&connect("127.44.0.1:0")),
        "nor is what the enrolment was made with needed for what is in force"
    );
}

#[test]
fn what_is_too_large_for_others_or_not_readable_is_refused_and_a_good_one_then_taken() {
    let (acme, repository) = acme();
    let mut sandbox = Sandbox::new(&settings(&acme, repository.to_str().unwrap(), "max_bytes = 4096\n"));
    sandbox.start();
    wait_for_serial(&mut sandbox, 1);
    policy(&acme, 2, &"127.44.0.2\n".repeat(500), &[]);
    wait_for_fault(&mut sandbox, "C021", "too large");
    let targets = repository.join("targets");
    policy(&acme, 3, "127.44.0.3\n", &[]);
    wait_for_serial(&mut sandbox, 3);
    assert!(!has_fault(&sandbox, "C021") && is_blocked(&connect("127.44.0.3:0")));
    policy(&acme, 4, "127.44.0.4\n", &[]);
    wait_for_serial(&mut sandbox, 4);
    for entry in fs::read_dir(&targets).unwrap() {
        let path = entry.unwrap().path();
        if fs::read_to_string(&path).is_ok_and(|text| text == "127.44.0.4\n") {
            fs::write(path, "127.44.0.5\n").unwrap();
        }
    }
    acme.refresh("1h");
    sandbox.wait_for("a look", |sandbox| {
        let policy = in_force(sandbox);
        (policy["checked"].as_str() > policy["accepted"].as_str()).then_some(())
    });
    assert!(is_blocked(&connect("127.44.0.4:0")), "what is in force is not read from the repository again");
    connect("127.44.0.5:0").unwrap();
}

#[test]
fn a_policy_that_nobody_vouches_for_is_stale_and_still_blocks() {
    let (acme, repository) = acme();
    let mut sandbox = Sandbox::new(&settings(&acme, repository.to_str().unwrap(), ""));
    sandbox.start();
    wait_for_serial(&mut sandbox, 1);
    acme.refresh("4s");
    wait_for_fault(&mut sandbox, "C022", "serial 1: the signatures that say that it is the latest ended");
    assert!(in_force(&sandbox)["stale"].is_string());
    assert!(is_blocked(&connect("127.44.0.1:0")));
    sandbox.stop();
    sandbox.start();
    assert!(is_blocked(&connect("127.44.0.1:0")), "after a restart too");
    wait_for_fault(&mut sandbox, "C022", "ended");
    acme.refresh("1h");
    sandbox.wait_for("it to be vouched for", |sandbox| (!has_fault(sandbox, "C022")).then_some(()));
    assert_eq!(in_force(&sandbox)["stale"], Value::Null);
}

#[test]
fn a_lease_that_is_over_only_reports_where_the_host_says_so_until_the_repository_is_back() {
    let (acme, repository) = acme();
    let lease = "lease = \"4s\"\nafter_lease = \"report\"\n";
    let mut sandbox = Sandbox::new(&settings(&acme, repository.to_str().unwrap(), lease));
    sandbox.intel("own.txt", "");
    sandbox.start();
    wait_for_serial(&mut sandbox, 1);
    sandbox.json(&["block", "127.44.0.77", "--json"]);
    assert!(is_blocked(&connect("127.44.0.1:0")));
    let away = acme.path("away");
    fs::rename(&repository, &away).unwrap();
    wait_for_fault(&mut sandbox, "C022", "its lease ended");
    sandbox.wait_for("it to be reported only", |_| connect("127.44.0.1:0").ok());
    sandbox.record("the report", |record| record["verdict"] == "reported" && record["policy"]["rule"] == "policy.stop");
    assert!(is_blocked(&connect("127.44.0.77:0")), "local rules are no part of the lease");
    assert_eq!(in_force(&sandbox)["reporting_only"], true);
    fs::rename(&away, &repository).unwrap();
    sandbox.wait_for("it to block again", |_| is_blocked(&connect("127.44.0.1:0")).then_some(()));
}

#[test]
fn over_http_nothing_is_sent_again_that_has_not_changed() {
    let (acme, repository) = acme();
    let served = Served::new(repository);
    let mut sandbox = Sandbox::new(&settings(&acme, &served.url(), ""));
    sandbox.start();
    wait_for_serial(&mut sandbox, 1);
    assert!(is_blocked(&connect("127.44.0.1:0")));
    let (sent, unchanged) = served.answers();
    sandbox.wait_for("some looks", |_| (served.answers().1 >= unchanged + 9).then_some(()));
    assert_eq!(served.answers().0, sent, "three files of metadata are asked for each time, and none is sent");
    policy(&acme, 2, "127.44.0.2\n", &[]);
    wait_for_serial(&mut sandbox, 2);
    assert!(is_blocked(&connect("127.44.0.2:0")));
}

#[test]
fn settings_that_change_while_a_look_waits_for_its_answer_are_followed() {
    let (acme, repository) = acme();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let from = format!("http://{}/", silent.local_addr().unwrap());
    let mut sandbox = Sandbox::new(&settings(&acme, &from, ""));
    sandbox.start();
    let _asking = silent.accept().unwrap();
    let path = sandbox.root.path().join("etc/cordon/cordon.toml");
    fs::write(path, settings(&acme, repository.to_str().unwrap(), "")).unwrap();
    sandbox.json(&["reload", "--json"]);
    wait_for_serial(&mut sandbox, 1);
    assert!(is_blocked(&connect("127.44.0.1:0")));
}

#[test]
fn a_rule_on_trial_lets_pass_beside_one_that_blocks_and_a_dry_run_says_what_another_policy_would_do() {
    let (acme, repository) = acme();
    let list = "[[intelligence]]\nname = \"list\"\nfile = \"list.txt\"\naction = \"block\"\nallow_reserved = true\n";
    let trial = "[[rule]]\nname = \"trial\"\naction = \"block\"\nmode = \"monitor\"\n[rule.which]\nsource = [\"bundle.other\"]\n";
    let other = list.replace("\"list\"", "\"other\"").replace("list.txt", "other.txt");
    fs::write(acme.path("list.txt"), "127.44.0.1\n").unwrap();
    fs::write(acme.path("other.txt"), "127.44.0.2\n").unwrap();
    acme.sign(2, &format!("mode = \"enforce\"\n{list}{other}{trial}"), &[]);
    let mut sandbox = Sandbox::new(&settings(&acme, repository.to_str().unwrap(), ""));
    sandbox.start();
    wait_for_serial(&mut sandbox, 2);
    assert!(is_blocked(&connect("127.44.0.1:0")));
    connect("127.44.0.2:0").unwrap();
    let record = sandbox.record("the trial", |record| record["policy"]["rule"] == "policy.trial");
    assert_eq!((&record["verdict"], &record["policy"]["serial"]), (&json!("would_block"), &json!(2)));
    let explained = sandbox.json(&["explain", "127.44.0.2", "--json"]);
    assert_eq!(explained["outcome"], "would_block", "{explained}");
    let record = sandbox.record("the block", |record| record["verdict"] == "blocked");
    assert_eq!(record["policy"]["rule"], "feeds.bundle.list");

    // The next policy lets the one pass and blocks the other; nothing of it is in force yet.
    let next = Organisation::new("acme");
    fs::write(next.path("list.txt"), "127.44.0.1\n").unwrap();
    fs::write(next.path("other.txt"), "127.44.0.2\n").unwrap();
    let ignore = "[[rule]]\nname = \"let-go\"\naction = \"ignore\"\n[rule.which]\nsource = [\"bundle.list\"]\n";
    next.sign(3, &format!("mode = \"enforce\"\n{list}{other}{ignore}"), &[]);
    let (from, root) = (next.repository(), next.root());
    let said = sandbox.json(&[
        "policy",
        "verify",
        from.to_str().unwrap(),
        "--pin",
        root.to_str().unwrap(),
        "--dry-run",
        "--since",
        "24h",
        "--json",
    ]);
    let rehearsal = &said["dry_run"];
    assert_eq!((&rehearsal["would"]["blocked"], &rehearsal["would"]["passed"]), (&json!(1), &json!(1)), "{said}");
    assert_eq!(rehearsal["changed"], 2);
    let changes = rehearsal["changes"].as_array().unwrap();
    let change =
        |value: &str| changes.iter().find(|change| change["value"].as_str().unwrap().starts_with(value)).unwrap();
    assert_eq!((&change("127.44.0.1")["was"], &change("127.44.0.1")["would"]), (&json!("blocked"), &json!("passed")));
    assert_eq!(
        (&change("127.44.0.2")["was"], &change("127.44.0.2")["would"]),
        (&json!("would_block"), &json!("blocked"))
    );
    assert!(is_blocked(&connect("127.44.0.1:0")), "a dry run changes nothing");
}

#[test]
fn intelligence_that_a_host_has_is_not_fetched_again() {
    let (acme, repository) = acme();
    let mut sandbox = Sandbox::new(&settings(&acme, repository.to_str().unwrap(), ""));
    sandbox.start();
    wait_for_serial(&mut sandbox, 1);
    policy(&acme, 2, "127.44.0.1\n127.44.0.8/29\n", &[]);
    // Only the host has it now.
    let list = |entry: &fs::DirEntry| entry.file_name().to_str().unwrap().contains("list.txt");
    for entry in fs::read_dir(repository.join("targets")).unwrap().map(Result::unwrap).filter(list) {
        fs::remove_file(entry.path()).unwrap();
    }
    wait_for_serial(&mut sandbox, 2);
    assert!(is_blocked(&connect("127.44.0.10:0")));
    // What it has spoilt is fetched like what it never had.
    let state = sandbox.root.path().join("var/lib/cordon/policy");
    let bundles = fs::read_dir(state).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir());
    for target in bundles.flat_map(|path| fs::read_dir(path.join("targets")).into_iter().flatten()) {
        fs::write(target.unwrap().path(), "127.44.0.3\n").unwrap();
    }
    policy(&acme, 3, "127.44.0.1\n127.44.0.8/29\n", &[]);
    wait_for_serial(&mut sandbox, 3);
    assert!(is_blocked(&connect("127.44.0.10:0")));
    connect("127.44.0.3:0").unwrap();
}
