//! DNS responses: names that stand for listed ones, and the addresses that they lead to.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::time::Duration;

use agent::event::{Hook, Verdict};
use agent::kernel::NameSettings;
use agent::policy::Action;
use agent_common::wire::{Counter, Mode};

use crate::names::{A, AAAA, asked, domain, judges, query, wire};
use crate::sandbox::{Rules, Running, Sandbox, destination};

const CNAME: u16 = 5;

/// A record's owner, kind and data; its owner is a pointer to the question where it has no name.
struct Record<'a>(&'a str, u16, Vec<u8>);

fn alias<'a>(of: &'a str, to: &str) -> Record<'a> {
    Record(of, CNAME, wire(to))
}

fn address<'a>(of: &'a str, address: &str) -> Record<'a> {
    match address.parse().unwrap() {
        IpAddr::V4(address) => Record(of, A, address.octets().to_vec()),
        IpAddr::V6(address) => Record(of, AAAA, address.octets().to_vec()),
    }
}

/// The response to a query for `name`, to be kept for an hour.
fn response(name: &str, records: &[Record<'_>]) -> Vec<u8> {
    let mut message = query(&[(name, A)]);
    message.truncate(message.len() - 11);
    message[2..4].copy_from_slice(&[0x81, 0x80]);
    message[7] = u8::try_from(records.len()).unwrap();
    message[11] = 0;
    for Record(owner, kind, data) in records {
        message.extend(if owner.is_empty() { vec![0xc0, 12] } else { wire(owner) });
        message.extend(kind.to_be_bytes());
        message.extend([0, 1, 0, 0, 14, 16]);
        message.extend(u16::try_from(data.len()).unwrap().to_be_bytes());
        message.extend(data);
    }
    message
}

/// A resolver and who asks it.
struct Pair {
    near: UdpSocket,
    far: UdpSocket,
}

impl Pair {
    fn new(running: &Running, at: &str) -> Self {
        let far = UdpSocket::bind(at).unwrap();
        let near = UdpSocket::bind(at).unwrap();
        near.connect(far.local_addr().unwrap()).unwrap();
        near.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        listen(running, far.local_addr().unwrap());
        let pair = Self { near, far };
        pair.ask();
        pair
    }

    fn ask(&self) {
        self.near.send(&query(&[("www.example", A)])).unwrap();
        self.far.recv(&mut [0; 512]).unwrap();
    }

    /// Whether a response gets to who asked.
    fn arrives(&self, message: &[u8]) -> bool {
        self.far.send_to(message, self.near.local_addr().unwrap()).unwrap();
        let mut buffer = [0; 4096];
        match self.near.recv(&mut buffer) {
            Ok(received) => {
                assert_eq!(&buffer[..received], message);
                true
            }
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                false
            }
        }
    }
}

fn listen(running: &Running, resolver: SocketAddr) {
    let settings = NameSettings { dns_ports: vec![9, resolver.port()], ..NameSettings::default() };
    running.kernel.configure_names(&settings).unwrap();
}

/// Tries to connect a datagram socket there, which sends nothing.
fn connect(to: &str) -> Result<(), ErrorKind> {
    let to: SocketAddr = to.parse().unwrap();
    let from = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    UdpSocket::bind(from).unwrap().connect(to).map_err(|error| error.kind())
}

#[test]
fn a_response_that_leads_to_a_listed_name_is_dropped_and_told() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("a_response_that_leads_to_a_listed_name_is_dropped_and_told", &running) {
        return;
    }
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let pair = Pair::new(&running, at);
        assert!(pair.arrives(&response("www.example", &[address("", "127.0.0.9")])));
        assert!(
            pair.arrives(&response(
                "www.example",
                &[alias("", "xevil.example"), address("xevil.example", "127.0.0.9")]
            ))
        );
        assert!(running.events().is_empty());
        let cloaked = [alias("", "a.cdn.example"), alias("a.cdn.example", "C2.Evil.Example"), address("", "127.0.0.9")];
        assert!(!pair.arrives(&response("www.example", &cloaked)));
        let event = running.event();
        assert_eq!((event.hook, event.verdict), (Hook::IngressDns, Verdict::Blocked));
        assert_eq!(asked(&event), ("C2.Evil.Example", Some(A)));
        assert_eq!(running.observable(&event), domain("evil.example"));
        assert_eq!(destination(&event), (pair.far.local_addr().unwrap().ip(), pair.far.local_addr().unwrap().port()));
        assert_eq!(event.task.key.pid, std::process::id());
        running.kernel.take_folds().unwrap();
        assert!(!pair.arrives(&response("evil.example", &[address("", "127.0.0.9")])), "nobody asked through the hook");
        assert_eq!(asked(&running.event()).0, "evil.example");
        running.kernel.take_folds().unwrap();
    }
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), 0);
}

