//! Metrics, alerts and dashboard as Prometheus and Grafana read them. `promtool` is part of Debian's package `prometheus`.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use agent::report::metrics::exposition;
use serde_json::{Value, json};

fn packaging(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(path)
}

fn told() -> String {
    exposition(&serde_json::from_str(include_str!("../data/status.json")).unwrap()).unwrap()
}

/// What `promtool` says, with `input` on its standard input: that it is fine, or what is wrong. `None` where there is none.
fn promtool(test: &str, arguments: &[&str], input: &str) -> Option<Result<(), String>> {
    let mut command = Command::new("promtool");
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            println!("NOT RUN {test}: no promtool here: {error} (Debian: prometheus)");
            return None;
        }
    };
    // It may have ended at the first line that is wrong.
    child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    Some(if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&said).into_owned()) })
}

#[test]
fn promtool_finds_nothing_to_mend_in_the_metrics() {
    let test = "promtool_finds_nothing_to_mend_in_the_metrics";
    let Some(judged) = promtool(test, &["check", "metrics"], &told()) else { return };
    judged.unwrap();
    // The same judge finds what is wrong.
    let wrong = told().replace("cordon_hits_total", "cordon_hits");
    assert!(promtool(test, &["check", "metrics"], &wrong).unwrap().unwrap_err().contains("_total"));
}

#[test]
fn every_alert_is_valid_and_fires_when_it_should() {
    let test = "every_alert_is_valid_and_fires_when_it_should";
    let rules = packaging("prometheus/cordon.rules.yml");
    let Some(judged) = promtool(test, &["check", "rules", rules.to_str().unwrap()], "") else { return };
    judged.unwrap();
    let acted = packaging("prometheus/cordon.rules.test.yml");
    promtool(test, &["test", "rules", acted.to_str().unwrap()], "").unwrap().unwrap();
    let acted = fs::read_to_string(acted).unwrap();
    for alert in fs::read_to_string(&rules).unwrap().split("alert: ").skip(1) {
        let alert = alert.lines().next().unwrap();
        assert!(acted.contains(&format!("alertname=\"{alert}\"")), "{alert} is not acted out");
    }
}

/// Words of a query that begin as our metrics do.
fn metrics_in(query: &str) -> BTreeSet<String> {
    let words = query.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    words.filter(|word| word.starts_with("cordon_")).map(str::to_owned).collect()
}

/// All names that are exposed.
fn known() -> BTreeSet<String> {
    let told = told();
    told.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).map(str::to_owned).collect()
}

fn dashboard() -> Value {
    serde_json::from_str(&fs::read_to_string(packaging("grafana/cordon.json")).unwrap()).unwrap()
}

fn queries(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap().iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    panels.map(|target| target["expr"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn alerts_and_dashboard_ask_only_for_metrics_that_there_are() {
    let known = known();
    let rules = fs::read_to_string(packaging("prometheus/cordon.rules.yml")).unwrap();
    let expressions = rules.lines().filter_map(|line| line.trim().strip_prefix("expr: ")).map(str::to_owned);
    let asked: Vec<String> = expressions.chain(queries(&dashboard())).collect();
    assert!(asked.len() > 30, "{asked:?}");
    for query in asked {
        let unknown: Vec<_> = metrics_in(&query).difference(&known).cloned().collect();
        assert!(unknown.is_empty(), "{unknown:?} in {query}");
        assert!(query.contains("cordon_") || query.contains("up{"), "{query}");
    }
    for variable in dashboard()["templating"]["list"].as_array().unwrap() {
        let query = variable["query"]["query"].as_str().unwrap_or_default();
        assert!(metrics_in(query).is_subset(&known), "{query}");
    }
}

#[test]
fn every_query_of_the_dashboard_is_valid() {
    let test = "every_query_of_the_dashboard_is_valid";
    let rules: Vec<Value> = queries(&dashboard())
        .iter()
        .enumerate()
        .map(|(n, query)| {
            let query = query.replace("$__rate_interval", "5m").replace("$__range", "1d");
            json!({"record": format!("query:{n}"), "expr": query})
        })
        .collect();
    // JSON is YAML.
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), json!({"groups": [{"name": "dashboard", "rules": rules}]}).to_string()).unwrap();
    let Some(judged) = promtool(test, &["check", "rules", file.path().to_str().unwrap()], "") else { return };
    judged.unwrap();
}

/// What Grafana would otherwise mend in silence, or show wrong.
#[test]
fn the_dashboard_is_whole() {
    let dashboard = dashboard();
    let panels = dashboard["panels"].as_array().unwrap();
    let mut ids = BTreeSet::new();
    let mut taken = BTreeSet::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is there twice");
        assert!(!panel["description"].as_str().unwrap().is_empty(), "{title}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{title}");
        let [x, y, w, h] = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().unwrap());
        assert!(x + w <= 24, "{title} is wider than a dashboard");
        for cell in (x..x + w).flat_map(|x| (y..y + h).map(move |y| (x, y))) {
            assert!(taken.insert(cell), "{title} lies over another panel");
        }
        let mut references = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(references.insert(target["refId"].as_str().unwrap()), "{title}");
            assert!(
                target["expr"].as_str().unwrap().contains("instance=~\"$instance\""),
                "{title} ignores the choice of hosts"
            );
        }
    }
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    let names: Vec<&str> = variables.iter().map(|variable| variable["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["datasource", "job", "instance"]);
}
