use std::sync::atomic::{AtomicUsize, Ordering};

use jiff::Timestamp;

use super::*;
use crate::http::tests::{Canned, Got, LIMITS, reply};
use crate::http::{Access, Stop};

const TYPE: &str = "Content-Type: application/taxii+json;version=2.1\r\n";
const COLLECTIONS: &str = r#"{"collections": [
    {"id": "91a7b528-80eb-42ed-a74d-c6fbd5a26116", "title": "feed", "alias": "in", "can_read": true, "can_write": false},
    {"id": "52892447-4d7e-4f70-b94d-d7f22742ff63", "title": "out", "can_read": true, "can_write": true}]}"#;

fn json(body: &str) -> Vec<u8> {
    reply("200 OK", TYPE, body)
}

/// A server with one API root at `/api1/`; `objects` answers what is asked of collections.
fn server(objects: impl Fn(&Got) -> Vec<u8> + Send + 'static) -> Canned {
    Canned::new(move |got| match got.line.as_str() {
        "GET /taxii2/" => json(r#"{"title": "t", "default": "/api1/", "api_roots": ["/api1/"]}"#),
        "GET /api1/" => json(r#"{"title": "r", "versions": ["x"], "max_content_length": 400}"#),
        "GET /api1/collections/" => json(COLLECTIONS),
        _ => objects(got),
    })
}

fn client(server: &Canned) -> Client {
    Client::new(&Access::default(), &server.url("/"), LIMITS, Stop::default()).unwrap()
}

fn address(server: &Canned, collection: &str) -> Address {
    Address { url: server.url("/taxii2/"), collection: collection.to_owned() }
}

fn read(server: &Canned, added_after: Option<Timestamp>) -> Result<(Run, Vec<String>), Error> {
    let client = client(server);
    let mut kept = Vec::new();
    let run = Collection::find(&client, &address(server, "feed"))?.read(added_after, 2, |objects| {
        kept.extend(objects.iter().map(|object| object.get().to_owned()));
        Ok(())
    })?;
    Ok((run, kept))
}

#[test]
fn a_collection_is_found_by_id_alias_or_title_below_discovery_or_an_api_root() {
    let server = server(|_| reply("404 x", "", ""));
    let client = client(&server);
    for (path, wanted) in [
        ("/taxii2/", "feed"),
        ("/taxii2", "in"),
        ("/api1/", "91a7b528-80eb-42ed-a74d-c6fbd5a26116"),
        ("/api1", "91A7B528-80EB-42ED-A74D-C6FBD5A26116"),
    ] {
        let address = Address { url: server.url(path), collection: wanted.to_owned() };
        let collection = Collection::find(&client, &address).unwrap();
        assert_eq!((collection.title(), collection.max_content), ("feed", 400), "{path} {wanted}");
    }
    let error = Collection::find(&client, &address(&server, "fed")).err().unwrap().to_string();
    assert!(error.contains("no collection `fed`") && error.contains("`feed` (91a7b528"), "{error}");
    assert!(server.got().iter().all(|got| got.header("accept") == Some(MEDIA_TYPE)));
}

#[test]
fn an_api_root_on_another_origin_is_not_asked_and_the_error_says_so() {
    let other = Canned::new(|_| json(COLLECTIONS));
    let root = other.url("/api1/").to_string();
    let server = Canned::new(move |got| match got.line.as_str() {
        "GET /taxii2/" => json(&format!(r#"{{"title": "t", "api_roots": ["{root}", "/own/"]}}"#)),
        _ => json("{}"),
    });
    let client = client(&server);
    let error = Collection::find(&client, &address(&server, "feed")).err().unwrap().to_string();
    assert!(error.contains("on another origin and was not asked"), "{error}");
    assert!(other.got().is_empty());
}

#[test]
fn what_is_no_taxii_is_refused_in_words() {
    for (answer, why) in [
        (reply("200 OK", "Content-Type: text/html\r\n", "<html>"), "a login or error page"),
        (reply("200 OK", "Content-Type: application/vnd.oasis.taxii+json; version=2.0\r\n", "{}"), "vnd.oasis.taxii"),
        (reply("406 x", "", ""), "does not speak TAXII 2.1"),
        (json("{\"title\": \"t\"}"), "neither a discovery document nor an API root"),
        (json("{"), "EOF while parsing"),
        (reply("401 x", TYPE, "{\"title\": \"who are you\"}"), "401 Unauthorized: who are you"),
    ] {
        let server = Canned::new(move |_| answer.clone());
        let client = client(&server);
        let error = Collection::find(&client, &address(&server, "feed")).err().unwrap().to_string();
        assert!(error.contains(why), "{error}");
        assert!(error.contains("/taxii2/"), "{error}");
    }
}

#[test]
fn pages_are_followed_by_next_with_the_same_filters() {
    let server = server(|got| {
        let date = "X-TAXII-Date-Added-Last: 2026-05-01T00:00:00.5Z\r\n";
        let filters = "limit=2&added_after=2026-01-01T00%3A00%3A00.000000Z";
        let base = format!("GET /api1/collections/91a7b528-80eb-42ed-a74d-c6fbd5a26116/objects/?{filters}");
        let body = match got.line.strip_prefix(&base) {
            Some("") => r#"{"more": true, "next": "a b&c", "objects": [{"id": "1"}, {"id": "2"}]}"#,
            Some("&next=a+b%26c") => r#"{"objects": [{"id": "3"}]}"#,
            _ => return reply("400 x", TYPE, r#"{"title": "filters changed"}"#),
        };
        reply("200 OK", &format!("{TYPE}{date}"), body)
    });
    let (run, kept) = read(&server, Some("2026-01-01T00:00:00Z".parse().unwrap())).unwrap();
    assert_eq!(kept, [r#"{"id": "1"}"#, r#"{"id": "2"}"#, r#"{"id": "3"}"#]);
    assert_eq!(run, Run { objects: 3, added_after: Some("2026-05-01T00:00:00.5Z".parse().unwrap()) });
}

#[test]
fn a_date_that_is_not_settled_yet_is_read_again_the_next_time() {
    let server = server(|_| {
        let now = "Date: Fri, 01 May 2026 00:01:00 GMT\r\nX-TAXII-Date-Added-Last: 2026-05-01T00:00:00Z\r\n";
        reply("200 OK", &format!("{TYPE}{now}"), r#"{"objects": [{"id": "1"}]}"#)
    });
    let (run, _) = read(&server, None).unwrap();
    assert_eq!(run.added_after, Some("2026-04-30T23:56:00Z".parse().unwrap()));
    let later = Some("2026-04-30T23:59:00Z".parse().unwrap());
    assert_eq!(read(&server, later).unwrap().0.added_after, later, "it never goes back");
}

#[test]
fn nothing_new_keeps_the_date() {
    let server = server(|_| json("{}"));
    let date = Some("2026-01-01T00:00:00Z".parse().unwrap());
    assert_eq!(read(&server, date).unwrap().0, Run { objects: 0, added_after: date });
}

#[test]
fn more_without_next_goes_on_by_date_or_fails_but_never_loses_any() {
    let server = server(|got| {
        let (date, body) = match got.line.split_once("added_after=").map(|(_, date)| date) {
            None => ("2026-05-01T00:00:01Z", r#"{"more": true, "objects": [{"id": "1"}, {"id": "2"}]}"#),
            Some("2026-05-01T00%3A00%3A00.999999Z") => ("2026-05-01T00:00:02Z", r#"{"objects": [{"id": "2"}]}"#),
            _ => return reply("400 x", "", ""),
        };
        reply("200 OK", &format!("{TYPE}X-TAXII-Date-Added-Last: {date}\r\n"), body)
    });
    assert_eq!(read(&server, None).unwrap().1.len(), 3);
    let same_date = self::server(|_| {
        let date = "X-TAXII-Date-Added-Last: 2026-05-01T00:00:01Z\r\n";
        reply("200 OK", &format!("{TYPE}{date}"), r#"{"more": true, "objects": [{"id": "1"}]}"#)
    });
    let error = read(&same_date, None).unwrap_err().to_string();
    assert!(error.contains("all of a page has one date"), "{error}");
    let circle = self::server(|_| json(r#"{"more": true, "next": "x", "objects": []}"#));
    assert!(read(&circle, None).unwrap_err().to_string().contains("nothing comes"));
}

#[test]
fn what_a_server_names_does_not_escape_its_path() {
    let server = Canned::new(|got| match got.line.as_str() {
        "GET /taxii2/" => json(r#"{"api_roots": ["/api1/"]}"#),
        "GET /api1/" => json(r#"{"versions": []}"#),
        "GET /api1/collections/" => {
            json(r#"{"collections": [{"id": "../../admin?x=", "title": "feed", "can_read": true}]}"#)
        }
        _ => json("{}"),
    });
    read(&server, None).unwrap();
    let last = server.got().pop().unwrap();
    assert_eq!(last.line, "GET /api1/collections/..%2F..%2Fadmin%3Fx=/objects/?limit=2");
}

fn outgoing(id: &str, bytes: usize) -> Outgoing {
    let json = format!(r#"{{"id":"{id}","modified":"2026-05-01T00:00:00.000Z","x":"{}"}}"#, "x".repeat(bytes));
    Outgoing { id: id.to_owned(), modified: Some("2026-05-01T00:00:00Z".parse().unwrap()), json }
}

fn send(server: &Canned, objects: &[Outgoing]) -> Result<Sent, Error> {
    let client = client(server);
    Collection::find(&client, &address(server, "out"))?.send(objects)
}

fn ids(body: &str) -> Vec<String> {
    let document: serde_json::Value = serde_json::from_str(body).unwrap();
    document["objects"].as_array().unwrap().iter().map(|object| object["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn envelopes_keep_to_the_servers_limit_and_what_fits_none_is_refused() {
    let server = server(|_| reply("202 x", TYPE, r#"{"id": "s", "status": "complete"}"#));
    let objects = [outgoing("a", 50), outgoing("b", 50), outgoing("huge", 500), outgoing("c", 100), outgoing("d", 150)];
    let sent = send(&server, &objects).unwrap();
    assert_eq!(sent.accepted.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "b", "c", "d"]);
    assert!(sent.refused["huge"].contains("the server takes 400"), "{:?}", sent.refused);
    let posts: Vec<Got> = server.got().into_iter().filter(|got| got.line.starts_with("POST")).collect();
    assert!(posts.iter().all(|post| post.body.len() <= 400));
    assert_eq!(posts.iter().map(|post| ids(&post.body)).collect::<Vec<_>>(), [vec!["a", "b"], vec!["c"], vec!["d"]]);
    assert!(posts.iter().all(|post| post.header("content-type") == Some(MEDIA_TYPE)));
}

#[test]
fn one_object_that_spoils_an_envelope_is_found_by_halves() {
    for status in ["400 x", "413 x", "422 x"] {
        let server = server(move |got| {
            if ids(&got.body).iter().any(|id| id == "bad") {
                return reply(status, TYPE, r#"{"title": "no", "description": "x is not allowed"}"#);
            }
            reply("202 x", TYPE, r#"{"id": "s", "status": "complete"}"#)
        });
        let sent = send(&server, &[outgoing("a", 1), outgoing("bad", 1), outgoing("b", 1), outgoing("c", 1)]).unwrap();
        assert_eq!(sent.accepted.len(), 3);
        assert_eq!(sent.refused["bad"], "x is not allowed");
    }
}

#[test]
fn a_server_that_breaks_on_what_has_no_versions_gets_the_rest() {
    let server = server(|got| {
        if got.body.contains("marking") {
            return reply("500 KeyError", "", "");
        }
        reply("202 x", TYPE, r#"{"id": "s", "status": "complete"}"#)
    });
    let marking = Outgoing { modified: None, ..outgoing("marking", 1) };
    let sent = send(&server, &[outgoing("a", 1), marking.clone(), outgoing("b", 1)]).unwrap();
    assert_eq!((sent.accepted.len(), sent.refused.len()), (2, 1));
    let broken = self::server(|_| reply("500 x", "", ""));
    assert!(send(&broken, &[outgoing("a", 1), marking]).is_err(), "broken is broken");
}

#[test]
fn a_status_is_waited_for_and_each_failure_told_unless_it_is_a_duplicate() {
    let asked = AtomicUsize::new(0);
    let server = server(move |got| {
        let complete = r#"{"id": "s", "status": "complete", "success_count": 1, "failure_count": 3, "failures": [
            {"id": "known", "message": "Unable to process object"}, {"id": "old", "message": "Unable to process object"},
            {"id": "bad", "message": "x is missing"}]}"#;
        let version =
            |modified: &str| json(&format!(r#"{{"objects": [{{"id": "known", "modified": "{modified}"}}]}}"#));
        match got.line.split_once("/api1/").unwrap() {
            ("POST ", _) => reply("202 x", TYPE, r#"{"id": "s", "status": "pending"}"#),
            (_, "status/s/") if asked.fetch_add(1, Ordering::Relaxed) == 0 => {
                json(r#"{"id": "s", "status": "pending"}"#)
            }
            (_, "status/s/") => json(complete),
            (_, path) if path.ends_with("/objects/known/") => version("2026-05-01T00:00:00Z"),
            (_, path) if path.ends_with("/objects/old/") => version("2026-04-01T00:00:00Z"),
            _ => reply("404 x", TYPE, "{}"),
        }
    });
    let sent = send(&server, &["a", "known", "old", "bad"].map(|id| outgoing(id, 1))).unwrap();
    assert_eq!(sent.accepted.iter().map(String::as_str).collect::<Vec<_>>(), ["a", "known"]);
    assert_eq!(sent.refused["bad"], "x is missing");
    assert_eq!(sent.refused["old"], "Unable to process object");
}

#[test]
fn a_status_that_is_forgotten_or_tells_no_ids_is_made_up_for_by_asking_for_each_object() {
    let forgotten = r#"{"id": "s", "status": "pending"}"#;
    let untold = r#"{"id": "s", "status": "complete", "failure_count": 1}"#;
    for posted in [forgotten, untold] {
        let server = server(move |got| match got.line.split_once("/api1/").unwrap() {
            ("POST ", _) => reply("202 x", TYPE, posted),
            (_, path) if path.ends_with("/objects/a/") => {
                json(r#"{"objects": [{"id": "a", "modified": "2026-05-01T00:00:00.000Z"}]}"#)
            }
            _ => reply("404 x", TYPE, "{}"),
        });
        let sent = send(&server, &[outgoing("a", 1), outgoing("b", 1)]).unwrap();
        assert!(sent.accepted.contains("a") && sent.refused.contains_key("b"), "{posted}: {sent:?}");
    }
}

#[test]
fn what_the_account_may_not_is_an_error() {
    let server = server(|_| json("{}"));
    let client = client(&server);
    let feed = Collection::find(&client, &address(&server, "feed")).unwrap();
    assert_eq!(feed.send(&[]).unwrap_err().to_string(), "collection `feed`: the account may not write it");
}
