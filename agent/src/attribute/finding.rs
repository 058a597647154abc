//! The record of a hit, as `cordon log -o json` prints it and the journal keeps it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::intel::{Name, Tlp};

/// What was attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A connect.
    Connect,
    /// A datagram without a connect.
    Send,
    /// An incoming connection.
    Accept,
    /// A DNS question.
    Dns,
    /// A TLS ClientHello.
    Tls,
    /// An HTTP request.
    Http,
    /// A socket was made, or an option set, that leads around the other hooks.
    Socket,
    /// An exec.
    Exec,
}

impl Kind {
    /// As in a record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Send => "send",
            Self::Accept => "accept",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::Http => "http",
            Self::Socket => "socket",
            Self::Exec => "exec",
        }
    }
}

/// What was done about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Failed with `EPERM`.
    Blocked,
    /// Killed before its first instruction.
    Killed,
    /// Let pass, as the policy says.
    Reported,
    /// Let pass, because the mode is monitor.
    WouldBlock,
}

impl Verdict {
    /// As in a record.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Killed => "killed",
            Self::Reported => "reported",
            Self::WouldBlock => "would_block",
        }
    }
}

/// An ancestor of the process, nearest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ancestor {
    /// Process id.
    pub pid: u32,
    /// Path of its executable.
    pub exe: Option<String>,
}

/// Who did it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id in the initial namespace.
    pub pid: u32,
    /// Parent's process id.
    pub ppid: u32,
    /// Real user id; `None` where the kernel's BTF does not tell where it is.
    pub uid: Option<u32>,
    /// Its name.
    pub user: Option<String>,
    /// Path of its executable.
    pub exe: Option<String>,
    /// Task name.
    pub comm: Option<String>,
    /// Its arguments; the last may be cut.
    pub args: Vec<String>,
    /// SHA-256 of the executable, hexadecimal.
    pub sha256: Option<String>,
    /// The systemd unit.
    pub unit: Option<String>,
    /// The container's id.
    pub container: Option<String>,
    /// Nearest first.
    pub ancestors: Vec<Ancestor>,
}

/// Where to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destination {
    /// As the program gave it.
    pub ip: std::net::IpAddr,
    /// Port.
    pub port: u16,
    /// `tcp`, `udp`, …, or the protocol's number.
    pub protocol: String,
    /// The domain that led to it.
    pub domain: Option<String>,
    /// Type of a DNS question: `A`, `AAAA`, …, or `TYPE` and its number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub query_type: Option<String>,
}

/// Which file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// As given to `execve(2)`.
    pub path: Option<String>,
    /// SHA-256, hexadecimal.
    pub sha256: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
}

/// Which indicator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct IndicatorRef {
    /// The publisher's id.
    pub id: String,
    /// A name of [`crate::intel::Observable::TYPE_NAMES`].
    #[serde(rename = "type")]
    pub kind: String,
    /// Canonical value.
    pub value: String,
    /// The source's name in the settings.
    pub source: String,
    /// 0..=100.
    pub confidence: Option<u8>,
    /// Effective marking.
    pub tlp: Option<Tlp>,
    /// When it ends.
    pub valid_until: Option<Timestamp>,
}

/// Who and what it stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attribution {
    /// Threat actors and intrusion sets.
    pub actors: Vec<String>,
    /// Campaigns.
    pub campaigns: Vec<String>,
    /// Malware and tools.
    pub malware: Vec<String>,
    /// ATT&CK technique ids.
    pub techniques: Vec<String>,
    /// Titles of reports.
    pub reports: Vec<String>,
    /// URLs.
    pub references: Vec<String>,
    /// How each of the names was found.
    #[serde(default, skip_serializing_if = "Paths::is_empty")]
    pub paths: Paths,
}

/// By which paths each name of an [`Attribution`] was found; of a name that several lead to all of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paths {
    /// Of actors.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<Name>,
    /// Of campaigns.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub campaigns: Vec<Name>,
    /// Of malware.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub malware: Vec<Name>,
    /// Of techniques.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub techniques: Vec<Name>,
}

impl Paths {
    fn is_empty(&self) -> bool {
        [&self.actors, &self.campaigns, &self.malware, &self.techniques].iter().all(|names| names.is_empty())
    }
}

/// By which rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyRef {
    /// Generation of the tables.
    pub generation: u32,
    /// Serial of the signed policy in force; `None` on a host without one.
    pub serial: Option<u64>,
    /// `feeds.<source>`, `local.<rule>`, `policy.<rule>` or the name of a setting.
    pub rule: String,
}

const fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// One hit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// Version of this schema: 1.
    pub schema: u32,
    /// UUID version 7.
    pub id: String,
    /// Whose record it is, where records of several hosts are together; `None` on the host itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// When it happened.
    pub time: Timestamp,
    /// What was attempted.
    pub kind: Kind,
    /// What was done.
    pub verdict: Verdict,
    /// The hook.
    pub enforced_by: String,
    /// Who; `None` where nobody can tell.
    pub process: Option<Process>,
    /// The other end: where to or, of an `accept`, where from. `None` for an exec and for a socket without one.
    pub destination: Option<Destination>,
    /// Of an `accept`, the port that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub local_port: Option<u16>,
    /// Which file; `None` for a connect.
    pub file: Option<File>,
    /// Which indicator.
    pub indicator: IndicatorRef,
    /// Further indicators for the same value, of this or other sources.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<IndicatorRef>,
    /// How many more there are, which are not named.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub also_more: u32,
    /// Who and what it stands for.
    pub attribution: Attribution,
    /// By which rule.
    pub policy: PolicyRef,
    /// Whether it happened before the indicator was there and was found by looking back: nothing could stop it then.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub retro: bool,
    /// How many times: 1 and the repeats folded into it.
    pub count: u64,
    /// The latest repeat; equals `time` when there was none.
    pub last_time: Timestamp,
}
