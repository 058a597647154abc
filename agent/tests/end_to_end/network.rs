//! Connects and sends.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket};

use crate::sandbox::{Sandbox, connect, is_blocked};
use crate::sockets::{
    self, AF_INET, EINPROGRESS, IP_OPTIONS, IPPROTO_ICMP, IPPROTO_IP, SOCK_NONBLOCK, SOCK_RAW, SOCK_STREAM, bind, send,
    set_option, socket,
};

/// One source on loopback addresses, in the given mode and with the given action.
pub fn settings(mode: &str, action: &str) -> String {
    format!(
        r#"
mode = "{mode}"
[never_block]
host = false
[exec]
guard = false
[[source]]
name = "lab"
path = "/etc/cordon/intel.d"
action = "{action}"
allow_reserved = true
"#
    )
}

fn lab(mode: &str, action: &str) -> Sandbox {
    let mut sandbox = Sandbox::new(&settings(mode, action));
    sandbox.intel("lab.txt", "127.7.7.7\n127.8.0.0/16\n127.9.9.9:4444\n");
    sandbox.start();
    sandbox
}

#[test]
fn a_connect_to_an_indicator_is_blocked_and_the_record_says_who_and_why() {
    let mut sandbox = lab("enforce", "block");
    assert!(is_blocked(&connect("127.7.7.7:0")));
    connect("127.7.7.8:0").unwrap();

    let record = sandbox.record("the blocked connect", |record| record["kind"] == "connect");
    assert_eq!(record["schema"], 1);
    assert_eq!(record["verdict"], "blocked");
    assert_eq!(record["enforced_by"], "cgroup_connect4");
    assert_eq!(record["destination"]["ip"], "127.7.7.7");
    assert_eq!(record["destination"]["protocol"], "tcp");
    assert_eq!(record["indicator"]["type"], "ipv4");
    assert_eq!(record["indicator"]["value"], "127.7.7.7");
    assert_eq!(record["indicator"]["source"], "lab");
    assert_eq!(record["policy"]["rule"], "feeds.lab");
    assert_eq!(record["process"]["pid"], std::process::id());
    let own = std::env::current_exe().unwrap();
    assert_eq!(record["process"]["exe"], own.to_str().unwrap());
    assert_eq!(record["process"]["uid"], 0);
    assert_eq!(record["process"]["user"], "root");
    assert_eq!(sandbox.log(&[]).len(), 1, "the control connect must leave no record");
}

#[test]
fn a_prefix_blocks_all_of_it_and_nothing_beside_it() {
    let mut sandbox = lab("enforce", "block");
    assert!(is_blocked(&connect("127.8.0.0:0")));
    assert!(is_blocked(&connect("127.8.255.255:0")));
    connect("127.7.255.255:0").unwrap();
    connect("127.9.0.0:0").unwrap();
    let record = sandbox.record("the prefix", |record| record["destination"]["ip"] == "127.8.255.255");
    assert_eq!(record["indicator"]["value"], "127.8.0.0/16");
    assert_eq!(record["indicator"]["type"], "ipv4_prefix");
}

#[test]
fn an_endpoint_blocks_its_port_only() {
    let mut sandbox = lab("enforce", "block");
    assert!(is_blocked(&connect("127.9.9.9:4444")));
    connect("127.9.9.9:4445").unwrap();
    let record = sandbox.record("the endpoint", |record| record["destination"]["port"] == 4444);
    assert_eq!(record["indicator"]["type"], "endpoint");
    assert_eq!(record["indicator"]["value"], "127.9.9.9:4444");
}

