//! The message bus between an organisation and running agents, through the real kernel and real NATS servers.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::cable::Cable;
use crate::nats::{self, Nats};
use crate::organisation::{Organisation, copy};
use crate::sandbox::{CORDON, Sandbox, connect, is_blocked};

const HOST: &str = "web-1";

/// Settings that follow the policy on the bus, as the host that is named.
fn settings(organisation: &Organisation, nats: &Nats, host: &str) -> String {
    settings_of(organisation, nats, host, "web")
}

fn settings_of(organisation: &Organisation, nats: &Nats, host: &str, group: &str) -> String {
    settings_with(organisation, &nats.keys(host), host, group)
}

fn settings_with(organisation: &Organisation, keys: &str, host: &str, group: &str) -> String {
    let root = organisation.root();
    format!(
        "mode = \"monitor\"\n[never_block]\nhost = false\n[exec]\nguard = false\n[policy]\nroot = \"{}\"\n\
         tenant = \"acme\"\ngroup = \"{group}\"\nfrom = \"bus\"\ninterval = \"1h\"\n\
         [bus]\nhost = \"{host}\"\nheartbeat = \"2s\"\n{keys}",
        root.display()
    )
}

/// A policy that blocks a list and obeys one operator.
fn policy(organisation: &Organisation, serial: u64, addresses: &str) {
    fs::write(organisation.path("list.txt"), addresses).unwrap();
    let key = organisation.path("alice.pub");
    let operator = fs::read_to_string(key).unwrap();
    let rest = format!(
        "mode = \"enforce\"\nrequires = [\"orders\"]\n{operator}\ntypes = [\"ipv4\"]\n\
         [[intelligence]]\nname = \"list\"\nfile = \"list.txt\"\nallow_reserved = true\n"
    );
    organisation.sign(serial, &rest, &[]);
}

fn acme() -> Organisation {
    let acme = Organisation::new("acme");
    let made = cordon(&["policy", "keygen", "--operator", "alice", "-o", acme.path("alice.pem").to_str().unwrap()]);
    fs::write(acme.path("alice.pub"), made).unwrap();
    acme
}

