//! Who connects to this host.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::Duration;

use agent::event::{Action as Did, Event, Hook, Verdict};
use agent::intel::Observable;
use agent::policy::{Action, Inbound};
use agent_common::wire::Mode;

use crate::sandbox::{Rules, Running, Sandbox, destination};
use crate::sockets::*;

const CLIENT: &str = "127.0.0.12";

fn listed(inbound: Inbound) -> Rules {
    Rules::default().add_with(Observable::Ipv4(CLIENT.parse().unwrap()), Action::Block, inbound, None)
}

fn start(sandbox: &Sandbox, mode: Mode, inbound: Inbound) -> Running {
    let running = sandbox.start(mode, listed(inbound));
    assert!(running.report.is_attached(Hook::Ingress), "{:?}", running.report.state(Hook::Ingress));
    running
}

/// Connects from the listed address, where no hook sees it; whether the server answers within a moment.
fn connects(sandbox: &Sandbox, to: SocketAddr) -> Option<TcpStream> {
    sandbox.outside(|| {
        let tcp = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0).unwrap();
        bind(&tcp, SocketAddr::new(CLIENT.parse().unwrap(), 0)).unwrap();
        assert_eq!(connect(&tcp, to).err().and_then(|error| error.raw_os_error()), Some(EINPROGRESS));
        let stream = TcpStream::from(tcp);
        for _ in 0..30 {
            if stream.peer_addr().is_ok() {
                return Some(stream);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    })
}

fn arrived(event: &Event, verdict: Verdict, at: SocketAddr, protocol: i32) {
    assert_eq!((event.hook, event.verdict), (Hook::Ingress, verdict), "{event:?}");
    assert_eq!(destination(event).0, CLIENT.parse::<Ipv4Addr>().unwrap());
    let Did::Network { port, local_port, protocol: told, .. } = event.action else { panic!("{event:?}") };
    assert!(port != 0 && local_port == at.port() && i32::from(told) == protocol, "{event:?}");
    assert_eq!(event.task.key.pid, std::process::id());
}

#[test]
fn a_connection_from_a_listed_address_is_blocked_reported_or_let_pass_as_its_source_says() {
    let sandbox = Sandbox::new();
    for (mode, inbound, verdict) in [
        (Mode::Enforce, Inbound::Block, Some(Verdict::Blocked)),
        (Mode::Monitor, Inbound::Block, Some(Verdict::WouldBlock)),
        (Mode::Enforce, Inbound::Report, Some(Verdict::Reported)),
        (Mode::Enforce, Inbound::Ignore, None),
    ] {
        let mut running = start(&sandbox, mode, inbound);
        let listener = TcpListener::bind("127.0.0.8:0").unwrap();
        let at = listener.local_addr().unwrap();
        let stream = connects(&sandbox, at);
        assert_eq!(stream.is_some(), verdict != Some(Verdict::Blocked), "{mode:?} {inbound:?}");
        if let Some(mut stream) = stream {
            let (mut served, from) = listener.accept().unwrap();
            assert_eq!(from.ip(), CLIENT.parse::<Ipv4Addr>().unwrap());
            // What the server answers is part of what the other end began.
            served.write_all(b"welcome").unwrap();
            stream.set_nonblocking(false).unwrap();
            stream.read_exact(&mut [0; 7]).unwrap();
        } else {
            listener.set_nonblocking(true).unwrap();
            assert_eq!(listener.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
        }
        let events = running.events();
        assert_eq!(events.len(), usize::from(verdict.is_some()), "{events:?}");
        if let (Some(event), Some(verdict)) = (events.first(), verdict) {
            arrived(event, verdict, at, IPPROTO_TCP);
        }
        drop((running, listener));
        agent::kernel::unpin_all(&sandbox.pins).unwrap();
    }
}

#[test]
fn another_client_of_the_same_server_is_served() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox, Mode::Enforce, Inbound::Block);
    let listener = TcpListener::bind("127.0.0.8:0").unwrap();
    let at = listener.local_addr().unwrap();
    assert!(connects(&sandbox, at).is_none());
    let other = sandbox.outside(|| TcpStream::connect(at).unwrap());
    drop((listener.accept().unwrap(), other));
    assert!(running.events().len() == 1);
}

#[test]
fn datagrams_from_a_listed_address_are_judged_and_answers_are_not() {
    let sandbox = Sandbox::new();
    let mut running = start(&sandbox, Mode::Enforce, Inbound::Block);
    let server = UdpSocket::bind("127.0.0.8:0").unwrap();
    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let at = server.local_addr().unwrap();
    let outside = sandbox.outside(|| UdpSocket::bind((CLIENT, 0)).unwrap());
    let send_outside = |to: SocketAddr| sandbox.outside(|| outside.send_to(b"x", to).unwrap());
    send_outside(at);
    assert!(server.recv_from(&mut [0]).is_err());
    arrived(&running.event(), Verdict::Blocked, at, IPPROTO_UDP);
    // In monitor mode the answer to what was sent there is part of that.
    running.configure(Mode::Monitor);
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    client.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    client.send_to(b"x", outside.local_addr().unwrap()).unwrap();
    assert_eq!(running.event().hook, Hook::Sendmsg4);
    send_outside(client.local_addr().unwrap());
    client.recv_from(&mut [0]).unwrap();
    assert!(running.events().is_empty());
}

#[test]
fn an_endpoint_is_where_one_connects_to_and_not_where_one_comes_from() {
    let sandbox = Sandbox::new();
    let rules = Rules::default().block(Observable::Endpoint(CLIENT.parse().unwrap(), 4444));
    let mut running = sandbox.start(Mode::Enforce, rules);
    let listener = TcpListener::bind("127.0.0.8:0").unwrap();
    assert!(connects(&sandbox, listener.local_addr().unwrap()).is_some());
    assert!(running.events().is_empty());
}
