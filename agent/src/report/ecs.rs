//! Finding → Elastic Common Schema 8.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::without_unknown;
use crate::attribute::Finding;
use crate::attribute::finding::{File, IndicatorRef, Kind, Process, Verdict};
use crate::intel::Tlp;

/// The schema that the mapping keeps to.
const VERSION: &str = "8.17.0";

/// `finding` as an ECS document of `event.kind` alert.
#[must_use]
pub fn ecs(finding: &Finding) -> Value {
    let actor = finding.process.as_ref();
    let attribution = &finding.attribution;
    let is_denied = matches!(finding.verdict, Verdict::Blocked | Verdict::Killed);
    let (category, mut types) = match finding.kind {
        Kind::Exec => ("process", vec!["start"]),
        _ => ("network", vec!["connection"]),
    };
    types.push(if is_denied { "denied" } else { "allowed" });
    let enrichments: Vec<_> =
        std::iter::once(&finding.indicator).chain(&finding.also).map(|other| enrichment(finding, other)).collect();
    let mut document = json!({
        "@timestamp": finding.time.to_string(),
        "ecs": {"version": VERSION},
        "message": format!(
            "{} {} {}",
            name(&finding.kind).as_str().unwrap_or_default(),
            finding.indicator.value,
            name(&finding.verdict).as_str().unwrap_or_default()
        ),
        "event": {
            "id": finding.id,
            "kind": "alert",
            "category": [category, "threat"],
            "type": types,
            "action": name(&finding.kind),
            "outcome": if is_denied { "failure" } else { "success" },
            "module": "cordon",
            "dataset": "cordon.hit",
            "start": finding.time.to_string(),
            "end": finding.last_time.to_string(),
        },
        "observer": {"product": "Cordon", "vendor": "Cordon", "version": env!("CARGO_PKG_VERSION")},
        "rule": {"name": finding.policy.rule, "version": finding.policy.generation.to_string()},
        "process": actor.map(process),
        "user": actor.map(|process| json!({"id": process.uid.map(|uid| uid.to_string()), "name": process.user})),
        "service": {"name": actor.and_then(|process| process.unit.as_ref())},
        "container": {"id": actor.and_then(|process| process.container.as_ref())},
        "file": finding.file.as_ref().map(file),
        "threat": {
            "enrichments": enrichments,
            "group": {"name": attribution.actors.first()},
            "software": {"name": attribution.malware.first()},
            "technique": techniques(finding),
        },
        "related": related(finding),
        "cordon": {
            "verdict": name(&finding.verdict),
            "count": finding.count,
            "retro": finding.retro.then_some(true),
            "enforced_by": finding.enforced_by,
            "actors": attribution.actors,
            "campaigns": attribution.campaigns,
            "malware": attribution.malware,
            "reports": attribution.reports,
            "policy_serial": finding.policy.serial,
        },
    });
    add_network(finding, &mut document);
    without_unknown(document)
}

fn add_network(finding: &Finding, document: &mut Value) {
    if let (Some(destination), Value::Object(members)) = (&finding.destination, document) {
        let is_inbound = finding.kind == Kind::Accept;
        members.insert(
            if is_inbound { "source" } else { "destination" }.to_owned(),
            json!({"ip": destination.ip, "port": destination.port, "domain": destination.domain,
                   "address": destination.domain.clone().unwrap_or_else(|| destination.ip.to_string())}),
        );
        members.insert(
            "dns".to_owned(),
            match finding.kind {
                Kind::Dns => json!({"type": "query",
                    "question": {"name": destination.domain, "type": destination.query_type}}),
                _ => Value::Null,
            },
        );
        members.insert(
            "network".to_owned(),
            json!({
                "transport": destination.protocol,
                "type": match destination.ip { IpAddr::V4(_) => "ipv4", IpAddr::V6(_) => "ipv6" },
                "direction": if is_inbound { "ingress" } else { "egress" },
                "protocol": match finding.kind {
                    Kind::Dns => Some("dns"),
                    Kind::Tls => Some("tls"),
                    Kind::Http => Some("http"),
                    _ => None,
                },
            }),
        );
    }
}

