//! What every record starts with: which hook, which verdict, which indicator, when, and who.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::limits::COMM_LEN;

/// What follows the [`Header`].
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordKind {
    /// A [`crate::wire::NetworkRecord`].
    Network = 1,
    /// A [`crate::wire::ExecRecord`].
    Exec = 2,
    /// A [`crate::wire::DomainRecord`].
    Domain = 3,
}

/// What the kernel did about a hit.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// No indicator matched: telemetry only.
    Passed = 0,
    /// The operation failed with `EPERM`.
    Blocked = 1,
    /// The process was killed before its first instruction.
    Killed = 2,
    /// The policy asks for a report only.
    Reported = 3,
    /// The policy asks for a block, the mode is monitor.
    WouldBlock = 4,
}

/// The hook that decided.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// `cgroup/connect4`.
    Connect4 = 1,
    /// `cgroup/connect6`.
    Connect6 = 2,
    /// `cgroup/sendmsg4`.
    Sendmsg4 = 3,
    /// `cgroup/sendmsg6`.
    Sendmsg6 = 4,
    /// `tp_btf/sched_process_exec`.
    SchedProcessExec = 5,
    /// `lsm/bprm_check_security`.
    BprmCheck = 6,
    /// `lsm.s/bprm_check_security` with a digest taken by IMA.
    BprmCheckIma = 7,
    /// fanotify `FAN_OPEN_EXEC_PERM`, answered in user space.
    FanotifyOpenExec = 8,
    /// Found running when a generation arrived.
    Scan = 9,
    /// `cgroup/setsockopt`.
    Setsockopt = 10,
    /// `cgroup_skb/egress`.
    Egress = 11,
    /// `cgroup/sock_create`.
    SockCreate = 12,
    /// `lsm/socket_connect`.
    SocketConnect = 13,
    /// `lsm/socket_sendmsg`.
    SocketSendmsg = 14,
    /// `lsm/socket_create`.
    SocketCreate = 15,
    /// `cgroup_skb/ingress`.
    Ingress = 16,
    /// Found open when a generation arrived.
    LiveFlow = 17,
    /// `cgroup_skb/egress`: a DNS question.
    EgressDns = 20,
    /// `cgroup_skb/egress`: the server name of a TLS ClientHello.
    EgressTls = 21,
    /// `cgroup_skb/egress`: the host of an HTTP request.
    EgressHttp = 22,
    /// `cgroup_skb/ingress`: a DNS response.
    IngressDns = 23,
    /// `lsm.s/mmap_file`: mapped as code without an exec.
    MmapFile = 30,
    /// Self-protection: several LSM programs, which are attached together and send no record.
    SelfProtection = 31,
}

macro_rules! from_integer {
    ($name:ident: $($variant:ident),+) => {
        from_integer!($name, from_u8, u8: $($variant),+);
    };
    ($name:ident, $from:ident, $integer:ident: $($variant:ident),+) => {
        impl $name {
            /// The variant that `value` stands for, or `None` for a value of another ABI version.
            #[must_use]
            pub const fn $from(value: $integer) -> Option<Self> {
                match value {
                    $(v if v == Self::$variant as $integer => Some(Self::$variant),)+
                    _ => None,
                }
            }
        }
    };
}
pub(super) use from_integer;

from_integer!(RecordKind: Network, Exec, Domain);
from_integer!(Verdict: Passed, Blocked, Killed, Reported, WouldBlock);
from_integer!(
    Hook: Connect4, Connect6, Sendmsg4, Sendmsg6, SchedProcessExec, BprmCheck, BprmCheckIma, FanotifyOpenExec, Scan, Setsockopt,
    Egress, SockCreate, SocketConnect, SocketSendmsg, SocketCreate, Ingress, LiveFlow, EgressDns, EgressTls, EgressHttp,
    IngressDns, MmapFile, SelfProtection
);

/// The task that acted, as the kernel saw it at that moment.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Process {
    /// `task_struct.start_boottime` of the thread group's leader, nanoseconds since boot; with `pid` it names a process
    /// for as long as the machine is up, whatever pids are reused. 0 when the kernel's BTF lacks the field.
    pub start_boot_ns: u64,
    /// `bpf_get_current_cgroup_id`: the inode number of the cgroup2 directory.
    pub cgroup_id: u64,
    /// Thread group id, what user space calls the pid, in the initial pid namespace.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Thread group id of `real_parent`.
    pub ppid: u32,
    /// Real user id in the initial user namespace.
    pub uid: u32,
    /// Real group id in the initial user namespace.
    pub gid: u32,
    /// `auid`, the user that logged in; `u32::MAX` when unset or unknown.
    pub loginuid: u32,
    /// The task's name, NUL-padded.
    pub comm: [u8; COMM_LEN],
}

/// What every record starts with.
#[repr(C)]
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Header {
    /// `bpf_ktime_get_boot_ns`: nanoseconds since boot, suspend included.
    pub boot_ns: u64,
    /// Generation of the image that decided; 0 when none was loaded.
    pub generation: u32,
    /// Entry of that image, see [`crate::image`]; [`Header::NO_ENTRY`] when nothing matched.
    pub entry: u32,
    /// A [`RecordKind`].
    pub kind: u8,
    /// A [`Verdict`].
    pub verdict: u8,
    /// A [`Hook`].
    pub hook: u8,
    /// Zero.
    pub reserved: [u8; 5],
    /// Who acted.
    pub process: Process,
}

impl Header {
    /// `entry` of a record that no indicator matched.
    pub const NO_ENTRY: u32 = u32::MAX;
}

/// What is judged by the settings and not by an indicator: in place of an entry, beyond every entry that an image can have
/// ([`crate::image::layout::ENTRIES_MAX`]).
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Behaviour {
    /// A socket's packets are sent elsewhere than its connect says: `IP_OPTIONS` (RFC 791 §3.1), `IPV6_RTHDR` (RFC 8200 §4.4).
    SourceRoute = u32::MAX - 1,
    /// A socket was made whose packets carry addresses of the program's own making.
    RawSocket = u32::MAX - 2,
    /// A name that is looked for in a packet cannot be read in it.
    UnreadName = u32::MAX - 3,
}

impl Behaviour {
    /// The one that stands in place of an entry.
    #[must_use]
    pub const fn from_entry(entry: u32) -> Option<Self> {
        match entry {
            entry if entry == Self::SourceRoute as u32 => Some(Self::SourceRoute),
            entry if entry == Self::RawSocket as u32 => Some(Self::RawSocket),
            entry if entry == Self::UnreadName as u32 => Some(Self::UnreadName),
            _ => None,
        }
    }
}
