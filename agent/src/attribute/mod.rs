//! Observation and provenance → [`Finding`] (pure).

mod behaviour;
pub mod finding;

use std::net::IpAddr;

use uuid::Uuid;

use crate::enrich::{Observation, ProcessDetails};
use crate::event::{Action, Hook, Verdict as KernelVerdict};
use crate::intel::Name;
use crate::policy::Ruled;

pub use finding::Finding;
use finding::{Ancestor, Attribution, Destination, File, IndicatorRef, Kind, Paths, PolicyRef, Process, Verdict};

/// Whose intelligence an entry is: what decides, and whatever else has the same value.
#[derive(Clone, Debug, Default)]
pub struct Behind<'a> {
    /// What decides; `None` when the generation is gone and its value is in no later one.
    pub primary: Option<&'a Ruled>,
    /// Others for the same value, strongest first.
    pub others: Vec<&'a Ruled>,
    /// How many more have the same value.
    pub beyond: u32,
    /// Of the organisation's policy that the generation was made under.
    pub serial: Option<u64>,
}

/// The finding that a matched event amounts to; `None` for an event that nothing matched. `count` is 1 for the event itself.
#[must_use]
pub fn attribute(observation: &Observation, behind: &Behind<'_>, count: u64) -> Option<Finding> {
    let event = &observation.event;
    let matched = event.matched?;
    let verdict = verdict(event.verdict, behind)?;
    let (kind, destination, file) = match &event.action {
        Action::Network { address, port, local_port, protocol, .. } => {
            let kind = match event.hook {
                Hook::Sendmsg4 | Hook::Sendmsg6 | Hook::SocketSendmsg | Hook::Egress => Kind::Send,
                Hook::Setsockopt => Kind::Socket,
                Hook::Ingress => Kind::Accept,
                Hook::LiveFlow if *local_port != 0 => Kind::Accept,
                _ => Kind::Connect,
            };
            (kind, Some(to(*address, *port, *protocol)), None)
        }
        Action::Socket { .. } => (Kind::Socket, None, None),
        Action::Name { name, query_type, address, port, protocol } => {
            let destination = Destination {
                domain: (!name.is_empty()).then(|| name.clone()),
                query_type: query_type.map(query_type_name),
                ..to(*address, *port, *protocol)
            };
            let kind = match event.hook {
                Hook::EgressTls => Kind::Tls,
                Hook::EgressHttp => Kind::Http,
                _ => Kind::Dns,
            };
            (kind, Some(destination), None)
        }
        Action::Exec { path, sha256, stamp, .. } => {
            let file = File {
                path: (!path.is_empty()).then(|| path.clone()),
                sha256: sha256.as_ref().map(|digest| hexadecimal(digest)),
                size: Some(stamp.size),
            };
            (Kind::Exec, None, Some(file))
        }
    };
    Some(Finding {
        schema: 1,
        id: id(observation),
        host: None,
        time: observation.time,
        kind,
        verdict,
        enforced_by: hook_name(event.hook).to_owned(),
        process: (event.task.key.pid != 0).then(|| process(&observation.process)),
        destination,
        local_port: match event.action {
            Action::Network { local_port, .. } if local_port != 0 => Some(local_port),
            _ => None,
        },
        file,
        indicator: match matched.behaviour() {
            Some(behaviour) => behaviour::indicator(behaviour, &event.action),
            None => behind.primary.map_or_else(unknown, indicator),
        },
        also: behind.others.iter().copied().map(indicator).collect(),
        also_more: behind.beyond,
        attribution: behind.primary.map(attribution).unwrap_or_default(),
        policy: PolicyRef {
            generation: matched.generation,
            serial: behind.serial,
            rule: match (matched.behaviour(), behind.primary) {
                (Some(behaviour), _) => behaviour::rule(behaviour).to_owned(),
                (None, Some(ruled)) => ruled.rule.to_string(),
                (None, None) => "unknown".to_owned(),
            },
        },
        retro: false,
        count,
        last_time: observation.time,
    })
}

/// What was done; `None` for nothing that is to be told.
fn verdict(verdict: KernelVerdict, behind: &Behind<'_>) -> Option<Verdict> {
    Some(match verdict {
        KernelVerdict::Passed => return None,
        KernelVerdict::Blocked => Verdict::Blocked,
        KernelVerdict::Killed => Verdict::Killed,
        // The kernel let it pass because its rule is on trial.
        KernelVerdict::Reported if behind.primary.is_some_and(|ruled| ruled.is_trial) => Verdict::WouldBlock,
        KernelVerdict::Reported => Verdict::Reported,
        KernelVerdict::WouldBlock => Verdict::WouldBlock,
    })
}

