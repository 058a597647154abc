//! The compiler and the kernel's lookups against a naive model, and what each rule of this room means by example.

mod damage;
mod kept;
mod meaning;
mod model;
mod names;
mod properties;
mod scale;
mod watched;

use std::sync::Arc;

use agent_common::image::Seed;
use jiff::Timestamp;

use super::{Bearing, Tables, compile, look_up};
use crate::intel::{Indicator, Observable, Origin, Place};
use crate::policy::{Action, Ruled, Ruling};

const SEED: Seed = Seed(0x0123_4567_89ab_cdef, 0x0f1e_2d3c_4b5a_6978);

/// A ruled value; `expires` in seconds since the epoch, 0 for never.
pub(super) fn ruled(observable: Observable, source: &str, action: Action, expires: u32) -> Ruled {
    let indicator = Indicator {
        id: Some(format!("indicator--{source}").into()),
        ..Indicator::new(vec![observable.clone()], Origin { file: source.into(), place: Place::Line(1) })
    };
    let expires = (expires != 0).then(|| Timestamp::from_second(expires.into()).unwrap());
    Ruled {
        observable,
        source: source.into(),
        action,
        inbound: action.into(),
        expires,
        rule: "feeds.test".into(),
        is_trial: false,
        indicator: Arc::new(indicator),
    }
}

fn tables(ruled: Vec<Ruled>, exceptions: Vec<Observable>) -> Tables {
    compile(Ruling { ruled: ruled.into(), exceptions, ..Ruling::default() }, 7, SEED).unwrap()
}

/// An observable from the way it is written: an endpoint, an address, a prefix, a path or a domain.
fn value(text: &str) -> Observable {
    if let Ok(address) = text.parse() {
        return match address {
            std::net::IpAddr::V4(address) => Observable::Ipv4(address),
            std::net::IpAddr::V6(address) => Observable::Ipv6(address),
        };
    }
    if let Ok(endpoint) = text.parse::<std::net::SocketAddr>() {
        return Observable::Endpoint(endpoint.ip(), endpoint.port());
    }
    match text.parse() {
        Ok(ipnet::IpNet::V4(prefix)) => Observable::Ipv4Prefix(prefix),
        Ok(ipnet::IpNet::V6(prefix)) => Observable::Ipv6Prefix(prefix),
        Err(_) if text.starts_with('/') => Observable::Path(text.into()),
        Err(_) => Observable::Domain(text.into()),
    }
}

#[test]
fn an_address_beside_0_0_0_0_is_found() {
    // Both were single addresses; 0.0.0.0 became a range, and its neighbour got a slot that nobody looked in.
    let one = |text| ruled(value(text), "one", Action::Report, 0);
    let tables = tables(vec![one("0.0.0.0"), one("0.0.0.64"), one("0.0.1.64")], Vec::new());
    for text in ["0.0.0.64", "0.0.1.64"] {
        assert!(matches!(look_up(tables.image.as_slice(), &value(text), 1), Ok(Bearing::Hit(_))), "{text}");
    }
    assert_eq!(look_up(tables.image.as_slice(), &value("0.0.0.65"), 1), Ok(Bearing::Unknown));
}
