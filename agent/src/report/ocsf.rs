//! Finding → OCSF 1.6 Detection Finding with the security_control and osint profiles.
//!
//! The evidence is what the event of the activity would hold; `related_events` says which that is.

mod activity;

use std::net::IpAddr;

use serde_json::{Value, json};

pub use activity::{activity, contact};

use super::without_unknown;
use crate::attribute::Finding;
use crate::attribute::finding::{File, IndicatorRef, Kind, Process, Verdict};
use crate::intel::Tlp;

/// The schema that the mapping keeps to.
const VERSION: &str = "1.6.0";
const DETECTION_FINDING: u32 = 2004;
const NETWORK_ACTIVITY: u32 = 4001;
const DNS_ACTIVITY: u32 = 4003;
const PROCESS_ACTIVITY: u32 = 1007;
/// `activity_id` of a finding: Create, Update.
const CREATE: u32 = 1;
const UPDATE: u32 = 2;

const fn type_uid(class: u32, activity: u32) -> u32 {
    class * 100 + activity
}

/// `finding` as an OCSF Detection Finding (class 2004).
#[must_use]
pub fn ocsf(finding: &Finding) -> Value {
    // A finding that repeats were folded into is the same finding again, updated.
    let activity = if finding.count > 1 { UPDATE } else { CREATE };
    let (action, disposition) = outcome(finding.verdict);
    let (event_type, event_type_uid) = activity::type_of(finding);
    let techniques: Vec<_> = finding.attribution.techniques.iter().map(|id| attack(id)).collect();
    let malware: Vec<_> =
        finding.attribution.malware.iter().map(|name| json!({"name": name, "classification_ids": [0]})).collect();
    without_unknown(json!({
        "metadata": {
            "version": VERSION,
            "uid": finding.id,
            "profiles": ["security_control", "osint"],
            "product": product(),
            "original_time": finding.time.to_string(),
        },
        "category_uid": 2,
        "category_name": "Findings",
        "class_uid": DETECTION_FINDING,
        "class_name": "Detection Finding",
        "activity_id": activity,
        "activity_name": if activity == CREATE { "Create" } else { "Update" },
        "type_uid": type_uid(DETECTION_FINDING, activity),
        "time": finding.time.as_millisecond(),
        "start_time": finding.time.as_millisecond(),
        "end_time": finding.last_time.as_millisecond(),
        "count": finding.count,
        // Not of the schema, which keeps such things here.
        "unmapped": {"retro": finding.retro.then_some(true)},
        "severity_id": severity(finding.verdict).0,
        "severity": severity(finding.verdict).1,
        "status_id": 1,
        "status": "New",
        "is_alert": true,
        "action_id": action.0,
        "action": action.1,
        "disposition_id": disposition.0,
        "disposition": disposition.1,
        "confidence_score": finding.indicator.confidence,
        "policy": {"name": finding.policy.rule, "uid": finding.policy.serial.map(|serial| serial.to_string()),
                   "version": finding.policy.generation.to_string()},
        "finding_info": {
            "uid": finding.id,
            "title": title(finding),
            "created_time": finding.time.as_millisecond(),
            "first_seen_time": finding.time.as_millisecond(),
            "last_seen_time": finding.last_time.as_millisecond(),
            "analytic": {"name": finding.enforced_by, "type_id": 1, "type": "Rule"},
            "attacks": techniques,
            "related_events": [{"uid": finding.id, "type": event_type, "type_uid": event_type_uid}],
            "data_sources": [finding.indicator.source],
        },
        "malware": malware,
        "osint": osints(finding),
        "evidences": [evidence(finding)],
    }))
}

/// A sub-technique belongs to the technique before its dot.
fn attack(id: &str) -> Value {
    match id.split_once('.') {
        Some((technique, _)) => json!({"technique": {"uid": technique}, "sub_technique": {"uid": id}}),
        None => json!({"technique": {"uid": id}}),
    }
}

/// Action and disposition of the security_control profile, each with its caption.
const fn outcome(verdict: Verdict) -> ((u32, &'static str), (u32, &'static str)) {
    match verdict {
        Verdict::Blocked | Verdict::Killed => ((2, "Denied"), (2, "Blocked")),
        Verdict::Reported => ((3, "Observed"), (15, "Detected")),
        Verdict::WouldBlock => ((3, "Observed"), (17, "Logged")),
    }
}

/// What got through weighs more than what was stopped.
const fn severity(verdict: Verdict) -> (u32, &'static str) {
    match verdict {
        Verdict::Blocked | Verdict::Killed => (3, "Medium"),
        Verdict::Reported | Verdict::WouldBlock => (4, "High"),
    }
}

fn product() -> Value {
    json!({"name": "Cordon", "vendor_name": "Cordon", "version": env!("CARGO_PKG_VERSION")})
}

fn title(finding: &Finding) -> String {
    let what = match finding.kind {
        Kind::Connect => "Connection to",
        Kind::Send => "Datagram to",
        Kind::Accept => "Connection from",
        Kind::Dns => "Lookup of",
        Kind::Tls => "TLS to",
        Kind::Socket => "Use of",
        Kind::Http => "HTTP to",
        Kind::Exec => "Execution of",
    };
    let outcome = match finding.verdict {
        Verdict::Blocked => "blocked",
        Verdict::Killed => "killed",
        Verdict::Reported => "reported",
        Verdict::WouldBlock => "would be blocked",
    };
    format!("{what} {} {outcome}", finding.indicator.value)
}