#[test]
fn a_mapped_nat64_or_6to4_spelling_is_the_same_indicator() {
    let mut sandbox = lab("enforce", "block");
    let v4 = Ipv4Addr::new(127, 7, 7, 7).octets();
    let [a, b] = [u16::from_be_bytes([v4[0], v4[1]]), u16::from_be_bytes([v4[2], v4[3]])];
    let spellings = [
        Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, a, b),
        Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, a, b),
        Ipv6Addr::new(0x2002, a, b, 0, 0, 0, 0, 1),
    ];
    for spelling in spellings {
        let result = TcpStream::connect(SocketAddrV6::new(spelling, 9, 0, 0));
        assert!(is_blocked(&result), "{spelling}: {result:?}");
        let record = sandbox.record("the spelling", |record| record["destination"]["ip"] == spelling.to_string());
        assert_eq!(record["indicator"]["value"], "127.7.7.7", "{spelling}");
        assert_eq!(record["enforced_by"], "cgroup_connect6", "{spelling}");
    }
    let control = TcpStream::connect(SocketAddrV6::new(Ipv4Addr::new(127, 7, 7, 6).to_ipv6_mapped(), 9, 0, 0));
    assert_eq!(control.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_datagram_without_a_connect_is_blocked() {
    let mut sandbox = lab("enforce", "block");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    assert!(is_blocked(&socket.send_to(b"x", "127.7.7.7:53")));
    socket.send_to(b"x", "127.7.7.8:53").unwrap();
    let socket = UdpSocket::bind("[::]:0").unwrap();
    assert!(is_blocked(&socket.send_to(b"x", "[::ffff:127.7.7.7]:53")));

    let record = sandbox.record("the datagram", |record| record["kind"] == "send");
    assert_eq!(record["verdict"], "blocked");
    assert_eq!(record["enforced_by"], "cgroup_sendmsg4");
    assert_eq!(record["destination"]["protocol"], "udp");
    assert_eq!(record["destination"]["port"], 53);
}

#[test]
fn a_report_source_reports_and_lets_pass() {
    let mut sandbox = lab("enforce", "report");
    connect("127.7.7.7:0").unwrap();
    let record = sandbox.record("the report", |_| true);
    assert_eq!(record["verdict"], "reported");
}

#[test]
fn monitor_mode_lets_pass_and_says_what_it_would_have_blocked() {
    let mut sandbox = lab("monitor", "block");
    connect("127.7.7.7:0").unwrap();
    let record = sandbox.record("the would-be block", |_| true);
    assert_eq!(record["verdict"], "would_block");
}

#[test]
fn an_ipv6_indicator_and_prefix_block() {
    let mut sandbox = Sandbox::new(&settings("enforce", "block"));
    sandbox.intel("lab.txt", "2001:db8::7\n2001:db8:8::/48\n");
    sandbox.start();
    for address in ["2001:db8::7", "2001:db8:8:ffff::1"] {
        let result = TcpStream::connect((address, 9));
        assert!(is_blocked(&result), "{address}: {result:?}");
    }
    for address in ["2001:db8::8", "2001:db8:9::1"] {
        // No such address is on this machine and no route leads to one, so nothing leaves it either way.
        assert!(!is_blocked(&TcpStream::connect((address, 9))), "{address}");
    }
    let record = sandbox.record("the IPv6 prefix", |record| record["indicator"]["type"] == "ipv6_prefix");
    assert_eq!(record["indicator"]["value"], "2001:db8:8::/48");
}

#[test]
fn a_thousand_repeats_are_one_record_with_a_count_and_the_counter_agrees() {
    let mut sandbox = lab("enforce", "block");
    for _ in 0..1000 {
        let result = TcpStream::connect("127.7.7.7:9");
        assert!(is_blocked(&result));
    }
    let total =
        |sandbox: &Sandbox| sandbox.log(&[]).iter().map(|record| record["count"].as_u64().unwrap()).sum::<u64>();
    sandbox.wait_for("a thousand hits in the journal", |sandbox| (total(sandbox) == 1000).then_some(()));
    assert!(sandbox.log(&[]).len() < 10, "repeats must be folded");
    let status = sandbox.json(&["status", "--json"]);
    assert_eq!(status["counters"]["blocked"], 1000);
}

#[test]
fn the_filters_of_log_select() {
    let mut sandbox = lab("enforce", "block");
    assert!(is_blocked(&connect("127.7.7.7:0")));
    assert!(is_blocked(&connect("127.8.1.1:0")));
    sandbox.wait_for("both records", |sandbox| (sandbox.log(&[]).len() == 2).then_some(()));
    let own = std::process::id().to_string();
    for (filter, expected) in [
        (vec!["--dest", "127.8.0.0/16"], 1),
        (vec!["--dest", "127.7.7.7"], 1),
        (vec!["--indicator", "127.8.0.0/16"], 1),
        (vec!["--kind", "connect"], 2),
        (vec!["--kind", "exec"], 0),
        (vec!["--verdict", "blocked", "--pid", &own], 2),
        (vec!["--pid", "1"], 0),
        (vec!["--since", "1h"], 2),
        (vec!["--until", "1h"], 0),
        (vec!["--actor", "nobody"], 0),
    ] {
        assert_eq!(sandbox.log(&filter).len(), expected, "{filter:?}");
    }
}

#[test]
fn status_compares_the_counted_hits_with_the_recorded_ones() {
    let mut sandbox = lab("enforce", "block");
    for _ in 0..5 {
        assert!(is_blocked(&connect("127.7.7.7:0")));
    }
    let hits = sandbox.json(&["status", "--json"])["hits"].clone();
    assert_eq!(hits["counted"], 5, "{hits}");
    let recorded = hits["recorded"].as_u64().unwrap();
    assert_eq!(hits["unrecorded"], 5 - recorded, "{hits}");
    sandbox.wait_for("all hits to be recorded", |sandbox| {
        let hits = sandbox.json(&["status", "--json"])["hits"].clone();
        (hits["recorded"] == 5 && hits["unrecorded"] == 0).then_some(())
    });
    let count: u64 = sandbox.log(&[]).iter().map(|record| record["count"].as_u64().unwrap()).sum();
    assert_eq!(count, 5);
}

#[test]
fn what_leads_around_connect_is_blocked_and_its_records_say_how() {
    let mut sandbox = lab("enforce", "block");
    let raw = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP).unwrap();
    let ping = [8, 0, 0xf7, 0xff, 0, 0, 0, 0];
    assert!(is_blocked(&send(&raw, &ping, Some("127.7.7.7:0".parse().unwrap()), None)));
    let record = sandbox.record("the raw datagram", |record| record["kind"] == "send");
    let hooks = sandbox.json(&["status", "--json"])["hooks"].clone();
    let is_attached = |hook: &serde_json::Value| hook["hook"] == "lsm_socket_sendmsg" && hook["state"] == "attached";
    // Where LSM programs are called, the call is refused before there is a packet.
    let called = hooks.as_array().unwrap().iter().any(is_attached);
    assert_eq!(record["enforced_by"], if called { "lsm_socket_sendmsg" } else { "cgroup_egress" });
    assert_eq!(record["destination"]["ip"], "127.7.7.7");
    assert_eq!(record["destination"]["protocol"], "icmp");
    assert_eq!(record["indicator"]["value"], "127.7.7.7");
    assert_eq!(record["process"]["pid"], std::process::id());
    let own = std::env::current_exe().unwrap();
    assert_eq!(record["process"]["exe"], own.to_str().unwrap());

    // RFC 791 §3.1: a loose source route over one hop that nobody lists.
    let tcp = socket(AF_INET, SOCK_STREAM, 0).unwrap();
    let set = set_option(&tcp, IPPROTO_IP, IP_OPTIONS, &[131, 7, 4, 127, 0, 0, 8, 0]);
    let hooks = sandbox.json(&["status", "--json"])["hooks"].clone();
    let state = |name: &str| {
        let hook = hooks.as_array().unwrap().iter().find(|hook| hook["hook"] == name);
        hook.unwrap()["state"].as_str().unwrap().to_owned()
    };
    assert_eq!((state("cgroup_egress"), state("cgroup_ingress")), ("attached".to_owned(), "attached".to_owned()));
    if state("cgroup_setsockopt") != "attached" {
        return println!("NOT RUN the part about setsockopt: this kernel has no such hook");
    }
    assert!(is_blocked(&set));
    let record = sandbox.record("the source route", |record| record["kind"] == "socket");
    assert_eq!(record["indicator"]["type"], "behaviour");
    assert_eq!(record["indicator"]["value"], "source_route");
    assert_eq!(record["policy"]["rule"], "network.source_routes");
    assert_eq!(record["destination"]["ip"], "127.0.0.8");
    assert_eq!(sandbox.log(&["--kind", "socket"]).len(), 1);
}

#[test]
fn a_connection_from_an_indicator_never_reaches_the_listener_and_the_record_names_it() {
    let mut sandbox = lab("enforce", "block");
    let listener = TcpListener::bind("127.0.0.8:0").unwrap();
    let at = listener.local_addr().unwrap();
    // The client is of the same cgroup, so its connect is judged too: it goes where nobody is listed.
    let client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0).unwrap();
    bind(&client, "127.7.7.7:0".parse().unwrap()).unwrap();
    assert_eq!(sockets::connect(&client, at).unwrap_err().raw_os_error(), Some(EINPROGRESS));
    let record = sandbox.record("the arrival", |record| record["kind"] == "accept");
    assert_eq!(record["verdict"], "blocked");
    assert_eq!(record["enforced_by"], "cgroup_ingress");
    assert_eq!(record["destination"]["ip"], "127.7.7.7");
    assert_eq!(record["local_port"], at.port());
    assert_eq!(record["process"]["pid"], std::process::id());
    listener.set_nonblocking(true).unwrap();
    assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock);
}