#[test]
fn a_reported_name_hides_no_refused_one_and_one_response_is_one_hit() {
    let sandbox = Sandbox::new();
    let rules = Rules::default().block(domain("evil.example")).add(domain("odd.example"), Action::Report, None);
    let mut running = sandbox.start(Mode::Enforce, rules);
    if !judges("a_reported_name_hides_no_refused_one_and_one_response_is_one_hit", &running) {
        return;
    }
    let pair = Pair::new(&running, "127.0.0.1:0");
    let chain =
        |last| [alias("", "a.odd.example"), alias("a.odd.example", "b.odd.example"), alias("b.odd.example", last)];
    assert!(pair.arrives(&response("www.example", &chain("good.example"))));
    let event = running.event();
    assert_eq!((event.verdict, asked(&event).0), (Verdict::Reported, "a.odd.example"));
    assert!(!pair.arrives(&response("www.example", &chain("evil.example"))));
    let event = running.event();
    assert_eq!((event.verdict, asked(&event).0), (Verdict::Blocked, "evil.example"));
}

#[test]
fn what_nobody_asked_for_is_no_response() {
    let sandbox = Sandbox::new();
    let rules = Rules::default().block(domain("evil.example")).add(domain("odd.example"), Action::Report, None);
    let mut running = sandbox.start(Mode::Enforce, rules);
    if !judges("what_nobody_asked_for_is_no_response", &running) {
        return;
    }
    // A server, and somebody who sends to it from the port of DNS.
    let far = UdpSocket::bind("127.0.0.1:0").unwrap();
    let near = UdpSocket::bind("127.0.0.1:0").unwrap();
    near.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    listen(&running, far.local_addr().unwrap());
    for forged in
        [response("www.example", &[alias("", "evil.example")]), response("odd.example", &[address("", "127.0.0.9")])]
    {
        far.send_to(&forged, near.local_addr().unwrap()).unwrap();
        assert_eq!(near.recv(&mut [0; 512]).unwrap(), forged.len());
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let mut client = sandbox.outside(|| TcpStream::connect(listener.local_addr().unwrap()).unwrap());
    let (mut served, from) = listener.accept().unwrap();
    listen(&running, from);
    served.write_all(b"hello").unwrap();
    let forged = response("www.example", &[alias("", "evil.example")]);
    client.write_all(&forged).unwrap();
    served.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    served.read_exact(&mut vec![0; forged.len()]).unwrap();
    assert_eq!(connect("127.0.0.9:443"), Ok(()));
    assert!(running.events().is_empty());
}

#[test]
fn an_exception_at_the_start_of_the_chain_does_not_hide_its_end() {
    let sandbox = Sandbox::new();
    let rules = Rules::default().block(domain("evil.example")).allow(domain("good.evil.example"));
    let mut running = sandbox.start(Mode::Enforce, rules);
    if !judges("an_exception_at_the_start_of_the_chain_does_not_hide_its_end", &running) {
        return;
    }
    let pair = Pair::new(&running, "127.0.0.1:0");
    assert!(pair.arrives(&response("good.evil.example", &[address("", "127.0.0.9")])));
    assert!(!pair.arrives(&response("good.evil.example", &[alias("", "bad.evil.example")])));
    assert_eq!(asked(&running.event()).0, "bad.evil.example");
}

#[test]
fn what_a_reported_name_leads_to_is_known_to_whoever_asked() {
    let sandbox = Sandbox::new();
    let rules = Rules::default().add(domain("odd.example"), Action::Report, None);
    let mut running = sandbox.start(Mode::Enforce, rules);
    if !judges("what_a_reported_name_leads_to_is_known_to_whoever_asked", &running) {
        return;
    }
    let pair = Pair::new(&running, "127.0.0.1:0");
    assert_eq!(connect("127.0.0.9:443"), Ok(()));
    assert!(running.events().is_empty());
    assert!(pair.arrives(&response("www.odd.example", &[address("", "127.0.0.9"), address("", "::1")])));
    assert!(running.events().is_empty(), "the question was told of when it left");
    for (to, hook) in [("127.0.0.9:443", Hook::Connect4), ("[::1]:443", Hook::Connect6)] {
        assert_eq!(connect(to), Ok(()));
        let event = running.event();
        assert_eq!((event.hook, event.verdict), (hook, Verdict::Reported));
        assert_eq!(running.observable(&event), domain("odd.example"));
        running.kernel.take_folds().unwrap();
    }
    assert_eq!(connect("127.0.0.8:443"), Ok(()));
    // Whoever did not ask may mean another host at the same address.
    let bash = "exec 3<>/dev/udp/127.0.0.9/443";
    let other = Command::new("bash").args(["-c", bash]).stderr(Stdio::null()).status();
    if other.is_ok_and(|status| status.success()) {
        assert!(running.events().is_empty());
    } else {
        println!(
            "NOT RUN what_a_reported_name_leads_to_is_known_to_whoever_asked: no bash to connect as somebody else"
        );
    }
    running.publish(2, Rules::default().add(domain("odd.example"), Action::Report, None));
    assert_eq!(connect("127.0.0.9:443"), Ok(()));
    assert!(running.events().is_empty(), "an entry of another generation stands for something else");
}

#[test]
fn an_alias_of_a_reported_name_is_told_and_in_monitor_mode_a_blocked_one() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Monitor, Rules::default().block(domain("evil.example")));
    if !judges("an_alias_of_a_reported_name_is_told_and_in_monitor_mode_a_blocked_one", &running) {
        return;
    }
    let pair = Pair::new(&running, "127.0.0.1:0");
    let cloaked = response("www.example", &[alias("", "evil.example"), address("evil.example", "127.0.0.9")]);
    assert!(pair.arrives(&cloaked));
    let event = running.event();
    assert_eq!((event.hook, event.verdict), (Hook::IngressDns, Verdict::WouldBlock));
    assert_eq!(connect("127.0.0.9:443"), Ok(()));
    assert_eq!((running.event().verdict, running.counted(1)), (Verdict::WouldBlock, 2));
    // What was learned in monitor mode is refused when the mode changes.
    running.configure(Mode::Enforce);
    assert_eq!(connect("127.0.0.9:443"), Err(ErrorKind::PermissionDenied));
    running.configure(Mode::Monitor);
}