/// The name that the record itself uses.
fn name(value: &impl serde::Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

fn process(process: &Process) -> Value {
    let parent = process.ancestors.first().filter(|ancestor| ancestor.pid == process.ppid);
    json!({
        "pid": process.pid,
        "name": process.comm,
        "executable": process.exe,
        "args": process.args,
        "args_count": (!process.args.is_empty()).then_some(process.args.len()),
        "command_line": (!process.args.is_empty()).then(|| process.args.join(" ")),
        "hash": {"sha256": process.sha256},
        "parent": {"pid": process.ppid, "executable": parent.and_then(|parent| parent.exe.clone())},
    })
}

fn file(file: &File) -> Value {
    json!({
        "path": file.path,
        "name": file.path.as_deref().and_then(|path| path.rsplit('/').next()),
        "size": file.size,
        "hash": {"sha256": file.sha256},
    })
}

/// A sub-technique belongs to the technique before its dot.
fn techniques(finding: &Finding) -> Value {
    let (with_dot, without): (Vec<_>, Vec<_>) =
        finding.attribution.techniques.iter().cloned().partition(|id| id.contains('.'));
    let mut ids = without;
    for id in &with_dot {
        let parent = id.split('.').next().unwrap_or(id).to_owned();
        if !ids.contains(&parent) {
            ids.push(parent);
        }
    }
    json!({"id": ids, "subtechnique": {"id": with_dot}})
}

fn related(finding: &Finding) -> Value {
    let digests: Vec<_> = [
        finding.process.as_ref().and_then(|process| process.sha256.clone()),
        finding.file.as_ref().and_then(|file| file.sha256.clone()),
    ]
    .into_iter()
    .flatten()
    .collect();
    json!({
        "ip": finding.destination.iter().map(|destination| destination.ip).collect::<Vec<_>>(),
        "hosts": finding.destination.iter().filter_map(|destination| destination.domain.clone()).collect::<Vec<_>>(),
        "user": finding.process.iter().filter_map(|process| process.user.as_ref()).collect::<Vec<_>>(),
        "hash": digests,
    })
}

fn enrichment(finding: &Finding, indicator: &IndicatorRef) -> Value {
    let value = &indicator.value;
    let (field, atomic) = match finding.kind {
        Kind::Exec if indicator.kind == "path" || indicator.kind == "file_name" => {
            ("file.path", finding.file.as_ref().and_then(|file| file.path.clone()))
        }
        Kind::Exec => ("file.hash.sha256", finding.file.as_ref().and_then(|file| file.sha256.clone())),
        Kind::Dns => ("dns.question.name", finding.destination.as_ref().and_then(|d| d.domain.clone())),
        Kind::Tls | Kind::Http => {
            ("destination.domain", finding.destination.as_ref().and_then(|destination| destination.domain.clone()))
        }
        Kind::Accept => ("source.ip", finding.destination.as_ref().map(|destination| destination.ip.to_string())),
        Kind::Connect | Kind::Send | Kind::Socket => {
            ("destination.ip", finding.destination.as_ref().map(|destination| destination.ip.to_string()))
        }
    };
    // The attribution is that of the indicator that decided.
    let reference = finding.attribution.references.first().filter(|_| indicator == &finding.indicator);
    let mut described = Map::new();
    let kind = match indicator.kind.as_str() {
        "ipv4" | "ipv4_prefix" => "ipv4-addr",
        "ipv6" | "ipv6_prefix" => "ipv6-addr",
        "endpoint" if value.starts_with('[') => "ipv6-addr",
        "endpoint" => "ipv4-addr",
        "domain" => "domain-name",
        "url" => "url",
        _ => "file",
    };
    described.insert("type".to_owned(), json!(kind));
    described.insert("name".to_owned(), json!(value));
    described.insert("provider".to_owned(), json!(indicator.source));
    described.insert("reference".to_owned(), json!(reference));
    described.insert("marking".to_owned(), json!({"tlp": indicator.tlp.map(tlp)}));
    // The scale of STIX 2.1 Appendix A, "None / Low / Med / High", as ECS takes it.
    let confidence = indicator.confidence.map(|score| match score {
        0 => "None",
        1..=29 => "Low",
        30..=69 => "Medium",
        _ => "High",
    });
    described.insert("confidence".to_owned(), json!(confidence));
    match kind {
        "ipv4-addr" | "ipv6-addr" if !value.contains('/') => {
            let (ip, port) = value
                .parse::<std::net::SocketAddr>()
                .map_or_else(|_| (value.clone(), None), |address| (address.ip().to_string(), Some(address.port())));
            described.insert("ip".to_owned(), json!(ip));
            described.insert("port".to_owned(), json!(port));
        }
        "domain-name" => {
            described.insert("url".to_owned(), json!({"domain": value}));
        }
        "url" => {
            described.insert("url".to_owned(), json!({"full": value}));
        }
        "file" if matches!(indicator.kind.as_str(), "sha256" | "sha1" | "md5") => {
            described.insert("file".to_owned(), json!({"hash": {indicator.kind.as_str(): value}}));
        }
        "file" if indicator.kind == "path" => {
            described.insert("file".to_owned(), json!({"path": value}));
        }
        "file" => {
            described.insert("file".to_owned(), json!({"name": value}));
        }
        _ => {}
    }
    json!({
        "indicator": described,
        "matched": {"id": indicator.id, "field": field, "atomic": atomic, "type": "indicator_match_rule"},
    })
}

/// As ECS spells the marking.
const fn tlp(tlp: Tlp) -> &'static str {
    match tlp {
        Tlp::Clear => "CLEAR",
        Tlp::Green => "GREEN",
        Tlp::Amber => "AMBER",
        Tlp::AmberStrict => "AMBER+STRICT",
        Tlp::Red => "RED",
    }
}
