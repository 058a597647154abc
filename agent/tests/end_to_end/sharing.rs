//! Two agents and one TAXII server: what one saw is blocked by the other.

use serde_json::{Value, json};

use crate::python::{Server, collection, medallion, root};
use crate::sandbox::{Sandbox, connect, is_blocked};

/// An agent with a list of its own, that reads what others share and shares what it sees.
fn settings(server: &Server, name: &str, interval: &str) -> String {
    let (url, password) = (&server.url, server.password().display().to_string());
    format!(
        r#"
mode = "enforce"
[never_block]
host = false
[exec]
guard = false

[[source]]
name = "own"
path = "/etc/cordon/intel.d"
allow_reserved = true
share = "indicators"

[[source]]
name = "shared"
allow_reserved = true
interval = "1s"
taxii = {{ url = "{url}", collection = "shared" }}
access = {{ username = "agent", password = "{password}" }}

[sightings]
name = "{name}"
[[sightings.to]]
name = "isac"
audience = "clients"
interval = "{interval}"
observed_data = true
taxii = {{ url = "{url}", collection = "shared" }}
access = {{ username = "agent", password = "{password}" }}
"#
    )
}

fn isac(sandbox: &Sandbox) -> Value {
    sandbox.json(&["status", "--json"])["sightings"]["destinations"][0].clone()
}

#[test]
fn what_one_saw_is_blocked_by_the_other_in_both_directions() {
    let name = "what_one_saw_is_blocked_by_the_other_in_both_directions";
    let Some(server) = medallion(name, |_| root(json!([collection("shared", true, &[])]))) else { return };
    let mut one = Sandbox::new(&settings(&server, "Member 1", "1s"));
    let mut two = Sandbox::second(&settings(&server, "Member 2", "1s"));
    one.intel("own.txt", "127.41.0.1\n");
    two.intel("own.txt", "127.41.0.2:9\n");
    one.start();
    two.start();
    assert!(!two.is_blocked_inside("127.41.0.1", 9), "nobody told it yet");
    connect("127.41.0.2:0").unwrap();

    assert!(is_blocked(&connect("127.41.0.1:0")));
    two.wait_for("what the first saw", |two| two.is_blocked_inside("127.41.0.1", 9).then_some(()));
    let record = two.record("the hit", |record| record["destination"]["ip"] == "127.41.0.1");
    assert_eq!((&record["indicator"]["source"], &record["verdict"]), (&json!("shared"), &json!("blocked")));
    assert!(record["indicator"]["id"].as_str().unwrap().starts_with("indicator--"), "{record}");
    assert_eq!(record["indicator"]["tlp"], "amber", "the marking came along: the default of the first");

    assert!(two.is_blocked_inside("127.41.0.2", 9));
    one.wait_for("what the second saw", |_| is_blocked(&std::net::TcpStream::connect("127.41.0.2:9")).then_some(()));
    assert!(!is_blocked(&std::net::TcpStream::connect("127.41.0.2:10")), "an endpoint is its port only");

    // What came from the other is sighted by its id and not passed on anew.
    let sighted = record["indicator"]["id"].clone();
    let all = two.wait_for("the second's sighting of what the first passed on", |_| {
        let all = objects(&server);
        all.iter().any(|object| object["sighting_of_ref"] == sighted && is_of(object, "Member 2", &all)).then_some(all)
    });
    let of_address = |object: &&Value| object["pattern"].as_str().is_some_and(|pattern| pattern.contains("127.41.0.1"));
    let makers: std::collections::BTreeSet<_> =
        all.iter().filter(of_address).map(|object| object["created_by_ref"].to_string()).collect();
    assert_eq!(makers.len(), 1, "{makers:?}");
}

#[test]
fn sightings_wait_out_an_outage_and_a_restart() {
    let name = "sightings_wait_out_an_outage_and_a_restart";
    let Some(server) = medallion(name, |_| root(json!([collection("shared", true, &[])]))) else { return };
    let gone = settings(&server, "Member 1", "1s")
        .replace("collection = \"shared\" }\naccess", "collection = \"gone\" }\naccess");
    let mut sandbox = Sandbox::new(&gone);
    sandbox.intel("own.txt", "127.41.0.3\n");
    sandbox.start();
    for _ in 0..3 {
        assert!(is_blocked(&std::net::TcpStream::connect("127.41.0.3:9")));
    }
    let waiting = sandbox.wait_for("the failure", |sandbox| {
        Some(isac(sandbox)).filter(|isac| isac["failures"].as_u64() > Some(0) && isac["waiting"] == 1)
    });
    assert!(waiting["error"].as_str().unwrap().contains("no collection `gone`"), "{waiting}");
    let status = sandbox.json(&["status", "--json"]);
    assert!(status["faults"].as_array().unwrap().iter().any(|fault| fault["number"] == "C016"), "{status}");
    sandbox.kill();

    let path = sandbox.root.path().join("etc/cordon/cordon.toml");
    std::fs::write(&path, settings(&server, "Member 1", "1s")).unwrap();
    sandbox.start();
    let sighting = sandbox.wait_for("the sighting", |_| {
        objects(&server).into_iter().find(|object| object["type"] == "sighting" && object["count"] == 3)
    });
    assert_eq!(sighting["object_marking_refs"][0], "marking-definition--55d920b0-5e8b-4f79-9ee9-91f868d9b421");
    sandbox.wait_for("the tally", |sandbox| {
        let isac = isac(sandbox);
        (isac["waiting"] == 0 && isac["sent"].as_u64() > Some(0) && isac["error"].is_null()).then_some(())
    });
    let shown = String::from_utf8(sandbox.cordon(&["status"]).stdout).unwrap();
    assert!(shown.contains("sightings to") && shown.contains("isac"), "{shown}");
}

/// All objects that the server has been given, by its own client's way of reading: the memory of medallion.
fn objects(server: &Server) -> Vec<Value> {
    use agent::http::{Access, Client, Credential, Limits, Stop};
    use agent::intel::taxii::{Address, Collection, PAGE};
    let access = Access {
        username: Some("agent".to_owned()),
        password: Some(Credential::new(server.password().to_str().unwrap())),
        ..Access::default()
    };
    let limits = Limits { bytes: 64 << 20, time: std::time::Duration::from_secs(20) };
    let client = Client::new(&access, &server.url, limits, Stop::default()).unwrap();
    let address = Address { url: server.url.clone(), collection: "shared".to_owned() };
    let mut objects = Vec::new();
    let found = Collection::find(&client, &address).unwrap();
    found
        .read(None, PAGE, |page| {
            objects.extend(page.iter().map(|object| serde_json::from_str(object.get()).unwrap()));
            Ok(())
        })
        .unwrap();
    objects
}

/// Whether the identity with that name made the object.
fn is_of(object: &Value, name: &str, all: &[Value]) -> bool {
    all.iter().any(|identity| identity["id"] == object["created_by_ref"] && identity["name"] == name)
}
