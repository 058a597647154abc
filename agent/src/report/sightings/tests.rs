use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use jiff::SignedDuration;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::sharing::{judge, share};
use super::*;
use crate::attribute::Finding;
use crate::http::Stop;
use crate::http::tests::{Canned, reply};
use crate::journal::Cursor;

const ID: &str = "indicator--2c7e0d52-6cc1-4dd4-8f2c-0a7f3fd0b0aa";
const HOUR: Duration = Duration::from_secs(3600);

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// A hit on `indicator` of `source`, as the journal has it.
fn finding(id: &str, time: &str, indicator: &str, source: &str, tlp: Option<&str>, count: u64) -> Finding {
    serde_json::from_value(json!({
        "schema": 1, "id": id, "time": time, "kind": "connect", "verdict": "blocked", "enforced_by": "cgroup_connect4",
        "process": {"pid": 7, "ppid": 1, "uid": 33, "user": "secret-user", "exe": "/secret/exe", "comm": "secret",
                    "args": ["secret-argument"], "sha256": null, "unit": "secret.service", "container": null, "ancestors": []},
        "destination": {"ip": "198.51.100.7", "port": 443, "protocol": "tcp", "domain": null}, "file": null,
        "indicator": {"id": indicator, "type": "ipv4", "value": "198.51.100.7", "source": source, "confidence": 85,
                      "tlp": tlp, "valid_until": null},
        "attribution": {"actors": [], "campaigns": [], "malware": [], "techniques": [], "reports": [], "references": []},
        "policy": {"generation": 1, "serial": null, "rule": "feeds.x"}, "count": count, "last_time": time
    }))
    .unwrap()
}

struct Fixture {
    directory: TempDir,
    spool: Spool,
    sightings: Sightings,
}

impl Fixture {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(&directory.path().join("spool.sqlite")).unwrap();
        let shares = [("feed", Share::Sightings), ("open", Share::Indicators), ("closed", Share::Nothing)];
        let identity = Identity::new(None, "Member 17".to_owned(), "organization".to_owned());
        let shares = shares.map(|(name, share)| (name.to_owned(), share)).into();
        Self { directory, spool, sightings: Sightings { identity, window: HOUR, to: Vec::new(), shares } }
    }

    fn fold(&self, revision: i64, now: &str, findings: &[Finding]) {
        let cursor: Cursor = serde_json::from_value(json!({"sequence": 1, "revision": revision, "loss": 0})).unwrap();
        self.spool.fold(findings, cursor, HOUR, at(now)).unwrap();
    }

    fn destination(&self, to: To) -> Destination {
        Destination {
            name: "isac".to_owned(),
            audience: Audience::Clients,
            ceiling: Tlp::Amber,
            sources: BTreeSet::new(),
            observed_data: false,
            interval: Duration::ZERO,
            to,
            access: Access::default(),
        }
    }

    fn folder(&self) -> PathBuf {
        self.directory.path().join("out")
    }

    fn deliver_at(&self, destination: &Destination, now: &str) -> Result<Delivered, Error> {
        deliver(&self.spool, &self.sightings, destination, at(now), &Stop::default())
    }

    fn due(&self) -> Vec<Sighting> {
        self.spool.due("isac", None, 100).unwrap()
    }

    /// All objects in the directory's bundles.
    fn written(&self) -> Vec<Value> {
        let mut files: Vec<_> = std::fs::read_dir(self.folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort_by_key(|path| std::fs::metadata(path).unwrap().modified().unwrap());
        let bundles = files.iter().map(|path| serde_json::from_slice::<Value>(&std::fs::read(path).unwrap()).unwrap());
        bundles.flat_map(|bundle| bundle["objects"].as_array().unwrap().clone()).collect()
    }
}

fn of_type<'a>(objects: &'a [Value], kind: &str) -> Vec<&'a Value> {
    objects.iter().filter(|object| object["type"] == kind).collect()
}

