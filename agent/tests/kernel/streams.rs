//! Names in TCP streams: DNS with lengths, TLS server names, HTTP hosts.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use agent::event::{Behaviour, Event, Hook, Verdict};
use agent::kernel::attempt::set_option;
use agent::kernel::{NameSettings, SocketRules};
use agent_common::image::Action;
use agent_common::wire::{Counter, Mode};

use crate::names::{A, asked, domain, judges, query};
use crate::sandbox::{Rules, Running, Sandbox, destination};

// Linux's numbers.
const IPPROTO_TCP: i32 = 6;
const TCP_MAXSEG: i32 = 2;

/// Two ends of a stream; nothing is sent late, so that each write is a segment.
struct Pair {
    near: TcpStream,
    far: TcpStream,
    port: u16,
}

impl Pair {
    fn new(address: &str) -> Self {
        Self::of(&TcpListener::bind(address).unwrap())
    }

    fn of(listener: &TcpListener) -> Self {
        let at: SocketAddr = listener.local_addr().unwrap();
        let near = TcpStream::connect(at).unwrap();
        near.set_nodelay(true).unwrap();
        let (far, _) = listener.accept().unwrap();
        far.set_read_timeout(Some(Duration::from_millis(1500))).unwrap();
        Self { near, far, port: at.port() }
    }

    /// Writes each part by itself; whether all of it came through.
    fn arrives(&mut self, parts: &[&[u8]]) -> bool {
        for part in parts {
            self.near.write_all(part).unwrap();
            std::thread::sleep(Duration::from_millis(20));
        }
        self.has(&parts.concat())
    }

    /// As [`Self::arrives`], but each part is written only after the one before has come through.
    fn arrives_slowly(&mut self, parts: &[&[u8]]) -> bool {
        parts.iter().all(|part| {
            self.near.write_all(part).unwrap();
            self.has(part)
        })
    }

    /// Whether the far end gets just this.
    fn has(&mut self, whole: &[u8]) -> bool {
        let mut received = vec![0; whole.len()];
        self.far.read_exact(&mut received).is_ok() && received == whole
    }
}

fn listen(running: &Running, pair: &Pair, hook: Hook) {
    let mut settings = NameSettings { dns_ports: vec![9], tls_ports: vec![9], http_ports: vec![9] };
    match hook {
        Hook::EgressDns => settings.dns_ports.push(pair.port),
        Hook::EgressTls => settings.tls_ports.clear(),
        _ => settings.http_ports.push(pair.port),
    }
    running.kernel.configure_names(&settings).unwrap();
}

/// A message after its length.
fn framed(message: &[u8]) -> Vec<u8> {
    [&u16::try_from(message.len()).unwrap().to_be_bytes()[..], message].concat()
}

/// A ClientHello with GREASE (RFC 8701), a key share of so many octets, the name, and more.
fn hello(name: &str, key_share: usize, encrypted: bool) -> Vec<u8> {
    let extension = |kind: u16, content: &[u8]| {
        [&kind.to_be_bytes()[..], &u16::try_from(content.len()).unwrap().to_be_bytes(), content].concat()
    };
    let length = u16::try_from(name.len()).unwrap();
    let list = [&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name.as_bytes()].concat();
    let mut extensions =
        [extension(0x3a3a, &[]), extension(51, &vec![5; key_share]), extension(0, &list), extension(43, &[2, 3, 4])]
            .concat();
    if encrypted {
        extensions.extend(extension(0xfe0d, &[0; 64]));
    }
    let mut body = vec![3, 3];
    body.extend([0x5a; 32]);
    body.push(32);
    body.extend([7; 32]);
    body.extend([0, 4, 0x1a, 0x1a, 0x13, 1, 1, 0]);
    body.extend(u16::try_from(extensions.len()).unwrap().to_be_bytes());
    body.extend(extensions);
    let handshake = [&[1, 0][..], &u16::try_from(body.len()).unwrap().to_be_bytes(), &body].concat();
    [&[22, 3, 1][..], &framed(&handshake)].concat()
}

fn blocked(running: &mut Running, pair: &Pair, hook: Hook) -> Event {
    let event = running.event();
    assert_eq!((event.hook, event.verdict), (hook, Verdict::Blocked));
    assert_eq!(destination(&event), ("127.0.0.1".parse().unwrap(), pair.port));
    assert_eq!(running.observable(&event), domain("evil.example"));
    assert_eq!(event.task.key.pid, std::process::id());
    assert_eq!(event.task.comm, std::fs::read_to_string("/proc/thread-self/comm").unwrap().trim_end());
    running.kernel.take_folds().unwrap();
    event
}

