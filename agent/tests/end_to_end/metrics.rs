//! Metrics of a running agent: they say what `cordon status` says.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use crate::network::settings;
use crate::sandbox::{Sandbox, connect, is_blocked};

const REQUEST: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n";

fn scraped(mut stream: impl std::io::Read + std::io::Write) -> String {
    stream.write_all(REQUEST).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    text.to_owned()
}

fn value(text: &str, series: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' ')?.parse().ok())
}

fn lab(listen: &str) -> Sandbox {
    let sandbox = Sandbox::new(&format!("{}\n[metrics]\nlisten = \"{listen}\"\n", settings("enforce", "block")));
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox
}

fn socket(sandbox: &Sandbox) -> PathBuf {
    sandbox.root.path().join("metrics.sock")
}

/// A sandbox whose agent serves on a socket in its root.
fn on_a_socket() -> Sandbox {
    let sandbox = lab("127.0.0.1:1");
    let listen = format!("[metrics]\nlisten = \"{}\"\n", socket(&sandbox).display());
    fs::create_dir_all(sandbox.root.path().join("etc/cordon/cordon.d")).unwrap();
    fs::write(sandbox.root.path().join("etc/cordon/cordon.d/metrics.toml"), listen).unwrap();
    sandbox
}

#[test]
fn metrics_say_what_status_says_and_that_it_is_switched_off() {
    let mut sandbox = on_a_socket();
    sandbox.start();
    assert!(is_blocked(&connect("127.7.7.7:0")));
    let path = socket(&sandbox);
    let text = sandbox.wait_for("the hit in the metrics", |_| {
        let text = scraped(UnixStream::connect(&path).ok()?);
        (value(&text, "cordon_journal_records_total") > Some(0.0)).then_some(text)
    });
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o007, 0, "not for everybody");
    let status = sandbox.json(&["status", "--json"]);
    assert_eq!(value(&text, "cordon_generation"), status["generation"].as_f64());
    assert_eq!(value(&text, "cordon_hits_total{verdict=\"blocked\"}"), status["counters"]["blocked"].as_f64());
    assert_eq!(value(&text, "cordon_mode{mode=\"enforce\"}"), Some(1.0));
    assert_eq!(value(&text, "cordon_source_indicators{source=\"lab\",outcome=\"block\"}"), Some(1.0));
    assert_eq!(value(&text, "cordon_fault{number=\"C019\"}"), Some(0.0));
    assert!(sandbox.cordon(&["off", "--for", "10m", "--reason", "test"]).status.success());
    let off = sandbox.wait_for("the metrics of an agent that is off", |_| {
        let text = scraped(UnixStream::connect(&path).ok()?);
        (value(&text, "cordon_mode{mode=\"off\"}") == Some(1.0)).then_some(text)
    });
    assert_eq!(value(&off, "cordon_generation"), None);
    assert!(sandbox.cordon(&["on"]).status.success());
    sandbox.wait_for("the metrics of an agent that is on again", |_| {
        let text = scraped(UnixStream::connect(&path).ok()?);
        (value(&text, "cordon_mode{mode=\"enforce\"}") == Some(1.0)).then_some(())
    });
}

#[test]
fn a_port_that_is_taken_is_a_fault_and_served_once_it_is_free() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut sandbox = lab(&address.to_string());
    sandbox.start();
    assert!(is_blocked(&connect("127.7.7.7:0")), "blocking does not wait for metrics");
    let faults = |sandbox: &Sandbox| sandbox.json(&["status", "--json"])["faults"].to_string();
    sandbox.wait_for("the fault", |sandbox| faults(sandbox).contains("C019").then_some(()));
    drop(taken);
    let text = sandbox.wait_for("the metrics", |_| Some(scraped(TcpStream::connect(address).ok()?)));
    assert_eq!(value(&text, "cordon_mode{mode=\"enforce\"}"), Some(1.0));
    assert!(!faults(&sandbox).contains("C019"));
}
