//! [`Observation`] → the values that one connect or exec decides.

use std::borrow::Cow;

use super::super::values::{Dropped, Reduced};
use super::program::{self, Unfit};
use super::{Comparison, Constant, ObjectPath, Observation, Operator, Step, name};
use crate::intel::normalise::{self, Invalid};
use crate::intel::{Observable, SkipReason};

fn unsupported(why: impl Into<Cow<'static, str>>) -> Dropped {
    Dropped::new(SkipReason::UnsupportedPattern, why)
}

/// Reduces a pattern to values. Of an OR the alternatives that can be decided are kept, and the others named.
#[must_use]
pub fn reduce(observation: &Observation) -> Reduced {
    let mut reduced = Reduced::default();
    observe(observation, &mut reduced);
    reduced
}

fn observe(observation: &Observation, reduced: &mut Reduced) {
    match observation {
        Observation::One(comparison) => compare(comparison, reduced),
        Observation::Or(items) => items.iter().for_each(|item| observe(item, reduced)),
        Observation::And(_) => {
            reduced.dropped.push(unsupported("it needs several observations (AND between brackets)"))
        }
        Observation::FollowedBy(_) => reduced.dropped.push(unsupported("it needs observations in order (FOLLOWEDBY)")),
        Observation::Qualified(..) => {
            reduced.dropped.push(unsupported("it is qualified by time or number (WITHIN, REPEATS, START … STOP)"));
        }
    }
}

fn compare(comparison: &Comparison, reduced: &mut Reduced) {
    match comparison {
        Comparison::Or(items) => items.iter().for_each(|item| compare(item, reduced)),
        Comparison::And(items) => match conjunction(items) {
            Ok(found) => {
                reduced.observables.extend(found.observables);
                reduced.dropped.extend(found.dropped);
            }
            Err(reason) => reduced.dropped.push(reason),
        },
        Comparison::Test { path, negated, operator, constants } => match test(path, *negated, *operator, constants) {
            Ok(results) => {
                for result in results {
                    match result {
                        Ok(value) => reduced.observables.push(value),
                        Err(reason) => reduced.dropped.push(reason),
                    }
                }
            }
            Err(reason) => reduced.dropped.push(reason),
        },
    }
}

/// The keys of a path, without list indices: `hashes.SHA-256`.
pub(super) fn keys(path: &ObjectPath) -> Vec<&str> {
    path.steps.iter().filter_map(|step| if let Step::Key(key) = step { Some(key.as_str()) } else { None }).collect()
}

type Reader = fn(&str) -> Result<Observable, Invalid>;

fn hash_reader(algorithm: &str) -> Option<Reader> {
    match algorithm.to_ascii_uppercase().replace(['-', '_'], "").as_str() {
        "SHA256" => Some(normalise::sha256),
        "SHA1" => Some(normalise::sha1),
        "MD5" => Some(normalise::md5),
        _ => None,
    }
}

/// How the constant of a path is read; `None` for what no hook sees.
fn reader(path: &ObjectPath) -> Option<Reader> {
    match (path.object.as_str(), keys(path).as_slice()) {
        ("ipv4-addr" | "ipv6-addr", ["value"]) => Some(normalise::address),
        // A reference may lead to a name as well as to an address.
        ("network-traffic", ["dst_ref" | "src_ref", "value"]) | ("domain-name", ["value"]) => Some(address_or_domain),
        ("url", ["value"]) => Some(normalise::url),
        ("file", ["hashes", algorithm]) | ("process", ["image_ref" | "binary_ref", "hashes", algorithm]) => {
            hash_reader(algorithm)
        }
        ("file" | "process", ["name"]) | ("process", ["image_ref" | "binary_ref", "name"]) => {
            Some(normalise::file_name)
        }
        ("file", ["path"]) => Some(normalise::path),
        _ => None,
    }
}

fn address_or_domain(text: &str) -> Result<Observable, Invalid> {
    normalise::address(text).or_else(|_| normalise::domain(text))
}

fn text_of(constant: &Constant) -> Option<String> {
    match constant {
        Constant::Text(text) => Some(text.clone()),
        Constant::Integer(number) => Some(number.clone()),
        _ => None,
    }
}

