//! A journal of a made-up week, the same each time: documentation addresses, fictional actors, and names that strangers chose badly.

use std::path::Path;

use agent::attribute::Finding;
use agent::health::Health;
use agent::journal::{Entry, Journal, Limits, Loss, LossReason};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// The end of the week.
pub const UNTIL: &str = "2026-11-23T20:00:00Z";
/// What a stranger would like to be run.
pub const EVIL: &str = "/tmp/<script>alert('x')</script>\"&\u{1b}[2J";

/// Value, type, source, confidence, actor, malware, technique.
type Listed = (
    &'static str,
    &'static str,
    &'static str,
    Option<u8>,
    Option<&'static str>,
    Option<&'static str>,
    Option<&'static str>,
);

const LISTED: [Listed; 11] = [
    ("203.0.113.0/24", "ipv4_prefix", "talos", Some(85), Some("Example Bear"), Some("ExampleRAT"), Some("T1071.001")),
    ("c2.example", "domain", "misp-circle", Some(95), Some("Example Bear"), Some("ExampleRAT"), Some("T1568.002")),
    ("198.51.100.23", "ipv4", "misp-circle", Some(70), Some("Fictional Spider"), Some("MadeUpLoader"), Some("T1105")),
    ("2001:db8:bad::/48", "ipv6_prefix", "talos", Some(60), Some("Fictional Spider"), None, Some("T1041")),
    ("cdn.shared.example", "domain", "open-list", Some(20), None, None, None),
    ("192.0.2.77", "ipv4", "open-list", None, None, None, None),
    ("pool.coins.example", "domain", "open-list", Some(55), None, Some("ExampleMiner"), Some("T1496")),
    (
        "2f4a9d0c7be15c8ae1d5f0a3b9c8e7d6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c0",
        "sha256",
        "talos",
        Some(99),
        Some("Example Bear"),
        Some("ExampleRAT"),
        Some("T1059.004"),
    ),
    (
        "[198.51.100.99]:4444",
        "endpoint",
        "csirt",
        Some(80),
        Some("Imaginary Panda"),
        Some("ExampleShell"),
        Some("T1095"),
    ),
    ("update.made-up.example", "domain", "csirt", Some(75), Some("Imaginary Panda"), None, Some("T1195.002")),
    ("github.com", "domain", "open-list", Some(30), None, None, Some("T1102")),
];

/// Path, user, unit.
const PROGRAMS: [(&str, &str, Option<&str>); 6] = [
    ("/usr/bin/curl", "www-data", Some("nginx.service")),
    ("/usr/bin/python3.13", "app", Some("worker@2.service")),
    ("/usr/sbin/dovecot", "mail", Some("dovecot.service")),
    ("/usr/lib/jvm/java-21-openjdk-amd64/bin/java", "jenkins", Some("jenkins.service")),
    ("/opt/vendor/agent/bin/telemetry-forwarder", "root", Some("vendor-agent.service")),
    (EVIL, "build", None),
];

/// Number `n` of the week's records.
pub fn finding(n: u64) -> Finding {
    // Some indicators are met more often than others, and in bursts.
    let listed = LISTED[(n * n + n / 3) as usize % LISTED.len()];
    let (exe, user, unit) = PROGRAMS[(n / 11) as usize % if listed.2 == "open-list" { 6 } else { 3 }];
    let until: Timestamp = UNTIL.parse().unwrap();
    let burst = SignedDuration::from_hours(((n / 9) * 31 % 166) as i64);
    let time = until - burst - SignedDuration::from_secs((n * 397 % 3500) as i64 + 60);
    let count = 1 + n % 5 * (n % 3) * 4;
    let is_exec = listed.1 == "sha256";
    let verdict = match (listed.2, n % 13) {
        ("open-list", _) => "would_block",
        (_, 0) => "reported",
        _ if is_exec => "killed",
        _ => "blocked",
    };
    let attribution = |name: Option<&str>| name.map_or_else(|| json!([]), |name| json!([name]));
    let destination = json!({"ip": "203.0.113.7", "port": 443, "protocol": "tcp", "domain": (listed.1 == "domain").then_some(listed.0)});
    let also = (n.is_multiple_of(4)).then(|| json!([{"id": "x", "type": listed.1, "value": listed.0, "source": "csirt", "confidence": null, "tlp": null, "valid_until": null}]));
    serde_json::from_value(json!({
        "schema": 1, "id": format!("019ab1c2-0000-7000-8000-{n:012x}"), "time": time, "kind": if is_exec { "exec" } else { "connect" }, "verdict": verdict,
        "enforced_by": "cgroup_connect4",
        "process": {"pid": 1000 + n % 70, "ppid": 1, "uid": 33, "user": user, "exe": exe, "comm": "x", "args": [exe], "sha256": null, "unit": unit,
                    "container": null, "ancestors": []},
        "destination": if is_exec { Value::Null } else { destination },
        "file": if is_exec { json!({"path": "/tmp/.x/payload", "sha256": listed.0, "size": 4096}) } else { Value::Null },
        "indicator": {"id": "indicator--1", "type": listed.1, "value": listed.0, "source": listed.2, "confidence": listed.3, "tlp": "green", "valid_until": null},
        "also": also.unwrap_or_else(|| json!([])),
        "attribution": {"actors": attribution(listed.4), "campaigns": [], "malware": attribution(listed.5), "techniques": attribution(listed.6),
                        "reports": [], "references": []},
        "policy": {"generation": 1, "serial": null, "rule": format!("feeds.{}", listed.2)},
        "count": count, "last_time": time + SignedDuration::from_secs(if count > 1 { 59 } else { 0 }),
    }))
    .unwrap()
}

/// Writes the journal below `root`, where `cordon --root` looks for it.
pub fn journal(root: &Path) {
    let (mut journal, until) = (empty_journal(root), UNTIL.parse::<Timestamp>().unwrap());
    let mut findings: Vec<Finding> = (0..400).map(finding).collect();
    findings.sort_by_key(|finding| finding.time);
    journal.append(&findings).unwrap();
    let from = until - SignedDuration::from_hours(30);
    let loss = Loss { reason: LossReason::RingFull, count: 1204, from, to: from + SignedDuration::from_secs(2) };
    journal.write(&[Entry::Loss(loss)]).unwrap();
    journal.close();
}

/// A journal without a record.
pub fn empty_journal(root: &Path) -> Journal {
    // The week lies at a fixed date, however long ago that is.
    let limits = Limits { max_age_hours: 1000 * 365 * 24, ..Limits::default() };
    Journal::open(&root.join("var/log/cordon"), limits, &Health::new()).unwrap()
}
