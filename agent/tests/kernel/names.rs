//! Names in packets: what is asked for, what is dropped, what is told.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use agent::event::{Action as Did, Event, Hook, Verdict};
use agent::intel::Observable;
use agent::kernel::{HookState, NAME_HOOKS, NameSettings};
use agent::policy::Action;
use agent_common::wire::{Counter, Mode};

use crate::sandbox::{Rules, Running, Sandbox, destination, kernel_version};

pub const A: u16 = 1;
pub const AAAA: u16 = 28;

pub fn domain(name: &str) -> Observable {
    Observable::Domain(name.into())
}

/// The labels of a name with their lengths, and the root.
pub fn wire(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[u8::try_from(label.len()).unwrap()], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A query with these questions and an EDNS option record (RFC 6891).
pub fn query(questions: &[(&str, u16)]) -> Vec<u8> {
    let count = u8::try_from(questions.len()).unwrap();
    let mut message = vec![0x12, 0x34, 1, 0, 0, count, 0, 0, 0, 0, 0, 1];
    for (name, kind) in questions {
        message.extend(wire(name));
        message.extend(kind.to_be_bytes());
        message.extend([0, 1]);
    }
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    message
}

/// A resolver that nobody answers for: what arrives is what was let through.
struct Resolver(UdpSocket);

impl Resolver {
    fn new(address: &str) -> Self {
        let socket = UdpSocket::bind(address).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        Self(socket)
    }

    fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap()
    }

    /// Sends it from a socket of its own, and says whether it came through whole.
    fn ask(&self, message: &[u8]) -> Result<(), ErrorKind> {
        let from = if self.address().is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        UdpSocket::bind(from).unwrap().send_to(message, self.address()).map_err(|error| error.kind())?;
        let mut buffer = [0; 2048];
        let received = self.0.recv(&mut buffer).unwrap();
        assert_eq!(&buffer[..received], message);
        Ok(())
    }
}

/// Whether names are judged in this kernel: from 5.17 on they must be, before that the report must say why not.
pub fn judges(test: &str, running: &Running) -> bool {
    if kernel_version() >= (5, 17) {
        for hook in NAME_HOOKS {
            assert!(running.report.is_attached(hook), "{:?}", running.report);
        }
        return true;
    }
    let state = running.report.state(Hook::EgressDns);
    let Some(HookState::Unavailable { why }) = state else { panic!("{state:?}") };
    assert!(why.contains("bpf_loop"), "{why}");
    println!("NOT RUN {test}: {why}");
    false
}

/// Names are looked for at the port of this resolver.
fn listen(running: &Running, resolver: &Resolver) {
    let settings = NameSettings { dns_ports: vec![9, resolver.address().port()], ..NameSettings::default() };
    running.kernel.configure_names(&settings).unwrap();
}

pub fn asked(event: &Event) -> (&str, Option<u16>) {
    let Did::Name { name, query_type, .. } = &event.action else { panic!("{event:?}") };
    (name, *query_type)
}

#[test]
fn a_question_for_a_listed_name_is_refused_and_told() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("a_question_for_a_listed_name_is_refused_and_told", &running) {
        return;
    }
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let resolver = Resolver::new(at);
        listen(&running, &resolver);
        assert_eq!(resolver.ask(&query(&[("www.example", A)])), Ok(()));
        assert_eq!(resolver.ask(&query(&[("xevil.example", A)])), Ok(()));
        assert!(running.events().is_empty());
        assert_eq!(resolver.ask(&query(&[("wWw.Evil.EXAMPLE", AAAA)])), Err(ErrorKind::PermissionDenied));
        let event = running.event();
        assert_eq!((event.hook, event.verdict), (Hook::EgressDns, Verdict::Blocked));
        assert_eq!(asked(&event), ("wWw.Evil.EXAMPLE", Some(AAAA)));
        assert_eq!(running.observable(&event), domain("evil.example"));
        assert_eq!(destination(&event), (resolver.address().ip(), resolver.address().port()));
        assert_eq!(event.task.key.pid, std::process::id());
        assert_eq!(event.task.cgroup_id, running.kernel.scope_cgroup_id());
        running.kernel.take_folds().unwrap();
    }
    assert_eq!(running.counted(1), 2);
    let counters = running.kernel.counters().unwrap();
    assert_eq!((counters.get(Counter::Blocked), counters.get(Counter::NamesJudged)), (2, 6));
}

