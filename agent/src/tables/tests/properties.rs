//! Random intelligence, every key space: each lookup says what the naive model says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};
use proptest::prelude::*;
use proptest::sample::select;

use super::model::check;
use super::{ruled, tables};
use crate::intel::Observable;
use crate::policy::{Action, Ruled};

/// Expiries are 10, 20, … 60 or never; these lie on both sides of each.
const MOMENTS: [u32; 8] = [1, 9, 10, 19, 20, 39, 59, 60];

/// Addresses that lie close together, and at the edges of /24s, /17s and the whole space.
fn ipv4() -> impl Strategy<Value = u32> {
    let bases = [0_u32, 0x0a00_0000, 0x0a00_8000, 0x0a01_0000, 0xc000_0200, 0xffff_ff00];
    (select(bases.to_vec()), prop_oneof![-3_i64..4, 250_i64..260, 0x7ffc_i64..0x8004], 0_u32..4)
        .prop_map(|(base, offset, spread)| base.wrapping_add(offset as u32).wrapping_add(spread << 6))
}

fn ipv6() -> impl Strategy<Value = u128> {
    let bases = [1_u128 << 64, 0x2001_0db8 << 96, 0x2001_0db9 << 96, 0xfe80 << 112, u128::MAX - 3];
    (select(bases.to_vec()), prop_oneof![-2_i128..4, (1_i128 << 64) - 2..(1 << 64) + 2]).prop_filter_map(
        "spells no IPv4 address",
        |(base, offset)| {
            let address = base.wrapping_add(offset as u128);
            let (high, low) = ((address >> 64) as u64, address as u64);
            let native = high != 0 && agent_common::canon::embedded_ipv4(high, low).is_none();
            native.then_some(address)
        },
    )
}

fn observable() -> impl Strategy<Value = Observable> {
    let lengths4 = select(&[0_u8, 1, 7, 8, 15, 16, 17, 18, 23, 24, 25, 26, 30, 31][..]);
    let lengths6 = select(&[1_u8, 16, 31, 32, 33, 47, 48, 63, 64, 65, 96, 126, 127][..]);
    let port = select(&[1_u16, 443, 65535][..]);
    prop_oneof![
        6 => ipv4().prop_map(|address| Observable::Ipv4(address.into())),
        6 => (ipv4(), lengths4).prop_map(|(address, length)| {
            Observable::Ipv4Prefix(Ipv4Net::new(address.into(), length).unwrap().trunc())
        }),
        3 => ipv6().prop_map(|address| Observable::Ipv6(address.into())),
        4 => (ipv6(), lengths6).prop_filter_map("covers no spelling of IPv4", |(address, length)| {
            let prefix = Ipv6Net::new(address.into(), length).unwrap().trunc();
            let spellings = ["::".parse::<Ipv6Addr>(), "2002::".parse(), "64:ff9b::".parse()];
            let covers = spellings.into_iter().any(|spelling| prefix.contains(&spelling.unwrap()));
            (!covers).then_some(Observable::Ipv6Prefix(prefix))
        }),
        2 => (ipv4(), port.clone()).prop_filter_map("not unspecified", |(address, port)| {
            (address != 0).then(|| Observable::Endpoint(Ipv4Addr::from(address).into(), port))
        }),
        2 => (ipv6(), port).prop_map(|(address, port)| Observable::Endpoint(Ipv6Addr::from(address).into(), port)),
        1 => (0_u8..4).prop_map(|byte| Observable::Sha256([byte; 32])),
        1 => (0_u8..4).prop_map(|byte| Observable::Sha1([byte; 20])),
        1 => (0_u8..4).prop_map(|byte| Observable::Md5([byte; 16])),
        2 => "(/[ab]{1,2}){1,3}".prop_map(|path| Observable::Path(path.into())),
        3 => "[ab]{1,2}(\\.[ab]{1,2}){0,3}".prop_map(|name| Observable::Domain(name.into())),
    ]
}

