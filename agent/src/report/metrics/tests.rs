use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;

use agent_common::wire::Counter;
use serde_json::json;

use super::*;

fn full() -> Value {
    serde_json::from_str(include_str!("../../../tests/data/status.json")).unwrap()
}

/// docs/metrics.md: what it says before and after the table is its own.
fn page_with(table: &str, page: &str) -> String {
    let (begin, end) = ("<!-- metrics -->\n", "<!-- /metrics -->");
    let (before, rest) = page.split_once(begin).unwrap();
    let (_, after) = rest.split_once(end).unwrap();
    format!("{before}{begin}{table}{end}{after}")
}

fn table() -> String {
    let mut table = String::from("| name | type | unit | labels | what |\n|---|---|---|---|---|\n");
    for metric in METRICS {
        let kind = if metric.kind == Kind::Counter { "counter" } else { "gauge" };
        let labels: Vec<String> = metric.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, unit, labels) = (metric.name, metric.unit, labels.join(" "));
        writeln!(table, "| `{name}` | {kind} | {unit} | {labels} | {} |", metric.help).unwrap();
    }
    table
}

/// A name and its labels.
type Series = (String, Vec<String>);

/// Of each sample its name and its labels, of each family its type: as a scraper sees them.
fn exposed(text: &str) -> (BTreeSet<(String, String)>, BTreeSet<Series>) {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let samples = text.lines().filter(|line| !line.starts_with('#')).map(|line| {
        let (series, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap();
        let (name, labels) = series.trim_end_matches('}').split_once('{').unwrap_or((series, ""));
        let labels = labels.split("\",").filter(|label| !label.is_empty());
        (name.to_owned(), labels.map(|label| label.split_once('=').unwrap().0.to_owned()).collect())
    });
    (types.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect(), samples.collect())
}

#[test]
fn the_page_for_people_is_what_is_exposed() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = std::fs::read_to_string(&path).unwrap();
    let expected = page_with(&table(), &page);
    if std::env::var_os("CORDON_BLESS").is_some() {
        std::fs::write(&path, &expected).unwrap();
    } else {
        assert_eq!(page, expected, "docs/metrics.md is stale: run this test with CORDON_BLESS=1");
    }
    let rows: Vec<Vec<&str>> = expected
        .lines()
        .filter(|line| line.starts_with("| `cordon_"))
        .map(|line| line.trim_matches('|').split(" | ").map(|cell| cell.trim().trim_matches('`')).collect())
        .collect();
    let (types, samples) = exposed(&exposition(&full()).unwrap());
    let told: BTreeSet<_> = rows.iter().map(|row| (row[0].to_owned(), row[1].to_owned())).collect();
    assert_eq!(types, told);
    let labels = |row: &Vec<&str>| row[3].split_whitespace().map(|label| label.trim_matches('`').to_owned()).collect();
    let told: BTreeSet<Series> = rows.iter().map(|row| (row[0].to_owned(), labels(row))).collect();
    assert_eq!(samples, told);
}

#[test]
fn what_a_status_says_is_what_is_exposed() {
    let text = exposition(&full()).unwrap();
    for line in [
        "cordon_build_info{version=\"0.1.0\"} 1.0",
        "cordon_mode{mode=\"enforce\"} 1.0",
        "cordon_mode{mode=\"monitor\"} 0.0",
        "cordon_generation 12.0",
        "cordon_generation_hits{state=\"unrecorded\"} 2.0",
        "cordon_policy_serial 44.0",
        "cordon_source_indicators{source=\"talos\",outcome=\"block\"} 790.0",
        "cordon_source_up{source=\"talos\"} 1.0",
        "cordon_source_up{source=\"isac\"} 0.0",
        "cordon_hook_attached{hook=\"cgroup_connect4\"} 1.0",
        "cordon_hook_attached{hook=\"lsm_bprm\"} 0.0",
        "cordon_hits_total{verdict=\"blocked\"} 17.0",
        "cordon_journal_lost_total{reason=\"queue_full\"} 1204.0",
        "cordon_journal_lost_total{reason=\"disk_full\"} 0.0",
        "cordon_fault{number=\"C014\"} 1.0",
        "cordon_fault{number=\"C001\"} 0.0",
        "cordon_stage_idle_seconds{stage=\"journal\"} 0.25",
        "cordon_sightings_withheld_total{destination=\"isac\",reason=\"tlp\"} 2.0",
    ] {
        assert!(text.lines().any(|told| told == line), "{line}\n{text}");
    }
    assert!(!text.contains("cgroup_ingress"), "a hook that is not wanted is not missing");
}

