//! What to look for in the journal, and the SQL that finds it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use jiff::Timestamp;
use rusqlite::types::Value;

use super::row::{address_bytes, canonical, folded, name_of, nanoseconds};
use crate::attribute::finding::{Kind, Verdict};

/// Which comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// The newest.
    #[default]
    NewestFirst,
    /// The oldest.
    OldestFirst,
}

/// What to look for: a record is found when it meets all that is given.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Its latest repeat is not before.
    pub since: Option<Timestamp>,
    /// It did not begin after.
    pub until: Option<Timestamp>,
    /// One of these; empty for any.
    pub verdicts: Vec<Verdict>,
    /// One of these; empty for any.
    pub kinds: Vec<Kind>,
    /// Process id.
    pub pid: Option<u32>,
    /// Glob (`*`, `?`, `[…]`; `*` crosses `/`) on the path of the process's executable or of the file; a pattern without `/`
    /// is for the last component.
    pub exe: Option<String>,
    /// Where to.
    pub destination: Option<Destination>,
    /// Id or canonical value of an indicator.
    pub indicator: Option<String>,
    /// SHA-256 of a file or of the process's executable, or any digest that is an indicator's value; hexadecimal.
    pub hash: Option<String>,
    /// Name or glob of an actor, without regard to case.
    pub actor: Option<String>,
    /// A source's name in the settings.
    pub source: Option<String>,
    /// At most so many; `None` for all.
    pub limit: Option<usize>,
    /// Which comes first. Segments are taken in the order they were written, records in one by time.
    pub order: Order,
}

/// A destination to look for: `203.0.113.7`, `203.0.113.0/24`, `c2.example`, each with or without `:port`, or `:443`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// An address or a prefix.
    pub net: Option<IpNet>,
    /// A domain, itself or any below it; lower-case A-labels.
    pub domain: Option<String>,
    /// A port.
    pub port: Option<u16>,
}

/// Text that is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an address, a prefix (203.0.113.0/24) or a host name, with or without :port")]
pub struct DestinationParseError {
    /// The text.
    pub text: String,
}

impl FromStr for Destination {
    type Err = DestinationParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || DestinationParseError { text: text.to_owned() };
        if let Some(net) = net(text) {
            return Ok(Self { net: Some(net), domain: None, port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) => (host, Some(port.parse::<u16>().map_err(|_| error())?)),
            None => (text, None),
        };
        if host.is_empty() && port.is_some() {
            return Ok(Self { net: None, domain: None, port });
        }
        let unbracketed = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        if let Some(net) = net(unbracketed.unwrap_or(host)) {
            return Ok(Self { net: Some(net), domain: None, port });
        }
        let name = host.trim_end_matches('.');
        let is_name = !name.is_empty()
            && !name.contains(|c: char| c.is_whitespace() || matches!(c, '/' | ':' | '[' | ']' | '*' | '?' | '@'));
        let domain = idna::domain_to_ascii(name).ok().filter(|_| is_name).ok_or_else(error)?;
        Ok(Self { net: None, domain: Some(domain), port })
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.net, &self.domain) {
            (Some(IpNet::V6(net)), _) if self.port.is_some() => write!(f, "[{net}]")?,
            (Some(net), _) => net.fmt(f)?,
            (None, Some(domain)) => f.write_str(domain)?,
            (None, None) => {}
        }
        self.port.map_or(Ok(()), |port| write!(f, ":{port}"))
    }
}

fn net(text: &str) -> Option<IpNet> {
    text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from))
}

/// A `WHERE` clause with its parameters, numbered from 1.
#[derive(Default)]
pub(super) struct Filter {
    clauses: Vec<String>,
    pub(super) parameters: Vec<Value>,
}

impl Filter {
    /// The number of a new parameter.
    pub(super) fn parameter(&mut self, value: impl Into<Value>) -> usize {
        self.parameters.push(value.into());
        self.parameters.len()
    }

    pub(super) fn clause(&mut self, clause: String) {
        self.clauses.push(clause);
    }

    /// With this clause, which has the others in it, in their place.
    pub(super) fn only(self, clause: String) -> Self {
        Self { clauses: vec![clause], ..self }
    }

    /// The clauses joined, or what is always true.
    pub(super) fn sql(&self) -> String {
        if self.clauses.is_empty() { "1".to_owned() } else { self.clauses.join(" AND ") }
    }

    fn one_of(&mut self, column: &str, names: Vec<String>) {
        if names.is_empty() {
            return;
        }
        let numbers: Vec<_> = names.into_iter().map(|name| format!("?{}", self.parameter(name))).collect();
        self.clause(format!("{column} IN ({})", numbers.join(", ")));
    }
}