#[test]
fn responses_over_tcp_are_read_with_their_length_and_without() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("responses_over_tcp_are_read_with_their_length_and_without", &running) {
        return;
    }
    let cloaked = response("www.example", &[alias("", "evil.example")]);
    let length = u16::try_from(cloaked.len()).unwrap().to_be_bytes();
    for parts in [vec![[&length[..], &cloaked].concat()], vec![length.to_vec(), cloaked]] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        near.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
        let (mut far, from) = listener.accept().unwrap();
        far.set_nodelay(true).unwrap();
        listen(&running, listener.local_addr().unwrap());
        let question = query(&[("www.example", A)]);
        near.write_all(&question).unwrap();
        far.read_exact(&mut vec![0; question.len()]).unwrap();
        let harmless = response("www.example", &[address("", "127.0.0.9")]);
        far.write_all(&harmless).unwrap();
        near.read_exact(&mut vec![0; harmless.len()]).unwrap();
        for part in &parts {
            far.write_all(part).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        let mut received = Vec::new();
        assert!(near.read_to_end(&mut received).is_err());
        assert_eq!(received.len(), parts.concat().len() - parts.last().unwrap().len());
        let event = running.event();
        assert_eq!((event.hook, asked(&event).0), (Hook::IngressDns, "evil.example"));
        assert_eq!(event.task.key.pid, std::process::id());
        assert_eq!(near.local_addr().unwrap(), from);
        let repeats: u64 = running.kernel.take_folds().unwrap().iter().map(|(_, fold)| fold.repeats).sum();
        assert_eq!(repeats, 0, "what the other end sends again is the same hit");
    }
}

#[test]
fn what_is_not_read_to_its_end_is_counted() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("what_is_not_read_to_its_end_is_counted", &running) {
        return;
    }
    let pair = Pair::new(&running, "127.0.0.1:0");
    let unread = |running: &Running| running.kernel.counters().unwrap().get(Counter::NamesUnread);
    let many: Vec<Record<'_>> = (0..60).map(|_| address("", "127.0.0.9")).collect();
    assert!(pair.arrives(&response("www.example", &many)));
    assert_eq!(unread(&running), 0);
    let more: Vec<Record<'_>> = (0..70).map(|_| address("", "127.0.0.9")).collect();
    assert!(pair.arrives(&response("www.example", &more)));
    assert_eq!(unread(&running), 1);
    let mut cut = response("www.example", &[alias("", "evil.example")]);
    cut.truncate(cut.len() - 4);
    assert!(pair.arrives(&cut));
    assert_eq!(unread(&running), 2);
    assert!(running.events().is_empty());
}