fn evidence(finding: &Finding) -> Value {
    let container = finding.process.as_ref().and_then(|process| process.container.as_ref());
    let actor = finding.process.as_ref();
    let process = actor.map(process);
    if finding.kind == Kind::Exec {
        return json!({
            "process": process,
            "file": finding.file.as_ref().map(file),
            "container": {"uid": container},
        });
    }
    let endpoint = if finding.kind == Kind::Accept { "src_endpoint" } else { "dst_endpoint" };
    json!({
        "actor": {"process": process, "user": actor.map(user)},
        endpoint: remote(finding),
        "connection_info": connection(finding),
        "query": query(finding),
        "container": {"uid": container},
    })
}

/// The other end.
fn remote(finding: &Finding) -> Option<Value> {
    let destination = finding.destination.as_ref()?;
    Some(json!({"ip": destination.ip, "port": destination.port, "hostname": destination.domain}))
}

fn connection(finding: &Finding) -> Option<Value> {
    let destination = finding.destination.as_ref()?;
    let (direction_id, direction) = if finding.kind == Kind::Accept { (1, "Inbound") } else { (2, "Outbound") };
    Some(json!({
        "protocol_name": destination.protocol,
        "protocol_num": protocol_number(&destination.protocol),
        "protocol_ver_id": match destination.ip { IpAddr::V4(_) => 4, IpAddr::V6(_) => 6 },
        "direction_id": direction_id,
        "direction": direction,
    }))
}

/// The question, of a DNS query.
fn query(finding: &Finding) -> Option<Value> {
    let destination = finding.destination.as_ref().filter(|_| finding.kind == Kind::Dns)?;
    Some(json!({"hostname": destination.domain, "type": destination.query_type}))
}

/// Assigned internet protocol numbers (IANA); a name that is a number stands for itself.
fn protocol_number(name: &str) -> Option<u16> {
    match name {
        "icmp" => Some(1),
        "tcp" => Some(6),
        "udp" => Some(17),
        "icmpv6" => Some(58),
        "sctp" => Some(132),
        "udplite" => Some(136),
        "mptcp" => Some(262),
        number => number.parse().ok(),
    }
}

fn user(process: &Process) -> Value {
    json!({"uid": process.uid.map(|uid| uid.to_string()), "name": process.user})
}

fn process(process: &Process) -> Value {
    let executable = File { path: process.exe.clone(), sha256: process.sha256.clone(), size: None };
    let parent = process.ancestors.first().filter(|ancestor| ancestor.pid == process.ppid);
    json!({
        "pid": process.pid,
        "name": process.comm,
        "cmd_line": (!process.args.is_empty()).then(|| process.args.join(" ")),
        "file": process.exe.as_ref().map(|_| file(&executable)),
        "user": user(process),
        "parent_process": {
            "pid": process.ppid,
            "file": parent.and_then(|parent| parent.exe.as_ref()).map(|exe| {
                file(&File { path: Some(exe.clone()), sha256: None, size: None })
            }),
        },
        "lineage": process.ancestors.iter().rev().filter_map(|ancestor| ancestor.exe.clone()).collect::<Vec<_>>(),
    })
}

fn file(file: &File) -> Value {
    let name = file.path.as_deref().and_then(|path| path.rsplit('/').next());
    let hashes: Vec<_> =
        file.sha256.iter().map(|digest| json!({"algorithm_id": 3, "algorithm": "SHA-256", "value": digest})).collect();
    json!({"path": file.path, "name": name, "type_id": 1, "type": "Regular File", "size": file.size, "hashes": hashes})
}

/// The indicator that decided, then the others of that value.
fn osints(finding: &Finding) -> Vec<Value> {
    std::iter::once(&finding.indicator).chain(&finding.also).map(|indicator| osint(finding, indicator)).collect()
}

fn osint(finding: &Finding, indicator: &IndicatorRef) -> Value {
    let (type_id, type_name) = match indicator.kind.as_str() {
        "ipv4" | "ipv6" | "ipv4_prefix" | "ipv6_prefix" => (1, "IP Address"),
        "domain" => (2, "Domain"),
        "sha256" | "sha1" | "md5" => (4, "Hash"),
        "url" => (5, "URL"),
        "path" | "file_name" => (11, "File"),
        _ => (99, "Other"),
    };
    let confidence = indicator.confidence.map(|score| match score {
        0..=29 => (1, "Low"),
        30..=69 => (2, "Medium"),
        _ => (3, "High"),
    });
    // The attribution is that of the indicator that decided.
    let attribution = (indicator == &finding.indicator).then_some(&finding.attribution);
    let first = |names: fn(&crate::attribute::finding::Attribution) -> &Vec<String>| {
        attribution.and_then(|attribution| names(attribution).first()).map(|name| json!({"name": name}))
    };
    json!({
        "uid": indicator.id,
        "value": indicator.value,
        "type_id": type_id,
        "type": type_name,
        "vendor_name": indicator.source,
        "confidence_id": confidence.map(|(id, _)| id),
        "confidence": confidence.map(|(_, name)| name),
        "tlp": indicator.tlp.map(tlp),
        "expiration_time": indicator.valid_until.map(|time| time.as_millisecond()),
        "threat_actor": first(|attribution| &attribution.actors),
        "campaign": first(|attribution| &attribution.campaigns),
        "intrusion_sets": attribution.map(|attribution| attribution.actors.clone()),
        "references": attribution.map(|attribution| attribution.references.clone()),
        "labels": attribution.map(|attribution| attribution.reports.clone()),
    })
}

/// As OCSF spells the marking.
const fn tlp(tlp: Tlp) -> &'static str {
    match tlp {
        Tlp::Clear => "CLEAR",
        Tlp::Green => "GREEN",
        Tlp::Amber => "AMBER",
        Tlp::AmberStrict => "AMBER STRICT",
        Tlp::Red => "RED",
    }
}