#[test]
fn each_marking_goes_to_those_who_may_see_it_and_to_nobody_else() {
    let fixture = Fixture::new();
    let levels = [Some("clear"), Some("green"), Some("amber"), Some("amber+strict"), Some("red"), None];
    for (number, tlp) in levels.into_iter().enumerate() {
        let id = format!("indicator--2c7e0d52-6cc1-4dd4-8f2c-0a7f3fd0b0a{number}");
        fixture.fold(1, "2026-11-01T00:00:00Z", &[finding(&id, "2026-11-01T00:00:00Z", &id, "feed", tlp, 1)]);
    }
    let sightings = fixture.due();
    // Clear, green, amber, amber+strict, red, and what nobody knows the marking of.
    for (audience, expected) in [
        (Audience::World, [true, false, false, false, false, false]),
        (Audience::Community, [true, true, false, false, false, false]),
        (Audience::Clients, [true, true, true, false, false, false]),
        (Audience::Organisation, [true, true, true, true, false, false]),
        (Audience::Origin, [true, true, true, true, true, true]),
    ] {
        let mut destination = fixture.destination(To::Directory(fixture.folder()));
        (destination.audience, destination.ceiling) = (audience, audience.ceiling());
        let judged: Vec<_> = sightings.iter().map(|sighting| judge(&destination, sighting, Share::Sightings)).collect();
        assert_eq!(judged.iter().map(Result::is_ok).collect::<Vec<_>>(), expected, "{audience:?}");
        assert!(judged.iter().flat_map(|judged| judged.err()).all(|why| why == Withheld::Tlp));
        destination.ceiling = Tlp::Clear;
        let clear = sightings.iter().filter(|sighting| judge(&destination, sighting, Share::Sightings).is_ok()).count();
        assert_eq!(clear, 1, "a lower ceiling holds for every audience");
    }
}

#[test]
fn what_several_sources_list_is_told_as_the_strictest_of_them_allows() {
    let fixture = Fixture::new();
    let mut both = finding("1", "2026-11-01T00:00:00Z", ID, "open", Some("clear"), 1);
    let mut other = both.indicator.clone();
    (other.source, other.tlp) = ("closed".to_owned(), Some(Tlp::Amber));
    both.also = vec![other];
    fixture.fold(1, "2026-11-01T00:00:00Z", &[both]);
    let sighting = &fixture.due()[0];
    assert_eq!((sighting.count, sighting.tlp), (1, Tlp::Amber), "one hit, whoever lists it");
    assert_eq!(sighting.sources.len(), 2);
    fixture.fold(2, "2026-11-01T00:00:01Z", &[finding("2", "2026-11-01T00:00:01Z", ID, "closed", Some("amber"), 1)]);
    let sighting = &fixture.due()[0];
    assert_eq!((sighting.tlp, sighting.count), (Tlp::Amber, 2));
    let share_of = |source: &str| fixture.sightings.shares[source];
    assert_eq!(share(sighting, share_of), Share::Nothing);
}

#[test]
fn sharing_rules_sources_and_ids_keep_back_what_is_counted() {
    let fixture = Fixture::new();
    let time = "2026-11-01T00:00:00Z";
    let hit = |id: &str, indicator: &str, source: &str| finding(id, time, indicator, source, Some("clear"), 1);
    let id = |digit: u8| format!("indicator--2c7e0d52-6cc1-4dd4-8f2c-0a7f3fd0b0a{digit}");
    fixture.fold(
        1,
        time,
        &[
            hit("1", &id(1), "feed"),
            hit("2", &id(2), "closed"),
            hit("3", &id(3), "no longer there"),
            hit("4", &id(4), "open"),
            hit("5", "feed:198.51.100.7", "feed"),
            hit("6", "indicator--not-a-uuid", "feed"),
            finding("7", time, &id(7), "feed", None, 1),
        ],
    );
    let mut destination = fixture.destination(To::Directory(fixture.folder()));
    destination.sources = BTreeSet::from(["feed".to_owned(), "closed".to_owned(), "no longer there".to_owned()]);
    assert_eq!(fixture.deliver_at(&destination, time).unwrap().sent, 1);
    let standing = fixture.spool.standing("isac").unwrap();
    let withheld = [("no_id", 2), ("other_source", 1), ("share", 2), ("tlp", 1)];
    assert_eq!(standing.withheld, withheld.map(|(name, count)| (name.to_owned(), count)).into());
    assert_eq!((standing.sent, standing.waiting), (1, 0));
    fixture.spool.judge_anew().unwrap();
    destination.sources.clear();
    assert_eq!(fixture.deliver_at(&destination, time).unwrap().sent, 1, "with other settings the fourth may go");
    assert_eq!(fixture.spool.standing("isac").unwrap().withheld.get("other_source"), None);
}

