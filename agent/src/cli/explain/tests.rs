use serde_json::json;

use super::*;

#[test]
fn the_whole_way_is_said_from_the_source_to_the_hooks() {
    let document = json!({
        "schema": 1, "value": "203.0.113.7", "type": "ipv4", "outcome": "would_block", "why": "the mode is monitor", "mode": "monitor",
        "generation": 12, "exec": null, "local_rules": [],
        "sources": [{"name": "talos", "path": "/etc/cordon/intel.d/talos", "age_seconds": 7, "error": "feed.json:3: broken", "fetch": null}],
        "indicators": [{
            "id": "indicator--1", "name": "C2 of\u{1b}[2J", "value": "203.0.113.0/24", "source": "talos", "confidence": 85, "tlp": "green",
            "action": "block", "rule": "feeds.talos", "expires": "2027-01-01T00:00:00Z", "why_not": null, "origin": "feed.json#1",
            "attribution": {"actors": ["Example Bear"], "malware": [], "reports": ["Bears of 2026"]},
            "paths": {"actors": [{"name": "Example Bear", "path": "indicates"}], "malware": []},
        }],
        "table": {"type": "ipv4_prefix", "entry": "203.0.113.0/24", "generation": 12, "expires": null},
        "hooks": [{"hook": "cgroup_connect4", "state": "attached"}, {"hook": "lsm_socket_connect", "state": "unavailable", "why": "no BPF LSM"}],
        "indicators_more": 3, "skipped_more": 0,
        "skipped": [{"source": "second", "origin": "list:7", "reason": "expired", "why": "valid_until 2019"}],
    });
    assert_eq!(
        lines(&document),
        [
            "203.0.113.7 (ipv4): would_block, because the mode is monitor",
            "  source    talos, /etc/cordon/intel.d/talos, 7 s old; its latest reading failed: feed.json:3: broken",
            "  object    indicator--1 “C2 of\\u{1b}[2J”, confidence 85, TLP green",
            "            read at feed.json#1",
            "            actors: Example Bear (indicates)",
            "            reports: Bears of 2026",
            "  rule      feeds.talos: block 203.0.113.0/24 until 2027-01-01T00:00:00Z",
            "            and 3 more indicators with the same value",
            "  table     ipv4_prefix 203.0.113.0/24, generation 12",
            "  here      monitor; looked up by cgroup_connect4",
            "            lsm_socket_connect is unavailable: no BPF LSM",
            "  not used  expired: valid_until 2019; read at list:7",
        ]
    );
}

#[test]
fn a_value_that_nobody_lists_is_said_to_pass() {
    let document = json!({"value": "192.0.2.1", "type": "ipv4", "outcome": "passed", "why": "no indicator in force matches it", "mode": "enforce",
        "hooks": [], "exec": null, "table": null, "indicators": [], "skipped": [],
        "local_rules": [{"value": "192.0.2.1", "effect": "allow", "until": null, "reason": ""}]});
    assert_eq!(
        lines(&document),
        [
            "192.0.2.1 (ipv4): passed, because no indicator in force matches it",
            "  local     allow 192.0.2.1",
            "  here      enforce; no hook of the kernel looks it up",
        ]
    );
}

#[test]
fn names_have_their_path_and_texts_are_themselves() {
    let names = json!([{"name": "Paper Heron", "path": "indicates"}, {"name": "Lamp", "path": "misp_attribute"}]);
    assert_eq!(list(&names), "Paper Heron (indicates), Lamp (misp attribute)");
    assert_eq!(list(&json!(["one", "two\n"])), "one, two\\u{a}");
    assert_eq!(list(&json!(null)), "");
}
