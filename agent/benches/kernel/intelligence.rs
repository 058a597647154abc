//! Sets of random addresses, and what the policy would say of them.

use std::net::Ipv4Addr;
use std::sync::Arc;

use agent::intel::{Attribution, Indicator, Observable, Origin, Place};
use agent::policy::{Action, Ruled, Ruling};
use agent_common::image::SipHasher13;

/// Random and the same every time.
fn numbers(stream: u64) -> impl Iterator<Item = u64> {
    (0_u64..).map(move |index| {
        let mut hasher = SipHasher13::new(stream, 0);
        hasher.write(index);
        hasher.finish()
    })
}

/// Addresses that a host can be told to connect to, all over the address space.
fn unicast(stream: u64) -> impl Iterator<Item = u32> {
    let is_unicast = |address: &u32| !matches!(address >> 24, 0 | 127 | 224..);
    numbers(stream).map(|number| number as u32).filter(is_unicast)
}

/// So many distinct addresses, sorted.
pub fn listed(count: usize) -> Vec<u32> {
    let mut addresses = Vec::new();
    let mut more = unicast(1);
    while addresses.len() < count {
        addresses.extend(more.by_ref().take(count - addresses.len()));
        addresses.sort_unstable();
        addresses.dedup();
    }
    addresses
}

/// So many addresses that none of these sets has.
pub fn unlisted(count: usize, sets: &[&[u32]]) -> Vec<Ipv4Addr> {
    let is_listed = |address: &u32| sets.iter().any(|set| set.binary_search(address).is_ok());
    unicast(2).filter(|address| !is_listed(address)).take(count).map(Ipv4Addr::from).collect()
}

/// The same in an order that no list would be kept in: the worst for caches.
pub fn shuffled(addresses: &[u32]) -> Vec<u32> {
    let mut shuffled = addresses.to_vec();
    for (last, number) in (1..shuffled.len()).rev().zip(numbers(3)) {
        shuffled.swap(last, number as usize % (last + 1));
    }
    shuffled
}

/// Each address as an indicator of its own, as a plain list gives them, to be blocked for ever.
pub fn ruling(addresses: &[u32]) -> Ruling {
    let (source, rule, file): (Arc<str>, Arc<str>, Arc<str>) =
        ("bench".into(), "feeds.bench".into(), "list.txt".into());
    let attribution = Arc::new(Attribution::default());
    let ruled = (1_u32..).zip(addresses).map(|(line, address)| {
        let observable = Observable::Ipv4(Ipv4Addr::from(*address));
        let indicator = Indicator {
            id: None,
            name: None,
            observables: vec![observable.clone()],
            origin: Origin { file: Arc::clone(&file), place: Place::Line(line) },
            confidence: None,
            tlp: None,
            valid_from: None,
            valid_until: None,
            modified: None,
            references: Vec::new(),
            attribution: Arc::clone(&attribution),
        };
        Ruled {
            observable,
            source: Arc::clone(&source),
            action: Action::Block,
            inbound: Action::Block.into(),
            expires: None,
            rule: Arc::clone(&rule),
            is_trial: false,
            indicator: Arc::new(indicator),
        }
    });
    Ruling { ruled: ruled.collect(), ..Ruling::default() }
}