/// All that the kernel and the agent count is told: of each count that is 1 more, something exposed is 1 more.
#[test]
fn every_count_of_the_kernel_and_of_the_agent_has_a_metric() {
    let before = exposition(&full()).unwrap();
    let kernel = Counter::ALL.iter().map(|(_, name)| ("counters", (*name).to_owned()));
    let agent = counted_in(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")));
    assert!(agent.len() >= 12, "{agent:?}");
    for (place, name) in kernel.chain(agent.into_iter().map(|name| ("losses", name))) {
        let mut status = full();
        let count = status[place][&name].as_u64().unwrap_or(0);
        status[place][&name] = json!(count + 1);
        assert_ne!(exposition(&status).unwrap(), before, "no metric tells `{name}`: add it to METRICS");
    }
}

/// The names in `counter("…")` in the sources; of what is formatted, each that there can be.
fn counted_in(folder: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            names.extend(counted_in(&path));
        } else if !path.ends_with("tests.rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let plain = text.split(".counter(\"").skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            names.extend(plain);
            for rest in text.split(".counter(&format!(\"").skip(1) {
                let prefix = rest.split('{').next().unwrap();
                let ends: Vec<&str> = match prefix {
                    "journal.lost." => crate::journal::LossReason::ALL.map(crate::journal::LossReason::name).to_vec(),
                    "exec_guard." => vec!["asked", "denied", "unjudged"],
                    _ => panic!("{}: say here which counts begin with `{prefix}`", path.display()),
                };
                names.extend(ends.into_iter().map(|end| format!("{prefix}{end}")));
            }
        }
    }
    names
}

#[test]
fn an_agent_that_is_switched_off_says_so_and_counts_nothing() {
    let text = exposition(&json!({
        "schema": 1, "version": "0.1.0", "mode": "off", "off": {"until": "2026-11-24T10:00:00Z", "reason": "test"},
        "generation": null, "pins": "/sys/fs/bpf/cordon", "hooks": [], "sources": [], "counters": {}, "faults": [],
    }))
    .unwrap();
    assert!(text.contains("cordon_mode{mode=\"off\"} 1.0\n") && !text.contains("_total"), "{text}");
    assert!(exposition(&json!({"schema": 1})).is_err());
}

/// What the endpoint answers to a request.
async fn asked(socket: &Path, request: &'static str) -> String {
    let socket = socket.to_owned();
    let asked = tokio::task::spawn_blocking(move || {
        let mut stream = UnixStream::connect(socket).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    });
    asked.await.unwrap()
}

#[tokio::test]
async fn the_endpoint_answers_its_path_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("metrics.sock");
    let endpoint = Endpoint::bind(&Listen::Unix(socket.clone()), None).await.unwrap();
    assert_eq!(
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions()) & 0o777,
        0o600
    );
    let again = Endpoint::bind(&Listen::Unix(socket.clone()), None).await.unwrap_err();
    assert_eq!(again.kind(), std::io::ErrorKind::AddrInUse);
    let serving = tokio::spawn(endpoint.serve(|| async { Ok("cordon_generation 1\n".to_owned()) }));
    let answer = asked(&socket, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\ncordon_generation 1\n"), "{answer}");
    assert!(answer.contains("content-type: text/plain; version=0.0.4; charset=utf-8\r\n"), "{answer}");
    let refused = asked(&socket, "POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 405 ") && refused.contains("allow: GET, HEAD\r\n"), "{refused}");
    assert!(asked(&socket, "GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.0 404 "));
    assert!(asked(&socket, "\x16\x03\x01\x02\r\n\r\n").await.starts_with("HTTP/1.1 400 "));
    serving.abort();
    assert!(serving.await.unwrap_err().is_cancelled() && !socket.exists());
}

#[tokio::test]
async fn only_a_socket_that_nobody_listens_on_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join("metrics.sock");
    drop(std::os::unix::net::UnixListener::bind(&place).unwrap());
    drop(Endpoint::bind(&Listen::Unix(place.clone()), None).await.unwrap());
    std::fs::write(&place, "somebody's").unwrap();
    let refused = Endpoint::bind(&Listen::Unix(place.clone()), None).await.unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::AlreadyExists);
    assert_eq!(std::fs::read_to_string(&place).unwrap(), "somebody's");
}