fn read(path: &ObjectPath, constant: &Constant) -> Result<Observable, Dropped> {
    let reader = reader(path)
        .ok_or_else(|| Dropped::unsupported_type(format!("`{path}` is nothing that a connect or exec shows")))?;
    let text =
        text_of(constant).ok_or_else(|| Dropped::malformed(format!("`{path}` is compared with what is no text")))?;
    reader(&text).map_err(|error| {
        let text: String = text.chars().take(100).collect();
        Dropped::malformed(format!("`{text}`: {error}"))
    })
}

type Values = Vec<Result<Observable, Dropped>>;

/// The values of one comparison, if its operator can be decided by looking a value up.
fn test(path: &ObjectPath, negated: bool, operator: Operator, constants: &[Constant]) -> Result<Values, Dropped> {
    if negated {
        return Err(unsupported(format!("`NOT {}` on `{path}` is no list of values", operator.text())));
    }
    let is_address = matches!(path.object.as_str(), "ipv4-addr" | "ipv6-addr" | "network-traffic");
    let of_program = || program(&[Part { path, operator, constants }]);
    match operator {
        Operator::Equal | Operator::In if is_command_line(path) => {
            let each = |constant: &Constant| {
                let constants = std::slice::from_ref(constant);
                program(&[Part { path, operator: Operator::Equal, constants }])
            };
            Ok(constants.iter().map(each).collect())
        }
        Operator::Like | Operator::Matches if path.object == "domain-name" => {
            Ok(constants.iter().map(|constant| named(path, operator, constant)).collect())
        }
        Operator::Like | Operator::Matches if is_of_program(path) => Ok(vec![of_program()]),
        Operator::Equal | Operator::In => {
            if constants.is_empty() {
                return Err(Dropped::malformed("IN with an empty list"));
            }
            if reader(path).is_none() && path.object == "network-traffic" {
                return Err(unsupported(format!("`{path}` says nothing without an address")));
            }
            Ok(constants.iter().map(|constant| read(path, constant)).collect())
        }
        Operator::IsSubset if is_address && reader(path).is_some() => {
            Ok(constants.iter().map(|constant| read(path, constant)).collect())
        }
        _ => Err(unsupported(format!("`{}` on `{path}` is no list of values", operator.text()))),
    }
}

/// A comparison inside an AND, if it is a plain one.
type Part<'a> = program::Test<'a>;

fn is_command_line(path: &ObjectPath) -> bool {
    path.object == "process" && keys(path) == ["command_line"]
}

fn is_of_program(path: &ObjectPath) -> bool {
    matches!(path.object.as_str(), "process" | "file")
}

/// What must hold of a program that is executed.
fn program(parts: &[Part<'_>]) -> Result<Observable, Dropped> {
    program::value(parts).map_err(|unfit| match unfit {
        Unfit::NoText(_) => Dropped::malformed(unfit.to_string()),
        Unfit::Property(_) if parts.len() == 1 => Dropped::unsupported_type(unfit.to_string()),
        Unfit::Everything(_) => Dropped::new(SkipReason::TooBroad, unfit.to_string()),
        _ => unsupported(unfit.to_string()),
    })
}

/// A domain name and what is below it, where a pattern of the name says just that.
fn named(path: &ObjectPath, operator: Operator, constant: &Constant) -> Result<Observable, Dropped> {
    let text = text_of(constant).unwrap_or_default();
    let name = match operator {
        Operator::Like => name::like(&text).map(str::to_owned),
        _ => name::matches(&text),
    };
    let name = name.ok_or_else(|| {
        unsupported(format!("`{}` on `{path}` stands for more or less than one name and all below it", operator.text()))
    })?;
    read(path, &Constant::Text(name))
}

/// How many ANDs an AND of ORs may be.
const MAX_CONJUNCTIONS: usize = 1024;

/// All ways in which the comparisons can hold: an AND of ORs is an OR of ANDs.
fn expand<'a>(items: &'a [Comparison]) -> Result<Vec<Vec<Part<'a>>>, Dropped> {
    let mut ways: Vec<Vec<Part<'a>>> = vec![Vec::new()];
    for item in items {
        let more = alternatives(item)?;
        if ways.len() * more.len() > MAX_CONJUNCTIONS {
            return Err(unsupported("it is an AND of too many ORs"));
        }
        let both = |way: &Vec<Part<'a>>| more.iter().map(|other| [&way[..], &other[..]].concat()).collect::<Vec<_>>();
        ways = ways.iter().flat_map(both).collect();
    }
    Ok(ways)
}

