//! The values that are hunted (pure), and what of them a thing that was seen is.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::{Ipv4Net, Ipv6Net};

use crate::attribute::Finding;
use crate::attribute::finding::IndicatorRef;
use crate::intel::{Indicator, Observable, normalise};

/// What is known of a value that is hunted.
#[derive(Clone, Debug)]
pub(super) struct Value {
    pub(super) observable: Observable,
    /// The publisher's id.
    pub(super) id: Option<String>,
    /// Where it was read; `None` of what the command line says.
    pub(super) origin: Option<String>,
    /// Threat actors, else malware, that the publisher ties it to.
    pub(super) names: Vec<String>,
}

/// All values that are hunted.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    values: Vec<Value>,
    /// Also the host of each URL, which is all of it that a socket shows.
    index: HashMap<Observable, usize>,
    v4_lengths: BTreeSet<u8>,
    v6_lengths: BTreeSet<u8>,
}

/// That something is, or belongs to, a value that is hunted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Match<'a> {
    /// Which.
    pub(super) value: &'a Value,
    /// Tells values apart.
    pub(super) number: usize,
    /// By the host of a URL only: any other page of it would match too.
    pub(super) is_host_only: bool,
}

impl Wanted {
    /// Of one value, as the command line says it.
    pub(super) fn of(observable: Observable) -> Self {
        let mut wanted = Self::default();
        wanted.add(Value { observable, id: None, origin: None, names: Vec::new() });
        wanted
    }

    /// Of intelligence; a value that several indicators have is of the first.
    pub(super) fn listed(indicators: impl Iterator<Item = Indicator>) -> Self {
        let mut wanted = Self::default();
        for indicator in indicators {
            let known = [&indicator.attribution.actors, &indicator.attribution.malware];
            let known = known.into_iter().find(|names| !names.is_empty());
            for observable in indicator.observables {
                wanted.add(Value {
                    observable,
                    id: indicator.id.as_deref().map(str::to_owned),
                    origin: Some(indicator.origin.to_string()),
                    names: known.into_iter().flatten().map(|name| name.name.clone()).collect(),
                });
            }
        }
        wanted
    }

    fn add(&mut self, value: Value) {
        let number = self.values.len();
        if self.index.contains_key(&value.observable) && !self.is_host_only(&value.observable) {
            return;
        }
        match &value.observable {
            Observable::Ipv4Prefix(net) => drop(self.v4_lengths.insert(net.prefix_len())),
            Observable::Ipv6Prefix(net) => drop(self.v6_lengths.insert(net.prefix_len())),
            Observable::Url(url) => {
                if let Some(host) = normalise::url_host(url) {
                    self.index.entry(host).or_insert(number);
                }
            }
            _ => {}
        }
        self.index.insert(value.observable.clone(), number);
        self.values.push(value);
    }

    fn is_host_only(&self, observable: &Observable) -> bool {
        self.matched(observable).is_some_and(|matched| matched.is_host_only)
    }

    pub(super) fn values(&self) -> &[Value] {
        &self.values
    }

    pub(super) fn has(&self, is: impl Fn(&Observable) -> bool) -> bool {
        self.values.iter().any(|value| is(&value.observable))
    }

    fn matched(&self, observable: &Observable) -> Option<Match<'_>> {
        let number = *self.index.get(observable)?;
        let value = self.values.get(number)?;
        Some(Match { value, number, is_host_only: value.observable != *observable })
    }

    /// The narrowest value that an address is of: with its port, alone, or of the longest prefix.
    pub(super) fn address(&self, address: IpAddr, port: u16) -> Option<Match<'_>> {
        let address = normalise::ip(address);
        let alone = match address {
            IpAddr::V4(address) => Observable::Ipv4(address),
            IpAddr::V6(address) => Observable::Ipv6(address),
        };
        let exact = [Observable::Endpoint(address, port), alone];
        exact.iter().find_map(|observable| self.matched(observable)).or_else(|| match address {
            IpAddr::V4(address) => {
                self.v4_lengths.iter().rev().find_map(|length| {
                    self.matched(&Observable::Ipv4Prefix(Ipv4Net::new(address, *length).ok()?.trunc()))
                })
            }
            IpAddr::V6(address) => {
                self.v6_lengths.iter().rev().find_map(|length| {
                    self.matched(&Observable::Ipv6Prefix(Ipv6Net::new(address, *length).ok()?.trunc()))
                })
            }
        })
    }

    /// The name itself, or the nearest name above it.
    pub(super) fn domain(&self, name: &str) -> Option<Match<'_>> {
        let labels = std::iter::successors(Some(name), |name| name.split_once('.').map(|(_, parent)| parent));
        labels.take_while(|name| !name.is_empty()).find_map(|name| self.matched(&Observable::Domain(name.into())))
    }

    /// A file by its path or its name.
    pub(super) fn path(&self, path: &str) -> Option<Match<'_>> {
        let name = path.rsplit('/').next().unwrap_or(path);
        self.matched(&Observable::Path(path.into())).or_else(|| self.matched(&Observable::FileName(name.into())))
    }

    /// A file by what it holds.
    pub(super) fn digest(&self, digest: &Observable) -> Option<Match<'_>> {
        self.matched(digest)
    }

    /// The first thing in a record that is hunted.
    pub(super) fn record(&self, finding: &Finding) -> Option<Match<'_>> {
        let by_destination = finding.destination.as_ref().and_then(|destination| {
            let domain = destination.domain.as_deref().map(str::to_lowercase);
            domain.and_then(|domain| self.domain(&domain)).or_else(|| self.address(destination.ip, destination.port))
        });
        let process = finding.process.as_ref();
        let file = finding.file.as_ref();
        let sha256 = |text: &Option<String>| self.digest(&normalise::sha256(text.as_deref()?).ok()?);
        by_destination
            .or_else(|| file.and_then(|file| sha256(&file.sha256)))
            .or_else(|| process.and_then(|process| sha256(&process.sha256)))
            .or_else(|| file.and_then(|file| self.path(file.path.as_deref()?)))
            .or_else(|| process.and_then(|process| self.path(process.exe.as_deref()?)))
            .or_else(|| {
                let listed = std::iter::once(&finding.indicator).chain(&finding.also);
                listed.filter_map(observable).find_map(|observable| self.matched(&observable))
            })
    }
}

