//! The table of techniques. Where each comes from: SECURITY.md, "What is tried".

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Serialize;

use super::exec::{self, Exec};
use super::name::{self, Name};
use super::network::{self, Net};

use Address::{Endpoint, Prefix, V4, V6};
use Content::{Dynamic, Md5, Script, Sha1, Sha256};
use Seen::{InKernelOnly, Mapped, Never, Opened};

/// What kind of hook is to stop it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// Reaching an address, or being reached from it.
    Network,
    /// Asking for a name, or sending one.
    Name,
    /// Running a file.
    Exec,
}

/// What is listed of the target's address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Address {
    /// One IPv4 address.
    V4,
    /// One IPv6 address.
    V6,
    /// An IPv4 prefix.
    Prefix,
    /// An IPv4 address with a port.
    Endpoint,
}

/// What is listed of the target file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// SHA-256 of a static program.
    Sha256,
    /// SHA-1 of a static program.
    Sha1,
    /// MD5 of a static program.
    Md5,
    /// SHA-256 of a shell script.
    Script,
    /// SHA-256 of a dynamically linked program.
    Dynamic,
}

/// Who sees the file of an exec before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Whatever hashes files: the kernel, or the exec guard when the file is opened.
    Opened,
    /// Only a kernel that hashes files itself (BPF LSM with IMA): no open reaches the guard.
    InKernelOnly,
    /// A kernel that judges what is mapped as code.
    Mapped,
    /// No hook, and why.
    Never(&'static str),
}

/// How a technique is done, and who should stop it.
#[derive(Clone, Copy, Debug)]
pub enum Act {
    /// Reaches an address, or lets it reach this host.
    Network {
        /// What is listed.
        lists: Address,
        /// Tries it.
        attempt: fn(&Net) -> io::Result<()>,
        /// The hooks of which any should stop it.
        by: &'static [&'static str],
        /// Why it passes without them.
        otherwise: &'static str,
    },
    /// Asks for a name, or sends one.
    Name {
        /// Tries it.
        attempt: fn(&Name) -> io::Result<()>,
        /// The hooks of which any should stop it.
        by: &'static [&'static str],
        /// Why it passes without them.
        otherwise: &'static str,
    },
    /// Runs a file.
    Exec {
        /// What is listed.
        lists: Content,
        /// Tries it; becomes the program or waits for it.
        attempt: fn(&Exec) -> io::Result<()>,
        /// Who sees it.
        seen: Seen,
    },
}

/// One way around.
#[derive(Clone, Copy, Debug)]
pub struct Technique {
    /// Its name, as `--only` takes it.
    pub name: &'static str,
    /// What it does.
    pub what: &'static str,
    /// How.
    pub act: Act,
}

/// The port of every target.
pub const PORT: u16 = 443;

/// The prefixes that all targets of network techniques are in: RFC 5737 and RFC 3849.
pub fn targets() -> [IpNet; 4] {
    let v4 = |a, b, c| IpNet::from(Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), 24));
    let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32);
    [v4(192, 0, 2), v4(198, 51, 100), v4(203, 0, 113), v6.into()]
}

impl Technique {
    /// What kind it is.
    #[must_use]
    pub const fn family(&self) -> Family {
        match self.act {
            Act::Network { .. } => Family::Network,
            Act::Name { .. } => Family::Name,
            Act::Exec { .. } => Family::Exec,
        }
    }

    /// Its place in the table, from 1: no two techniques share a target.
    fn number(&self) -> u8 {
        let place = all().iter().position(|technique| technique.name == self.name);
        place.and_then(|place| u8::try_from(place + 1).ok()).unwrap_or(u8::MAX)
    }