/// Runs a verb that must succeed; what it printed.
fn cordon(arguments: &[&str]) -> String {
    let output = Command::new(CORDON).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The same; one JSON document.
fn json(arguments: &[&str]) -> Value {
    document(&cordon(arguments))
}

/// What every verb prints with `--json`.
fn document(text: &str) -> Value {
    assert!(text.starts_with("{\"schema\":1,"), "{text}");
    serde_json::from_str(text).unwrap()
}

fn push(organisation: &Organisation, nats: &Nats) -> Value {
    let repository = organisation.repository();
    json(&["policy", "push", repository.to_str().unwrap(), "--bus", &nats.file("admin"), "--json"])
}

fn order(organisation: &Organisation, nats: &Nats, verb: &[&str]) -> Value {
    let key = organisation.path("alice.pem");
    let mut arguments = verb.to_vec();
    let bus = nats.file("admin");
    arguments.extend(["--fleet", "--tenant", "acme", "--key", key.to_str().unwrap(), "--bus", &bus, "--json"]);
    json(&arguments)
}

fn wait_for(sandbox: &mut Sandbox, what: &str, is_so: impl Fn(&Value) -> bool) {
    sandbox.wait_for(what, |sandbox| is_so(&sandbox.json(&["status", "--json"])).then_some(()));
}

fn has_fault(status: &Value, number: &str) -> bool {
    status["faults"].as_array().unwrap().iter().any(|fault| fault["number"] == number)
}

/// How the fleet sees this host.
fn seen(nats: &Nats) -> Value {
    json(&["fleet", "status", "--bus", &nats.file("admin"), "--json"])["hosts"][0].clone()
}

fn findings(nats: &Nats) -> Vec<Value> {
    let text = cordon(&["fleet", "findings", "-n", "0", "--bus", &nats.file("admin"), "--json"]);
    text.lines().map(document).collect()
}

/// From an empty bus to a policy that is pushed, replaced, and survives everything.
fn the_fleet_is_one(program: &Path) {
    let acme = acme();
    let mut nats = Nats::start(program, &[HOST]);
    let made = json(&["fleet", "init", "--findings-mib", "64", "--bus", &nats.file("admin"), "--json"])["made"].clone();
    assert_eq!(made, json!(["KV_cordon-policy", "KV_cordon-hosts", "cordon-findings"]));
    policy(&acme, 1, "127.44.0.1\n");
    push(&acme, &nats);
    // Given before the host was there: it knows no operator until it has the policy.
    order(&acme, &nats, &["block", "127.44.0.4", "--for", "1h"]);
    let mut sandbox = Sandbox::new(&settings(&acme, &nats, HOST));
    sandbox.start();
    wait_for(&mut sandbox, "the policy", |status| status["policy"]["serial"] == 1);
    assert!(is_blocked(&connect("127.44.0.1:0")));
    connect("127.44.0.2:0").unwrap();
    sandbox.wait_for("the order", |_| is_blocked(&connect("127.44.0.4:0")).then_some(()));

    // Pushed while it runs: it looks only once an hour by itself.
    policy(&acme, 2, "127.44.0.1\n127.44.0.2\n");
    let pushed = push(&acme, &nats);
    assert!(pushed["files"].as_u64().unwrap() >= 3, "{pushed}");
    wait_for(&mut sandbox, "the next policy", |status| status["policy"]["serial"] == 2);
    assert!(is_blocked(&connect("127.44.0.2:0")));
    sandbox.wait_for("the heartbeat", |_| (seen(&nats)["serial"] == 2).then_some(()));
    let host = seen(&nats);
    assert_eq!((&host["host"], &host["group"], &host["state"]), (&json!(HOST), &json!("web"), &json!("applied")));
    sandbox.wait_for("the records", |_| {
        let found = findings(&nats);
        let is_it = |record: &Value| {
            record["host"] == HOST && record["destination"]["ip"] == "127.44.0.2" && record["policy"]["serial"] == 2
        };
        found.iter().any(is_it).then_some(())
    });

    // An order, obeyed by who has it and kept without the bus.
    order(&acme, &nats, &["block", "127.44.0.3", "--for", "1h", "--reason", "seen elsewhere"]);
    sandbox.wait_for("the order", |_| is_blocked(&connect("127.44.0.3:0")).then_some(()));
    let record = sandbox.record("the hit", |record| record["destination"]["ip"] == "127.44.0.3");
    assert_eq!((&record["policy"]["rule"], &record["indicator"]["source"]), (&json!("fleet.alice"), &json!("fleet")));
    nats.kill();
    wait_for(&mut sandbox, "the fault", |status| has_fault(status, "C025"));
    sandbox.stop();
    sandbox.start();
    assert!(is_blocked(&connect("127.44.0.3:0")) && is_blocked(&connect("127.44.0.2:0")), "both are kept");
    assert!(is_blocked(&connect("127.44.0.1:0")));

    nats.again();
    wait_for(&mut sandbox, "the bus", |status| status["bus"]["connected"] == true && !has_fault(status, "C025"));
    let own = sandbox.log(&[]).len();
    sandbox.wait_for("what was recorded meanwhile", |_| (findings(&nats).len() >= own).then_some(()));
    order(&acme, &nats, &["unblock", "127.44.0.3"]);
    sandbox.wait_for("the withdrawal", |_| connect("127.44.0.3:0").is_ok().then_some(()));
    assert!(is_blocked(&connect("127.44.0.2:0")));
}

#[test]
fn a_policy_and_orders_are_pushed_and_records_come_back() {
    if let Some(program) = nats::newest("a_policy_and_orders_are_pushed_and_records_come_back") {
        the_fleet_is_one(&program);
    }
}

#[test]
fn the_same_with_the_server_of_debian() {
    if let Some(program) = nats::debian("the_same_with_the_server_of_debian") {
        the_fleet_is_one(&program);
    }
}

#[test]
fn a_bus_that_lies_is_not_believed() {
    let Some(program) = nats::newest("a_bus_that_lies_is_not_believed") else { return };
    let acme = acme();
    let nats = Nats::start(&program, &[HOST]);
    cordon(&["fleet", "init", "--findings-mib", "64", "--bus", &nats.file("admin")]);
    policy(&acme, 1, "127.44.0.1\n");
    push(&acme, &nats);
    let old = acme.path("old");
    copy(&acme.repository(), &old);
    policy(&acme, 2, "127.44.0.1\n127.44.0.2\n");
    push(&acme, &nats);
    let mut sandbox = Sandbox::new(&settings(&acme, &nats, HOST));
    sandbox.start();
    wait_for(&mut sandbox, "the policy", |status| status["policy"]["serial"] == 2);

    // The honest tool pushes nothing that is older.
    let refused = Command::new(CORDON)
        .args(["policy", "push", old.to_str().unwrap(), "--bus", &nats.file("admin")])
        .output()
        .unwrap();
    assert_eq!(refused.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("push the latest"));

    // Whoever owns the broker can put there what they like.
    let timestamp = fs::read(old.join("metadata/timestamp.json")).unwrap();
    nats.put("$KV.cordon-policy.news.timestamp.json", &timestamp);
    wait_for(&mut sandbox, "the refusal", |status| has_fault(status, "C021"));
    let status = sandbox.json(&["status", "--json"]);
    assert!(status["policy"]["error"].as_str().unwrap().contains("rollback"), "{status}");
    sandbox.wait_for("the refusal to be told", |_| (seen(&nats)["state"] == "refused").then_some(()));
    assert!(is_blocked(&connect("127.44.0.2:0")));

    // Another organisation's policy, as whole as it is.
    let other = Organisation::new("acme");
    fs::write(other.path("list.txt"), "127.44.0.4\n").unwrap();
    other.sign(9, "[[intelligence]]\nname = \"list\"\nfile = \"list.txt\"\nallow_reserved = true\n", &[]);
    push(&other, &nats);
    wait_for(&mut sandbox, "the refusal", |status| {
        status["policy"]["error"].as_str().is_some_and(|error| error.contains("bad signature"))
    });
    connect("127.44.0.4:0").unwrap();
    assert!(is_blocked(&connect("127.44.0.2:0")));

    // An order that nobody signed who may, and one beyond what the operator may.
    let mallory = acme.path("mallory.pem");
    cordon(&["policy", "keygen", "--operator", "mallory", "-o", mallory.to_str().unwrap()]);
    let bus = nats.file("admin");
    let give = |key: &Path, value: &str, long: &str| {
        cordon(&[
            "block",
            value,
            "--for",
            long,
            "--fleet",
            "--tenant",
            "acme",
            "--key",
            key.to_str().unwrap(),
            "--bus",
            &bus,
        ]);
    };
    give(&mallory, "127.44.0.5", "1h");
    wait_for(&mut sandbox, "the refusal", |status| has_fault(status, "C027"));
    give(&acme.path("alice.pem"), "127.44.0.6", "2d");
    give(&acme.path("alice.pem"), "evil.example", "1h");
    give(&acme.path("alice.pem"), "127.44.0.7", "1h");
    sandbox.wait_for("the order that is one", |_| is_blocked(&connect("127.44.0.7:0")).then_some(()));
    let status = sandbox.json(&["status", "--json"]);
    let detail =
        status["faults"].as_array().unwrap().iter().find(|fault| fault["number"] == "C027").unwrap()["detail"].clone();
    let detail = detail.as_str().unwrap();
    for why in ["bad signature", "longer than 1d", "a value of type domain"] {
        assert!(detail.contains(why), "{detail}");
    }
    connect("127.44.0.5:0").unwrap();
    connect("127.44.0.6:0").unwrap();
}

#[test]
fn a_host_may_do_no_more_than_it_needs() {
    let Some(program) = nats::newest("a_host_may_do_no_more_than_it_needs") else { return };
    let nats = Nats::start(&program, &[HOST, "web-2"]);
    cordon(&["fleet", "init", "--findings-mib", "64", "--bus", &nats.file("admin")]);
    for (user, subject) in [
        (HOST, "$KV.cordon-policy.news.timestamp.json"),
        (HOST, "$KV.cordon-policy.news.orders.all"),
        (HOST, "$KV.cordon-hosts.web-2"),
        (HOST, "cordon.findings.web-2"),
        (HOST, "cordon.news.timestamp.json"),
    ] {
        let refused = nats.publish(user, subject, b"{}");
        assert!(refused.is_err(), "{user} wrote {subject}");
    }
    nats.publish(HOST, "$KV.cordon-hosts.web-1", b"{}").unwrap();
    // What another organisation writes is another organisation's, under whatever name.
    nats.publish("mallory", "cordon.findings.web-1", b"{}").unwrap();
    assert_eq!(findings(&nats), Vec::<Value>::new());
    for user in [HOST, "mallory"] {
        let output = Command::new(CORDON).args(["fleet", "status", "--bus", &nats.file(user)]).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{user}");
    }
}

/// Rolls a policy that blocks these out to canaries and then to all: the exit code, and what it said.
fn rollout(organisation: &Organisation, nats: &Nats, addresses: &str, more: &[&str]) -> (Option<i32>, Vec<Value>) {
    fs::write(organisation.path("list.txt"), addresses).unwrap();
    let list = "mode = \"enforce\"\n[[intelligence]]\nname = \"list\"\nfile = \"list.txt\"\nallow_reserved = true\n";
    let file = organisation.write(1, list);
    let (keys, repository) = (organisation.keys(), organisation.repository());
    let output = Command::new(CORDON)
        .args([
            "fleet",
            "rollout",
            file.to_str().unwrap(),
            "--group",
            "canary",
            "--group",
            "web",
            "--soak",
            "4s",
            "--json",
        ])
        .args(["--keys", keys.to_str().unwrap(), "-o", repository.to_str().unwrap(), "--bus", &nats.file("admin")])
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let said: Vec<Value> = said.lines().map(document).collect();
    assert!(!said.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    (output.status.code(), said)
}

#[test]
fn a_rollout_goes_on_from_canaries_and_is_taken_back_when_they_do_badly() {
    let Some(program) = nats::newest("a_rollout_goes_on_from_canaries_and_is_taken_back_when_they_do_badly") else {
        return;
    };
    let acme = Organisation::new("acme");
    let nats = Nats::start(&program, &["canary-1", "web-1"]);
    cordon(&["fleet", "init", "--findings-mib", "64", "--bus", &nats.file("admin")]);
    let mut canary = Sandbox::new(&settings_of(&acme, &nats, "canary-1", "canary"));
    let mut web = Sandbox::second(&settings(&acme, &nats, "web-1"));
    canary.start();
    web.start();
    canary.wait_for("the heartbeats", |_| {
        let status = json(&["fleet", "status", "--bus", &nats.file("admin"), "--json"]);
        (status["hosts"].as_array().unwrap().len() == 2).then_some(())
    });
    let (code, said) = rollout(&acme, &nats, "127.44.0.1\n", &["--monitor-first"]);
    assert_eq!(code, Some(0), "{said:#?}");
    let modes: Vec<(&Value, &Value)> = said.iter().map(|line| (&line["group"], &line["mode"])).collect();
    assert_eq!((modes[0].0, modes[0].1), (&json!("canary"), &json!("monitor")));
    assert!(modes.contains(&(&json!("web"), &json!("its own mode"))));
    assert!(is_blocked(&connect("127.44.0.1:0")), "the canary is this process's cgroup");
    assert!(web.is_blocked_inside("127.44.0.1", 9));

    // A list that hits what the canary does all day.
    let stop = std::sync::atomic::AtomicBool::new(false);
    let (code, said) = std::thread::scope(|scope| {
        let _stop = crate::sandbox::StopOnDrop(&stop);
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _either = connect("127.44.0.2:0");
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        rollout(&acme, &nats, "127.44.0.1\n127.44.0.2\n", &["--hits", "50"])
    });
    assert_eq!(code, Some(1), "{said:#?}");
    let halted = said.iter().find(|line| line["event"] == "halted").unwrap();
    assert!(halted["why"].as_str().unwrap().contains("hits"), "{halted}");
    let back = said.iter().find(|line| line["event"] == "taken_back").unwrap();
    assert_eq!((&back["group"], &back["contents_of"], &back["serial"]), (&json!("canary"), &json!(2), &json!(4)));
    assert!(said.iter().all(|line| line["group"] == "canary"), "nobody else got it");
    canary.wait_for("what was before", |_| connect("127.44.0.2:0").is_ok().then_some(()));
    assert!(is_blocked(&connect("127.44.0.1:0")) && !web.is_blocked_inside("127.44.0.2", 9));
}

#[test]
fn servers_that_die_one_after_the_other_lose_no_record_and_no_policy() {
    let Some(program) = nats::newest("servers_that_die_one_after_the_other_lose_no_record_and_no_policy") else {
        return;
    };
    let acme = acme();
    let mut servers = Nats::cluster(&program, &[HOST]);
    let bus = acme.path("admin.toml");
    fs::write(&bus, Nats::keys_of(&servers, "admin")).unwrap();
    let bus = bus.to_str().unwrap();
    let init = ["fleet", "init", "--replicas", "3", "--findings-mib", "64", "--bus", bus];
    // They take some seconds to agree on who leads.
    crate::sandbox::wait_until("the cluster", || Command::new(CORDON).args(init).output().unwrap().status.success());
    policy(&acme, 1, "127.44.0.0/16\n");
    let repository = acme.repository();
    cordon(&["policy", "push", repository.to_str().unwrap(), "--bus", bus]);
    let mut sandbox = Sandbox::new(&settings_with(&acme, &Nats::keys_of(&servers, HOST), HOST, "web"));
    sandbox.start();
    wait_for(&mut sandbox, "the policy", |status| status["policy"]["serial"] == 1);
    let mut port = 0;
    let mut hit = |count: u16| {
        for _ in 0..count {
            port += 1;
            assert!(is_blocked(&connect(&format!("127.44.{}.1:{}", port / 200, 1000 + port % 200))));
        }
    };
    for (serial, server) in (2_u64..).zip(&mut servers) {
        hit(100);
        server.kill();
        hit(100);
        // A later policy while one is away: two are enough.
        policy(&acme, serial, "127.44.0.0/16\n");
        crate::sandbox::wait_until("the push", || {
            let push = ["policy", "push", repository.to_str().unwrap(), "--bus", bus];
            Command::new(CORDON).args(push).output().unwrap().status.success()
        });
        wait_for(&mut sandbox, "the next policy", |status| status["policy"]["serial"] == serial);
        server.again();
        // All three again before the next one goes: of two that are away the third cannot lead.
        crate::sandbox::wait_until("the server to catch up", || server.is_current());
    }
    let own: Vec<Value> = sandbox.log(&[]).into_iter().map(|record| record["id"].clone()).collect();
    assert!(own.len() >= 600, "{}", own.len());
    sandbox.wait_for("all records", |_| {
        let text = cordon(&["fleet", "findings", "-n", "0", "--bus", bus, "--json"]);
        let there: std::collections::HashSet<String> = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_str().unwrap().to_owned())
            .collect();
        own.iter().all(|id| there.contains(id.as_str().unwrap())).then_some(())
    });
}

#[test]
fn a_hundred_and_ninety_two_organisations_are_apart_whatever_one_of_them_sends() {
    const ORGANISATIONS: usize = 192;
    const TEST: &str = "a_hundred_and_ninety_two_organisations_are_apart_whatever_one_of_them_sends";
    let Some(program) = nats::newest(TEST) else { return };
    let nats = Nats::of_many(&program, ORGANISATIONS);
    for n in [0, 1] {
        cordon(&["fleet", "init", "--findings-mib", "1", "--bus", &nats.file(&format!("admin-{n}"))]);
    }
    let heartbeat = |host: &str| {
        let template = r#"{"schema":1,"host":"HOST","time":"2026-11-28T12:00:00Z","next_seconds":30,"version":"0","kernel":"0",
            "mode":"monitor","entries":0,"blocked":0,"reported":0,"faults":[]}"#;
        template.replace("HOST", host)
    };
    // Everybody says that they are `host-0`; one is.
    for n in 0..ORGANISATIONS {
        let told = nats.publish(&format!("host-{n}"), "$KV.cordon-hosts.host-0", heartbeat("host-0").as_bytes());
        assert_eq!(told.is_ok(), n == 0, "host-{n}: {told:?}");
        nats.publish(&format!("admin-{n}"), "cordon.findings.host-0", b"{}").unwrap();
    }
    // A name in a message is nobody's: the subject tells, which the server lets only one write.
    nats.publish("host-1", "$KV.cordon-hosts.host-1", heartbeat("host-0").as_bytes()).unwrap();
    nats.publish("admin-1", "$KV.cordon-hosts.host-2", b"no heartbeat").unwrap();
    for n in [0, 1] {
        let status = json(&["fleet", "status", "--bus", &nats.file(&format!("admin-{n}")), "--json"]);
        let hosts: Vec<&Value> = status["hosts"].as_array().unwrap().iter().map(|host| &host["host"]).collect();
        assert_eq!(hosts, [&json!(format!("host-{n}"))]);
        assert_eq!(status["unread"].as_array().unwrap().len(), n, "{status}");
    }
    // What is no record is said with whose it is, and what is larger than the server takes is not taken.
    let said = Command::new(CORDON).args(["fleet", "findings", "--bus", &nats.file("admin-0")]).output().unwrap();
    assert!(said.status.success());
    assert!(String::from_utf8_lossy(&said.stderr).contains("not a record that this version reads: host-0"));
    assert!(nats.publish("host-0", "cordon.findings.host-0", &vec![b' '; 2 << 20]).is_err());
}

