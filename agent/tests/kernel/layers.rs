//! What leads around connect: source routes and raw sockets.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};

use agent::event::{Action as Did, Behaviour, Event, Hook, Verdict};
use agent::intel::Observable;
use agent::kernel::{HookState, SocketRules};
use agent_common::image::Action;
use agent_common::wire::Mode;

use crate::sandbox::{Rules, Running, Sandbox, destination, kernel_version};
use crate::sockets::*;

/// RFC 791 §3.1: a loose source route over one hop, padded.
pub fn route(hops: &[&str]) -> Vec<u8> {
    let mut option = vec![131, 3 + 4 * hops.len() as u8, 4];
    option.extend(hops.iter().flat_map(|hop| hop.parse::<Ipv4Addr>().unwrap().octets()));
    option.resize(option.len().next_multiple_of(4), 0);
    option
}

/// RFC 8754 §2: a segment routing header over `hops`, in the order of travel, to a place of its own for the destination.
fn segments(hops: &[&str]) -> Vec<u8> {
    let count = hops.len() as u8 + 1;
    let mut header = vec![0, 2 * count, 4, count - 1, count - 1, 0, 0, 0];
    header.extend([0; 16]);
    header.extend(hops.iter().rev().flat_map(|hop| hop.parse::<Ipv6Addr>().unwrap().octets()));
    header
}

pub fn refusal<T>(result: io::Result<T>) -> Option<ErrorKind> {
    result.err().map(|error| error.kind())
}

pub const REFUSED: Option<ErrorKind> = Some(ErrorKind::PermissionDenied);

fn behaviour(event: &Event) -> Option<Behaviour> {
    event.matched.unwrap().behaviour()
}

fn rules(source_routes: Action, raw_sockets: Action) -> SocketRules {
    SocketRules { source_routes, raw_sockets, ..SocketRules::default() }
}

/// As [`start`], or says why the test cannot run: programs at setsockopt may not ask who acts in Linux 5.10.
fn start_at_setsockopt(sandbox: &Sandbox, name: &str) -> Option<Running> {
    let running = start(sandbox);
    match running.report.state(Hook::Setsockopt) {
        Some(HookState::Unavailable { why }) if kernel_version() < (6, 1) => {
            println!("NOT RUN {name}: {why}");
            None
        }
        state => {
            assert!(running.report.is_attached(Hook::Setsockopt), "{state:?}");
            Some(running)
        }
    }
}

pub fn start(sandbox: &Sandbox) -> Running {
    let running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9").block_ip("2001:db8::9"));
    for hook in [Hook::SockCreate, Hook::Egress] {
        assert!(running.report.is_attached(hook), "{:?}", running.report.state(hook));
    }
    running
}

#[test]
fn a_source_route_over_a_listed_hop_is_refused_as_that_indicator() {
    let sandbox = Sandbox::new();
    let Some(mut running) =
        start_at_setsockopt(&sandbox, "a_source_route_over_a_listed_hop_is_refused_as_that_indicator")
    else {
        return;
    };
    running.configure_with(Mode::Enforce, rules(Action::Allow, Action::Allow));
    let tcp = socket(AF_INET, SOCK_STREAM, 0).unwrap();
    for hops in [&["127.0.0.9"][..], &["127.0.0.9", "127.0.0.8"]] {
        assert_eq!(refusal(set_option(&tcp, IPPROTO_IP, IP_OPTIONS, &route(hops))), REFUSED, "{hops:?}");
        let event = running.event();
        assert_eq!((event.hook, event.verdict), (Hook::Setsockopt, Verdict::Blocked));
        assert_eq!(destination(&event), ("127.0.0.9".parse().unwrap(), 0));
        assert_eq!(running.observable(&event), Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 9)));
        assert_eq!(event.task.key.pid, std::process::id());
        running.kernel.take_folds().unwrap();
    }
    // Behind other options, and as a strict route.
    let mut options = vec![1, 1, 148, 4, 0, 0];
    options.extend(route(&["127.0.0.9"]));
    options[6] = 137;
    options.resize(16, 0);
    assert_eq!(refusal(set_option(&tcp, IPPROTO_IP, IP_OPTIONS, &options)), REFUSED);
    let tcp6 = socket(AF_INET6, SOCK_STREAM, 0).unwrap();
    assert_eq!(refusal(set_option(&tcp6, IPPROTO_IPV6, IPV6_RTHDR, &segments(&["2001:db8::9"]))), REFUSED);
    assert_eq!(
        refusal(set_option(&tcp6, IPPROTO_IPV6, IPV6_RTHDR, &segments(&["2001:db8::9", "2001:db8::8"]))),
        REFUSED
    );
}

