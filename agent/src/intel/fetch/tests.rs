use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;

use super::*;
use crate::http::tests::{Canned, Got, reply};
use crate::intel::source;
use crate::intel::taxii::Address;

const STIX: &str = "Content-Type: application/taxii+json;version=2.1\r\n";

/// A source with its directory.
struct Fixture {
    _directory: TempDir,
    source: Source,
}

impl Fixture {
    fn new(change: impl FnOnce(&mut Source)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut source = Source::new("feed", "");
        change(&mut source);
        source.path = source.remote().unwrap().place(directory.path(), "feed");
        Self { _directory: directory, source }
    }

    fn fetch_at(&self, now: &str) -> Result<Fetched, Error> {
        let now = now.parse().unwrap();
        fetch(&self.source, self.source.remote().unwrap(), now, &Stop::default())
    }

    fn fetch(&self) -> Result<Fetched, Error> {
        self.fetch_at("2026-11-01T00:00:00Z")
    }

    /// The canonical values that are in force.
    fn values(&self) -> Vec<String> {
        let load = source::load(&self.source, Timestamp::now()).unwrap();
        load.indicators.iter().flat_map(|indicator| indicator.observables).map(|value| value.to_string()).collect()
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(&self.source.path)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn from_url(server: &Canned) -> Fixture {
    Fixture::new(|source| source.url = Some(server.url("/feed.txt")))
}

const CHANGED: Fetched = Fetched { is_changed: true, refused: Vec::new() };
const SAME: Fetched = Fetched { is_changed: false, refused: Vec::new() };

#[test]
fn a_file_is_fetched_once_and_then_only_when_it_changed() {
    let server = Canned::new(|got| match got.header("if-none-match") {
        Some("\"1\"") => reply("304 Not Modified", "", ""),
        _ => reply("200 OK", "ETag: \"1\"\r\nLast-Modified: Sat, 31 Oct 2026 00:00:00 GMT\r\n", "198.51.100.1\n"),
    });
    let fixture = from_url(&server);
    assert_eq!(fixture.fetch().unwrap(), CHANGED);
    assert_eq!(fixture.values(), ["198.51.100.1"]);
    assert_eq!(fixture.fetch_at("2026-11-02T00:00:00Z").unwrap(), SAME);
    assert_eq!(fixture.fetch_at("2026-11-03T00:00:00Z").unwrap(), SAME);
    assert_eq!(server.got()[2].header("if-modified-since"), Some("Sat, 31 Oct 2026 00:00:00 GMT"));
    let state = State::read(&fixture.source.path);
    assert_eq!(state.succeeded, Some("2026-11-03T00:00:00Z".parse().unwrap()));
    assert_eq!(state.changed, Some("2026-11-01T00:00:00Z".parse().unwrap()));
    assert_eq!(fixture.files(), [".fetch.json", "feed"]);
    fs::remove_file(fixture.source.path.join("feed")).unwrap();
    assert_eq!(fixture.fetch().unwrap(), CHANGED, "what is no longer there is not asked for conditionally");
}

#[test]
fn the_same_content_without_an_entity_tag_is_no_change() {
    let server = Canned::new(|_| reply("200 OK", "", "198.51.100.1\n"));
    let fixture = from_url(&server);
    assert_eq!(fixture.fetch().unwrap(), CHANGED);
    assert_eq!(fixture.fetch().unwrap(), SAME);
}

#[test]
fn whatever_goes_wrong_leaves_what_was_there() {
    let answers = [
        (reply("200 OK", "Content-Type: text/html\r\n", "<html>sign in</html>"), "a login or error page"),
        (reply("200 OK", "Content-Type: image/png\r\n", "\u{89}PNG"), "image/png"),
        (reply("200 OK", "", "{\"type\": \"bundle\", \"objects\": ["), "/feed.txt:1:"),
        (reply("200 OK", "", ""), "the file is empty"),
        (reply("200 OK", "", "\u{0}\u{1}"), "binary data"),
        (reply("200 OK", "", vec![b'1'; 2000]), "more than 1000 bytes"),
        (reply("500 x", "", ""), "500 Internal Server Error"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n198.51.100.2\n".to_vec(), "/feed.txt"),
        (b"nonsense".to_vec(), "/feed.txt"),
    ];
    let turn = Arc::new(AtomicUsize::new(0));
    let (served, count) = (Arc::clone(&turn), answers.len());
    let wrong: Vec<&str> = answers.iter().map(|(_, why)| *why).collect();
    let answers = answers.map(|(answer, _)| answer);
    let server = Canned::new(move |_| match served.load(Ordering::Relaxed) {
        0 => reply("200 OK", "", "198.51.100.1\n"),
        turn => answers[turn - 1].clone(),
    });
    let fixture = Fixture::new(|source| {
        source.url = Some(server.url("/feed.txt"));
        source.max_bytes = Some(1000);
    });
    fixture.fetch().unwrap();
    for number in 1..=count {
        turn.store(number, Ordering::Relaxed);
        let error = fixture.fetch_at("2026-11-02T00:00:00Z").unwrap_err().to_string();
        assert!(error.contains(wrong[number - 1]), "{number}: {error}");
        assert_eq!(fixture.values(), ["198.51.100.1"], "{error}");
    }
    let state = State::read(&fixture.source.path);
    assert_eq!(state.succeeded, Some("2026-11-01T00:00:00Z".parse().unwrap()));
}

#[test]
fn a_source_that_is_fetched_from_elsewhere_does_not_inherit() {
    let server =
        Canned::new(|got| reply("200 OK", "", if got.line.ends_with("/b") { "not an item" } else { "198.51.100.1\n" }));
    let mut fixture = from_url(&server);
    fixture.fetch().unwrap();
    let old = fixture.source.path.clone();
    fixture.source.url = Some(server.url("/a"));
    fixture.source.path = fixture.source.remote().unwrap().place(old.parent().unwrap().parent().unwrap(), "feed");
    assert!(!fixture.source.path.exists());
    fixture.fetch().unwrap();
    let kept = source::Kept::new(old.parent().unwrap().parent().unwrap().to_owned());
    kept.keep_only([&fixture.source].into_iter()).unwrap();
    assert!(!old.exists() && fixture.source.path.exists());
}

#[test]
fn whoever_was_told_to_stop_writes_nothing() {
    let server = Canned::new(|_| reply("200 OK", "", "198.51.100.1\n"));
    let fixture = from_url(&server);
    let stop = Stop::default();
    stop.stop();
    let error = fetch(&fixture.source, fixture.source.remote().unwrap(), Timestamp::now(), &stop).unwrap_err();
    assert!(error.is_stop(), "{error}");
    assert!(fixture.files().is_empty());
}

fn indicator(number: u8, modified: &str, value: u8) -> String {
    format!(
        r#"{{"type": "indicator", "id": "indicator--00000000-0000-4000-8000-0000000000{number:02}", "created": "2026-01-01T00:00:00Z",
            "modified": "{modified}", "valid_from": "2026-01-01T00:00:00Z", "pattern_type": "stix", "spec_version": "2.1",
            "pattern": "[ipv4-addr:value = '198.51.100.{value}']"}}"#
    )
}

/// A TAXII server whose collection holds what is put into it.
fn taxii(pages: &Arc<Mutex<Vec<String>>>) -> (Canned, Fixture) {
    let pages = Arc::clone(pages);
    let server = Canned::new(move |got: &Got| {
        let date = "Date: Sun, 01 Nov 2026 00:00:00 GMT\r\nX-TAXII-Date-Added-Last: 2026-05-01T00:00:00Z\r\n";
        match got.line.as_str() {
            "GET /taxii2/" => reply("200 OK", STIX, r#"{"api_roots": ["/api1/"]}"#),
            "GET /api1/" => reply("200 OK", STIX, r#"{"versions": []}"#),
            "GET /api1/collections/" => {
                reply("200 OK", STIX, r#"{"collections": [{"id": "c", "title": "feed", "can_read": true}]}"#)
            }
            _ => reply("200 OK", &format!("{STIX}{date}"), pages.lock().unwrap().remove(0)),
        }
    });
    let url = server.url("/taxii2/");
    let fixture = Fixture::new(|source| source.taxii = Some(Address { url, collection: "feed".to_owned() }));
    (server, fixture)
}

fn envelope(objects: &[String]) -> String {
    format!("{{\"objects\": [{}]}}", objects.join(","))
}

#[test]
fn a_collection_is_read_from_where_it_was_left_and_the_newest_version_stays() {
    let (first, second) = ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z");
    let pages = Arc::new(Mutex::new(vec![
        envelope(&[indicator(1, first, 1), indicator(2, second, 2)]),
        // An older version arrives last, as TAXII orders by the date of adding.
        envelope(&[indicator(2, first, 9), indicator(3, first, 3), indicator(3, first, 3)]),
        envelope(&[indicator(1, second, 7)]),
        "{}".to_owned(),
        envelope(&[indicator(4, first, 4)]),
    ]));
    let (server, fixture) = taxii(&pages);
    let asked = || server.got().pop().unwrap().line;
    assert_eq!(fixture.fetch().unwrap(), CHANGED);
    assert_eq!(fixture.values(), ["198.51.100.1", "198.51.100.2"]);
    assert!(!asked().contains("added_after"));
    assert_eq!(fixture.fetch().unwrap(), CHANGED);
    assert_eq!(fixture.values(), ["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
    assert!(asked().contains("added_after=2026-05-01T00%3A00%3A00.000000Z"));
    assert_eq!(fixture.fetch().unwrap(), CHANGED);
    assert_eq!(fixture.values(), ["198.51.100.7", "198.51.100.2", "198.51.100.3"]);
    assert_eq!(fixture.fetch().unwrap(), SAME);
    assert_eq!(fixture.fetch_at("2026-11-08T00:00:00Z").unwrap(), CHANGED);
    assert!(!asked().contains("added_after"), "after a week all is read anew: nothing tells of a deletion");
    assert_eq!(fixture.values(), ["198.51.100.4"]);
}

#[test]
fn a_bundle_that_was_damaged_on_disk_is_read_anew() {
    let first = "2026-01-01T00:00:00Z";
    let new = envelope(&[indicator(3, first, 3)]);
    let all = envelope(&[1, 2, 3].map(|number| indicator(number, first, number)));
    let pages = Arc::new(Mutex::new(vec![envelope(&[indicator(1, first, 1), indicator(2, first, 2)]), new, all]));
    let (_server, fixture) = taxii(&pages);
    fixture.fetch().unwrap();
    fs::write(fixture.source.path.join("objects.json"), "{").unwrap();
    assert_eq!(fixture.fetch().unwrap(), CHANGED);
    assert_eq!(fixture.values().len(), 3);
}

#[test]
fn a_run_that_fails_on_the_way_counts_for_nothing() {
    let first = "2026-01-01T00:00:00Z";
    let more =
        envelope(&[indicator(2, first, 2)]).replace("{\"objects\"", "{\"more\": true, \"next\": \"n\", \"objects\"");
    let pages = Arc::new(Mutex::new(vec![
        envelope(&[indicator(1, first, 1)]),
        more.clone(),
        "{".to_owned(),
        more,
        envelope(&[indicator(3, first, 3)]),
    ]));
    let (_server, fixture) = taxii(&pages);
    fixture.fetch().unwrap();
    let state = State::read(&fixture.source.path);
    fixture.fetch().unwrap_err();
    assert_eq!(fixture.values(), ["198.51.100.1"]);
    assert_eq!(State::read(&fixture.source.path), state);
    fixture.fetch().unwrap();
    assert_eq!(fixture.values().len(), 3);
}

#[test]
fn a_collection_that_outgrows_the_limit_is_an_error_that_says_so() {
    let objects: Vec<String> = (1..=9).map(|number| indicator(number, "2026-01-01T00:00:00Z", number)).collect();
    let halves = vec![envelope(&objects[..5]), envelope(&objects[5..])];
    let (_server, mut fixture) = taxii(&Arc::new(Mutex::new(halves)));
    fixture.source.max_bytes = Some(2400);
    fixture.fetch().unwrap();
    let error = fixture.fetch().unwrap_err().to_string();
    assert!(error.contains("has grown to") && error.contains("max_bytes"), "{error}");
    assert_eq!(fixture.values().len(), 5);
}

const EVENTS: [&str; 3] = [
    "5f1f4a52-9d3c-4c5e-8a51-2f0a1b2c3d01",
    "5f1f4a52-9d3c-4c5e-8a51-2f0a1b2c3d02",
    "5f1f4a52-9d3c-4c5e-8a51-2f0a1b2c3d03",
];

fn feed(manifest: &Arc<Mutex<String>>) -> (Canned, Fixture) {
    let manifest = Arc::clone(manifest);
    let server = Canned::new(move |got: &Got| {
        let json = "Content-Type: application/json\r\n";
        let path = got.line.strip_prefix("GET /feed/").unwrap();
        match path.strip_suffix(".json").unwrap() {
            "manifest" => reply("200 OK", json, manifest.lock().unwrap().as_bytes()),
            event if event == EVENTS[2] => reply("200 OK", json, "{\"Event\": [,"),
            event => {
                let number = if event == EVENTS[0] { 1 } else { 2 };
                let event = format!(
                    r#"{{"Event": {{"uuid": "{event}", "info": "x", "timestamp": "1", "Attribute": [
                        {{"uuid": "{event}", "type": "ip-dst", "category": "Network activity", "to_ids": true,
                          "timestamp": "1", "value": "198.51.100.{number}"}}]}}}}"#
                );
                reply("200 OK", json, event)
            }
        }
    });
    let url = server.url("/feed/");
    let fixture = Fixture::new(|source| source.misp = Some(source::Feed { url }));
    (server, fixture)
}

#[test]
fn a_feed_is_fetched_event_by_event_and_only_what_is_new() {
    let entry = |event: &str, timestamp: &str| format!("\"{event}\": {{\"info\": \"x\", \"timestamp\": {timestamp}}}");
    let manifest = Arc::new(Mutex::new(format!("{{{}, {}}}", entry(EVENTS[0], "\"1\""), entry(EVENTS[1], "2"))));
    let (server, fixture) = feed(&manifest);
    assert_eq!(fixture.fetch().unwrap(), CHANGED);
    assert_eq!(fixture.values(), ["198.51.100.1", "198.51.100.2"]);
    assert_eq!(fixture.fetch().unwrap(), SAME);
    assert_eq!(server.got().len(), 4, "manifest and two events, then the manifest alone");
    *manifest.lock().unwrap() = format!("{{{}, {}}}", entry(EVENTS[1], "2"), entry(EVENTS[2], "3"));
    let fetched = fixture.fetch().unwrap();
    assert!(fetched.is_changed);
    assert!(fetched.refused[0].contains(&format!("/feed/{}.json:1:", EVENTS[2])), "{fetched:?}");
    assert_eq!(fixture.values(), ["198.51.100.2"], "an event that left the manifest is gone");
}

#[test]
fn a_feed_of_which_nothing_can_be_used_or_that_names_strange_events_is_an_error() {
    let manifest = Arc::new(Mutex::new(String::new()));
    let (_server, fixture) = feed(&manifest);
    for (text, why) in [
        ("[]".to_owned(), "no manifest of a MISP feed"),
        ("{\"../../etc/passwd\": {\"timestamp\": 1}}".to_owned(), "is no UUID"),
        (format!("{{\"{}\": {{\"timestamp\": 1}}}}", EVENTS[2]), "no event can be used"),
        (format!("{{\"{}\": {{}}}}", EVENTS[0]), "missing field `timestamp`"),
    ] {
        *manifest.lock().unwrap() = text;
        let error = fixture.fetch().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}