fn alternatives(comparison: &Comparison) -> Result<Vec<Vec<Part<'_>>>, Dropped> {
    match comparison {
        Comparison::And(items) => expand(items),
        Comparison::Or(items) => {
            let ways: Vec<_> = items.iter().map(alternatives).collect::<Result<_, _>>()?;
            Ok(ways.into_iter().flatten().collect())
        }
        Comparison::Test {
            path,
            negated: false,
            operator:
                operator @ (Operator::Equal | Operator::In | Operator::IsSubset | Operator::Like | Operator::Matches),
            constants,
        } => Ok(vec![vec![Part { path, operator: *operator, constants }]]),
        Comparison::Test { path, operator, .. } => {
            Err(unsupported(format!("it is an AND with `{}` on `{path}`", operator.text())))
        }
    }
}

/// An AND. Of the ways in which it can hold those that can be decided are kept.
fn conjunction(items: &[Comparison]) -> Result<Reduced, Dropped> {
    let mut reduced = Reduced::default();
    for way in expand(items)? {
        match all_of(&way) {
            Ok(found) => {
                reduced.observables.extend(found.observables);
                reduced.dropped.extend(found.dropped);
            }
            Err(reason) => reduced.dropped.push(reason),
        }
    }
    Ok(reduced)
}

fn all_of(parts: &[Part<'_>]) -> Result<Reduced, Dropped> {
    let only = |object: &str| parts.iter().all(|part| part.path.object == object);
    let is_plain = parts.iter().all(|part| matches!(part.operator, Operator::Equal | Operator::In));
    if only("network-traffic") {
        return endpoint(parts);
    }
    if let Some((directory, name)) = program::directory_and_name(parts) {
        return path(directory, name);
    }
    if only("file") && is_plain {
        return file(parts);
    }
    if only("file") || only("process") {
        return Ok(Reduced { observables: vec![program(parts)?], dropped: Vec::new() });
    }
    let paths: Vec<String> = parts.iter().take(6).map(|part| part.path.to_string()).collect();
    Err(unsupported(format!("it needs all of {} at once", paths.join(", "))))
}

/// What a pattern says of one end of a connection.
#[derive(Default)]
struct Peer<'a> {
    side: &'a str,
    value: Option<&'a Part<'a>>,
    port: Option<&'a Part<'a>>,
    /// Types of which the value must be, once for each time that the pattern says so.
    types: Vec<Vec<&'a str>>,
}

impl<'a> Peer<'a> {
    fn of(parts: &'a [Part<'a>]) -> Result<Self, Dropped> {
        let mut peer = Self::default();
        for part in parts {
            let keys = keys(part.path);
            let (side, slot) = match keys.as_slice() {
                [side @ ("dst_ref" | "src_ref"), "type"] => {
                    peer.types.push(texts(part)?);
                    (*side, None)
                }
                [side @ ("dst_ref" | "src_ref"), "value"] => (*side, Some(&mut peer.value)),
                ["dst_port"] => ("dst_ref", Some(&mut peer.port)),
                ["src_port"] => ("src_ref", Some(&mut peer.port)),
                ["protocols"] => {
                    peer.types.push(families(part)?);
                    continue;
                }
                _ => return Err(unsupported(format!("it needs an address and `{}` at once", part.path))),
            };
            if !peer.side.is_empty() && peer.side != side {
                return Err(unsupported(
                    "it is about both ends of a connection, of which only the other one is looked up",
                ));
            }
            peer.side = side;
            if slot.is_some_and(|slot| slot.replace(part).is_some()) {
                return Err(unsupported(format!("`{}` is given twice in an AND", part.path)));
            }
        }
        Ok(peer)
    }

    /// The value, unless the pattern also says that it is of another type.
    fn typed(&self, constant: &Constant, value: Observable) -> Result<Observable, Dropped> {
        let is_v6 = text_of(constant).is_some_and(|text| text.contains(':'));
        let kind = match value {
            Observable::Domain(_) => "domain-name",
            _ if is_v6 => "ipv6-addr",
            _ => "ipv4-addr",
        };
        match self.types.iter().find(|types| !types.contains(&kind)) {
            Some(types) => Err(unsupported(format!("`{value}` is never of the type {}", types.join(" or ")))),
            None => Ok(value),
        }
    }
}