#[test]
fn hits_fold_into_one_sighting_for_each_indicator_and_window_and_each_counts_once() {
    let fixture = Fixture::new();
    let repeat = |count, last: &str| {
        let mut finding = finding("1", "2026-11-01T10:05:00Z", ID, "feed", Some("green"), count);
        finding.last_time = at(last);
        finding
    };
    fixture.fold(1, "2026-11-01T10:05:01Z", &[repeat(1, "2026-11-01T10:05:00Z")]);
    let first = fixture.due().remove(0);
    // The same record with more repeats, then again as after a crash, then one that reaches into the next window.
    fixture.fold(2, "2026-11-01T10:30:01Z", &[repeat(40, "2026-11-01T10:30:00Z")]);
    fixture.fold(2, "2026-11-01T10:30:02Z", &[repeat(40, "2026-11-01T10:30:00Z")]);
    fixture.fold(3, "2026-11-01T11:10:01Z", &[repeat(45, "2026-11-01T11:10:00Z")]);
    let due = fixture.due();
    assert_eq!(due.iter().map(|sighting| sighting.count).collect::<Vec<_>>(), [40, 5]);
    assert_eq!((due[0].first, due[0].last), (at("2026-11-01T10:05:00Z"), at("2026-11-01T10:30:00Z")));
    assert_eq!((due[1].first, due[1].last), (at("2026-11-01T11:00:00Z"), at("2026-11-01T11:10:00Z")));
    assert_eq!(due[0].created, first.created);
    assert!(due[0].modified > first.modified);
    // A clock that was set back makes no older version.
    fixture.fold(4, "2026-11-01T09:00:00Z", &[repeat(46, "2026-11-01T10:40:00Z")]);
    assert!(fixture.due()[0].modified > due[0].modified);
    let cursor = serde_json::to_value(fixture.spool.cursor().unwrap().unwrap()).unwrap();
    assert_eq!(cursor["revision"], 4);
}

#[test]
fn a_sighting_is_the_same_object_in_each_version_and_tells_nothing_of_this_host() {
    let fixture = Fixture::new();
    let mut destination = fixture.destination(To::Directory(fixture.folder()));
    destination.observed_data = true;
    fixture.fold(1, "2026-11-01T10:05:01Z", &[finding("1", "2026-11-01T10:05:00Z", ID, "feed", Some("green"), 1)]);
    fixture.deliver_at(&destination, "2026-11-01T10:05:02Z").unwrap();
    fixture.fold(2, "2026-11-01T10:06:01Z", &[finding("1", "2026-11-01T10:05:00Z", ID, "feed", Some("green"), 3)]);
    fixture.deliver_at(&destination, "2026-11-01T10:06:02Z").unwrap();
    fixture.deliver_at(&destination, "2026-11-01T10:07:02Z").unwrap();
    let objects = fixture.written();
    let sightings = of_type(&objects, "sighting");
    assert_eq!(sightings.len(), 2, "a version is sent once");
    assert_eq!(sightings[0]["id"], sightings[1]["id"]);
    assert_eq!(sightings[0]["created"], sightings[1]["created"]);
    assert_eq!((&sightings[0]["modified"], &sightings[0]["count"]), (&json!("2026-11-01T10:05:01.000Z"), &json!(1)));
    assert_eq!((&sightings[1]["modified"], &sightings[1]["count"]), (&json!("2026-11-01T10:06:01.000Z"), &json!(3)));
    assert_eq!(sightings[0]["sighting_of_ref"], ID);
    assert_eq!(sightings[0]["where_sighted_refs"], json!([fixture.sightings.identity.id]));
    assert_eq!(
        sightings[0]["object_marking_refs"],
        json!(["marking-definition--bab4a63c-aed9-4cf5-a766-dfca5abac2bb"])
    );
    assert_eq!(of_type(&objects, "observed-data").len(), 2);
    // The id that STIX prescribes, as the reference library makes it.
    assert_eq!(of_type(&objects, "ipv4-addr")[0]["id"], "ipv4-addr--12592121-be4c-5a93-a813-5a5af16e50db");
    let text = serde_json::to_string(&objects).unwrap();
    assert!(!text.contains("secret"), "{text}");
    assert!(of_type(&objects, "indicator").is_empty(), "the source allows sightings only");
}

