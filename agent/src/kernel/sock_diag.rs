//! Open flows by NETLINK_SOCK_DIAG (sock_diag(7)): which there are in a network namespace, and closing one of them.

use std::collections::HashSet;
use std::io;
use std::net::SocketAddr;
use std::os::fd::BorrowedFd;
use std::thread;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload, Nla as _,
};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, InetResponseHeader, SocketId, StateFlags, Timer,
};
use netlink_packet_sock_diag::{
    AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP, SOCK_DESTROY, SOCK_DIAG_BY_FAMILY, SockDiagMessage, TCP_SYN_RECV,
};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// `INET_DIAG_CGROUP_ID` of include/uapi/linux/inet_diag.h, which Linux has since 5.9.
const CGROUP_ID: u16 = 21;
/// More than the kernel puts into one answer (`netlink_dump`: 32 KiB).
const ANSWER_BYTES: usize = 64 << 10;

/// Of which protocol flows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Transport {
    /// TCP, whatever its state but listening, closed and `TIME_WAIT`.
    Tcp,
    /// UDP that is connected.
    Udp,
}

impl Transport {
    /// All of them.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// IP protocol number.
    #[must_use]
    pub const fn protocol(self) -> u8 {
        match self {
            Self::Tcp => IPPROTO_TCP,
            Self::Udp => IPPROTO_UDP,
        }
    }

    /// `SOCK_STREAM` or `SOCK_DGRAM`.
    #[must_use]
    pub const fn socket_type(self) -> u16 {
        match self {
            Self::Tcp => libc::SOCK_STREAM as u16,
            Self::Udp => libc::SOCK_DGRAM as u16,
        }
    }

    /// As people call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
        }
    }

    fn open_states(self) -> StateFlags {
        match self {
            Self::Tcp => StateFlags::all() - StateFlags::LISTEN - StateFlags::TIME_WAIT - StateFlags::CLOSE,
            Self::Udp => StateFlags::ESTABLISHED,
        }
    }
}

/// A socket that has another end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Protocol.
    pub transport: Transport,
    /// What `SO_COOKIE` of the socket says: no other socket of its network namespace has or had it.
    pub cookie: u64,
    /// Inode of the socket's descriptors; `None` where no process holds one.
    pub inode: Option<u64>,
    /// cgroup2 id of the socket, by which the cgroup hooks are called; `None` where the kernel does not say.
    pub cgroup: Option<u64>,
    /// The other end has begun it and no program has accepted it yet.
    pub is_half_open: bool,
    family: u8,
    id: SocketId,
}

impl Flow {
    /// The other end; of an `AF_INET6` socket that speaks IPv4, in the mapped form.
    #[must_use]
    pub fn remote(&self) -> SocketAddr {
        SocketAddr::new(self.id.destination_address, self.id.destination_port)
    }

    /// This end's port.
    #[must_use]
    pub fn local_port(&self) -> u16 {
        self.id.source_port
    }

    /// `None` for what is left of a closed connection.
    fn of(transport: Transport, response: &InetResponse) -> Option<Self> {
        let InetResponseHeader { family, state, timer, socket_id, inode, .. } = &response.header;
        // A connection in TIME_WAIT says that it is in FIN_WAIT2 while it waits for the other end's FIN.
        if *timer == Some(Timer::TimeWait) {
            return None;
        }
        let [a, b, c, d, e, f, g, h] = socket_id.cookie;
        // Two words, the lower one first, each in host order (`sock_diag_save_cookie`).
        let [low, high] = [[a, b, c, d], [e, f, g, h]].map(|word| u64::from(u32::from_ne_bytes(word)));
        Some(Self {
            transport,
            cookie: high << 32 | low,
            inode: (*inode != 0).then_some(u64::from(*inode)),
            cgroup: response.nlas.iter().find_map(cgroup_id),
            is_half_open: *state == TCP_SYN_RECV,
            family: *family,
            id: socket_id.clone(),
        })
    }
}

fn cgroup_id(attribute: &Nla) -> Option<u64> {
    let Nla::Other(other) = attribute else { return None };
    let mut bytes = [0; 8];
    if other.kind() != CGROUP_ID || other.value_len() != bytes.len() {
        return None;
    }
    other.emit_value(&mut bytes);
    Some(u64::from_ne_bytes(bytes))
}

/// Asks about the sockets of one network namespace.
pub struct SockDiag(Socket);

impl SockDiag {
    /// Of the calling thread's network namespace.
    ///
    /// # Errors
    /// The kernel has no such netlink protocol, or allows no such socket.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddress::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Of the network namespace that `namespace` is a descriptor of. A thread of its own goes there and ends: what it opens stays.
    ///
    /// # Errors
    /// As [`SockDiag::open`]; `EPERM` without `CAP_SYS_ADMIN`.
    pub fn open_in(namespace: BorrowedFd<'_>) -> io::Result<Self> {
        let enter_and_open = || {
            move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
            Self::open()
        };
        thread::scope(|scope| {
            let visitor = thread::Builder::new().name("netns".to_owned()).spawn_scoped(scope, enter_and_open)?;
            visitor.join().unwrap_or_else(|_| Err(io::Error::other("the thread that entered it died")))
        })
    }