/// The name of a hook, as `enforced_by` and `cordon status` print it.
#[must_use]
pub const fn hook_name(hook: Hook) -> &'static str {
    match hook {
        Hook::Connect4 => "cgroup_connect4",
        Hook::Connect6 => "cgroup_connect6",
        Hook::Sendmsg4 => "cgroup_sendmsg4",
        Hook::Sendmsg6 => "cgroup_sendmsg6",
        Hook::SchedProcessExec => "sched_process_exec",
        Hook::BprmCheck => "lsm_bprm_check_security",
        Hook::BprmCheckIma => "lsm_bprm_check_security_ima",
        Hook::MmapFile => "lsm_mmap_file",
        Hook::SelfProtection => "lsm_self_protection",
        Hook::FanotifyOpenExec => "fanotify_open_exec",
        Hook::Scan => "scan",
        Hook::Setsockopt => "cgroup_setsockopt",
        Hook::Egress => "cgroup_egress",
        Hook::SockCreate => "cgroup_sock_create",
        Hook::SocketConnect => "lsm_socket_connect",
        Hook::SocketSendmsg => "lsm_socket_sendmsg",
        Hook::SocketCreate => "lsm_socket_create",
        Hook::Ingress => "cgroup_ingress",
        Hook::LiveFlow => "live_flow",
        Hook::EgressDns => "cgroup_egress_dns",
        Hook::EgressTls => "cgroup_egress_tls",
        Hook::EgressHttp => "cgroup_egress_http",
        Hook::IngressDns => "cgroup_ingress_dns",
    }
}

/// What a record says of an indicator.
#[must_use]
pub fn indicator(ruled: &Ruled) -> IndicatorRef {
    let value = ruled.observable.to_string();
    IndicatorRef {
        id: ruled.indicator.id.as_ref().map_or_else(|| format!("{}:{value}", ruled.source), ToString::to_string),
        kind: ruled.observable.type_name().to_owned(),
        value,
        source: ruled.source.to_string(),
        confidence: ruled.indicator.confidence,
        tlp: ruled.indicator.tlp.map(|(tlp, _)| tlp),
        valid_until: ruled.expires,
    }
}

/// What a record says of who is behind an indicator.
#[must_use]
pub fn attribution(ruled: &Ruled) -> Attribution {
    let known = &ruled.indicator.attribution;
    let names = |names: &[Name]| {
        let mut found: Vec<String> = Vec::with_capacity(names.len());
        for name in names {
            if !found.contains(&name.name) {
                found.push(name.name.clone());
            }
        }
        found
    };
    Attribution {
        actors: names(&known.actors),
        campaigns: names(&known.campaigns),
        malware: names(&known.malware),
        techniques: names(&known.techniques),
        reports: known.reports.clone(),
        references: known.references.iter().chain(&ruled.indicator.references).cloned().collect(),
        paths: Paths {
            actors: known.actors.clone(),
            campaigns: known.campaigns.clone(),
            malware: known.malware.clone(),
            techniques: known.techniques.clone(),
        },
    }
}

/// A UUID version 7 of the hit's own time, so that ids sort as times do; what makes it unique is what makes the hit so, not
/// chance, for this room reads no random source.
fn id(observation: &Observation) -> String {
    let event = &observation.event;
    let matched = event.matched.map_or((0, 0), |matched| (matched.generation, matched.entry));
    let identity = format!("{event:?} {matched:?}");
    let named = Uuid::new_v5(&Uuid::NAMESPACE_OID, identity.as_bytes());
    let mut tail = [0; 10];
    tail.copy_from_slice(&named.as_bytes()[..10]);
    let milliseconds = u64::try_from(observation.time.as_millisecond()).unwrap_or(0);
    uuid::Builder::from_unix_timestamp_millis(milliseconds, &tail).into_uuid().to_string()
}

/// An entry of a generation that nobody remembers. Never guessed.
fn unknown() -> IndicatorRef {
    IndicatorRef {
        id: "unknown".to_owned(),
        kind: "unknown".to_owned(),
        value: "unknown".to_owned(),
        source: "unknown".to_owned(),
        confidence: None,
        tlp: None,
        valid_until: None,
    }
}

fn process(details: &ProcessDetails) -> Process {
    Process {
        pid: details.pid,
        ppid: details.ppid,
        uid: (details.uid != u32::MAX).then_some(details.uid),
        user: details.user.clone(),
        exe: details.exe.clone(),
        comm: details.comm.clone(),
        args: details.args.clone(),
        sha256: details.sha256.as_ref().map(|digest| hexadecimal(digest)),
        unit: details.unit.clone(),
        container: details.container.clone(),
        ancestors: details
            .ancestors
            .iter()
            .map(|ancestor| Ancestor { pid: ancestor.pid, exe: ancestor.exe.clone() })
            .collect(),
    }
}

fn to(ip: IpAddr, port: u16, protocol: u16) -> Destination {
    Destination { ip, port, protocol: protocol_name(protocol), domain: None, query_type: None }
}

/// An IP protocol as records name it; one without a name by its number.
#[must_use]
pub fn protocol_name(protocol: u16) -> String {
    match protocol {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        136 => "udplite".to_owned(),
        262 => "mptcp".to_owned(),
        other => other.to_string(),
    }
}

/// As the IANA registry of DNS resource record types has it, or as RFC 3597 §5 writes an unknown one.
fn query_type_name(number: u16) -> String {
    let known = match number {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        _ => return format!("TYPE{number}"),
    };
    known.to_owned()
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests;