pub(super) fn rule() -> impl Strategy<Value = Ruled> {
    (observable(), select(&["one", "two", "three"][..]), any::<bool>(), 0_u32..7).prop_map(
        |(observable, source, blocks, expires)| {
            ruled(observable, source, if blocks { Action::Block } else { Action::Report }, expires * 10)
        },
    )
}

/// Values in, at and just outside what an observable names.
fn around(observable: &Observable) -> Vec<Observable> {
    let address4 = |address: u32| Observable::Ipv4(address.into());
    let address6 = |address: u128| Observable::Ipv6(address.into());
    let around4 = |first: u32, last: u32| {
        vec![address4(first), address4(last), address4(first.wrapping_sub(1)), address4(last.wrapping_add(1))]
    };
    match observable {
        Observable::Ipv4(address) => around4((*address).into(), (*address).into()),
        Observable::Ipv4Prefix(prefix) => around4(prefix.network().into(), prefix.broadcast().into()),
        Observable::Ipv6(address) => vec![observable.clone(), address6(u128::from(*address) ^ 1)],
        Observable::Ipv6Prefix(prefix) => {
            let (first, last) = (u128::from(prefix.network()), u128::from(prefix.broadcast()));
            [first, last, first.wrapping_sub(1), last.wrapping_add(1)].into_iter().map(address6).collect()
        }
        Observable::Endpoint(address, port) => {
            let plain = match address {
                IpAddr::V4(address) => Observable::Ipv4(*address),
                IpAddr::V6(address) => Observable::Ipv6(*address),
            };
            vec![observable.clone(), plain, Observable::Endpoint(*address, port ^ 1)]
        }
        Observable::Domain(name) => {
            let parent = name.split_once('.').map(|(_, parent)| Observable::Domain(parent.into()));
            let others = [format!("x{name}"), format!("x.{name}"), format!("{name}.x")];
            others
                .into_iter()
                .map(|name| Observable::Domain(name.into()))
                .chain(parent)
                .chain([observable.clone()])
                .collect()
        }
        Observable::Path(path) => vec![observable.clone(), Observable::Path(format!("{path}/a").into())],
        other => vec![other.clone()],
    }
}

/// Looking these up means something else: 0.0.0.0 and :: are the loopback address, others in ::/96 spell IPv4.
fn plain(value: &Observable) -> bool {
    match value {
        Observable::Ipv4(address) => !address.is_unspecified(),
        Observable::Ipv6(address) => {
            let address = u128::from(*address);
            address >> 64 != 0 && agent_common::canon::embedded_ipv4((address >> 64) as u64, address as u64).is_none()
        }
        _ => true,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_lookup_says_what_the_model_says(
        rules in prop::collection::vec(rule(), 0..60),
        exceptions in prop::collection::vec(observable(), 0..4),
        others in prop::collection::vec(observable(), 0..20),
    ) {
        let tables = tables(rules.clone(), exceptions.clone());
        let named = rules.iter().map(|ruled| &ruled.observable).chain(&exceptions).chain(&others);
        for value in named.flat_map(around).filter(plain) {
            for now in MOMENTS {
                check(&tables, &rules, &exceptions, &value, now);
            }
        }
    }

    #[test]
    fn the_order_of_intelligence_changes_nothing(
        (rules, shuffled) in prop::collection::vec(rule(), 0..40)
            .prop_flat_map(|rules| (Just(rules.clone()), Just(rules).prop_shuffle())),
    ) {
        let (one, other) = (tables(rules, Vec::new()), tables(shuffled, Vec::new()));
        prop_assert_eq!(&one.image, &other.image);
        let behind = |tables: &super::Tables, entry: u32| {
            let matched = tables.provenance.get(entry).unwrap()?;
            let all = std::iter::once(matched.primary()).chain(matched.others());
            Some(all.map(|ruled| (ruled.observable.to_string(), ruled.source.clone())).collect::<Vec<_>>())
        };
        for entry in 0..4_096 {
            prop_assert_eq!(behind(&one, entry), behind(&other, entry));
        }
    }
}
