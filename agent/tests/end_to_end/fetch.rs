//! Sources that are fetched: from servers that serve, break, hang and come back.

use serde_json::Value;

use crate::sandbox::{Sandbox, connect, is_blocked};
use crate::web::{Mood, Web};

fn settings(web: &Web, more: &str) -> String {
    format!(
        r#"
mode = "enforce"
[never_block]
host = false
[exec]
guard = false
[[source]]
name = "lab"
path = "/etc/cordon/intel.d"
allow_reserved = true
[[source]]
name = "feed"
url = "{}"
allow_reserved = true
{more}
"#,
        web.url()
    )
}

fn serves(text: &str) -> Mood {
    Mood::Serves(text.to_owned())
}

/// What `status` says of the source `feed`.
fn feed(sandbox: &Sandbox) -> Value {
    let status = sandbox.json(&["status", "--json"]);
    let sources = status["sources"].as_array().unwrap();
    sources.iter().find(|source| source["name"] == "feed").unwrap().clone()
}

fn fault(sandbox: &Sandbox, number: &str) -> Option<Value> {
    let status = sandbox.json(&["status", "--json"]);
    status["faults"].as_array().unwrap().iter().find(|fault| fault["number"] == number).cloned()
}

#[test]
fn what_is_fetched_blocks_follows_its_server_and_outlives_it() {
    let web = Web::new(serves("127.31.0.1\n"));
    let mut sandbox = Sandbox::new(&settings(&web, "interval = \"1s\""));
    sandbox.start();
    sandbox.wait_for("the first fetch", |_| is_blocked(&connect("127.31.0.1:0")).then_some(()));
    connect("127.31.0.2:0").unwrap();
    web.turn(serves("127.31.0.2\n"));
    sandbox.wait_for("the change", |_| is_blocked(&connect("127.31.0.2:0")).then_some(()));
    connect("127.31.0.1:0").unwrap();

    web.turn(serves("<html>sign in</html>"));
    let raised = sandbox.wait_for("the fault", |sandbox| fault(sandbox, "C014"));
    assert_eq!(raised["subject"], "feed");
    assert!(raised["detail"].as_str().unwrap().contains("an HTML page"), "{raised}");
    assert!(is_blocked(&connect("127.31.0.2:0")), "the last good set must stay");
    let source = feed(&sandbox);
    assert_eq!((&source["indicators"], &source["error"]), (&Value::from(1), &Value::Null), "{source}");
    assert!(source["fetch"]["error"].is_string() && source["fetch"]["succeeded"].is_string(), "{source}");
    assert!(source["fetch"]["failures"].as_u64().unwrap() > 0 && source["fetch"]["next"].is_string(), "{source}");

    drop(web);
    sandbox.stop();
    sandbox.start();
    assert!(is_blocked(&connect("127.31.0.2:0")), "what was fetched is in force before any server is asked");
}

#[test]
fn a_server_that_hangs_holds_up_nothing() {
    let web = Web::new(Mood::Hangs);
    let mut sandbox = Sandbox::new(&settings(&web, ""));
    sandbox.intel("lab.txt", "127.7.7.7\n");
    sandbox.start();
    sandbox.wait_for("the fetch to hang", |sandbox| (feed(sandbox)["fetch"]["running"] == true).then_some(()));
    assert!(is_blocked(&connect("127.7.7.7:0")));
    sandbox.record("the hit", |record| record["indicator"]["source"] == "lab");
    sandbox.intel("lab.txt", "127.7.7.8\n");
    sandbox.wait_for("the change of a local file", |_| is_blocked(&connect("127.7.7.8:0")).then_some(()));
    sandbox.json(&["reload", "--json"]);
    assert_eq!(feed(&sandbox)["fetch"]["running"], true);
    assert!(sandbox.stop().success());
}

#[test]
fn a_stale_source_reports_until_it_is_fetched_again() {
    let web = Web::new(serves("127.31.0.3\n"));
    let mut sandbox = Sandbox::new(&settings(&web, "interval = \"1s\"\nstale_after = \"3s\""));
    sandbox.start();
    sandbox.wait_for("the first fetch", |_| is_blocked(&connect("127.31.0.3:0")).then_some(()));
    web.turn(Mood::Fails("500 broken"));
    sandbox.wait_for("the source to go stale", |_| connect("127.31.0.3:0").ok());
    assert_eq!(fault(&sandbox, "C015").unwrap()["subject"], "feed");
    let record = sandbox.record("the report", |record| record["verdict"] == "reported");
    assert_eq!(record["indicator"]["source"], "feed");
    web.turn(serves("127.31.0.3\n"));
    sandbox.wait_for("the same content, fetched again", |_| is_blocked(&connect("127.31.0.3:0")).then_some(()));
    assert_eq!((fault(&sandbox, "C015"), fault(&sandbox, "C014")), (None, None));
}

#[test]
fn refresh_fetches_now_and_says_what_goes_wrong() {
    let web = Web::new(serves("127.31.0.4\n"));
    let mut sandbox = Sandbox::new(&settings(&web, ""));
    sandbox.start();
    sandbox.wait_for("the first fetch", |_| is_blocked(&connect("127.31.0.4:0")).then_some(()));
    web.turn(serves("127.31.0.5\n"));
    sandbox.json(&["intel", "refresh", "feed", "--json"]);
    assert!(is_blocked(&connect("127.31.0.5:0")), "in force when the verb has ended");
    web.turn(Mood::Fails("403 no"));
    let refused = sandbox.cordon(&["intel", "refresh"]);
    assert_eq!(refused.status.code(), Some(1));
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("feed: http://127.0.0.1") && said.contains("403 Forbidden"), "{said}");
    let unknown = sandbox.cordon(&["intel", "refresh", "fed"]);
    assert!(String::from_utf8(unknown.stderr).unwrap().contains("there is no source `fed`"));
    let listed = sandbox.cordon(&["intel", "list"]);
    let text = String::from_utf8(listed.stdout).unwrap();
    assert!(text.contains(&web.url()) && text.contains("403 Forbidden"), "{text}");
}

#[test]
fn an_indicator_that_names_our_own_upstream_is_said_and_can_be_allowed() {
    let web = Web::new(serves("127.31.0.6\n"));
    let url = web.url();
    let upstream = url.trim_start_matches("http://").trim_end_matches("/feed");
    let mut sandbox = Sandbox::new(&settings(&web, ""));
    sandbox.intel("lab.txt", upstream);
    sandbox.start();
    let refused = sandbox.cordon(&["intel", "refresh", "feed"]);
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("Operation not permitted"), "{said}");
    sandbox.json(&["allow", upstream, "--json"]);
    sandbox.json(&["intel", "refresh", "feed", "--json"]);
    assert!(is_blocked(&connect("127.31.0.6:0")));
}

#[test]
fn a_source_that_moves_is_fetched_at_once_and_inherits_nothing() {
    let (old, new) = (Web::new(serves("127.31.0.7\n")), Web::new(serves("127.31.0.8\n")));
    let mut sandbox = Sandbox::new(&settings(&old, ""));
    sandbox.start();
    sandbox.wait_for("the first fetch", |_| is_blocked(&connect("127.31.0.7:0")).then_some(()));
    std::fs::write(sandbox.root.path().join("etc/cordon/cordon.toml"), settings(&new, "")).unwrap();
    sandbox.json(&["reload", "--json"]);
    connect("127.31.0.7:0").unwrap();
    sandbox.wait_for("the fetch from elsewhere", |_| is_blocked(&connect("127.31.0.8:0")).then_some(()));
}
