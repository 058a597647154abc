use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};

use rustix::net::sockopt::socket_cookie;

use super::*;

/// The open flow of a socket, if it is found.
fn flow_of(transport: Transport, socket: &impl AsFd) -> Option<Flow> {
    let cookie = socket_cookie(socket).unwrap();
    let mut found = None;
    SockDiag::open()
        .unwrap()
        .flows(transport, |flow| {
            if flow.cookie == cookie {
                found = Some(flow)
            }
        })
        .unwrap();
    found
}

#[test]
fn both_ends_of_a_connection_are_found_and_the_listener_is_a_port() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let Ok(listener) = TcpListener::bind(address) else {
            println!("NOT RUN both_ends_of_a_connection_are_found: no {address} here");
            continue;
        };
        let here = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (there, _) = listener.accept().unwrap();
        let (flow, other) = (flow_of(Transport::Tcp, &here).unwrap(), flow_of(Transport::Tcp, &there).unwrap());
        assert_eq!((flow.remote(), other.remote()), (here.peer_addr().unwrap(), there.peer_addr().unwrap()));
        assert_eq!(flow.local_port(), here.local_addr().unwrap().port());
        let link = std::fs::read_link(format!("/proc/self/fd/{}", here.as_raw_fd())).unwrap();
        assert_eq!(link.to_str().unwrap(), format!("socket:[{}]", flow.inode.unwrap()));
        assert!(!flow.is_half_open);
        assert_eq!(flow_of(Transport::Tcp, &listener), None, "who listens has no other end");
        let ports = SockDiag::open().unwrap().listening_ports().unwrap();
        assert!(ports.contains(&listener.local_addr().unwrap().port()) && !ports.contains(&flow.local_port()));
    }
}

#[test]
fn udp_is_a_flow_when_it_is_connected() {
    let [socket, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    assert_eq!(flow_of(Transport::Udp, &socket), None);
    socket.connect(other.local_addr().unwrap()).unwrap();
    assert_eq!(flow_of(Transport::Udp, &socket).unwrap().remote(), other.local_addr().unwrap());
}

#[test]
fn a_flow_that_is_closed_is_gone_for_its_program_and_the_one_beside_it_is_not() {
    if let Err(error) = probe() {
        println!("NOT RUN a_flow_that_is_closed_is_gone_for_its_program: this kernel closes none: {error}");
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connect = || TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (mut here, beside) = (connect(), connect());
    let flow = flow_of(Transport::Tcp, &here).unwrap();
    let diag = SockDiag::open().unwrap();
    diag.destroy(&flow).unwrap();
    assert_eq!(here.read(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
    assert!(flow_of(Transport::Tcp, &beside).is_some());
    assert_eq!(diag.destroy(&flow).unwrap_err().raw_os_error(), Some(libc::ENOENT), "it is closed already");

    let [socket, other] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    socket.connect(other.local_addr().unwrap()).unwrap();
    diag.destroy(&flow_of(Transport::Udp, &socket).unwrap()).unwrap();
    assert_eq!(socket.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionAborted);
}
