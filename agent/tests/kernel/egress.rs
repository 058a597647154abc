//! Where packets really go, whatever made them.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use agent::event::{Behaviour, Event, Hook, Verdict};
use agent::intel::Observable;
use agent::kernel::SocketRules;
use agent::policy::{Action as Ruled, Inbound};
use agent_common::image::Action;
use agent_common::wire::{Counter, Mode};

use crate::layers::{REFUSED, refusal, route, start};
use crate::sandbox::{Rules, Running, Sandbox, destination};
use crate::sockets::*;

/// An ICMP echo request; the kernel fills nothing in, and nobody has to answer.
const PING: &[u8] = &[8, 0, 0xf7, 0xff, 0, 0, 0, 0];

fn to(address: &str) -> Option<SocketAddr> {
    Some(SocketAddr::new(address.parse().unwrap(), 0))
}

fn judged_at_egress(event: &Event, address: &str, verdict: Verdict) {
    assert_eq!((event.hook, event.verdict), (Hook::Egress, verdict), "{event:?}");
    assert_eq!(destination(event).0, address.parse::<std::net::IpAddr>().unwrap());
}

fn named(event: &Event) {
    assert_eq!(event.task.key.pid, std::process::id());
}

#[test]
fn raw_sockets_are_judged_by_where_each_packet_goes() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox);
    let icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP).unwrap();
    send(&icmp, PING, to("127.0.0.8"), None).unwrap();
    assert_eq!(refusal(send(&icmp, PING, to("127.0.0.9"), None)), REFUSED);
    let event = running.event();
    judged_at_egress(&event, "127.0.0.9", Verdict::Blocked);
    named(&event);
    assert_eq!(running.observable(&event), Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 9)));
    // Each refused datagram is a hit, also of a connected socket.
    connect(&icmp, to("127.0.0.9").unwrap()).unwrap();
    assert_eq!(refusal(send(&icmp, PING, None, None)), REFUSED);
    assert_eq!((running.counted(1), running.events().len()), (2, 0));
    let raw6 = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW).unwrap();
    assert_ne!(refusal(send(&raw6, PING, to("2001:db8::9"), None)), None, "no route leads there");
}

#[test]
fn a_header_of_the_programs_own_making_is_read_and_not_believed_to_go_where_the_call_says() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox);
    let raw = socket(AF_INET, SOCK_RAW, IPPROTO_RAW).unwrap();
    let packet = |destination: [u8; 4]| {
        let mut packet = vec![0x45, 0, 0, 28, 0, 1, 0, 0, 64, 1, 0, 0, 127, 0, 0, 1];
        packet.extend(destination);
        packet.extend(PING);
        packet
    };
    send(&raw, &packet([127, 0, 0, 8]), to("127.0.0.8"), None).unwrap();
    assert_eq!(refusal(send(&raw, &packet([127, 0, 0, 9]), to("127.0.0.8"), None)), REFUSED);
    judged_at_egress(&running.event(), "127.0.0.9", Verdict::Blocked);
}

#[test]
fn a_source_route_that_comes_with_one_datagram_is_judged_by_its_first_hop_and_by_the_settings() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox);
    let receiver = UdpSocket::bind("127.0.0.8:0").unwrap();
    let udp = socket(AF_INET, SOCK_DGRAM, 0).unwrap();
    let with = |hop: &str| {
        let route = route(&[hop]);
        send(&udp, b"x", Some(receiver.local_addr().unwrap()), Some((IPPROTO_IP, IP_RETOPTS, &route)))
    };
    running.configure_with(Mode::Enforce, SocketRules { source_routes: Action::Allow, ..SocketRules::default() });
    assert_eq!(refusal(with("127.0.0.9")), REFUSED);
    let event = running.event();
    judged_at_egress(&event, "127.0.0.9", Verdict::Blocked);
    named(&event);
    assert_eq!(refusal(with("127.0.0.7")), None);
    assert!(running.events().is_empty());
    running.configure_with(Mode::Enforce, SocketRules::default());
    assert_eq!(refusal(with("127.0.0.7")), REFUSED);
    assert_eq!(running.event().matched.unwrap().behaviour(), Some(Behaviour::SourceRoute));
    assert_eq!(refusal(send(&udp, b"x", Some(receiver.local_addr().unwrap()), None)), None);
}

fn pair(address: &str) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind(address).unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn arrives(near: &mut TcpStream, far: &mut TcpStream) -> bool {
    near.write_all(b"x").unwrap();
    far.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    match far.read(&mut [0]) {
        Ok(count) => count == 1,
        Err(error) => {
            assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}");
            false
        }
    }
}