#[test]
fn two_hosts_of_one_identity_do_not_overwrite_each_other() {
    let (one, two) = (Fixture::new(), Fixture::new());
    let ids = [&one, &two].map(|fixture| {
        let time = "2026-11-01T10:05:00Z";
        fixture.fold(1, time, &[finding("1", time, ID, "feed", Some("green"), 1)]);
        fixture.deliver_at(&fixture.destination(To::Directory(fixture.folder())), time).unwrap();
        of_type(&fixture.written(), "sighting")[0]["id"].clone()
    });
    assert_eq!(one.sightings.identity, two.sightings.identity);
    assert_ne!(ids[0], ids[1]);
}

#[test]
fn a_value_that_may_be_passed_on_goes_as_an_indicator_of_ours_with_the_same_marking() {
    let fixture = Fixture::new();
    let destination = fixture.destination(To::Directory(fixture.folder()));
    let time = "2026-11-01T10:05:00Z";
    let listed = finding("1", time, "open:198.51.100.7", "open", Some("amber"), 1);
    fixture.fold(1, time, std::slice::from_ref(&listed));
    fixture.deliver_at(&destination, time).unwrap();
    let objects = fixture.written();
    let indicator = of_type(&objects, "indicator")[0].clone();
    assert_eq!(indicator["pattern"], "[ipv4-addr:value = '198.51.100.7']");
    assert_eq!(indicator["created_by_ref"], fixture.sightings.identity.id);
    assert_eq!(indicator["valid_until"], "2026-12-01T10:05:00.000Z");
    assert_eq!(indicator["object_marking_refs"], of_type(&objects, "sighting")[0]["object_marking_refs"]);
    assert_eq!(of_type(&objects, "sighting")[0]["sighting_of_ref"], indicator["id"]);
    assert!(of_type(&objects, "relationship").is_empty(), "there is no publisher's object that it could derive from");

    // Published under an id: derived from it. Our own come back from elsewhere: not passed on again.
    let own = indicator["id"].as_str().unwrap();
    fixture.fold(2, time, &[finding("2", time, ID, "open", Some("amber"), 1)]);
    fixture.fold(3, time, &[finding("3", time, own, "open", Some("amber"), 1)]);
    fixture.deliver_at(&destination, time).unwrap();
    let objects = fixture.written();
    let derived = of_type(&objects, "relationship");
    assert_eq!(derived.len(), 1);
    assert_eq!((&derived[0]["source_ref"], &derived[0]["target_ref"]), (&indicator["id"], &json!(ID)));
    assert_eq!(of_type(&objects, "indicator").len(), 2, "one each time it was passed on");
}