#[test]
fn the_sender_of_a_name_is_named_as_in_a_connect() {
    let sandbox = Sandbox::new();
    let rules = Rules::default().block(domain("evil.example")).block_ip("127.0.0.9");
    let mut running = sandbox.start(Mode::Enforce, rules);
    if !judges("the_sender_of_a_name_is_named_as_in_a_connect", &running) {
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    listen(&running, &resolver);
    assert!(resolver.ask(&query(&[("evil.example", A)])).is_err());
    assert!(UdpSocket::bind("127.0.0.1:0").unwrap().connect("127.0.0.9:53").is_err());
    let events = running.events();
    let [by_name, by_address] = events.as_slice() else { panic!("{events:?}") };
    assert_eq!(by_name.task, by_address.task);
}

#[test]
fn names_of_every_length_are_read() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("e.x")).block(domain("long.example")));
    if !judges("names_of_every_length_are_read", &running) {
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    listen(&running, &resolver);
    let longest = format!("{0}.{0}.{0}.{1}.long.example", "l".repeat(63), "l".repeat(48));
    let most_labels = [&["a"; 125][..], &["e", "x"][..]].concat();
    for name in [longest, most_labels.join("."), "e.x".to_owned()] {
        assert_eq!(resolver.ask(&query(&[(&name, A)])), Err(ErrorKind::PermissionDenied), "{name}");
        let event = running.event();
        assert_eq!(asked(&event), (name.as_str(), Some(A)));
        running.kernel.take_folds().unwrap();
    }
    for name in [["a"; 127].join("."), "x".to_owned(), format!("{}.example", "l".repeat(63))] {
        assert_eq!(resolver.ask(&query(&[(&name, A)])), Ok(()), "{name}");
    }
    assert!(running.events().is_empty());
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), 0);
}

#[test]
fn further_questions_and_pointers_hide_nothing() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("further_questions_and_pointers_hide_nothing", &running) {
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    listen(&running, &resolver);
    let two = query(&[("www.example", A), ("evil.example", A)]);
    assert_eq!(resolver.ask(&two), Err(ErrorKind::PermissionDenied));
    assert_eq!(asked(&running.event()).0, "evil.example");
    running.kernel.take_folds().unwrap();
    // The name goes on after the question, where a pointer leads to.
    let mut pointed = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    pointed.extend(b"\x03www\xc0\x16\0\x01\0\x01");
    pointed.extend(wire("evil.example"));
    assert_eq!(resolver.ask(&pointed), Err(ErrorKind::PermissionDenied));
    assert_eq!(asked(&running.event()), ("www.…", Some(A)));
}

#[test]
fn questions_beyond_those_that_are_read_are_counted() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("questions_beyond_those_that_are_read_are_counted", &running) {
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    listen(&running, &resolver);
    let unread = |running: &Running| running.kernel.counters().unwrap().get(Counter::NamesUnread);
    assert_eq!(resolver.ask(&query(&[("a.example", A), ("b.example", A)])), Ok(()));
    assert_eq!(unread(&running), 0);
    assert_eq!(resolver.ask(&query(&[("a.example", A), ("b.example", A), ("evil.example", A)])), Ok(()));
    assert_eq!(unread(&running), 1);
    assert!(running.events().is_empty());
}

