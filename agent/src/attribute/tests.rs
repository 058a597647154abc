use std::sync::Arc;

use jiff::Timestamp;

use super::*;
use crate::event::{Event, Match, ProcessKey, Task};
use crate::intel::{self, Indicator, Observable, Origin, Path, Place, Tlp, TlpOrigin};
use crate::policy;

fn ruled() -> Ruled {
    let name = |name: &str, path| Name { name: name.into(), path };
    Ruled {
        observable: Observable::Ipv4([192, 0, 2, 7].into()),
        source: Arc::from("lab"),
        action: policy::Action::Block,
        inbound: policy::Inbound::Block,
        expires: None,
        rule: Arc::from("feeds.lab"),
        is_trial: false,
        indicator: Arc::new(Indicator {
            confidence: Some(85),
            tlp: Some((Tlp::Green, TlpOrigin::Own)),
            attribution: Arc::new(intel::Attribution {
                actors: vec![name("Paper Heron", Path::Indicates), name("Paper Heron", Path::Report)],
                references: vec!["https://example.net/heron".into()],
                ..intel::Attribution::default()
            }),
            references: vec!["https://example.net/heron/7".into()],
            ..Indicator::new(Vec::new(), Origin { file: Arc::from("lab.txt"), place: Place::Line(3) })
        }),
    }
}

fn observation(verdict: KernelVerdict, matched: bool) -> Observation {
    Observation {
        event: Event {
            boot_ns: 5,
            hook: Hook::Sendmsg4,
            verdict,
            matched: matched.then_some(Match { generation: 3, entry: 9 }),
            task: Task {
                key: ProcessKey { pid: 7, start_boot_ns: 1 },
                tid: 7,
                ppid: 1,
                uid: 0,
                gid: 0,
                loginuid: None,
                cgroup_id: 1,
                comm: "curl".into(),
            },
            action: Action::Network {
                address: IpAddr::from([192, 0, 2, 7]),
                port: 53,
                local_port: 0,
                protocol: 17,
                socket_type: 2,
            },
        },
        time: Timestamp::UNIX_EPOCH,
        process: ProcessDetails { pid: 7, ..ProcessDetails::default() },
    }
}

#[test]
fn a_hit_says_whose_intelligence_it_was() {
    let ruled = ruled();
    let behind = Behind { primary: Some(&ruled), others: vec![&ruled], beyond: 4, serial: Some(44) };
    let finding = attribute(&observation(KernelVerdict::Blocked, true), &behind, 1).unwrap();
    assert_eq!((finding.kind, finding.verdict), (Kind::Send, Verdict::Blocked));
    assert_eq!(finding.enforced_by, "cgroup_sendmsg4");
    assert_eq!(finding.indicator.id, "lab:192.0.2.7", "a format without ids gets one from source and value");
    assert_eq!(finding.indicator.tlp, Some(Tlp::Green));
    assert_eq!(finding.attribution.actors, ["Paper Heron"], "a name is given once, whatever paths lead to it");
    assert_eq!(finding.attribution.references, ["https://example.net/heron", "https://example.net/heron/7"]);
    assert_eq!(finding.policy.rule, "feeds.lab");
    assert_eq!(finding.destination.unwrap().protocol, "udp");
    assert_eq!((finding.also.len(), finding.also_more), (1, 4));
}

#[test]
fn what_nothing_matched_is_no_finding() {
    assert_eq!(attribute(&observation(KernelVerdict::Blocked, false), &Behind::default(), 1), None);
    assert_eq!(attribute(&observation(KernelVerdict::Passed, true), &Behind::default(), 1), None);
}

#[test]
fn an_entry_that_nobody_remembers_is_unknown_and_not_guessed() {
    let finding = attribute(&observation(KernelVerdict::Blocked, true), &Behind::default(), 1).unwrap();
    assert_eq!((finding.indicator.id.as_str(), finding.policy.rule.as_str()), ("unknown", "unknown"));
    assert_eq!(finding.policy.generation, 3);
}

#[test]
fn ids_tell_hits_apart_and_sort_by_time() {
    let id_at = |boot_ns, second| {
        let mut observation = observation(KernelVerdict::Blocked, true);
        observation.event.boot_ns = boot_ns;
        observation.time = Timestamp::from_second(second).unwrap();
        attribute(&observation, &Behind::default(), 1).unwrap().id
    };
    assert_ne!(id_at(1, 10), id_at(2, 10));
    assert!(id_at(9, 10) < id_at(1, 11));
}