#[test]
fn questions_over_tcp_are_judged_with_their_length_and_without() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("questions_over_tcp_are_judged_with_their_length_and_without", &running) {
        return;
    }
    let (listed, other) = (query(&[("www.evil.example", A)]), query(&[("www.example", A)]));
    let mut pair = Pair::new("127.0.0.1:0");
    listen(&running, &pair, Hook::EgressDns);
    assert!(pair.arrives(&[&framed(&other)]));
    let length = u16::try_from(other.len()).unwrap().to_be_bytes();
    assert!(pair.arrives(&[&length, &other]));
    assert!(running.events().is_empty());
    assert!(!pair.arrives(&[&framed(&listed)]));
    assert_eq!(asked(&blocked(&mut running, &pair, Hook::EgressDns)), ("www.evil.example", Some(A)));

    let mut pair = Pair::new("127.0.0.1:0");
    listen(&running, &pair, Hook::EgressDns);
    let length = u16::try_from(listed.len()).unwrap().to_be_bytes();
    assert!(!pair.arrives(&[&length, &listed]), "the length came in a segment of its own");
    blocked(&mut running, &pair, Hook::EgressDns);
    assert_eq!(running.counted(1), 2);
}

#[test]
fn a_listed_server_name_is_stopped_and_told_once() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("a_listed_server_name_is_stopped_and_told_once", &running) {
        return;
    }
    for key_share in [32, 1216] {
        let mut pair = Pair::new("127.0.0.1:0");
        listen(&running, &pair, Hook::EgressTls);
        assert!(pair.arrives(&[&hello("www.example", key_share, false), b"more"]));
        assert!(running.events().is_empty());
        let mut pair = Pair::new("127.0.0.1:0");
        assert!(!pair.arrives(&[&hello("wWw.evil.example", key_share, false)]));
        // Meanwhile the kernel has sent it again.
        assert_eq!(asked(&blocked(&mut running, &pair, Hook::EgressTls)), ("wWw.evil.example", None));
        assert!(running.events().is_empty());
    }
    assert_eq!(running.counted(1), 2);
}

#[test]
fn what_was_refused_whole_is_not_let_through_in_pieces() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("what_was_refused_whole_is_not_let_through_in_pieces", &running) {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    set_option(&listener, IPPROTO_TCP, TCP_MAXSEG, &1000_u32.to_ne_bytes()).unwrap();
    let long = format!("GET / HTTP/1.1\r\nCookie: {}\r\nHost: evil.example\r\n\r\n", "c".repeat(1200));
    let question = framed(&query(&[(&format!("{0}.{0}.{0}.evil.example", "l".repeat(60)), A)]));
    for (hook, whole, first) in [
        (Hook::EgressTls, hello("evil.example", 1216, false), &b""[..]),
        (Hook::EgressHttp, long.clone().into_bytes(), b""),
        (Hook::EgressHttp, long.into_bytes(), b"GET / HTTP/1.1\r\nHost: www.example\r\n\r\n"),
        (Hook::EgressDns, question, b""),
    ] {
        let mut pair = Pair::of(&listener);
        listen(&running, &pair, hook);
        assert!(pair.arrives(&[first]));
        assert!(!pair.arrives(&[&whole]), "{hook:?}: the kernel sends it again, a segment at a time");
        blocked(&mut running, &pair, hook);
    }
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), 0);
}

#[test]
fn what_of_a_hello_is_not_seen_is_counted() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("what_of_a_hello_is_not_seen_is_counted", &running) {
        return;
    }
    let mut pair = Pair::new("127.0.0.1:0");
    listen(&running, &pair, Hook::EgressTls);
    assert!(pair.arrives(&[&hello("provider.example", 32, true)]));
    let unread = |running: &Running| running.kernel.counters().unwrap().get(Counter::NamesUnread);
    assert_eq!((running.kernel.counters().unwrap().get(Counter::NamesEncrypted), unread(&running)), (1, 0));
    let whole = hello("evil.example", 32, false);
    let mut pair = Pair::new("127.0.0.1:0");
    assert!(pair.arrives_slowly(&[&whole[..60], &whole[60..]]), "the name came when nobody waited for it any more");
    assert_eq!(unread(&running), 1);
    let mut pair = Pair::new("127.0.0.1:0");
    assert!(pair.arrives(&[&in_two_records(&whole)]), "the header of a record is in the midst");
    assert_eq!(unread(&running), 2);
    assert!(running.events().is_empty());
}

/// The same handshake message in two records (RFC 8446 §5.1).
fn in_two_records(hello: &[u8]) -> Vec<u8> {
    let (start, end) = hello[5..].split_at(50);
    [&[22, 3, 1][..], &framed(start), &[22, 3, 1], &framed(end)].concat()
}