fn texts<'a>(part: &'a Part<'_>) -> Result<Vec<&'a str>, Dropped> {
    let text = |constant: &'a Constant| if let Constant::Text(text) = constant { Some(text.as_str()) } else { None };
    let texts: Option<Vec<_>> = part.constants.iter().map(text).collect();
    match (part.operator, texts) {
        (Operator::Equal | Operator::In, Some(texts)) => Ok(texts),
        (operator, _) => Err(unsupported(format!("it is an AND with `{}` on `{}`", operator.text(), part.path))),
    }
}

/// The types of address that protocols stand for. Which transport is used, and what is spoken over it, no table's key says.
fn families(part: &Part<'_>) -> Result<Vec<&'static str>, Dropped> {
    let mut types = Vec::new();
    for protocol in texts(part)? {
        match protocol {
            "ip" => types.extend(["ipv4-addr", "ipv6-addr"]),
            "ipv4" => types.push("ipv4-addr"),
            "ipv6" => types.push("ipv6-addr"),
            other => {
                let other: String = other.chars().take(40).collect();
                let why = format!(
                    "it needs an address and the protocol `{other}` at once; a table's key is an address, or an address and a port"
                );
                return Err(unsupported(why));
            }
        }
    }
    Ok(types)
}

/// `dst_ref.type`, `dst_ref.value` and `dst_port` (or `src_…`): an address, or an address with a port.
fn endpoint(parts: &[Part<'_>]) -> Result<Reduced, Dropped> {
    let peer = Peer::of(parts)?;
    let Some(value) = peer.value else {
        return Err(unsupported("it names no address"));
    };
    let values = test(value.path, false, value.operator, value.constants)?;
    let typed = |(value, constant): (Result<Observable, Dropped>, &Constant)| peer.typed(constant, value?);
    let values: Values = values.into_iter().zip(value.constants).map(typed).collect();
    let mut reduced = Reduced::default();
    let Some(port) = peer.port else {
        split(values, &mut reduced);
        return Ok(reduced);
    };
    if !matches!(port.operator, Operator::Equal | Operator::In) {
        return Err(unsupported(format!("`{}` on a port", port.operator.text())));
    }
    for number in port.constants {
        let number = text_of(number).ok_or_else(|| Dropped::malformed("the port is no number"))?;
        match normalise::port(&number) {
            Ok(number) => split(values.iter().cloned().map(|value| with_port(value?, number)).collect(), &mut reduced),
            Err(error) => reduced.dropped.push(Dropped::malformed(format!("`{number}`: {error}"))),
        }
    }
    Ok(reduced)
}

fn with_port(value: Observable, port: u16) -> Result<Observable, Dropped> {
    match value {
        Observable::Ipv4(address) => Ok(Observable::Endpoint(address.into(), port)),
        Observable::Ipv6(address) => Ok(Observable::Endpoint(address.into(), port)),
        other => Err(unsupported(format!("a {} with a port", other.type_name()))),
    }
}

fn split(values: Values, reduced: &mut Reduced) {
    for value in values {
        match value {
            Ok(value) => reduced.observables.push(value),
            Err(reason) => reduced.dropped.push(reason),
        }
    }
}

/// Properties of one file, of which each digest identifies it alone.
fn file(parts: &[Part<'_>]) -> Result<Reduced, Dropped> {
    let mut reduced = Reduced::default();
    let mut algorithms = Vec::new();
    for part in parts {
        if !matches!(keys(part.path).as_slice(), ["hashes", algorithm] if hash_reader(algorithm).is_some()) {
            continue;
        }
        // No file has two digests of one kind.
        if algorithms.contains(&part.path) {
            return Err(unsupported(format!("`{}` is given twice in an AND", part.path)));
        }
        algorithms.push(part.path);
        part.constants.iter().for_each(|constant| reduced.add(read(part.path, constant)));
    }
    if algorithms.is_empty() {
        return Err(unsupported("it names several properties of a file and none of them is a SHA-256, SHA-1 or MD5"));
    }
    reduced.usable()
}

fn path(directory: &str, name: &str) -> Result<Reduced, Dropped> {
    let path = format!("{}/{name}", directory.trim_end_matches('/'));
    let value = normalise::path(&path).map_err(|error| Dropped::malformed(format!("`{path}`: {error}")))?;
    Ok(Reduced { observables: vec![value], dropped: Vec::new() })
}
