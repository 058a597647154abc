//! [`Observation`] → the values that one connect or exec decides.

use std::borrow::Cow;

use super::super::values::{Dropped, Reduced};
use super::{Comparison, Constant, ObjectPath, Observation, Operator, Step};
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
fn keys(path: &ObjectPath) -> Vec<&str> {
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
    match operator {
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
#[derive(Clone, Copy)]
struct Part<'a> {
    path: &'a ObjectPath,
    operator: Operator,
    constants: &'a [Constant],
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
            operator: operator @ (Operator::Equal | Operator::In | Operator::IsSubset),
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
    if parts.iter().all(|part| part.path.object == "network-traffic") {
        return endpoint(parts);
    }
    if parts.iter().all(|part| part.path.object == "file" && part.operator != Operator::IsSubset) {
        return file(parts);
    }
    let paths: Vec<String> = parts.iter().take(6).map(|part| part.path.to_string()).collect();
    Err(unsupported(format!("it needs all of {} at once", paths.join(", "))))
}

/// `dst_ref.type`, `dst_ref.value` and `dst_port` (or `src_…`): an address, or an address with a port.
fn endpoint(parts: &[Part<'_>]) -> Result<Reduced, Dropped> {
    let mut value: Option<(&str, &Part<'_>)> = None;
    let mut port: Option<(&str, &Part<'_>)> = None;
    for part in parts {
        let keys = keys(part.path);
        let (side, slot) = match keys.as_slice() {
            [side @ ("dst_ref" | "src_ref"), "type"] => (*side, None),
            [side @ ("dst_ref" | "src_ref"), "value"] => (*side, Some(&mut value)),
            ["dst_port"] => ("dst_ref", Some(&mut port)),
            ["src_port"] => ("src_ref", Some(&mut port)),
            // The address says it too; which transport is used, no table knows.
            ["protocols"] if is_address_family(part) => continue,
            _ => return Err(unsupported(format!("it needs an address and `{}` at once", part.path))),
        };
        if let Some(slot) = slot
            && slot.replace((side, part)).is_some()
        {
            return Err(unsupported(format!("`{}` is given twice in an AND", part.path)));
        }
    }
    let Some((side, value)) = value else {
        return Err(unsupported("it names no address"));
    };
    let values = test(value.path, false, value.operator, value.constants)?;
    let mut reduced = Reduced::default();
    let Some((port_side, port)) = port else {
        split(values, &mut reduced);
        return Ok(reduced);
    };
    if port_side != side {
        return Err(unsupported("its address and its port are of different ends"));
    }
    if port.operator == Operator::IsSubset {
        return Err(unsupported("ISSUBSET on a port"));
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

fn is_address_family(part: &Part<'_>) -> bool {
    part.operator == Operator::Equal
        && part
            .constants
            .iter()
            .all(|constant| matches!(constant, Constant::Text(text) if matches!(text.as_str(), "ip" | "ipv4" | "ipv6")))
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

/// Properties of one file: each digest identifies it alone; else directory and name make a path.
fn file(parts: &[Part<'_>]) -> Result<Reduced, Dropped> {
    let mut reduced = Reduced::default();
    let (mut directory, mut name) = (None, None);
    for part in parts {
        let only = if let [only] = part.constants { text_of(only) } else { None };
        match keys(part.path).as_slice() {
            ["hashes", algorithm] if hash_reader(algorithm).is_some() => {
                part.constants.iter().for_each(|constant| reduced.add(read(part.path, constant)));
            }
            ["parent_directory_ref", "path"] => directory = only,
            ["name"] => name = only,
            _ => {}
        }
    }
    if !reduced.observables.is_empty() || !reduced.dropped.is_empty() {
        return reduced.usable();
    }
    match (directory, name) {
        (Some(directory), Some(name)) if parts.len() == 2 => {
            let path = format!("{}/{name}", directory.trim_end_matches('/'));
            let value = normalise::path(&path).map_err(|error| Dropped::malformed(format!("`{path}`: {error}")))?;
            Ok(Reduced { observables: vec![value], dropped: Vec::new() })
        }
        _ => Err(unsupported("it names several properties of a file and none of them is a SHA-256, SHA-1 or MD5")),
    }
}
