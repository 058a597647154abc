//! What is never blocked: the operator's list and MISP warning lists.

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::Deserialize;

use crate::intel::{Observable, normalise};

/// A set of addresses and prefixes that answers which of them contain a prefix and which lie in it.
#[derive(Clone, Debug, Default)]
pub struct PrefixSet {
    v4: BTreeSet<(u32, u8)>,
    v6: BTreeSet<(u128, u8)>,
    lengths_v4: BTreeSet<u8>,
    lengths_v6: BTreeSet<u8>,
}

impl PrefixSet {
    /// Adds a prefix; an address is a prefix of full length.
    pub fn insert(&mut self, prefix: IpNet) {
        match prefix.trunc() {
            IpNet::V4(prefix) => {
                self.v4.insert((prefix.network().to_bits(), prefix.prefix_len()));
                self.lengths_v4.insert(prefix.prefix_len());
            }
            IpNet::V6(prefix) => {
                self.v6.insert((prefix.network().to_bits(), prefix.prefix_len()));
                self.lengths_v6.insert(prefix.prefix_len());
            }
        }
    }

    /// The shortest prefix of the set in which all of `prefix` lies.
    #[must_use]
    pub fn containing(&self, prefix: IpNet) -> Option<IpNet> {
        match prefix {
            IpNet::V4(prefix) => self.lengths_v4.range(..=prefix.prefix_len()).find_map(|&length| {
                let candidate = Ipv4Net::new(prefix.network(), length).ok()?.trunc();
                self.v4.contains(&(candidate.network().to_bits(), length)).then_some(IpNet::V4(candidate))
            }),
            IpNet::V6(prefix) => self.lengths_v6.range(..=prefix.prefix_len()).find_map(|&length| {
                let candidate = Ipv6Net::new(prefix.network(), length).ok()?.trunc();
                self.v6.contains(&(candidate.network().to_bits(), length)).then_some(IpNet::V6(candidate))
            }),
        }
    }

    /// The prefixes of the set that lie in `prefix` and are longer than it.
    #[must_use]
    pub fn inside(&self, prefix: IpNet) -> Vec<IpNet> {
        match prefix {
            IpNet::V4(prefix) => self
                .v4
                .range((prefix.network().to_bits(), 0)..=(prefix.broadcast().to_bits(), 32))
                .filter(|(_, length)| *length > prefix.prefix_len())
                .filter_map(|&(bits, length)| Ipv4Net::new(Ipv4Addr::from_bits(bits), length).ok().map(IpNet::V4))
                .collect(),
            IpNet::V6(prefix) => self
                .v6
                .range((prefix.network().to_bits(), 0)..=(prefix.broadcast().to_bits(), 128))
                .filter(|(_, length)| *length > prefix.prefix_len())
                .filter_map(|&(bits, length)| Ipv6Net::new(Ipv6Addr::from_bits(bits), length).ok().map(IpNet::V6))
                .collect(),
        }
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

/// The prefix an address-like value covers.
#[must_use]
pub fn covered(observable: &Observable) -> Option<IpNet> {
    match observable {
        Observable::Ipv4(address) | Observable::Endpoint(IpAddr::V4(address), _) => {
            Some(IpNet::from(IpAddr::V4(*address)))
        }
        Observable::Ipv6(address) | Observable::Endpoint(IpAddr::V6(address), _) => {
            Some(IpNet::from(IpAddr::V6(*address)))
        }
        Observable::Ipv4Prefix(prefix) => Some(IpNet::V4(*prefix)),
        Observable::Ipv6Prefix(prefix) => Some(IpNet::V6(*prefix)),
        _ => None,
    }
}

/// A prefix as the value it is: an address at full length.
#[must_use]
pub fn observable(prefix: IpNet) -> Observable {
    match prefix {
        IpNet::V4(prefix) if prefix.prefix_len() == 32 => Observable::Ipv4(prefix.addr()),
        IpNet::V4(prefix) => Observable::Ipv4Prefix(prefix),
        IpNet::V6(prefix) if prefix.prefix_len() == 128 => Observable::Ipv6(prefix.addr()),
        IpNet::V6(prefix) => Observable::Ipv6Prefix(prefix),
    }
}

/// `name` and every name above it, longest first.
pub(super) fn suffixes(name: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent))
}

/// What is never blocked, whoever lists it: addresses, prefixes, domains (with every name below them) and exact other values.
#[derive(Clone, Debug, Default)]
pub struct NeverBlock {
    prefixes: PrefixSet,
    domains: HashSet<Arc<str>>,
    others: HashSet<Observable>,
}