    /// The target of a network technique: TEST-NET-3, TEST-NET-2 or 2001:db8:bad::/48 when it is `listed`, TEST-NET-1 or
    /// 2001:db8:600d::/48 otherwise.
    #[must_use]
    pub fn address(&self, listed: bool) -> Option<IpAddr> {
        let Act::Network { lists, .. } = self.act else { return None };
        let number = self.number();
        Some(match (lists, listed) {
            (V4 | Endpoint, true) => Ipv4Addr::new(203, 0, 113, number).into(),
            (Prefix, true) => Ipv4Addr::new(198, 51, 100, number).into(),
            (V4 | Endpoint | Prefix, false) => Ipv4Addr::new(192, 0, 2, number).into(),
            (V6, true) => Ipv6Addr::new(0x2001, 0xdb8, 0xbad, 0, 0, 0, 0, number.into()).into(),
            (V6, false) => Ipv6Addr::new(0x2001, 0xdb8, 0x600d, 0, 0, 0, 0, number.into()).into(),
        })
    }

    /// The name that a technique asks for, below a top-level domain of RFC 2606.
    #[must_use]
    pub fn domain(&self, listed: bool) -> String {
        format!("t{}.{}.example", self.number(), if listed { "listed" } else { "unlisted" })
    }

    /// What intelligence says of the target of a technique that runs no file.
    #[must_use]
    pub fn listed_value(&self) -> Option<String> {
        let lists = match self.act {
            Act::Network { lists, .. } => lists,
            Act::Name { .. } => return Some(self.domain(true)),
            Act::Exec { .. } => return None,
        };
        let address = self.address(true)?;
        Some(match lists {
            V4 | V6 => address.to_string(),
            Prefix => "198.51.100.0/24".into(),
            Endpoint => format!("{address}:{PORT}"),
        })
    }
}

/// Why something passes whose hook is missing.
const NO_HOOK: &str = "no hook is attached that sees it";

const fn network(
    name: &'static str,
    what: &'static str,
    lists: Address,
    by: &'static [&'static str],
    attempt: fn(&Net) -> io::Result<()>,
) -> Technique {
    Technique { name, what, act: Act::Network { lists, attempt, by, otherwise: NO_HOOK } }
}

const fn name(
    name: &'static str,
    what: &'static str,
    by: &'static [&'static str],
    otherwise: &'static str,
    attempt: fn(&Name) -> io::Result<()>,
) -> Technique {
    Technique { name, what, act: Act::Name { attempt, by, otherwise } }
}

const fn exec(
    name: &'static str,
    what: &'static str,
    lists: Content,
    seen: Seen,
    attempt: fn(&Exec) -> io::Result<()>,
) -> Technique {
    Technique { name, what, act: Act::Exec { lists, attempt, seen } }
}

const CONNECT4: &[&str] = &["cgroup_connect4", "lsm_socket_connect"];
const CONNECT6: &[&str] = &["cgroup_connect6", "lsm_socket_connect"];
const SEND4: &[&str] = &["cgroup_sendmsg4", "lsm_socket_sendmsg"];
const SEND6: &[&str] = &["cgroup_sendmsg6", "lsm_socket_sendmsg"];
const EGRESS: &[&str] = &["cgroup_egress"];
const INGRESS: &[&str] = &["cgroup_ingress"];
const DNS: &[&str] = &["cgroup_egress_dns"];
const RESPONSE: &[&str] = &["cgroup_ingress_dns"];
const TLS: &[&str] = &["cgroup_egress_tls"];
const HTTP: &[&str] = &["cgroup_egress_http"];
const OPTIONS: &[&str] = &["cgroup_setsockopt", "cgroup_egress"];

const SLOW: &str = "what stays a piece is let through after a while; `network.unread_names` may refuse it";
const ONLY_READ: Seen = Never("the interpreter only reads it, like any other file");

/// All of them, in the order in which they are tried and printed.
#[must_use]
pub const fn all() -> &'static [Technique] {
    TABLE
}