#[test]
fn a_cut_that_nobody_is_told_of_is_noticed_and_heals_by_itself() {
    let Some(program) = nats::newest("a_cut_that_nobody_is_told_of_is_noticed_and_heals_by_itself") else { return };
    let acme = acme();
    let nats = Nats::start(&program, &[HOST]);
    cordon(&["fleet", "init", "--findings-mib", "64", "--bus", &nats.file("admin")]);
    policy(&acme, 1, "127.44.0.1\n");
    push(&acme, &nats);
    let cable = Cable::to(nats.port);
    let keys = nats.keys(HOST).replace(&nats.port.to_string(), &cable.port.to_string());
    let mut sandbox = Sandbox::new(&settings_with(&acme, &keys, HOST, "web"));
    sandbox.start();
    wait_for(&mut sandbox, "the policy", |status| status["policy"]["serial"] == 1);

    cable.cut();
    wait_for(&mut sandbox, "the fault", |status| has_fault(status, "C025"));
    assert!(is_blocked(&connect("127.44.0.1:0")));
    policy(&acme, 2, "127.44.0.1\n127.44.0.2\n");
    push(&acme, &nats);
    order(&acme, &nats, &["block", "127.44.0.3", "--for", "1h"]);
    sandbox.wait_for("silence", |_| (seen(&nats)["state"] == "silent").then_some(()));

    cable.mend();
    wait_for(&mut sandbox, "the next policy", |status| status["policy"]["serial"] == 2 && !has_fault(status, "C025"));
    sandbox.wait_for("the order", |_| is_blocked(&connect("127.44.0.3:0")).then_some(()));
    assert!(is_blocked(&connect("127.44.0.2:0")));
    let own = sandbox.log(&[]).len();
    sandbox.wait_for("what was recorded meanwhile", |_| (findings(&nats).len() >= own).then_some(()));
    sandbox.wait_for("the heartbeat", |_| (seen(&nats)["state"] == "applied").then_some(()));
}

