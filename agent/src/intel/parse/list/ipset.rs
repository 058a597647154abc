//! Statements of `ipset save` (ipset(8)), which FireHOL and others publish: `create NAME hash:net …`, `add NAME ENTRY …`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};

use super::super::values::Dropped;
use crate::intel::{Observable, SkipReason, normalise};

/// One line.
pub(super) enum Statement<'a> {
    /// A set begins, or is changed as a whole.
    Set,
    /// An entry: what it stands for, and what its author says of it.
    Entry { values: Result<Vec<Observable>, Dropped>, is_exception: bool, comment: Option<&'a str> },
}

/// The statement on a line; `None` for any other text. `in_set` is whether a set began before.
pub(super) fn statement(line: &str, in_set: bool) -> Option<Statement<'_>> {
    let mut words = line.split_ascii_whitespace();
    let (verb, name) = (words.next()?, words.next());
    let argument = words.next();
    match verb {
        "create" | "-N" if argument.is_some_and(is_set_type) => Some(Statement::Set),
        "flush" | "destroy" | "swap" | "rename" | "-F" | "-X" | "-W" | "-E" if in_set => Some(Statement::Set),
        "COMMIT" | "quit" if in_set && name.is_none() => Some(Statement::Set),
        "add" | "-A" => {
            let values = entry(argument?);
            (in_set || values.is_ok()).then(|| Statement::Entry {
                values,
                is_exception: words.any(|word| word == "nomatch"),
                comment: line.split_once("comment \"").and_then(|(_, rest)| rest.split('"').next()),
            })
        }
        _ => None,
    }
}

fn is_set_type(word: &str) -> bool {
    ["hash:", "bitmap:", "list:", "iphash", "nethash"].into_iter().any(|start| word.starts_with(start))
}

/// An address, a prefix or a range, alone or with a port.
fn entry(text: &str) -> Result<Vec<Observable>, Dropped> {
    let mut parts = text.split(',');
    let (first, second) = (parts.next().unwrap_or_default(), parts.next());
    if parts.next().is_some() {
        return Err(Dropped::new(SkipReason::UnsupportedPattern, "an entry of more than an address and a port"));
    }
    let values = match range(first) {
        Some(range) => range?,
        None => vec![
            normalise::address(first)
                .map_err(|_| Dropped::unsupported_type("an entry that is neither address, prefix nor range"))?,
        ],
    };
    let Some(port) = second else { return Ok(values) };
    // `tcp:443`: the table of endpoints does not tell protocols apart.
    let port = normalise::port(port.rsplit(':').next().unwrap_or(port))
        .map_err(|_| Dropped::unsupported_type("an address with something that is no port"))?;
    let endpoint = |value| match value {
        Observable::Ipv4(address) => Ok(Observable::Endpoint(IpAddr::V4(address), port)),
        Observable::Ipv6(address) => Ok(Observable::Endpoint(IpAddr::V6(address), port)),
        _ => Err(Dropped::new(SkipReason::UnsupportedPattern, "a prefix with a port")),
    };
    values.into_iter().map(endpoint).collect()
}

/// `192.0.2.1-192.0.2.9`, as the prefixes that cover exactly that; `None` for what is no two addresses.
pub(super) fn range(text: &str) -> Option<Result<Vec<Observable>, Dropped>> {
    let (first, last) = text.split_once('-')?;
    let (first, last): (IpAddr, IpAddr) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    Some(between(first, last))
}

/// All addresses from the first to the last.
pub(super) fn between(first: IpAddr, last: IpAddr) -> Result<Vec<Observable>, Dropped> {
    let prefixes: Vec<IpNet> = match (first, last) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        _ => return Err(Dropped::malformed("a range that ends before it starts")),
    };
    Ok(prefixes.into_iter().map(value).collect())
}

fn value(prefix: IpNet) -> Observable {
    match prefix {
        IpNet::V4(prefix) if prefix.prefix_len() == 32 => Observable::Ipv4(prefix.addr()),
        IpNet::V4(prefix) => Observable::Ipv4Prefix(prefix),
        IpNet::V6(prefix) if prefix.prefix_len() == 128 => Observable::Ipv6(prefix.addr()),
        IpNet::V6(prefix) => Observable::Ipv6Prefix(prefix),
    }
}

fn prefix(value: &Observable) -> Option<IpNet> {
    match value {
        Observable::Ipv4(address) => Some(IpNet::from(IpAddr::V4(*address))),
        Observable::Ipv6(address) => Some(IpNet::from(IpAddr::V6(*address))),
        Observable::Ipv4Prefix(prefix) => Some(IpNet::V4(*prefix)),
        Observable::Ipv6Prefix(prefix) => Some(IpNet::V6(*prefix)),
        _ => None,
    }
}

/// What the authors of a file except from its sets (`nomatch`).
#[derive(Default)]
pub(super) struct Exceptions {
    prefixes: Vec<IpNet>,
}

impl Exceptions {
    pub(super) fn add(&mut self, values: &[Observable]) {
        self.prefixes.extend(values.iter().filter_map(prefix));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.prefixes.is_empty()
    }

    /// By address, so that what lies in a prefix is one stretch; what lies in another is dropped.
    pub(super) fn sort(&mut self) {
        self.prefixes.sort_by_key(|prefix| (prefix.network(), prefix.prefix_len()));
        self.prefixes.dedup_by(|later, earlier| earlier.contains(&*later));
    }

    /// What is left of a value without them.
    pub(super) fn without(&self, observable: &Observable) -> Vec<Observable> {
        let Some(whole) = prefix(observable) else { return vec![observable.clone()] };
        // IPv4 sorts before IPv6, so those of the other family are before or behind.
        let start = self.prefixes.partition_point(|known| known.broadcast() < whole.network());
        let mut left = Vec::new();
        let mut next = Some(whole.network());
        for exception in self.prefixes.iter().skip(start).take_while(|known| known.network() <= whole.broadcast()) {
            let Some(from) = next else { break };
            if from < exception.network() {
                left.extend(step(exception.network(), -1).into_iter().flat_map(|last| between(from, last)).flatten());
            }
            next = step(exception.broadcast(), 1).filter(|next| *next <= whole.broadcast());
        }
        if let Some(from) = next {
            left.extend(between(from, whole.broadcast()).into_iter().flatten());
        }
        left
    }
}

/// The address before or after; `None` beyond the first and the last.
fn step(address: IpAddr, by: i8) -> Option<IpAddr> {
    match address {
        IpAddr::V4(address) => {
            address.to_bits().checked_add_signed(by.into()).map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits)))
        }
        IpAddr::V6(address) => {
            address.to_bits().checked_add_signed(by.into()).map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits)))
        }
    }
}
