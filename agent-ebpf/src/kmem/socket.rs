//! Sockets and the addresses that calls name, as LSM hooks see them.

use agent_common::canon::mapped;
use agent_common::wire::Config;

use super::{Address, MISSING, offsets};

offsets! {
    OFF_SOCKET_SK: "`socket.sk`",
    OFF_SOCK_FAMILY: "`sock_common.skc_family`, which `sock` begins with",
    OFF_SOCK_TYPE: "`sock.sk_type`",
    OFF_SOCK_PROTOCOL: "`sock.sk_protocol`",
    OFF_SOCK_CGROUP: "`sock.sk_cgrp_data`",
    OFF_CGROUP_POINTER: "`sock_cgroup_data.cgroup`; a plain pointer since 5.15",
    OFF_CGROUP_ANCESTORS: "`cgroup.ancestors`, by level; since 6.1",
    OFF_CGROUP_NODE: "`cgroup.kn`",
    OFF_NODE_ID: "`kernfs_node.id`",
    OFF_MSG_NAME: "`msghdr.msg_name`",
}

/// Levels that cgroup namespaces may hide: containers in containers are a dozen deep.
const DEPTH_MAX: u64 = 32;
const AF_UNSPEC: u16 = 0;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;

/// What a socket is.
#[derive(Clone, Copy)]
pub struct Kind {
    pub family: u16,
    pub socket_type: u16,
    pub protocol: u16,
}

/// What the `sock` at an address is.
#[inline(always)]
pub fn kind(sock: Address) -> Kind {
    Kind {
        family: sock.value(&OFF_SOCK_FAMILY),
        socket_type: sock.value(&OFF_SOCK_TYPE),
        protocol: sock.value(&OFF_SOCK_PROTOCOL),
    }
}

/// Whether the cgroup of a socket is the hooked one or below it, so that cgroup hooks see what the socket does. Where this
/// kernel does not let it be told, it counts as seen.
#[inline(always)]
pub fn is_hooked(sock: Address, config: &Config) -> bool {
    if config.scope_cgroup_id == 0 || OFF_CGROUP_ANCESTORS.load() == MISSING || OFF_CGROUP_POINTER.load() == MISSING {
        return true;
    }
    let cgroup = sock.field(&OFF_SOCK_CGROUP).follow(&OFF_CGROUP_POINTER);
    let ancestors = cgroup.field(&OFF_CGROUP_ANCESTORS);
    for below in 0..DEPTH_MAX {
        let ancestor = Address::new(ancestors.plus((u64::from(config.scope_level) + below) * 8).read());
        let id: u64 = ancestor.follow(&OFF_CGROUP_NODE).value(&OFF_NODE_ID);
        if id == config.scope_cgroup_id {
            return true;
        }
        if id == 0 {
            return false;
        }
    }
    false
}

/// The address in a `sockaddr` (its family, the halves, the port), for a socket of a family; the family is 0 where it is
/// neither IPv4 nor IPv6.
#[inline(always)]
pub fn name(sockaddr: Address, socket: u16) -> (u16, u64, u64, u16) {
    let given: u16 = sockaddr.read();
    // `udp_sendmsg` takes an unspecified family for IPv4.
    let family = if given == AF_UNSPEC && socket == AF_INET { AF_INET } else { given };
    let port = u16::from_be(sockaddr.plus(2).read());
    if family == AF_INET {
        return (family, 0, mapped(u32::from_be(sockaddr.plus(4).read())), port);
    }
    if family == AF_INET6 {
        return (family, u64::from_be(sockaddr.plus(8).read()), u64::from_be(sockaddr.plus(16).read()), port);
    }
    (0, 0, 0, 0)
}