impl Query {
    /// The records that meet all that is given.
    pub(super) fn filter(&self) -> Filter {
        let mut filter = Filter::default();
        if let Some(since) = self.since {
            let number = filter.parameter(nanoseconds(since));
            filter.clause(format!("last_time >= ?{number}"));
        }
        if let Some(until) = self.until {
            let number = filter.parameter(nanoseconds(until));
            filter.clause(format!("time <= ?{number}"));
        }
        filter.one_of("verdict", self.verdicts.iter().map(name_of).collect());
        filter.one_of("kind", self.kinds.iter().map(name_of).collect());
        if let Some(pid) = self.pid {
            let number = filter.parameter(pid);
            filter.clause(format!("pid = ?{number}"));
        }
        if let Some(exe) = &self.exe {
            let number = filter.parameter(exe.clone());
            filter.clause(format!("({} OR {})", exe_clause("exe", exe, number), path_clause(exe, number)));
        }
        if let Some(destination) = &self.destination {
            destination.filter(&mut filter);
        }
        if let Some(indicator) = &self.indicator {
            let (given, canonical) = (filter.parameter(indicator.clone()), filter.parameter(canonical_text(indicator)));
            filter.clause(format!(
                "row IN (SELECT row FROM indicator WHERE id = ?{given} UNION SELECT row FROM indicator WHERE value IN (?{given}, ?{canonical}))"
            ));
        }
        if let Some(hash) = &self.hash {
            let number = filter.parameter(hash.to_lowercase());
            filter
                .clause(format!("(sha256 = ?{number} OR row IN (SELECT row FROM indicator WHERE value = ?{number}))"));
        }
        if let Some(actor) = &self.actor {
            let number = filter.parameter(folded(actor));
            filter.clause(format!("row IN (SELECT row FROM actor WHERE name = ?{number} OR name GLOB ?{number})"));
        }
        if let Some(source) = &self.source {
            let number = filter.parameter(source.clone());
            filter.clause(format!("row IN (SELECT row FROM indicator WHERE source = ?{number})"));
        }
        filter
    }
}

/// That a column holds a path that the glob or name in that parameter is of.
pub(super) fn exe_clause(column: &str, exe: &str, number: usize) -> String {
    let glob = if exe.contains('/') { format!("?{number}") } else { format!("'*/' || ?{number}") };
    format!("({column} GLOB {glob} OR {column} = ?{number})")
}

/// The same of what an exec was given: a bare name is also what one of a relative path was.
pub(super) fn path_clause(exe: &str, number: usize) -> String {
    format!("({} OR path GLOB ?{number} AND instr(path, '/') = 0)", exe_clause("path", exe, number))
}

/// What an operator wrote, as an indicator's value is spelled.
pub(super) fn canonical_text(indicator: &str) -> String {
    net(indicator).map_or_else(|| indicator.to_lowercase(), canonical_value)
}

/// An address or prefix as an indicator's value is spelled.
fn canonical_value(net: IpNet) -> String {
    if net.prefix_len() == net.max_prefix_len() { canonical(net.addr()).to_string() } else { net.trunc().to_string() }
}

impl Destination {
    fn filter(&self, filter: &mut Filter) {
        match self.net {
            // `ip_given` is never canonical.
            Some(net) if net.prefix_len() == net.max_prefix_len() => {
                let number = filter.parameter(address_bytes(canonical(net.addr())).to_vec());
                filter.clause(format!("ip = ?{number}"));
            }
            Some(net) => {
                let (low, high) = bounds(net, filter);
                filter.clause(format!("(ip BETWEEN ?{low} AND ?{high} OR ip_given BETWEEN ?{low} AND ?{high})"));
            }
            None => {}
        }
        if let Some(domain) = &self.domain {
            let number = filter.parameter(domain.clone());
            filter.clause(domain_clause(number));
        }
        if let Some(port) = self.port {
            let number = filter.parameter(port);
            filter.clause(format!("port = ?{number}"));
        }
    }
}

/// The parameters of the first and the last address of a prefix.
pub(super) fn bounds(net: IpNet, filter: &mut Filter) -> (usize, usize) {
    let [low, high] = [net.network(), net.broadcast()].map(|address| filter.parameter(address_bytes(address).to_vec()));
    (low, high)
}

pub(super) fn domain_clause(number: usize) -> String {
    format!("(domain = ?{number} OR substr(domain, -length(?{number}) - 1) = '.' || ?{number})")
}
