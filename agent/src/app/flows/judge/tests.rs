use std::sync::Arc;

use agent_common::image::Seed;

use super::*;
use crate::intel::{Indicator, Origin, Place};
use crate::policy::{self, Inbound, Ruled, Ruling};
use crate::tables::{Tables, compile};

fn ruled(observable: Observable, action: policy::Action, inbound: Inbound, expires: Option<i64>) -> Ruled {
    let origin = Origin { file: "feed".into(), place: Place::Line(1) };
    Ruled {
        indicator: Arc::new(Indicator::new(vec![observable.clone()], origin)),
        observable,
        source: "feed".into(),
        action,
        inbound,
        expires: expires.map(|second| Timestamp::from_second(second).unwrap()),
        rule: "feeds.feed".into(),
        is_trial: false,
    }
}

fn compiled(ruled: Vec<Ruled>, exceptions: Vec<Observable>) -> Tables {
    compile(Ruling { ruled: ruled.into(), exceptions, ..Ruling::default() }, 7, Seed(1, 2)).unwrap()
}

fn prefix(text: &str) -> Observable {
    Observable::Ipv4Prefix(text.parse().unwrap())
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[test]
fn a_flow_is_judged_as_the_hook_at_its_begin_would() {
    use policy::Action::Block;
    let tables = compiled(
        vec![
            ruled(prefix("198.51.100.0/24"), Block, Inbound::Report, None),
            ruled(Observable::Endpoint("203.0.113.9".parse().unwrap(), 443), Block, Inbound::Block, None),
            ruled(prefix("192.0.2.0/24"), Block, Inbound::Ignore, Some(100)),
        ],
        vec![prefix("198.51.100.128/25")],
    );
    assert!(lists_addresses(&tables.image));
    let judged = |remote: &str, begun, second| {
        judge(&tables.image, remote.parse().unwrap(), begun, at(second)).map(|judged| judged.action)
    };
    use Begun::{Here, There};
    for (remote, begun, second, expected, why) in [
        ("198.51.100.7:80", Here, 1, Some(Action::Block), "the prefix"),
        ("[::ffff:198.51.100.7]:80", Here, 1, Some(Action::Block), "the same on an IPv6 socket"),
        ("198.51.100.7:80", There, 1, Some(Action::Report), "what the source says of those who connect"),
        ("198.51.100.200:80", Here, 1, None, "an exception"),
        ("198.51.101.7:80", Here, 1, None, "beside it"),
        ("203.0.113.9:443", Here, 1, Some(Action::Block), "the endpoint"),
        ("203.0.113.9:444", Here, 1, None, "another port"),
        ("203.0.113.9:443", There, 1, None, "its port is one that is connected to"),
        ("192.0.2.1:80", Here, 99, Some(Action::Block), "before it ends"),
        ("192.0.2.1:80", There, 99, Some(Action::Allow), "nothing, but the egress hook is to know"),
        ("192.0.2.1:80", Here, 100, None, "after it has ended"),
    ] {
        assert_eq!(judged(remote, begun, second), expected, "{remote}: {why}");
    }
    assert!(!lists_addresses(&compiled(Vec::new(), Vec::new()).image));
}

#[test]
fn what_is_noted_is_told_and_nothing_else_is() {
    let remote = "198.51.100.7:80".parse().unwrap();
    let nothing = nothing_remembered();
    assert!(!is_told(&nothing, remote, Verdict::Passed));
    let noted = noted(&nothing, remote, Begun::Here, 7, Verdict::Reported);
    assert!(is_told(&noted, remote, Verdict::Reported));
    assert!(
        is_told(&noted, "[::ffff:198.51.100.7]:80".parse().unwrap(), Verdict::Reported),
        "the hooks see one address"
    );
    assert!(!is_told(&noted, remote, Verdict::WouldBlock));
    assert!(!is_told(&noted, "198.51.100.7:81".parse().unwrap(), Verdict::Reported));
    assert_eq!((noted.generation, noted.flags, noted.process.loginuid), (7, 0, u32::MAX));
}

#[test]
fn the_egress_hook_is_told_of_what_the_other_end_began_unless_it_is_to_stop_it() {
    let remote = "198.51.100.7:4444".parse().unwrap();
    let flags = |begun, verdict| noted(&nothing_remembered(), remote, begun, 7, verdict).flags;
    assert_eq!(flags(Begun::There, Verdict::Reported), SocketMemory::INBOUND);
    assert_eq!(flags(Begun::There, Verdict::Passed), SocketMemory::INBOUND);
    assert_eq!(flags(Begun::There, Verdict::Blocked), 0);
    assert_eq!(flags(Begun::Here, Verdict::Reported), 0);
}
