//! The client against medallion 3.0.0 and OpenTAXII 0.9.3.

use std::collections::BTreeSet;
use std::time::Duration;

use agent::http::{Access, Client, Credential, Limits, Stop};
use agent::intel::Source;
use agent::intel::fetch::fetch;
use agent::intel::source::load;
use agent::intel::taxii::{Address, Collection, Error, Outgoing, PAGE, Run, Sent};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::opentaxii::opentaxii;
use crate::python::{Server, collection, medallion, root};

const STAMP: &str = "2026-05-01T00:00:00.000Z";

fn indicator(number: u32) -> Value {
    json!({
        "type": "indicator", "spec_version": "2.1", "id": format!("indicator--00000000-0000-4000-8000-{number:012}"),
        "created": STAMP, "modified": STAMP, "valid_from": STAMP, "pattern_type": "stix",
        "pattern": format!("[ipv4-addr:value = '198.51.{}.{}']", number / 256, number % 256),
    })
}

fn outgoing(object: &Value) -> Outgoing {
    Outgoing {
        id: object["id"].as_str().unwrap().to_owned(),
        modified: object["modified"].as_str().map(|text| text.parse().unwrap()),
        json: object.to_string(),
    }
}

fn connect(server: &Server, username: &str) -> Client {
    let access = Access {
        username: Some(username.to_owned()),
        password: Some(Credential::new(server.password().to_str().unwrap())),
        ..Access::default()
    };
    let limits = Limits { bytes: 64 << 20, time: Duration::from_secs(120) };
    Client::new(&access, &server.url, limits, Stop::default()).unwrap()
}

fn find<'a>(client: &'a Client, server: &Server, title: &str) -> Result<Collection<'a>, Error> {
    Collection::find(client, &Address { url: server.url.clone(), collection: title.to_owned() })
}

/// Ids of all that is read, and how often a page came.
fn read(
    server: &Server,
    title: &str,
    after: Option<Timestamp>,
    page: u32,
) -> Result<(Run, BTreeSet<String>, u32), Error> {
    let client = connect(server, "agent");
    let (mut ids, mut pages) = (BTreeSet::new(), 0);
    let run = find(&client, server, title)?.read(after, page, |objects| {
        pages += 1;
        for object in objects {
            let object: Value = serde_json::from_str(object.get()).unwrap();
            assert!(ids.insert(object["id"].as_str().unwrap().to_owned()), "the same object twice in one run");
        }
        Ok(())
    })?;
    Ok((run, ids, pages))
}

fn send(server: &Server, title: &str, objects: &[Value]) -> Sent {
    let client = connect(server, "agent");
    let objects: Vec<Outgoing> = objects.iter().map(outgoing).collect();
    find(&client, server, title).unwrap().send(&objects).unwrap()
}

fn medallion_with(test: &str, objects: &[Value]) -> Option<Server> {
    medallion(test, |_| root(json!([collection("feed", false, objects), collection("sightings", true, &[])])))
}

#[test]
fn medallion_gives_all_of_many_objects_that_have_one_date() {
    let objects: Vec<Value> = (0..352).map(indicator).collect();
    let name = "medallion_gives_all_of_many_objects_that_have_one_date";
    let Some(server) = medallion_with(name, &objects) else { return };
    let (run, ids, pages) = read(&server, "feed", None, PAGE).unwrap();
    assert_eq!((run.objects, ids.len(), pages), (352, 352, 4), "it gives at most 100 a page");
    assert_eq!(run.added_after, Some(STAMP.parse().unwrap()));
    let (again, ids, _) = read(&server, "feed", run.added_after, PAGE).unwrap();
    assert_eq!((again, ids.len()), (Run { objects: 0, ..run }, 0), "only what is new is read the next time");
    assert_eq!(read(&server, "feed", None, 50).unwrap().2, 8);
}