#[test]
fn over_tls_each_side_knows_who_the_other_is() {
    let Some(program) = nats::newest("over_tls_each_side_knows_who_the_other_is") else { return };
    let nats = Nats::over_tls(&program);
    let place = |name: &str| nats.directory.path().join(name).display().to_string();
    let attempt = |scheme: &str, more: &str| {
        let keys = format!(
            "servers = [\"{scheme}://localhost:{}\"]\naccess = {{ username = \"admin\", password = \"{}\"{more} }}\n",
            nats.port,
            place("admin")
        );
        fs::write(place("bus.toml"), keys).unwrap();
        let output = Command::new(CORDON)
            .args(["fleet", "init", "--findings-mib", "1", "--bus", &place("bus.toml")])
            .output()
            .unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (authority, own) = (
        format!(", ca = \"{}\"", place("ca.pem")),
        format!(", certificate = \"{}\", key = \"{}\"", place("client.pem"), place("client.key")),
    );
    assert_eq!(attempt("tls", &format!("{authority}{own}")), (Some(0), String::new()));
    for (scheme, more) in [("tls", authority.as_str()), ("tls", &own), ("nats", ""), ("nats", &own)] {
        let (code, said) = attempt(scheme, more);
        assert!(code == Some(1) && said.contains("cannot be reached"), "{scheme}{more}: {code:?} {said}");
    }
}

#[test]
fn nkeys_and_tokens_let_in_who_holds_their_seed_and_nobody_else() {
    let Some(program) = nats::newest("nkeys_and_tokens_let_in_who_holds_their_seed_and_nobody_else") else { return };
    let init = |nats: &Nats, key: &str, file: &str| {
        let (path, secret) = (nats.directory.path().join("bus.toml"), nats.directory.path().join(file));
        let port = nats.port;
        fs::write(&path, format!("servers = [\"nats://127.0.0.1:{port}\"]\n{key} = \"{}\"\n", secret.display()))
            .unwrap();
        let bus = path.to_str().unwrap();
        let output =
            Command::new(CORDON).args(["fleet", "init", "--findings-mib", "1", "--bus", bus]).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (by_nkey, by_token) = (Nats::with_nkey(&program), Nats::with_jwt(&program));
    assert_eq!(init(&by_nkey, "nkey", "seed"), (Some(0), String::new()));
    assert_eq!(init(&by_token, "credentials", "user.creds"), (Some(0), String::new()), "{}", by_token.log());
    // The seed of one server is nobody's at the other, and a file that others may read is not used.
    for (from, to) in [(&by_nkey, &by_token), (&by_token, &by_nkey)] {
        for name in ["seed", "user.creds"].into_iter().filter(|name| from.directory.path().join(name).exists()) {
            fs::copy(from.directory.path().join(name), to.directory.path().join("foreign")).unwrap();
            let key = if name == "seed" { "nkey" } else { "credentials" };
            let (code, said) = init(to, key, "foreign");
            assert!(code == Some(1) && said.contains("cannot be reached"), "{name}: {code:?} {said}");
        }
    }
    let seed = by_nkey.directory.path().join("seed");
    fs::set_permissions(&seed, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let (code, said) = init(&by_nkey, "nkey", "seed");
    assert!(code == Some(1) && said.contains("lets others read it"), "{code:?} {said}");
}

#[test]
fn records_that_the_journal_gave_up_before_they_were_sent_are_a_fault_until_it_was_seen() {
    const TEST: &str = "records_that_the_journal_gave_up_before_they_were_sent_are_a_fault_until_it_was_seen";
    let Some(program) = nats::newest(TEST) else { return };
    let acme = acme();
    let mut nats = Nats::start(&program, &[HOST]);
    cordon(&["fleet", "init", "--findings-mib", "64", "--bus", &nats.file("admin")]);
    policy(&acme, 1, "127.44.0.0/16\n");
    push(&acme, &nats);
    let small = "[journal]\ntotal_bytes = 4194304\nsegment_bytes = 1048576\n";
    let mut sandbox = Sandbox::new(&(settings(&acme, &nats, HOST) + small));
    sandbox.start();
    wait_for(&mut sandbox, "the policy", |status| status["policy"]["serial"] == 1);
    assert!(is_blocked(&connect("127.44.255.1:1000")));
    sandbox.wait_for("the first record", |_| (!findings(&nats).is_empty()).then_some(()));

    nats.kill();
    let mut hits = 0_u32;
    sandbox.wait_for("the journal to be full", |sandbox| {
        for _ in 0..500 {
            hits += 1;
            assert!(is_blocked(&connect(&format!("127.44.{}.{}:{}", hits >> 12, hits >> 6 & 63, 1000 + (hits & 63)))));
        }
        let deleted = sandbox.json(&["status", "--json"])["losses"]["journal.segments_deleted"].as_u64();
        (deleted > Some(1)).then_some(())
    });
    nats.again();
    wait_for(&mut sandbox, "the fault", |status| has_fault(status, "C026"));
    assert_eq!(sandbox.json(&["status", "--json"])["losses"]["findings.gaps"], 1);
    let kept = sandbox.log(&[]).len();
    sandbox.wait_for("what was kept", |_| (findings(&nats).len() >= kept).then_some(()));
    assert!(sandbox.cordon(&["reload"]).status.success());
    wait_for(&mut sandbox, "the fault to go", |status| !has_fault(status, "C026"));
}