#[test]
fn patterns_say_each_kind_of_value() {
    let fixture = Fixture::new();
    fixture.fold(1, "2026-11-01T10:05:00Z", &[finding("1", "2026-11-01T10:05:00Z", ID, "open", Some("amber"), 1)]);
    let mut sighting = fixture.due().remove(0);
    for (kind, value, expected) in [
        ("ipv6_prefix", "2001:db8::/32", Some("[ipv6-addr:value = '2001:db8::/32']")),
        ("domain", "c2.example", Some("[domain-name:value = 'c2.example']")),
        ("url", "https://c2.example/a'b\\c", Some("[url:value = 'https://c2.example/a\\'b\\\\c']")),
        ("md5", "0123456789abcdef0123456789abcdef", Some("[file:hashes.MD5 = '0123456789abcdef0123456789abcdef']")),
        (
            "endpoint",
            "[2001:db8::1]:443",
            Some(
                "[network-traffic:dst_ref.type = 'ipv6-addr' AND network-traffic:dst_ref.value = '2001:db8::1' AND network-traffic:dst_port = 443]",
            ),
        ),
        ("path", "/tmp/x", None),
        ("unknown", "unknown", None),
    ] {
        (sighting.kind, sighting.value) = (kind.to_owned(), value.to_owned());
        let made = stix::pattern(&sighting);
        assert_eq!(made.as_deref(), expected);
        if let Some(made) = made {
            crate::intel::parse::pattern::parse(&made, crate::intel::parse::pattern::Version::V21).unwrap();
        }
    }
}

#[test]
fn misp_is_told_once_when_the_window_is_over() {
    let fixture = Fixture::new();
    let destination = fixture.destination(To::Misp(fixture.folder()));
    let mut endpoint = finding("1", "2026-11-01T10:05:00Z", "feed:x", "feed", Some("green"), 5);
    (endpoint.indicator.kind, endpoint.indicator.value) = ("endpoint".to_owned(), "[2001:db8::1]:443".to_owned());
    fixture.fold(1, "2026-11-01T10:05:00Z", &[endpoint]);
    assert_eq!(fixture.deliver_at(&destination, "2026-11-01T10:59:59Z").unwrap().sent, 0);
    assert_eq!(fixture.spool.standing("isac").unwrap().waiting, 1);
    assert_eq!(fixture.deliver_at(&destination, "2026-11-01T11:00:01Z").unwrap().sent, 1);
    assert_eq!(fixture.deliver_at(&destination, "2026-11-01T11:00:02Z").unwrap().sent, 0);
    let file = std::fs::read_dir(fixture.folder()).unwrap().next().unwrap().unwrap().path();
    let body: Value = serde_json::from_str(std::fs::read_to_string(file).unwrap().trim()).unwrap();
    assert_eq!(
        body,
        json!({"values": ["2001:db8::1|443"], "type": "0", "source": "Member 17", "timestamp": "1793527500"})
    );
}