#[test]
fn medallion_takes_objects_and_a_duplicate_is_no_failure() {
    let Some(server) = medallion_with("medallion_takes_objects_and_a_duplicate_is_no_failure", &[indicator(1)]) else {
        return;
    };
    let objects: Vec<Value> = (0..230).map(indicator).collect();
    let sent = send(&server, "sightings", &objects);
    assert_eq!((sent.accepted.len(), sent.refused.len()), (230, 0));
    let again = send(&server, "sightings", &objects[..3]);
    assert_eq!((again.accepted.len(), again.refused.len()), (3, 0), "{again:?}");
    let (run, ids, _) = read(&server, "sightings", None, PAGE).unwrap();
    assert_eq!((run.objects, ids.len()), (230, 230));

    let mut newer = indicator(7);
    newer["modified"] = json!("2026-05-02T00:00:00.000Z");
    assert_eq!(send(&server, "sightings", &[newer]).accepted.len(), 1);
    let client = connect(&server, "agent");
    let error = find(&client, &server, "feed").unwrap().send(&[]).unwrap_err().to_string();
    assert!(error.contains("may not write"), "{error}");
}

#[test]
fn medallion_without_a_password_or_with_a_wrong_collection_says_so() {
    let name = "medallion_without_a_password_or_with_a_wrong_collection_says_so";
    let Some(server) = medallion_with(name, &[indicator(1)]) else { return };
    let limits = Limits { bytes: 1 << 20, time: Duration::from_secs(20) };
    let stranger = Client::new(&Access::default(), &server.url, limits, Stop::default()).unwrap();
    let error = find(&stranger, &server, "feed").err().unwrap().to_string();
    assert!(error.contains("401 Unauthorized"), "{error}");
    let error = read(&server, "Feed", None, PAGE).unwrap_err().to_string();
    assert!(error.contains("no collection `Feed`") && error.contains("`feed` ("), "{error}");
}

#[test]
fn opentaxii_with_a_relative_root_takes_and_gives_objects_by_pages() {
    let name = "opentaxii_with_a_relative_root_takes_and_gives_objects_by_pages";
    let Some(server) = opentaxii(name) else { return };
    let objects: Vec<Value> = (0..50).map(indicator).collect();
    let sent = send(&server, "feed", &objects);
    assert_eq!((sent.accepted.len(), sent.refused.len()), (50, 0), "{sent:?}\n{}", server.log());
    let (run, ids, pages) = read(&server, "in", None, 10).unwrap();
    assert_eq!((run.objects, ids.len(), pages), (50, 50, 5), "found by its alias");
    let again = send(&server, "feed", &objects[..2]);
    assert_eq!((again.accepted.len(), again.refused.len()), (2, 0), "{again:?}");
    // What was added within the last minutes is read again; nothing else would be certain not to miss any.
    assert_eq!(read(&server, "feed", run.added_after, 10).unwrap().1.len(), 50);
    // It gives the type where `spec_version` belongs; the indicators are read all the same.
    let directory = tempfile::tempdir().unwrap();
    let address = Address { url: server.url.clone(), collection: "feed".to_owned() };
    let mut source = Source { taxii: Some(address), ..Source::new("feed", directory.path()) };
    source.access = Access {
        username: Some("agent".to_owned()),
        password: Some(Credential::new(server.password().to_str().unwrap())),
        ..Access::default()
    };
    assert!(fetch(&source, source.remote().unwrap(), Timestamp::now(), &Stop::default()).unwrap().is_changed);
    let loaded = load(&source, Timestamp::now()).unwrap();
    assert_eq!((loaded.indicators.len(), loaded.skipped.len()), (50, 0), "{:?}", loaded.skipped);
    let late = Some("2100-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(read(&server, "feed", late, 10).unwrap().0, Run { objects: 0, added_after: late });
}

#[test]
fn opentaxii_refuses_one_object_of_many_and_takes_the_others() {
    let name = "opentaxii_refuses_one_object_of_many_and_takes_the_others";
    let Some(server) = opentaxii(name) else { return };
    let mut objects: Vec<Value> = (0..9).map(indicator).collect();
    objects[4]["pattern"] = json!("this is no pattern");
    let sent = send(&server, "sightings", &objects);
    assert_eq!(sent.accepted.len(), 8, "{sent:?}");
    assert_eq!(sent.refused.keys().collect::<Vec<_>>(), [objects[4]["id"].as_str().unwrap()]);
    let client = connect(&server, "guest");
    let error = find(&client, &server, "feed").unwrap().read(None, PAGE, |_| Ok(())).unwrap_err().to_string();
    assert!(error.contains("may not read"), "{error}");
}