#[test]
fn any_source_route_is_refused_reported_or_let_pass_as_the_settings_say() {
    let sandbox = Sandbox::new();
    let Some(mut running) =
        start_at_setsockopt(&sandbox, "any_source_route_is_refused_reported_or_let_pass_as_the_settings_say")
    else {
        return;
    };
    let tcp = socket(AF_INET, SOCK_STREAM, 0).unwrap();
    let tcp6 = socket(AF_INET6, SOCK_STREAM, 0).unwrap();
    let set = || {
        let four = set_option(&tcp, IPPROTO_IP, IP_OPTIONS, &route(&["127.0.0.8"]));
        let six = set_option(&tcp6, IPPROTO_IPV6, IPV6_RTHDR, &segments(&["2001:db8::8"]));
        [refusal(four), refusal(six)]
    };
    for (mode, rule, refused, verdict) in [
        (Mode::Enforce, Action::Block, REFUSED, Some(Verdict::Blocked)),
        (Mode::Monitor, Action::Block, None, Some(Verdict::WouldBlock)),
        (Mode::Enforce, Action::Report, None, Some(Verdict::Reported)),
        (Mode::Enforce, Action::Allow, None, None),
    ] {
        running.configure_with(mode, rules(rule, Action::Allow));
        assert_eq!(set(), [refused; 2], "{mode:?} {rule:?}");
        let told: Vec<_> = running.events().iter().map(|event| (behaviour(event), event.hook, event.verdict)).collect();
        let expected = verdict.map(|verdict| (Some(Behaviour::SourceRoute), Hook::Setsockopt, verdict));
        assert_eq!(told, expected.into_iter().cycle().take(2 * usize::from(expected.is_some())).collect::<Vec<_>>());
        running.kernel.take_folds().unwrap();
    }
}

#[test]
fn a_source_route_behind_more_padding_than_is_looked_through_is_refused_all_the_same() {
    let sandbox = Sandbox::new();
    let Some(mut running) = start_at_setsockopt(
        &sandbox,
        "a_source_route_behind_more_padding_than_is_looked_through_is_refused_all_the_same",
    ) else {
        return;
    };
    let mut options = vec![1; 32];
    options.extend(route(&["127.0.0.9"]));
    let tcp = socket(AF_INET, SOCK_STREAM, 0).unwrap();
    assert_eq!(refusal(set_option(&tcp, IPPROTO_IP, IP_OPTIONS, &options)), REFUSED);
    assert_eq!(behaviour(&running.event()), Some(Behaviour::SourceRoute));
    let udp = socket(AF_INET, SOCK_DGRAM, 0).unwrap();
    let to = "127.0.0.8:9".parse().unwrap();
    assert_eq!(refusal(send(&udp, b"x", Some(to), Some((IPPROTO_IP, IP_RETOPTS, &options)))), REFUSED);
    assert!(running.events().iter().all(|event| event.hook == Hook::Egress));
}

#[test]
fn other_options_and_values_longer_than_a_page_are_none_of_its_business() {
    let sandbox = Sandbox::new();
    let Some(mut running) =
        start_at_setsockopt(&sandbox, "other_options_and_values_longer_than_a_page_are_none_of_its_business")
    else {
        return;
    };
    let tcp = socket(AF_INET, SOCK_STREAM, 0).unwrap();
    // Timestamps (RFC 791 §3.1), and the removal of options.
    set_option(&tcp, IPPROTO_IP, IP_OPTIONS, &[68, 8, 5, 0, 0, 0, 0, 0]).unwrap();
    set_option(&tcp, IPPROTO_IP, IP_OPTIONS, &[]).unwrap();
    let tcp6 = socket(AF_INET6, SOCK_STREAM, 0).unwrap();
    set_option(&tcp6, IPPROTO_IPV6, IPV6_RTHDR, &[]).unwrap();
    // IP_MSFILTER (RFC 3678 §4.1) of 1,100 sources: the kernel reads all of it and then says what it says without a hook.
    const IP_MSFILTER: i32 = 41;
    const SOURCES: u32 = 1100;
    let mut filter = [[224, 0, 0, 251], [127, 0, 0, 1], 1_u32.to_ne_bytes(), SOURCES.to_ne_bytes()].concat();
    filter.extend((0..SOURCES).flat_map(|source| (0x0a00_0000 + source).to_be_bytes()));
    assert!(filter.len() > 4096);
    let udp = socket(AF_INET, SOCK_DGRAM, 0).unwrap();
    let answer = set_option(&udp, IPPROTO_IP, IP_MSFILTER, &filter).unwrap_err();
    assert_ne!(answer.raw_os_error(), Some(14), "EFAULT: the program did not let go of the value");
    let listener = TcpListener::bind("127.0.0.8:0").unwrap();
    connect(&tcp, listener.local_addr().unwrap()).unwrap();
    assert!(running.events().is_empty());
}

#[test]
fn raw_sockets_are_refused_reported_or_let_pass_as_the_settings_say() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox);
    for (mode, rule, refused, verdict) in [
        (Mode::Enforce, Action::Block, REFUSED, Some(Verdict::Blocked)),
        (Mode::Monitor, Action::Block, None, Some(Verdict::WouldBlock)),
        (Mode::Enforce, Action::Report, None, Some(Verdict::Reported)),
        (Mode::Enforce, Action::Allow, None, None),
    ] {
        running.configure_with(mode, rules(Action::Allow, rule));
        for (family, protocol) in [(AF_INET, IPPROTO_ICMP), (AF_INET6, IPPROTO_RAW)] {
            assert_eq!(refusal(socket(family, SOCK_RAW, protocol)), refused, "{mode:?} {rule:?} {family}");
            socket(family, SOCK_DGRAM, 0).unwrap();
            let events = running.events();
            assert_eq!(events.len(), usize::from(verdict.is_some()), "{events:?}");
            for event in events {
                assert_eq!(Some(event.verdict), verdict);
                assert_eq!((event.hook, behaviour(&event)), (Hook::SockCreate, Some(Behaviour::RawSocket)));
                let Did::Socket { family: told, protocol: number, socket_type } = event.action else { panic!() };
                assert_eq!((i32::from(told), i32::from(number), socket_type), (family, protocol, 3));
            }
            running.kernel.take_folds().unwrap();
        }
    }
}
