//! Ways to ask for a name, or to send one.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::sleep;
use std::time::Duration;

/// How long what is sent over loopback may take to arrive.
const PATIENCE: Duration = Duration::from_secs(1);
/// Long enough for two writes to be two segments, and short enough for the second to find the first if that was held back.
const PAUSE: Duration = Duration::from_millis(20);

const DNS: u16 = 53;
const HTTPS: u16 = 443;
const HTTP: u16 = 80;

/// What is to be asked for.
#[derive(Clone, Debug)]
pub struct Name {
    /// The name, listed or not.
    pub name: String,
    /// A name that nobody listed.
    pub elsewhere: String,
}

/// The labels of a name with their lengths, and the root (RFC 1035 §3.1).
fn labels(name: &str) -> Vec<u8> {
    let labels = name.split('.').flat_map(|label| [&[label.len() as u8], label.as_bytes()].concat());
    labels.chain([0]).collect()
}

/// A query of class IN for the address of each name (RFC 1035 §4.1).
fn query(names: &[&str]) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, names.len() as u8, 0, 0, 0, 0, 0, 0];
    for name in names {
        message.extend(labels(name));
        message.extend([0, 1, 0, 1]);
    }
    message
}

/// Content behind its length in 16 bits.
fn framed(content: &[u8]) -> Vec<u8> {
    [&(content.len() as u16).to_be_bytes(), content].concat()
}

/// A ClientHello with a server name and nothing else (RFC 8446 §4.1.2, RFC 6066 §3).
fn hello(name: &str) -> Vec<u8> {
    let server_name = framed(&[&[0], framed(name.as_bytes()).as_slice()].concat());
    let extensions = framed(&[&[0, 0], framed(&server_name).as_slice()].concat());
    let head = [&[3, 3][..], &[0x5a; 32], &[0, 0, 2, 0x13, 1, 1, 0]].concat();
    let handshake = [&[1, 0], framed(&[head, extensions].concat()).as_slice()].concat();
    [&[22, 3, 1], framed(&handshake).as_slice()].concat()
}

/// Asks a resolver, which need not be there.
fn ask(resolver: SocketAddr, message: &[u8]) -> io::Result<()> {
    let from = if resolver.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
    UdpSocket::bind(from)?.send_to(message, resolver).map(drop)
}

/// A connection to a server that waits for [`PATIENCE`], and on which nothing is sent late.
fn connected(port: u16) -> io::Result<(TcpStream, TcpStream)> {
    let listener = TcpListener::bind(("127.0.0.1", port)).map_err(io::Error::other)?;
    let near = TcpStream::connect(listener.local_addr()?)?;
    near.set_nodelay(true)?;
    let (far, _) = listener.accept()?;
    far.set_read_timeout(Some(PATIENCE))?;
    Ok((near, far))
}

/// Writes the parts, each in a segment, to a server; fails when they do not all arrive.
fn stream(port: u16, parts: &[&[u8]]) -> io::Result<()> {
    let (mut near, mut far) = connected(port)?;
    for part in parts {
        near.write_all(part)?;
        sleep(PAUSE);
    }
    far.read_exact(&mut vec![0; parts.concat().len()])
}

fn resolver() -> SocketAddr {
    ([127, 0, 0, 1], DNS).into()
}

pub(super) fn question(name: &Name) -> io::Result<()> {
    ask(resolver(), &query(&[&name.name]))
}

pub(super) fn question_ipv6(name: &Name) -> io::Result<()> {
    ask((Ipv6Addr::LOCALHOST, DNS).into(), &query(&[&name.name]))
}

pub(super) fn question_below(name: &Name) -> io::Result<()> {
    ask(resolver(), &query(&[&format!("wWw.{}", name.name.to_ascii_uppercase())]))
}

pub(super) fn second_question(name: &Name) -> io::Result<()> {
    ask(resolver(), &query(&[&name.elsewhere, &name.name]))
}

pub(super) fn question_tcp(name: &Name) -> io::Result<()> {
    stream(DNS, &[&framed(&query(&[&name.name]))])
}

pub(super) fn question_tcp_apart(name: &Name) -> io::Result<()> {
    let message = framed(&query(&[&name.name]));
    let (length, rest) = message.split_at(2);
    stream(DNS, &[length, rest])
}

/// Asks for a name that nobody listed, and is told that it stands for this one.
pub(super) fn alias(name: &Name) -> io::Result<()> {
    let server = UdpSocket::bind(resolver()).map_err(io::Error::other)?;
    let client = UdpSocket::bind("127.0.0.1:0").map_err(io::Error::other)?;
    client.set_read_timeout(Some(PATIENCE))?;
    client.send_to(&query(&[&name.elsewhere]), resolver()).map_err(io::Error::other)?;
    let mut response = query(&[&name.elsewhere]);
    // A response with one record: the question's name, CNAME, IN, a minute (RFC 1035 §4.1).
    if let [_, _, flags, _, _, _, _, answers, ..] = &mut response[..] {
        *flags |= 0x80;
        *answers = 1;
    }
    response.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 60]);
    response.extend(framed(&labels(&name.name)));
    server.send_to(&response, client.local_addr()?).map_err(io::Error::other)?;
    client.recv(&mut [0; 512]).map(drop)
}

pub(super) fn server_name(name: &Name) -> io::Result<()> {
    stream(HTTPS, &[&hello(&name.name)])
}

pub(super) fn server_name_split(name: &Name) -> io::Result<()> {
    let hello = hello(&name.name);
    let (start, end) = hello.split_at(hello.len() - name.name.len() / 2);
    stream(HTTPS, &[start, end])
}

/// Writes the end only when the start has arrived.
pub(super) fn server_name_slow(name: &Name) -> io::Result<()> {
    let hello = hello(&name.name);
    let (mut near, mut far) = connected(HTTPS)?;
    let (start, end) = hello.split_at(hello.len() - name.name.len() / 2);
    for part in [start, end] {
        near.write_all(part)?;
        far.read_exact(&mut vec![0; part.len()])?;
    }
    Ok(())
}

fn request(name: &Name) -> String {
    format!("GET / HTTP/1.1\r\nAccept: */*\r\nHost: {}\r\n\r\n", name.name)
}

pub(super) fn host(name: &Name) -> io::Result<()> {
    stream(HTTP, &[request(name).as_bytes()])
}

pub(super) fn host_by_octets(name: &Name) -> io::Result<()> {
    stream(HTTP, &request(name).as_bytes().chunks(1).collect::<Vec<_>>())
}