/// The value of a record's indicator, which the record has in its canonical spelling.
fn observable(indicator: &IndicatorRef) -> Option<Observable> {
    let value = indicator.value.as_str();
    match indicator.kind.as_str() {
        "ipv4" | "ipv4_prefix" | "ipv6" | "ipv6_prefix" => normalise::address(value),
        "endpoint" => normalise::endpoint(value),
        "domain" => normalise::domain(value),
        "url" => normalise::url(value),
        "sha256" => normalise::sha256(value),
        "sha1" => normalise::sha1(value),
        "md5" => normalise::md5(value),
        "path" => normalise::path(value),
        "file_name" => normalise::file_name(value),
        _ => return None,
    }
    .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(values: &[Observable]) -> Wanted {
        let mut wanted = Wanted::default();
        for value in values {
            wanted.add(Value { observable: value.clone(), id: None, origin: None, names: Vec::new() });
        }
        wanted
    }

    #[test]
    fn an_address_is_found_by_the_narrowest_value_that_it_is_of() {
        let values = ["203.0.113.0/24", "203.0.0.0/16", "203.0.113.7", "2001:db8::/32"];
        let mut values: Vec<_> = values.iter().map(|text| normalise::address(text).unwrap()).collect();
        values.push(normalise::endpoint("203.0.113.7:443").unwrap());
        let wanted = wanted(&values);
        for (address, port, expected) in [
            ("203.0.113.7", 443, Some("203.0.113.7:443")),
            ("203.0.113.7", 80, Some("203.0.113.7")),
            ("::ffff:203.0.113.8", 80, Some("203.0.113.0/24")),
            ("203.0.7.7", 80, Some("203.0.0.0/16")),
            ("2001:db8::9", 1, Some("2001:db8::/32")),
            ("198.51.100.1", 443, None),
        ] {
            let found = wanted.address(address.parse().unwrap(), port);
            assert_eq!(found.map(|found| found.value.observable.to_string()).as_deref(), expected, "{address}");
        }
    }

    #[test]
    fn a_name_is_found_by_itself_or_what_is_above_it_and_a_url_by_its_host() {
        let values = [normalise::domain("c2.example").unwrap(), normalise::url("http://drop.example/a").unwrap()];
        let wanted = wanted(&values);
        let of = |name: &str| wanted.domain(name).map(|found| (found.number, found.is_host_only));
        assert_eq!(of("c2.example"), Some((0, false)));
        assert_eq!(of("a.b.c2.example"), Some((0, false)));
        assert_eq!(of("notc2.example"), None);
        assert_eq!(of("drop.example"), Some((1, true)));
    }

    #[test]
    fn a_file_is_found_by_path_name_and_digest() {
        let digest = Observable::Md5([7; 16]);
        let values =
            [normalise::path("/opt/evil").unwrap(), normalise::file_name("dropper.bin").unwrap(), digest.clone()];
        let wanted = wanted(&values);
        assert_eq!(wanted.path("/opt/evil").unwrap().number, 0);
        assert_eq!(wanted.path("/tmp/dropper.bin").unwrap().number, 1);
        assert!(wanted.path("/opt/evil2").is_none());
        assert_eq!(wanted.digest(&digest).unwrap().number, 2);
    }

    #[test]
    fn a_value_that_is_listed_itself_is_not_only_the_host_of_a_url() {
        for order in [[0, 1], [1, 0]] {
            let values = [normalise::url("http://drop.example/a").unwrap(), normalise::domain("drop.example").unwrap()];
            let wanted = wanted(&order.map(|index| values[index].clone()));
            let found = wanted.domain("drop.example").unwrap();
            assert!(!found.is_host_only && found.value.observable == values[1]);
        }
    }
}
