//! What every format is parsed into.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{Ipv4Net, Ipv6Net};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A value that can be seen on a host, in canonical form (RFC 5952 addresses, masked prefixes, lower-case A-labels, binary digests).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Observable {
    /// One IPv4 address; also a mapped, NAT64 or 6to4 spelling of one.
    Ipv4(Ipv4Addr),
    /// A prefix shorter than /32.
    Ipv4Prefix(Ipv4Net),
    /// One IPv6 address.
    Ipv6(Ipv6Addr),
    /// A prefix shorter than /128.
    Ipv6Prefix(Ipv6Net),
    /// An address with a port.
    Endpoint(IpAddr, u16),
    /// A domain name; matches the name itself and every name below it.
    Domain(Arc<str>),
    /// A URL.
    Url(Arc<str>),
    /// SHA-256 of a file.
    Sha256([u8; 32]),
    /// SHA-1 of a file.
    Sha1([u8; 20]),
    /// MD5 of a file.
    Md5([u8; 16]),
    /// An absolute path of a file.
    Path(Arc<str>),
    /// The last component of a path.
    FileName(Arc<str>),
    /// What a program that is executed must be beyond that, as the comparison of a STIX pattern: its command line, a pattern
    /// of its name ([`Condition`](super::parse::pattern::Condition)).
    Process(Arc<str>),
}

impl Observable {
    /// The name of the type, as `cordon intel check` counts it and a log record's `indicator.type` gives it.
    #[must_use]
    pub const fn type_name(&self) -> &'static str {
        match self {
            Self::Ipv4(_) => "ipv4",
            Self::Ipv4Prefix(_) => "ipv4_prefix",
            Self::Ipv6(_) => "ipv6",
            Self::Ipv6Prefix(_) => "ipv6_prefix",
            Self::Endpoint(..) => "endpoint",
            Self::Domain(_) => "domain",
            Self::Url(_) => "url",
            Self::Sha256(_) => "sha256",
            Self::Sha1(_) => "sha1",
            Self::Md5(_) => "md5",
            Self::Path(_) => "path",
            Self::FileName(_) => "file_name",
            Self::Process(_) => "process",
        }
    }
    /// All type names, in the order in which they are printed.
    pub const TYPE_NAMES: [&'static str; 13] = [
        "ipv4",
        "ipv4_prefix",
        "ipv6",
        "ipv6_prefix",
        "endpoint",
        "domain",
        "url",
        "sha256",
        "sha1",
        "md5",
        "path",
        "file_name",
        "process",
    ];
}

impl fmt::Display for Observable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
            bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
        }
        match self {
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv4Prefix(prefix) => prefix.fmt(f),
            Self::Ipv6(address) => address.fmt(f),
            Self::Ipv6Prefix(prefix) => prefix.fmt(f),
            Self::Endpoint(IpAddr::V4(address), port) => write!(f, "{address}:{port}"),
            Self::Endpoint(IpAddr::V6(address), port) => write!(f, "[{address}]:{port}"),
            Self::Domain(text) | Self::Url(text) | Self::Path(text) | Self::FileName(text) | Self::Process(text) => {
                f.write_str(text)
            }
            Self::Sha256(digest) => hex(f, digest),
            Self::Sha1(digest) => hex(f, digest),
            Self::Md5(digest) => hex(f, digest),
        }
    }
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Let pass and report.
    Report,
    /// Block.
    #[default]
    Block,
}

/// What a rule asks for when the other end begins: it connects to this host, or sends it a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Inbound {
    /// Let pass without a record.
    Ignore,
    /// Let pass and report.
    Report,
    /// Block.
    Block,
}

impl From<Action> for Inbound {
    fn from(action: Action) -> Self {
        match action {
            Action::Report => Self::Report,
            Action::Block => Self::Block,
        }
    }
}

/// Where in which file something was read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// Path or URL, shared by all that is read from it.
    pub file: Arc<str>,
    /// Where in it.
    pub place: Place,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// A line, from 1.
    Line(u32),
    /// An object's id.
    Object(Arc<str>),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Line(line) => write!(f, "{}:{line}", self.file),
            Place::Object(id) => write!(f, "{}#{id}", self.file),
        }
    }
}

