//! Names: what is asked for on the way to a host.

use std::net::UdpSocket;
use std::time::Duration;

use crate::network::settings;
use crate::sandbox::{Sandbox, is_blocked};

fn labels(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A question for the addresses of `name`.
fn question(name: &str) -> Vec<u8> {
    [&[0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0], labels(name).as_slice(), &[0, 1, 0, 1]].concat()
}

/// A response to it with one record of this kind.
fn response(name: &str, kind: u8, data: &[u8]) -> Vec<u8> {
    let mut message = question(name);
    (message[2], message[7]) = (0x81, 1);
    let length = u8::try_from(data.len()).unwrap();
    [message.as_slice(), &[0xc0, 12, 0, kind, 0, 1, 0, 0, 0, 60, 0, length], data].concat()
}

/// Asks a resolver of this test's own.
fn ask(name: &str, resolver: &UdpSocket) -> std::io::Result<()> {
    UdpSocket::bind("127.0.0.1:0")?.send_to(&question(name), resolver.local_addr()?).map(drop)
}

fn state(sandbox: &Sandbox, hook: &str) -> String {
    let status = sandbox.json(&["status", "--json"]);
    let hooks = status["hooks"].as_array().unwrap().clone();
    let found = hooks.iter().find(|line| line["hook"] == hook).unwrap();
    found["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_question_for_a_listed_name_is_refused_recorded_and_explained() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = resolver.local_addr().unwrap().port();
    let mut sandbox = Sandbox::new(&format!("{}[dns]\nports = [{port}]\n", settings("enforce", "block")));
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox.start();
    assert_eq!(state(&sandbox, "cgroup_egress_dns"), "unused", "no domain is listed yet");
    ask("www.evil.example", &resolver).unwrap();

    sandbox.intel("names.txt", "evil.example\n");
    sandbox.wait_for("the hook", |sandbox| (state(sandbox, "cgroup_egress_dns") == "attached").then_some(()));
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

#[test]
fn a_response_that_leads_to_a_listed_name_is_dropped_and_one_that_is_reported_is_followed() {
    let resolver = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = resolver.local_addr().unwrap().port();
    let more =
        "[[source]]\nname = \"watch\"\npath = \"/etc/cordon/watch.txt\"\naction = \"report\"\nallow_reserved = true\n";
    let mut sandbox = Sandbox::new(&format!("{}{more}[dns]\nports = [{port}]\n", settings("enforce", "block")));
    sandbox.intel("names.txt", "evil.example\n");
    std::fs::write(sandbox.root.path().join("etc/cordon/watch.txt"), "odd.example\n").unwrap();
    sandbox.start();
    assert_eq!(state(&sandbox, "cgroup_ingress_dns"), "attached");
    let asker = UdpSocket::bind("127.0.0.1:0").unwrap();
    asker.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    asker.send_to(&question("www.example"), resolver.local_addr().unwrap()).unwrap();
    let answer = |message: &[u8]| {
        resolver.send_to(message, asker.local_addr().unwrap()).unwrap();
        asker.recv(&mut [0; 512]).is_ok()
    };

    assert!(answer(&response("www.example", 5, &labels("harmless.example"))));
    assert!(!answer(&response("www.example", 5, &labels("c2.evil.example"))));
    let record = sandbox.record("the response", |record| record["enforced_by"] == "cgroup_ingress_dns");
    assert_eq!((&record["kind"], &record["verdict"]), (&"dns".into(), &"blocked".into()));
    assert_eq!(record["destination"]["domain"], "c2.evil.example");
    assert_eq!(record["indicator"]["value"], "evil.example");
    assert_eq!(record["process"]["pid"], std::process::id());

    assert!(answer(&response("odd.example", 1, &[127, 6, 6, 6])));
    UdpSocket::bind("127.0.0.1:0").unwrap().connect("127.6.6.6:443").unwrap();
    let record = sandbox.record("the connect", |record| record["kind"] == "connect");
    assert_eq!((&record["verdict"], &record["enforced_by"]), (&"reported".into(), &"cgroup_connect4".into()));
    assert_eq!((&record["destination"]["ip"], &record["destination"]["port"]), (&"127.6.6.6".into(), &443.into()));
    assert_eq!(
        (&record["indicator"]["type"], &record["indicator"]["value"]),
        (&"domain".into(), &"odd.example".into())
    );
    assert_eq!(record["indicator"]["source"], "watch");
}