#[test]
fn a_flow_that_is_older_than_the_indicator_stops_and_counts_once() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox);
    let (mut near, mut far) = pair("127.0.0.10:0");
    assert!(arrives(&mut near, &mut far));
    running.publish(2, Rules::default().block_ip("127.0.0.10"));
    assert!(!arrives(&mut near, &mut far));
    assert!(!arrives(&mut near, &mut far));
    let event = running.event();
    judged_at_egress(&event, "127.0.0.10", Verdict::Blocked);
    named(&event);
    assert_eq!(running.counted(2), 1, "what TCP sends again is no new hit");
    running.publish(3, Rules::default());
    assert!(arrives(&mut near, &mut far), "what was held back arrives");
}

#[test]
fn a_flow_that_is_older_than_the_agent_stops_and_nobody_is_named_for_it() {
    let sandbox = Sandbox::new();
    let (mut near, mut far) = pair("127.0.0.9:0");
    let mut running = start(&sandbox);
    assert!(!arrives(&mut near, &mut far));
    let event = running.event();
    judged_at_egress(&event, "127.0.0.9", Verdict::Blocked);
    assert_eq!((event.task.key.pid, event.task.comm.as_str()), (0, ""));
}

#[test]
fn what_connect_and_sendmsg_have_told_is_not_told_again() {
    let sandbox = Sandbox::new();
    let rules = || {
        let address = Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 11));
        Rules::default().block_ip("127.0.0.9").add(address, Ruled::Report, None)
    };
    let mut running = sandbox.start(Mode::Enforce, rules());
    let (mut near, mut far) = pair("127.0.0.11:0");
    for _ in 0..3 {
        assert!(arrives(&mut near, &mut far));
    }
    let event = running.event();
    assert_eq!((event.hook, event.verdict, running.counted(1)), (Hook::Connect4, Verdict::Reported, 1));
    let receiver = UdpSocket::bind("127.0.0.11:0").unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..3 {
        udp.send_to(b"x", receiver.local_addr().unwrap()).unwrap();
    }
    assert_eq!((running.event().hook, running.counted(1)), (Hook::Sendmsg4, 4));
    running.configure(Mode::Monitor);
    let (mut near, mut far) = pair("127.0.0.9:0");
    assert!(arrives(&mut near, &mut far));
    assert_eq!((running.event().hook, running.counted(1)), (Hook::Connect4, 5));
    running.configure(Mode::Enforce);
    assert!(!arrives(&mut near, &mut far), "what monitor mode let pass");
    assert_eq!((running.event().hook, running.counted(1)), (Hook::Egress, 6));
}

#[test]
fn a_server_answers_whoever_connects_to_it() {
    let sandbox = Sandbox::new();
    let address = Observable::Ipv4(Ipv4Addr::new(127, 0, 0, 12));
    let rules = Rules::default().add_with(address, Ruled::Block, Inbound::Ignore, None);
    let mut running = sandbox.start(Mode::Enforce, rules);
    let listener = TcpListener::bind("127.0.0.8:0").unwrap();
    // A client outside of the cgroup, at the listed address.
    let mut client = client_outside(&sandbox, "127.0.0.12", listener.local_addr().unwrap());
    let (mut served, from) = listener.accept().unwrap();
    assert_eq!(from.ip(), Ipv4Addr::new(127, 0, 0, 12));
    assert!(arrives(&mut served, &mut client));
    assert!(running.events().is_empty());
}

/// A connection made where no hook sees it, and handed over.
fn client_outside(sandbox: &Sandbox, from: &str, to: SocketAddr) -> TcpStream {
    sandbox.outside(|| {
        let tcp = socket(AF_INET, SOCK_STREAM, 0).unwrap();
        bind(&tcp, SocketAddr::new(from.parse().unwrap(), 0)).unwrap();
        connect(&tcp, to).unwrap();
        TcpStream::from(tcp)
    })
}

#[test]
fn a_socket_from_elsewhere_is_nobodys_business() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox);
    let listener = TcpListener::bind("127.0.0.9:0").unwrap();
    let client = client_outside(&sandbox, "127.0.0.1", listener.local_addr().unwrap());
    drop((listener.accept().unwrap(), client));
    assert!(running.events().is_empty());
    assert_eq!(running.kernel.counters().unwrap().get(Counter::NetworkJudged), 0);
}

#[test]
fn without_the_egress_hook_nothing_of_it_is_there() {
    let sandbox = Sandbox::new();
    let mut running: Running = sandbox.load_with(|options| options.layers.egress = false);
    running.configure(Mode::Enforce);
    running.publish(1, Rules::default().block_ip("127.0.0.9"));
    running.attach();
    assert!(!running.report.is_attached(Hook::Egress));
    let icmp = socket(AF_INET, SOCK_RAW, IPPROTO_ICMP).unwrap();
    let sent: io::Result<usize> = send(&icmp, PING, to("127.0.0.9"), None);
    assert_eq!((refusal(sent), running.events().len()), (None, 0));
}