/// A server whose collection `in` answers what `post` says to each POST.
fn server(post: impl Fn(&str) -> Vec<u8> + Send + 'static) -> (Canned, To) {
    const TYPE: &str = "Content-Type: application/taxii+json;version=2.1\r\n";
    let server = Canned::new(move |got| match got.line.as_str() {
        "GET /api1/" => reply("200 OK", TYPE, r#"{"versions": [], "max_content_length": 1000000}"#),
        "GET /api1/collections/" => {
            reply("200 OK", TYPE, r#"{"collections": [{"id": "c", "title": "in", "can_write": true}]}"#)
        }
        "POST /api1/collections/c/objects/" => post(&got.body),
        _ => reply("404 x", TYPE, "{}"),
    });
    let to = To::Taxii(Address { url: server.url("/api1/"), collection: "in".to_owned() });
    (server, to)
}

const ACCEPTED: (&str, &str, &str) = (
    "202 x",
    "Content-Type: application/taxii+json;version=2.1\r\n",
    r#"{"id": "s", "status": "complete", "failure_count": 0}"#,
);

#[test]
fn an_outage_delays_and_loses_nothing() {
    let turn = Arc::new(AtomicU32::new(0));
    let served = Arc::clone(&turn);
    let (server, to) = server(move |_| match served.load(Ordering::Relaxed) {
        0 => reply("500 broken", "", ""),
        _ => reply(ACCEPTED.0, ACCEPTED.1, ACCEPTED.2),
    });
    let fixture = Fixture::new();
    let destination = fixture.destination(to);
    let time = "2026-11-01T10:05:00Z";
    for number in 0..450_u32 {
        let id = format!("indicator--2c7e0d52-6cc1-4dd4-8f2c-{number:012}");
        fixture.fold(number.into(), time, &[finding(&id, time, &id, "feed", Some("green"), 1)]);
    }
    assert!(fixture.deliver_at(&destination, time).unwrap_err().to_string().contains("500"));
    let standing = fixture.spool.standing("isac").unwrap();
    assert_eq!((standing.waiting, standing.sent), (450, 0));
    turn.store(1, Ordering::Relaxed);
    assert_eq!(fixture.deliver_at(&destination, time).unwrap().sent, 450);
    let standing = fixture.spool.standing("isac").unwrap();
    assert_eq!((standing.waiting, standing.sent), (0, 450));
    let identities = server.got().iter().map(|got| got.body.matches("\"type\":\"identity\"").count()).max();
    assert_eq!(identities, Some(1), "once in an envelope");
}

#[test]
fn what_a_server_will_not_take_is_not_sent_for_ever() {
    let (server, to) = server(|body| {
        if body.contains("\"type\":\"sighting\"") {
            return reply(
                "422 x",
                "Content-Type: application/taxii+json;version=2.1\r\n",
                r#"{"title": "no sightings"}"#,
            );
        }
        reply(ACCEPTED.0, ACCEPTED.1, ACCEPTED.2)
    });
    let fixture = Fixture::new();
    let destination = fixture.destination(to);
    let time = "2026-11-01T10:05:00Z";
    fixture.fold(1, time, &[finding("1", time, ID, "feed", Some("green"), 1)]);
    for _ in 0..5 {
        let delivered = fixture.deliver_at(&destination, time).unwrap();
        assert_eq!(delivered.sent, 0);
        assert!(delivered.refused[0].starts_with("sighting--") && delivered.refused[0].ends_with("no sightings"));
    }
    let asked = server.got().len();
    assert_eq!(fixture.deliver_at(&destination, time).unwrap(), Delivered::default());
    assert_eq!(server.got().len(), asked);
    let standing = fixture.spool.standing("isac").unwrap();
    assert_eq!((standing.refused, standing.waiting), (1, 0));
}

#[test]
fn what_everybody_was_told_goes_after_a_week_and_too_much_is_given_up_and_counted() {
    let fixture = Fixture::new();
    let destination = fixture.destination(To::Directory(fixture.folder()));
    let time = "2026-11-01T10:05:00Z";
    fixture.fold(1, time, &[finding("1", time, ID, "feed", Some("green"), 1)]);
    fixture.deliver_at(&destination, time).unwrap();
    let late = at(time) + SignedDuration::from_hours(8 * 24);
    assert_eq!(fixture.spool.trim(&["isac", "other"], HOUR, late).unwrap(), 0);
    let held = |fixture: &Fixture| fixture.spool.due("another", None, 100_000).unwrap().len();
    assert_eq!(held(&fixture), 1, "the other was not told yet");
    assert_eq!(fixture.spool.trim(&["isac"], HOUR, late).unwrap(), 0);
    assert_eq!(held(&fixture), 0);
    let many: Vec<Finding> = (0..50_003)
        .map(|number| {
            let id = format!("indicator--2c7e0d52-6cc1-4dd4-8f2c-{number:012}");
            finding(&id, time, &id, "feed", Some("green"), 1)
        })
        .collect();
    fixture.fold(2, time, &many);
    assert_eq!(fixture.spool.trim(&["isac"], HOUR, at(time)).unwrap(), 3);
    assert_eq!(held(&fixture), 50_000);
    assert_eq!(fixture.spool.standing("isac").unwrap().dropped, 3);
}
