//! A name that a process asked for or spoke to, and the settings by which it is found in a packet.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::{NAME_LEN, NAME_PORTS};
use crate::wire::Header;

/// How the name of a [`DomainRecord`] is written.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameForm {
    /// As in a DNS message: labels with their lengths, and perhaps a pointer, at which the record ends (RFC 1035 §4.1.4).
    Labels = 1,
    /// As text.
    Text = 2,
}

impl NameForm {
    /// The form that `value` stands for, or `None` for a value of another ABI version.
    #[must_use]
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Labels),
            2 => Some(Self::Text),
            _ => None,
        }
    }
}

/// A packet with a name that an indicator matched.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct DomainRecord {
    /// Common part; `kind` is [`crate::wire::RecordKind::Domain`]. A process whose `pid` is 0 is unknown: the packet was not
    /// sent from within a system call of whoever owns its socket.
    pub header: Header,
    /// Where the packet goes: an IPv6 address in network order, or an IPv4 address as `::ffff:a.b.c.d`.
    pub address: [u8; 16],
    /// Destination port, host order.
    pub port: u16,
    /// `AF_INET` (2) or `AF_INET6` (10).
    pub family: u16,
    /// IP protocol number (6 TCP, 17 UDP, 136 UDP-Lite).
    pub protocol: u16,
    /// Type of a DNS question (RFC 1035 §3.2.2); 0 otherwise.
    pub query_type: u16,
    /// A [`NameForm`].
    pub form: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// Octets used of `name`.
    pub name_len: u16,
    /// As it was written.
    pub name: [u8; NAME_LEN],
}

/// The one element of the `NAME_CONFIG` array. A port of 0 stands for none.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct NameConfig {
    /// Where DNS questions are looked for.
    pub dns_ports: [u16; NAME_PORTS],
    /// Where a TLS ClientHello is looked for; none for everywhere.
    pub tls_ports: [u16; NAME_PORTS],
    /// Where HTTP requests are looked for.
    pub http_ports: [u16; NAME_PORTS],
}