#[test]
fn what_is_written_in_pieces_is_read_as_one() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("what_is_written_in_pieces_is_read_as_one", &running) {
        return;
    }
    let request = |host: &str| format!("GET / HTTP/1.1\r\nAccept: */*\r\nHost: {host}\r\n\r\n").into_bytes();
    for (hook, listed, other) in [
        (Hook::EgressTls, hello("evil.example", 1800, false), hello("www.example", 1800, false)),
        (Hook::EgressHttp, request("evil.example"), request("www.example")),
        (Hook::EgressDns, framed(&query(&[("evil.example", A)])), framed(&query(&[("www.example", A)]))),
    ] {
        for cuts in [&[1][..], &[2], &[1, 2, 3, 5, 8, 13, 21], &[20, 24], &[listed.len() - 6]] {
            let mut pair = Pair::new("127.0.0.1:0");
            listen(&running, &pair, hook);
            assert!(pair.arrives(&pieces(&other, cuts)), "{hook:?} cut at {cuts:?}");
            assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), 0, "{hook:?} cut at {cuts:?}");
            let mut pair = Pair::new("127.0.0.1:0");
            listen(&running, &pair, hook);
            pair.far.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
            assert!(!pair.arrives(&pieces(&listed, cuts)), "{hook:?} cut at {cuts:?}");
            blocked(&mut running, &pair, hook);
            assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), 0, "{hook:?} cut at {cuts:?}");
        }
    }

    // Where nothing is blocked, nothing waits.
    running.configure(Mode::Monitor);
    let mut pair = Pair::new("127.0.0.1:0");
    listen(&running, &pair, Hook::EgressTls);
    let whole = hello("evil.example", 32, false);
    assert!(pair.arrives(&pieces(&whole, &[60])));
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), 1);
}

fn pieces<'a>(whole: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let ends = cuts.iter().copied().chain([whole.len()]);
    let starts = [0].into_iter().chain(cuts.iter().copied());
    starts.zip(ends).map(|(start, end)| &whole[start..end]).collect()
}

#[test]
fn a_listed_http_host_is_stopped_and_told() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("a_listed_http_host_is_stopped_and_told", &running) {
        return;
    }
    let request = |host: &str| format!("GET /a HTTP/1.1\r\nAccept: */*\r\nHost: {host}\r\nX: evil.example\r\n\r\n");
    let mut pair = Pair::new("127.0.0.1:0");
    listen(&running, &pair, Hook::EgressHttp);
    assert!(pair.arrives(&[request("www.example").as_bytes()]));
    assert!(!pair.arrives(&[request("evil.example:8080").as_bytes()]), "a later request on the same connection");
    assert_eq!(asked(&blocked(&mut running, &pair, Hook::EgressHttp)), ("evil.example", None));
    let mut pair = Pair::new("127.0.0.1:0");
    assert!(pair.arrives(&[request("evil.example").as_bytes()]), "at a port that is not set");
    running.configure(Mode::Monitor);
    let mut pair = Pair::new("127.0.0.1:0");
    listen(&running, &pair, Hook::EgressHttp);
    assert!(pair.arrives(&[request("Evil.Example").as_bytes()]));
    assert_eq!(running.event().verdict, Verdict::WouldBlock);
}

#[test]
fn what_cannot_be_read_is_judged_by_the_settings() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("what_cannot_be_read_is_judged_by_the_settings", &running) {
        return;
    }
    let hello = hello("evil.example", 32, false);
    let request = b"GET / HTTP/1.1\r\nAccept: */*\r\nHost: evil.example\r\n\r\n";
    let question = framed(&query(&[("evil.example", A)]));
    let cases: [(Hook, &[u8], usize); 6] = [
        (Hook::EgressTls, &hello, 60),
        (Hook::EgressTls, &hello, 1),
        (Hook::EgressTls, &hello, hello.len() - 20),
        (Hook::EgressHttp, request, 30),
        (Hook::EgressHttp, request, 2),
        (Hook::EgressDns, &question, 20),
    ];
    for (hook, whole, at) in cases {
        for (rule, verdict) in [(Action::Report, Verdict::Reported), (Action::Block, Verdict::Blocked)] {
            running.configure_with(Mode::Enforce, SocketRules { unread_names: rule, ..SocketRules::default() });
            let mut pair = Pair::new("127.0.0.1:0");
            listen(&running, &pair, hook);
            let (start, end) = whole.split_at(at);
            assert_eq!(pair.arrives_slowly(&[start, end]), verdict == Verdict::Reported, "{hook:?} in two after {at}");
            let event = running.event();
            assert_eq!((event.hook, event.verdict), (hook, verdict), "{hook:?} in two after {at}");
            assert_eq!(event.matched.unwrap().behaviour(), Some(Behaviour::UnreadName));
            assert_eq!(asked(&event), ("", None));
            running.kernel.take_folds().unwrap();
        }
    }
}

#[test]
fn in_the_midst_of_a_stream_nothing_is_taken_for_the_beginning_of_a_name() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("in_the_midst_of_a_stream_nothing_is_taken_for_the_beginning_of_a_name", &running) {
        return;
    }
    running.configure_with(Mode::Enforce, SocketRules { unread_names: Action::Block, ..SocketRules::default() });
    for (hook, begin, more) in [
        (Hook::EgressTls, &hello("www.example", 32, false)[..], &b"\x16"[..]),
        (Hook::EgressHttp, b"POST / HTTP/1.1\r\nHost: www.example\r\n\r\n", b"ABCDEF and so on"),
    ] {
        let mut pair = Pair::new("127.0.0.1:0");
        listen(&running, &pair, hook);
        assert!(pair.arrives(&[begin]));
        assert!(pair.arrives(&[more]), "{hook:?}");
    }
    assert!(running.events().is_empty());
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), 0);
}