/// Traffic Light Protocol 2.0 (FIRST), strictest last; TLP 1 WHITE is CLEAR.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tlp {
    /// May be shared with the world.
    Clear,
    /// With the community.
    Green,
    /// With the organisation and its clients.
    Amber,
    /// With the organisation only.
    #[serde(rename = "amber+strict")]
    AmberStrict,
    /// With nobody.
    Red,
}

/// Where an indicator's effective [`Tlp`] comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TlpOrigin {
    /// A marking on the indicator.
    Own,
    /// A marking on a report that lists it.
    Report,
    /// The source's default.
    SourceDefault,
}

/// How an indicator is tied to a name, most direct first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Path {
    /// A STIX `indicates` relationship (and what that object is `attributed-to` or `uses`).
    Indicates,
    /// The report that lists the indicator also lists the object.
    Report,
    /// A MISP attribute exported as `x-misp-attribute`.
    MispAttribute,
    /// A label, tag or galaxy.
    Label,
}

/// A name with the path that leads to it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Name {
    /// The name, or an ATT&CK id for a technique.
    pub name: String,
    /// How it is tied to the indicator.
    pub path: Path,
}

/// Who and what an indicator stands for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Attribution {
    /// Threat actors and intrusion sets.
    pub actors: Vec<Name>,
    /// Campaigns.
    pub campaigns: Vec<Name>,
    /// Malware and tools.
    pub malware: Vec<Name>,
    /// ATT&CK technique ids.
    pub techniques: Vec<Name>,
    /// Titles of the reports that list the indicator.
    pub reports: Vec<String>,
    /// External references: URLs.
    pub references: Vec<String>,
}

/// One indicator of one source, whatever its format. It may stand for several values (an OR).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Indicator {
    /// The publisher's id (`indicator--…`); `None` where the format has none, and a record then says `<source>:<value>`.
    pub id: Option<Arc<str>>,
    /// The publisher's title for it.
    pub name: Option<Arc<str>>,
    /// At least one, distinct, canonical.
    pub observables: Vec<Observable>,
    /// Where it was read.
    pub origin: Origin,
    /// 0..=100 as STIX 2.1 §3.2; `None` where the publisher gives none.
    pub confidence: Option<u8>,
    /// The strictest marking that applies; `None` for unmarked, which the source's default then decides.
    pub tlp: Option<(Tlp, TlpOrigin)>,
    /// Not to be used before.
    pub valid_from: Option<Timestamp>,
    /// Not to be used from then on.
    pub valid_until: Option<Timestamp>,
    /// The publisher's latest version.
    pub modified: Option<Timestamp>,
    /// Shared, because most indicators of a report have the same.
    pub attribution: Arc<Attribution>,
    /// Where the publisher says more about this one: URLs.
    pub references: Vec<String>,
}

impl Indicator {
    /// An indicator of which nothing else is known.
    #[must_use]
    pub fn new(observables: Vec<Observable>, origin: Origin) -> Self {
        Self {
            id: None,
            name: None,
            observables,
            origin,
            confidence: None,
            tlp: None,
            valid_from: None,
            valid_until: None,
            modified: None,
            attribution: Arc::default(),
            references: Vec::new(),
        }
    }
}

/// Why an indicator is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// `valid_until` or the source's `max_age` has passed.
    Expired,
    /// Revoked by the publisher.
    Revoked,
    /// `valid_from` lies ahead.
    NotYetValid,
    /// A pattern that one observation cannot decide.
    UnsupportedPattern,
    /// A value of a type that no hook sees.
    UnsupportedType,
    /// A value or pattern that cannot be read.
    Malformed,
    /// Loopback, private, link-local, multicast or documentation address.
    ReservedAddress,
    /// On a warning list or a never-block list.
    Benign,
    /// A prefix shorter than the limit.
    TooBroad,
    /// Below the source's `min_confidence`.
    LowConfidence,
    /// MISP `to_ids` is false.
    NotToIds,
    /// A rule of the organisation's policy ignores it.
    Ignored,
}

/// An indicator that is not used, never dropped in silence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// Why, by name.
    pub reason: SkipReason,
    /// Where it was read.
    pub origin: Origin,
    /// The value or pattern as given, cut at 200 characters.
    pub value: String,
    /// Why, in words.
    pub why: String,
}