const TABLE: &[Technique] = &[
    network("tcp_connect", "TCP connect", V4, CONNECT4, network::tcp),
    network("tcp_connect_ipv6", "TCP connect over IPv6", V6, CONNECT6, network::tcp),
    network("tcp_connect_prefix", "TCP connect to an address of a listed prefix", Prefix, CONNECT4, network::tcp),
    network("tcp_connect_endpoint", "TCP connect to a listed address and port", Endpoint, CONNECT4, network::tcp),
    network("mapped", "TCP connect to ::ffff:a.b.c.d", V4, CONNECT6, network::mapped),
    network("nat64", "TCP connect to 64:ff9b::/96 (NAT64)", V4, CONNECT6, network::nat64),
    network("6to4", "TCP connect to 2002::/16 (6to4)", V4, CONNECT6, network::six_to_four),
    network("ipv4_compatible", "TCP connect to ::a.b.c.d", V4, CONNECT6, network::compatible),
    network("non_blocking", "TCP connect that does not wait", V4, CONNECT4, network::non_blocking),
    network("bound_first", "TCP connect of a bound socket", V4, CONNECT4, network::bound_first),
    network("fast_open_send", "sendto with MSG_FASTOPEN", V4, CONNECT4, network::fast_open_send),
    network("fast_open_connect", "TCP_FASTOPEN_CONNECT, then write", V4, CONNECT4, network::fast_open_connect),
    network("mptcp", "MPTCP connect", V4, CONNECT4, network::mptcp),
    network("sctp", "SCTP connect", V4, &["lsm_socket_connect"], network::sctp),
    network("udp_connect", "UDP connect, then send", V4, CONNECT4, network::udp_connect),
    network("udp_send", "UDP sendto without connect", V4, SEND4, network::udp_send),
    network("udp_send_ipv6", "UDP sendto over IPv6", V6, SEND6, network::udp_send),
    network("udp_send_mapped", "UDP sendto to ::ffff:a.b.c.d", V4, SEND4, network::udp_send_mapped),
    network("udp_send_elsewhere", "connected UDP socket, sendto elsewhere", V4, SEND4, network::udp_elsewhere),
    network("sendmsg", "UDP sendmsg", V4, SEND4, network::sendmsg),
    network("sendmmsg", "second message of a UDP sendmmsg", V4, SEND4, network::sendmmsg),
    network("udplite", "UDP-Lite sendto", V4, SEND4, network::udplite),
    network("io_uring_connect", "IORING_OP_CONNECT", V4, CONNECT4, network::ring_connect),
    network("io_uring_sqpoll", "IORING_OP_CONNECT by the kernel's thread", V4, CONNECT4, network::ring_poll),
    network("io_uring_sendmsg", "IORING_OP_SENDMSG", V4, SEND4, network::ring_send),
    network("socket_before", "socket opened before the agent", V4, CONNECT4, network::inherited),
    network("child_cgroup", "connect from a cgroup below", V4, CONNECT4, network::child_cgroup),
    network("cgroup_namespace", "connect from a cgroup namespace", V4, CONNECT4, network::cgroup_namespace),
    network("network_namespace", "connect from a network namespace", V4, CONNECT4, network::network_namespace),
    network("ping_socket", "ICMP echo of an unprivileged ping socket", V4, EGRESS, network::ping),
    network("raw_icmp", "ICMP echo of a raw socket", V4, EGRESS, network::raw_icmp),
    network("raw_icmp_ipv6", "ICMPv6 echo of a raw socket", V6, EGRESS, network::raw_icmp6),
    network("raw_header", "raw socket with a header of its own", V4, EGRESS, network::raw_header),
    network("source_route", "UDP to elsewhere, routed through (IP_OPTIONS)", V4, OPTIONS, network::source_route),
    network("source_route_cmsg", "the same by IP_RETOPTS", V4, EGRESS, network::source_route_control),
    network("inbound_tcp", "TCP connection from a listed address", V4, INGRESS, network::inbound_tcp),
    network("inbound_tcp_ipv6", "TCP connection from a listed IPv6 address", V6, INGRESS, network::inbound_tcp),
    network("inbound_udp", "UDP datagram from a listed address", V4, INGRESS, network::inbound_udp),
    name("dns", "DNS question for a listed name", DNS, NO_HOOK, name::question),
    name("dns_ipv6", "the same over IPv6", DNS, NO_HOOK, name::question_ipv6),
    name("dns_below", "question for a name below it, in mixed case", DNS, NO_HOOK, name::question_below),
    name("dns_second", "second question of a message", DNS, NO_HOOK, name::second_question),
    name("dns_tcp", "question over TCP", DNS, NO_HOOK, name::question_tcp),
    name("dns_tcp_apart", "the same, its length in a segment of its own", DNS, NO_HOOK, name::question_tcp_apart),
    name("dns_alias", "response that leads on to a listed name (CNAME)", RESPONSE, NO_HOOK, name::alias),
    name("tls_server_name", "server name of a TLS ClientHello", TLS, NO_HOOK, name::server_name),
    name("tls_server_name_split", "the same in two segments", TLS, NO_HOOK, name::server_name_split),
    name("tls_server_name_slow", "the second only when the first has arrived", &[], SLOW, name::server_name_slow),
    name("http_host", "Host of an HTTP request", HTTP, NO_HOOK, name::host),
    name("http_host_by_octets", "the same, an octet at a time", HTTP, NO_HOOK, name::host_by_octets),
    exec("exec", "exec of a listed SHA-256", Sha256, Opened, exec::plain),
    exec("exec_sha1", "exec of a listed SHA-1", Sha1, Opened, exec::plain),
    exec("exec_md5", "exec of a listed MD5", Md5, Opened, exec::plain),
    exec("spawn", "exec in a child (posix_spawn, vfork)", Sha256, Opened, exec::spawn),
    exec("thread", "exec in a thread", Sha256, Opened, exec::thread),
    exec("other_user", "exec as another user", Sha256, Opened, exec::other_user),
    exec("copy", "a copy", Sha256, Opened, exec::copy),
    exec("rename", "renamed", Sha256, Opened, exec::rename),
    exec("hard_link", "a hard link", Sha256, Opened, exec::hard_link),
    exec("symbolic_link", "a symbolic link", Sha256, Opened, exec::symbolic_link),
    exec("bind_mount", "through a bind mount", Sha256, Opened, exec::bind_mount),
    exec("chroot", "from a chroot", Sha256, Opened, exec::chroot),
    exec("private_tmpfs", "a tmpfs of an own mount namespace", Sha256, InKernelOnly, exec::private_tmpfs),
    exec("user_namespace", "a tmpfs of an own user namespace", Sha256, InKernelOnly, exec::user_namespace),
    exec("overlayfs", "through overlayfs", Sha256, InKernelOnly, exec::overlayfs),
    exec("memfd", "a memfd (fexecve)", Sha256, InKernelOnly, exec::memfd),
    exec("fexecve", "fexecve of a file", Sha256, Opened, exec::fexecve),
    exec("deleted", "a deleted file, by /proc/self/fd", Sha256, Opened, exec::deleted),
    exec("interpreter", "a script's interpreter", Sha256, Opened, exec::interpreter),
    exec("interpreter_twice", "the interpreter of a script's interpreter", Sha256, Opened, exec::interpreter_twice),
    exec("script", "a listed script", Script, Opened, exec::plain),
    exec("script_argument", "sh with a listed script", Script, ONLY_READ, exec::script_argument),
    exec("written", "written after it was judged", Sha256, Opened, exec::written),
    exec("written_mapped", "the same through a shared mapping", Sha256, Opened, exec::written_mapped),
    exec("loader", "by the dynamic loader (ld.so FILE)", Dynamic, Mapped, exec::loader),
    exec("mapped_as_code", "mapped as code, like a library", Sha256, Mapped, exec::mapped_as_code),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_and_targets_are_distinct() {
        let names: BTreeSet<_> = all().iter().map(|technique| technique.name).collect();
        assert_eq!(names.len(), all().len());
        let network = || all().iter().filter(|technique| technique.family() == Family::Network);
        let targets: BTreeSet<_> = network().flat_map(|one| [one.address(true), one.address(false)]).collect();
        assert_eq!(targets.len(), 2 * network().count());
    }

    #[test]
    fn every_target_is_in_one_of_the_prefixes() {
        for technique in all() {
            for address in [true, false].into_iter().filter_map(|listed| technique.address(listed)) {
                assert!(targets().iter().any(|prefix| prefix.contains(&address)), "{}: {address}", technique.name);
            }
        }
    }
}