    /// Gives every open flow to `each`, one after the other as the kernel tells them: however many there are, none is kept here.
    ///
    /// # Errors
    /// `Unsupported` where the kernel lacks the protocol's part (`CONFIG_INET_TCP_DIAG`, `CONFIG_INET_UDP_DIAG`); an answer that
    /// cannot be read. After an error this asks no more.
    pub fn flows(&self, transport: Transport, mut each: impl FnMut(Flow)) -> io::Result<()> {
        self.dump(transport.protocol(), transport.open_states(), |response| {
            if let Some(flow) = Flow::of(transport, response) {
                each(flow);
            }
        })
    }

    /// The local ports that TCP listens at.
    ///
    /// # Errors
    /// As [`SockDiag::flows`].
    pub fn listening_ports(&self) -> io::Result<HashSet<u16>> {
        let mut ports = HashSet::new();
        self.dump(IPPROTO_TCP, StateFlags::LISTEN, |response| {
            ports.insert(response.header.socket_id.source_port);
        })?;
        Ok(ports)
    }

    /// Closes a flow (`SOCK_DESTROY`): its program gets `ECONNABORTED`, and TCP resets the connection.
    ///
    /// # Errors
    /// `ENOENT` when it is closed already; `EOPNOTSUPP` when the kernel lacks `CONFIG_INET_DIAG_DESTROY`; `EPERM` without
    /// `CAP_NET_ADMIN`.
    pub fn destroy(&self, flow: &Flow) -> io::Result<()> {
        let request = request(flow.family, flow.transport.protocol(), StateFlags::all(), flow.id.clone());
        self.send(request, NLM_F_REQUEST | NLM_F_ACK, SOCK_DESTROY)?;
        self.receive(&mut Vec::with_capacity(ANSWER_BYTES), |_| {}).map(drop)
    }

    fn dump(&self, protocol: u8, states: StateFlags, mut each: impl FnMut(&InetResponse)) -> io::Result<()> {
        let mut buffer = Vec::with_capacity(ANSWER_BYTES);
        for (family, any) in [(AF_INET, SocketId::new_v4()), (AF_INET6, SocketId::new_v6())] {
            let request = request(family, protocol, states.clone(), any);
            self.send(request, NLM_F_REQUEST | NLM_F_DUMP, SOCK_DIAG_BY_FAMILY)?;
            while !self.receive(&mut buffer, &mut each).map_err(|error| without_handler(protocol, error))? {}
        }
        Ok(())
    }

    fn send(&self, request: InetRequest, flags: u16, message_type: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(SockDiagMessage::InetRequest(request)));
        message.finalize();
        // The library knows one type for all requests.
        message.header.message_type = message_type;
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0).map(drop)
    }

    /// Reads one answer of the kernel's, which holds many messages; whether it is the last to a request.
    fn receive(&self, buffer: &mut Vec<u8>, mut each: impl FnMut(&InetResponse)) -> io::Result<bool> {
        buffer.clear();
        self.0.recv(buffer, 0)?;
        let mut rest = buffer.as_slice();
        while !rest.is_empty() {
            let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
            match message.payload {
                NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => each(&response),
                NetlinkPayload::Done(done) if done.code < 0 => return Err(io::Error::from_raw_os_error(-done.code)),
                NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(true),
                _ => {}
            }
            rest = rest.get((message.header.length as usize).next_multiple_of(4)..).unwrap_or_default();
        }
        Ok(false)
    }
}

/// What `ENOENT` to a request for a list means.
fn without_handler(protocol: u8, error: io::Error) -> io::Error {
    if error.raw_os_error() != Some(libc::ENOENT) {
        return error;
    }
    let module = if protocol == IPPROTO_TCP { "tcp_diag" } else { "udp_diag" };
    io::Error::new(io::ErrorKind::Unsupported, format!("this kernel has no {module}, nor a module of it to load"))
}

fn request(family: u8, protocol: u8, states: StateFlags, socket_id: SocketId) -> InetRequest {
    InetRequest { family, protocol, extensions: ExtensionFlags::empty(), states, socket_id }
}

/// Whether this kernel closes flows for this process: a connection that does not exist is asked for.
///
/// # Errors
/// The kernel's, see [`SockDiag::destroy`].
pub fn probe() -> io::Result<()> {
    let diag = SockDiag::open()?;
    // Loads the module where it is one; without it the answer below would be the same as that it closes flows.
    diag.listening_ports()?;
    let nowhere = SocketId { cookie: [0xff; 8], ..SocketId::new_v4() };
    let request = request(AF_INET, IPPROTO_TCP, StateFlags::all(), nowhere);
    diag.send(request, NLM_F_REQUEST | NLM_F_ACK, SOCK_DESTROY)?;
    match diag.receive(&mut Vec::with_capacity(ANSWER_BYTES), |_| {}) {
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(()),
        answer => answer.map(drop),
    }
}

#[cfg(test)]
mod tests;
