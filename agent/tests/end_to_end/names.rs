//! Names: what is asked for on the way to a host.

use std::net::UdpSocket;

use crate::network::settings;
use crate::sandbox::{Sandbox, is_blocked};

/// A question for the addresses of `name`, to a resolver of this test's own.
fn ask(name: &str, resolver: &UdpSocket) -> std::io::Result<()> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        message.push(u8::try_from(label.len()).unwrap());
        message.extend(label.as_bytes());
    }
    message.extend([0, 0, 1, 0, 1]);
    UdpSocket::bind("127.0.0.1:0")?.send_to(&message, resolver.local_addr()?).map(drop)
}

fn hook(sandbox: &Sandbox) -> String {
    let status = sandbox.json(&["status", "--json"]);
    let hooks = status["hooks"].as_array().unwrap().clone();
    let found = hooks.iter().find(|hook| hook["hook"] == "cgroup_egress_dns").unwrap();
    found["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_question_for_a_listed_name_is_refused_recorded_and_explained() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = resolver.local_addr().unwrap().port();
    let mut sandbox = Sandbox::new(&format!("{}[dns]\nports = [{port}]\n", settings("enforce", "block")));
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox.start();
    assert_eq!(hook(&sandbox), "unused", "no domain is listed yet");
    ask("www.evil.example", &resolver).unwrap();

    sandbox.intel("names.txt", "evil.example\n");
    sandbox.wait_for("the hook", |sandbox| (hook(sandbox) == "attached").then_some(()));
    ask("www.example", &resolver).unwrap();
    assert!(is_blocked(&ask("wWw.Evil.example", &resolver)));
    let record = sandbox.record("the question", |record| record["kind"] == "dns");
    assert_eq!((&record["verdict"], &record["enforced_by"]), (&"blocked".into(), &"cgroup_egress_dns".into()));
    assert_eq!(record["destination"]["domain"], "wWw.Evil.example");
    assert_eq!((&record["destination"]["query_type"], &record["destination"]["port"]), (&"A".into(), &port.into()));
    assert_eq!(
        (&record["indicator"]["type"], &record["indicator"]["value"]),
        (&"domain".into(), &"evil.example".into())
    );
    assert_eq!(record["process"]["pid"], std::process::id());
    let explained = sandbox.json(&["explain", "a.evil.example", "--json"]);
    assert_eq!(
        (&explained["outcome"], &explained["indicators"][0]["value"]),
        (&"blocked".into(), &"evil.example".into())
    );
}
