//! A hit as the activity that it is of, and what was met without being listed: OCSF 1.6 Network, DNS and Process Activity with the
//! host profile; of a hit with those of a finding, too.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::super::without_unknown;
use super::{
    DNS_ACTIVITY, NETWORK_ACTIVITY, PROCESS_ACTIVITY, attack, connection, file, osints, outcome, process, product,
    query, remote, severity, type_uid, user,
};
use crate::attribute::Finding;
use crate::attribute::finding::{File, Kind, Process, Verdict};
use crate::journal::{Met, Seen};

/// Class and activity, with the words for them.
struct Class {
    uid: u32,
    name: &'static str,
    category: (u32, &'static str),
    activity: (u32, &'static str),
}

const fn network(activity: (u32, &'static str)) -> Class {
    Class { uid: NETWORK_ACTIVITY, name: "Network Activity", category: (4, "Network Activity"), activity }
}

const LAUNCH: Class = Class {
    uid: PROCESS_ACTIVITY,
    name: "Process Activity",
    category: (1, "System Activity"),
    activity: (1, "Launch"),
};
const QUERY: Class =
    Class { uid: DNS_ACTIVITY, name: "DNS Activity", category: (4, "Network Activity"), activity: (1, "Query") };

impl Class {
    fn of(finding: &Finding) -> Self {
        let is_denied = matches!(finding.verdict, Verdict::Blocked | Verdict::Killed);
        match finding.kind {
            Kind::Exec => LAUNCH,
            Kind::Dns => QUERY,
            _ if is_denied => network((5, "Refuse")),
            Kind::Connect | Kind::Accept => network((1, "Open")),
            Kind::Send | Kind::Tls | Kind::Http | Kind::Socket => network((6, "Traffic")),
        }
    }

    const fn type_uid(&self) -> u32 {
        type_uid(self.uid, self.activity.0)
    }

    /// The event, as far as all have it.
    fn event(&self, host: &str) -> Value {
        json!({
            "metadata": null,
            "category_uid": self.category.0,
            "category_name": self.category.1,
            "class_uid": self.uid,
            "class_name": self.name,
            "activity_id": self.activity.0,
            "activity_name": self.activity.1,
            "type_uid": self.type_uid(),
            "device": {"hostname": host, "type_id": 1, "type": "Server"},
        })
    }
}

/// Caption and number of the activity that a finding is of, as `type_uid` counts them.
pub(super) fn type_of(finding: &Finding) -> (String, u32) {
    let class = Class::of(finding);
    (format!("{}: {}", class.name, class.activity.1), class.type_uid())
}

fn extended(mut event: Value, more: Value) -> Value {
    if let (Value::Object(event), Value::Object(more)) = (&mut event, more) {
        event.extend(more);
    }
    without_unknown(event)
}

/// `finding` as the activity that was blocked or reported, on the host of that name.
#[must_use]
pub fn activity(finding: &Finding, host: &str) -> Value {
    let class = Class::of(finding);
    let (action, disposition) = outcome(finding.verdict);
    let (status_id, status) = match finding.verdict {
        Verdict::Blocked | Verdict::Killed => (2, "Failure"),
        Verdict::Reported | Verdict::WouldBlock => (1, "Success"),
    };
    let malware: Vec<_> =
        finding.attribution.malware.iter().map(|name| json!({"name": name, "classification_ids": [0]})).collect();
    let event = extended(
        class.event(host),
        json!({
            "metadata": {"version": super::VERSION, "uid": finding.id, "profiles": ["host", "security_control", "osint"],
                         "product": product(), "original_time": finding.time.to_string()},
            "time": finding.time.as_millisecond(),
            "start_time": finding.time.as_millisecond(),
            "end_time": finding.last_time.as_millisecond(),
            "count": finding.count,
            "severity_id": severity(finding.verdict).0,
            "severity": severity(finding.verdict).1,
            "status_id": status_id,
            "status": status,
            "is_alert": true,
            "action_id": action.0,
            "action": action.1,
            "disposition_id": disposition.0,
            "disposition": disposition.1,
            "confidence_score": finding.indicator.confidence,
            "policy": {"name": finding.policy.rule, "uid": finding.policy.serial.map(|serial| serial.to_string()),
                       "version": finding.policy.generation.to_string()},
            "firewall_rule": {"name": finding.policy.rule, "type": finding.enforced_by},
            "attacks": finding.attribution.techniques.iter().map(|id| attack(id)).collect::<Vec<_>>(),
            "malware": malware,
            "osint": osints(finding),
            "unmapped": {"retro": finding.retro.then_some(true), "container": finding.process.as_ref().and_then(|process| process.container.clone())},
        }),
    );
    let subject = if finding.kind == Kind::Exec { launched(finding) } else { reached(finding) };
    extended(event, subject)
}

/// Who did what nobody can tell of; the schema asks for somebody.
const UNKNOWN: &str = "unknown";

fn launched(finding: &Finding) -> Value {
    let caller = finding.process.as_ref();
    json!({
        "process": {
            // Without the number of its process a launch is known by its record.
            "uid": caller.is_none().then_some(&finding.id),
            "pid": caller.map(|caller| caller.pid),
            "file": finding.file.as_ref().map(file),
            "cmd_line": caller.and_then(command_line),
            "user": caller.map(user),
        },
        "actor": {"process": caller.map(process), "invoked_by": caller.is_none().then_some(UNKNOWN)},
    })
}

fn command_line(process: &Process) -> Option<String> {
    (!process.args.is_empty()).then(|| process.args.join(" "))
}

fn reached(finding: &Finding) -> Value {
    let endpoint = if finding.kind == Kind::Accept { "src_endpoint" } else { "dst_endpoint" };
    json!({
        "actor": {"process": finding.process.as_ref().map(process), "user": finding.process.as_ref().map(user)},
        endpoint: remote(finding),
        "connection_info": connection(finding),
        "query": query(finding),
    })
}

/// What a program of the host of that name met though nobody listed it then, added up.
#[must_use]
pub fn contact(seen: &Seen, host: &str) -> Value {
    let program = |path: &str, sha256: &str| {
        let known = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        file(&File { path: known(path), sha256: known(sha256), size: None })
    };
    let (class, subject) = match &seen.met {
        Met::Contact { ip, port, protocol, exe } => (
            network(if *protocol == 6 { (1, "Open") } else { (6, "Traffic") }),
            json!({
                "actor": {"process": {"pid": seen.pid, "file": (!exe.is_empty()).then(|| program(exe, ""))}},
                "dst_endpoint": {"ip": ip, "port": port},
                "connection_info": {
                    "protocol_num": protocol,
                    "protocol_ver_id": match ip { IpAddr::V4(_) => 4, IpAddr::V6(_) => 6 },
                    "direction_id": 2,
                    "direction": "Outbound",
                },
            }),
        ),
        Met::Executable { sha256, path } => (
            LAUNCH,
            json!({
                "process": {"pid": seen.pid, "file": program(path, sha256)},
                // Who started it is not kept.
                "actor": {"invoked_by": UNKNOWN},
            }),
        ),
    };
    let event = extended(
        class.event(host),
        json!({
            "metadata": {"version": super::VERSION, "profiles": ["host"], "product": product()},
            "time": seen.last.as_millisecond(),
            "start_time": seen.first.as_millisecond(),
            "end_time": seen.last.as_millisecond(),
            "count": seen.count,
            "severity_id": 1,
            "severity": "Informational",
            "status_id": 1,
            "status": "Success",
        }),
    );
    extended(event, subject)
}