#[test]
fn what_is_no_question_passes() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("what_is_no_question_passes", &running) {
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    let listed = query(&[("evil.example", A)]);
    assert_eq!(resolver.ask(&listed), Ok(()), "at a port that is not set");
    listen(&running, &resolver);
    let mut response = listed.clone();
    response[2] |= 0x80;
    assert_eq!(resolver.ask(&response), Ok(()));
    assert_eq!(resolver.ask(b"hello"), Ok(()));
    let before = running.kernel.counters().unwrap().get(Counter::NamesUnread);
    assert_eq!(resolver.ask(&listed[..20]), Ok(()));
    let mut looping = listed.clone();
    looping.splice(12..14, [0xc0, 12]);
    assert_eq!(resolver.ask(&looping), Ok(()));
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NamesUnread), before + 2);
    assert!(running.events().is_empty());
}

#[test]
fn reports_exceptions_and_monitor_mode_let_questions_pass() {
    let sandbox = Sandbox::new();
    let rules = Rules::default()
        .block(domain("evil.example"))
        .add(domain("odd.example"), Action::Report, None)
        .allow(domain("good.evil.example"));
    let mut running = sandbox.start(Mode::Enforce, rules);
    if !judges("reports_exceptions_and_monitor_mode_let_questions_pass", &running) {
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    listen(&running, &resolver);
    assert_eq!(resolver.ask(&query(&[("odd.example", A)])), Ok(()));
    assert_eq!(running.event().verdict, Verdict::Reported);
    assert_eq!(resolver.ask(&query(&[("good.evil.example", A)])), Ok(()));
    assert!(running.events().is_empty());
    running.configure(Mode::Monitor);
    assert_eq!(resolver.ask(&query(&[("evil.example", A)])), Ok(()));
    assert_eq!(running.event().verdict, Verdict::WouldBlock);
    running.configure(Mode::Enforce);
    assert_eq!(resolver.ask(&query(&[("evil.example", A)])), Err(ErrorKind::PermissionDenied));
}

#[test]
fn the_hook_is_there_only_while_a_domain_is_listed() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    if kernel_version() < (5, 17) {
        println!("NOT RUN the_hook_is_there_only_while_a_domain_is_listed: this kernel has no bpf_loop");
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    listen(&running, &resolver);
    let state = |running: &Running| running.report.state(Hook::EgressDns).cloned();
    let link = |sandbox: &Sandbox| {
        let version = std::fs::read_dir(&sandbox.pins).unwrap().next().unwrap().unwrap().path();
        version.join("links/name_egress").exists()
    };
    assert!(matches!(state(&running), Some(HookState::Unused { .. })) && !link(&sandbox));
    for generation in [2, 4] {
        running.publish(generation, Rules::default().block(domain("evil.example")));
        running.kernel.follow_names(&mut running.report).unwrap();
        assert!(matches!(state(&running), Some(HookState::Attached { .. })) && link(&sandbox), "{:?}", running.report);
        assert_eq!(resolver.ask(&query(&[("evil.example", A)])), Err(ErrorKind::PermissionDenied));
        running.publish(generation + 1, Rules::default().block_ip("127.0.0.9"));
        running.kernel.follow_names(&mut running.report).unwrap();
        assert!(matches!(state(&running), Some(HookState::Unused { .. })) && !link(&sandbox));
        assert_eq!(resolver.ask(&query(&[("evil.example", A)])), Ok(()));
    }
}

#[test]
fn repeats_of_a_question_are_counted_and_told_once() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(domain("evil.example")));
    if !judges("repeats_of_a_question_are_counted_and_told_once", &running) {
        return;
    }
    let resolver = Resolver::new("127.0.0.1:0");
    listen(&running, &resolver);
    for _ in 0..50 {
        assert_eq!(resolver.ask(&query(&[("evil.example", A)])), Err(ErrorKind::PermissionDenied));
    }
    assert_eq!((running.events().len(), running.counted(1)), (1, 50));
    let folds = running.kernel.take_folds().unwrap();
    assert_eq!(folds.iter().map(|(_, fold)| fold.repeats).sum::<u64>(), 49);
}