impl NeverBlock {
    /// Adds a value.
    pub fn insert(&mut self, value: Observable) {
        match value {
            Observable::Domain(name) => {
                self.domains.insert(name);
            }
            Observable::Endpoint(..) => {
                self.others.insert(value);
            }
            value => match covered(&value) {
                Some(prefix) => self.prefixes.insert(prefix),
                None => {
                    self.others.insert(value);
                }
            },
        }
    }

    /// The entry under which all of `value` falls.
    #[must_use]
    pub fn containing(&self, value: &Observable) -> Option<Observable> {
        if let Some(entry) = self.others.get(value) {
            return Some(entry.clone());
        }
        if let Observable::Domain(name) = value {
            return suffixes(name).find_map(|name| self.domains.get(name).cloned().map(Observable::Domain));
        }
        self.prefixes.containing(covered(value)?).map(observable)
    }

    /// The entries that fall under `value` without being all of it: exceptions to it.
    #[must_use]
    pub fn inside(&self, value: &Observable) -> Vec<Observable> {
        match value {
            Observable::Ipv4(_) | Observable::Ipv6(_) | Observable::Ipv4Prefix(_) | Observable::Ipv6Prefix(_) => {
                let Some(prefix) = covered(value) else { return Vec::new() };
                let endpoints = self.others.iter().filter(|entry| {
                    matches!(entry, Observable::Endpoint(..))
                        && covered(entry).is_some_and(|address| prefix.contains(&address))
                });
                self.prefixes.inside(prefix).into_iter().map(observable).chain(endpoints.cloned()).collect()
            }
            Observable::Domain(parent) => self
                .domains
                .iter()
                .filter(|name| name.strip_suffix(&**parent).is_some_and(|rest| rest.ends_with('.')))
                .cloned()
                .map(Observable::Domain)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// Why a warning list cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WarningListError {
    /// Not JSON, or not a warning list.
    #[error("{file}:{line}:{column}: not a MISP warning list: {why}")]
    Syntax {
        /// The file.
        file: String,
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
        /// What is wrong.
        why: String,
    },
    /// A type that is none of MISP's.
    #[error("{file}: warning list type `{kind}` is none of string, hostname, cidr, substring, regex")]
    Type {
        /// The file.
        file: String,
        /// The type it gives.
        kind: String,
    },
    /// A regular expression that cannot be compiled in linear time.
    #[error("{file}: entry {entry}: {why}; remove it, backtracking expressions are not supported")]
    Regex {
        /// The file.
        file: String,
        /// Which entry, from 1.
        entry: usize,
        /// What is wrong.
        why: String,
    },
}

#[derive(Clone, Debug)]
enum Matcher {
    Exact(HashSet<Box<str>>),
    Hostname(HashSet<Box<str>>),
    Prefix(PrefixSet),
    Substring(Vec<Box<str>>),
    Regex(regex::RegexSet),
}

/// A MISP warning list: values that are listed by mistake more often than not.
#[derive(Clone, Debug)]
pub struct WarningList {
    /// Its name, which a skipped indicator's reason gives.
    pub name: Arc<str>,
    /// Entries that are no value of the list's type and were left out.
    pub unreadable: usize,
    /// The MISP attribute types that it is for; all if it names none.
    attributes: HashSet<String>,
    matcher: Matcher,
}

#[derive(Deserialize)]
struct Document {
    name: String,
    #[serde(rename = "type")]
    kind: String,
    list: Vec<String>,
    #[serde(default)]
    matching_attributes: HashSet<String>,
}

impl WarningList {
    /// Reads a list in MISP's format (`list.json` of misp-warninglists).
    ///
    /// # Errors
    /// JSON that is no such list, an unknown type, an expression that needs backtracking.
    pub fn parse(file: &str, bytes: &[u8]) -> Result<Self, WarningListError> {
        let document: Document = serde_json::from_slice(bytes).map_err(|error| WarningListError::Syntax {
            file: file.to_owned(),
            line: error.line(),
            column: error.column(),
            why: error.to_string(),
        })?;
        let mut unreadable = 0;
        let lower = |entry: &String| entry.trim().to_ascii_lowercase().into_boxed_str();
        let matcher = match document.kind.as_str() {
            "string" => Matcher::Exact(document.list.iter().map(lower).collect()),
            "hostname" => Matcher::Hostname(
                document.list.iter().map(|entry| entry.trim().trim_matches('.').to_ascii_lowercase().into()).collect(),
            ),
            "cidr" => {
                let mut set = PrefixSet::default();
                for entry in &document.list {
                    match normalise::address(entry).ok().and_then(|value| covered(&value)) {
                        Some(prefix) => set.insert(prefix),
                        None => unreadable += 1,
                    }
                }
                Matcher::Prefix(set)
            }
            "substring" => Matcher::Substring(document.list.iter().map(lower).collect()),
            "regex" => {
                // misp writes PCRE with or without delimiters: /…/i
                let expressions: Vec<String> = document.list.iter().map(|entry| undelimited(entry)).collect();
                for (index, expression) in expressions.iter().enumerate() {
                    regex::Regex::new(expression).map_err(|error| WarningListError::Regex {
                        file: file.to_owned(),
                        entry: index + 1,
                        why: error.to_string(),
                    })?;
                }
                Matcher::Regex(regex::RegexSet::new(&expressions).map_err(|error| WarningListError::Regex {
                    file: file.to_owned(),
                    entry: 0,
                    why: error.to_string(),
                })?)
            }
            _ => return Err(WarningListError::Type { file: file.to_owned(), kind: document.kind }),
        };
        Ok(Self { name: document.name.into(), unreadable, attributes: document.matching_attributes, matcher })
    }

    /// Whether a value is on the list; of a URL, its host too, as MISP has it. A list of telephone numbers says nothing about
    /// addresses, though its expressions match some.
    #[must_use]
    pub fn matches(&self, value: &Observable) -> bool {
        let is_for_it = misp_types(value).iter().any(|kind| self.attributes.contains(*kind));
        if !self.attributes.is_empty() && !is_for_it {
            return false;
        }
        let host = match value {
            Observable::Url(url) => normalise::url_host(url),
            _ => None,
        };
        if let Matcher::Prefix(set) = &self.matcher {
            return host
                .as_ref()
                .and_then(covered)
                .or_else(|| covered(value))
                .is_some_and(|prefix| set.containing(prefix).is_some());
        }
        let text = match value {
            Observable::Endpoint(address, _) => address.to_string(),
            value => value.to_string(),
        };
        self.matches_text(&text) || host.is_some_and(|host| self.matches_text(&host.to_string()))
    }

    fn matches_text(&self, text: &str) -> bool {
        match &self.matcher {
            Matcher::Exact(entries) => entries.contains(text),
            Matcher::Hostname(entries) => suffixes(text).any(|name| entries.contains(name)),
            Matcher::Substring(entries) => entries.iter().any(|entry| text.contains(&**entry)),
            Matcher::Regex(expressions) => expressions.is_match(text),
            Matcher::Prefix(_) => false,
        }
    }

    /// The entries that lie in a prefix: exceptions to it.
    #[must_use]
    pub fn inside(&self, value: &Observable) -> Vec<Observable> {
        match (&self.matcher, value) {
            (Matcher::Prefix(set), Observable::Ipv4Prefix(_) | Observable::Ipv6Prefix(_)) => covered(value)
                .map(|prefix| set.inside(prefix))
                .unwrap_or_default()
                .into_iter()
                .map(observable)
                .collect(),
            _ => Vec::new(),
        }
    }
}

/// The MISP attribute types that hold such a value.
const fn misp_types(value: &Observable) -> &'static [&'static str] {
    match value {
        Observable::Ipv4(_) | Observable::Ipv4Prefix(_) | Observable::Ipv6(_) | Observable::Ipv6Prefix(_) => {
            &["ip-src", "ip-dst", "domain|ip"]
        }
        Observable::Endpoint(..) => &["ip-src|port", "ip-dst|port", "ip-src", "ip-dst"],
        Observable::Domain(_) => &["domain", "hostname", "domain|ip", "hostname|port"],
        Observable::Url(_) => &["url", "uri", "link"],
        Observable::Sha256(_) => &["sha256", "filename|sha256"],
        Observable::Sha1(_) => &["sha1", "filename|sha1"],
        Observable::Md5(_) => &["md5", "filename|md5"],
        Observable::Path(_) | Observable::FileName(_) => &["filename"],
        Observable::Process(_) => &[],
    }
}

fn undelimited(entry: &str) -> String {
    let Some((expression, flags)) = entry.strip_prefix('/').and_then(|rest| rest.rsplit_once('/')) else {
        return entry.to_owned();
    };
    let flags: String = flags.chars().filter(|flag| "imsux".contains(*flag)).collect();
    if flags.is_empty() { expression.to_owned() } else { format!("(?{flags}){expression}") }
}

#[cfg(test)]
mod tests;
