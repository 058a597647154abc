//! A connect or a send that an indicator matched.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::wire::Header;

/// A connect or a send that an indicator matched.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NetworkRecord {
    /// Common part; `kind` is [`crate::wire::RecordKind::Network`].
    pub header: Header,
    /// The destination as the program gave it: an IPv6 address in network order, or an IPv4 address as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// Destination port, host order.
    pub port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10): the family the hook was called for.
    pub family: u16,
    /// IP protocol number of the socket (6 TCP, 17 UDP, 136 UDP-Lite, 262 MPTCP).
    pub protocol: u16,
    /// `SOCK_STREAM` (1), `SOCK_DGRAM` (2), `SOCK_RAW` (3).
    pub socket_type: u16,
    /// Of what arrives, the port that it arrives at, host order; `address` and `port` are then the other end's. 0 for what leaves.
    pub local_port: u16,
    /// Zero.
    pub reserved: [u8; 6],
}
