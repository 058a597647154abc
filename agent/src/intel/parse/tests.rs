use std::sync::Arc;

use super::*;

fn named(name: &str) -> Format {
    name.parse().unwrap()
}

fn fault(format: Format, bytes: &[u8]) -> String {
    parse(&format.into(), &Arc::from("f"), bytes).map_or_else(|error| error.to_string(), |parsed| format!("{parsed:?}"))
}

#[test]
fn what_is_no_format_is_refused_by_name() {
    for (bytes, expected) in [
        (&b""[..], "f:1:1: the file is empty"),
        (b" \r\n\t\n", "f:1:1: the file is empty"),
        (b"\xef\xbb\xbf", "f:1:1: the file is empty"),
        (b"\x1f\x8b\x08xyz", "f:1:1: no known format: it looks like a gzip archive"),
        (b"PK\x03\x04", "a zip archive"),
        (b"%PDF-1.7", "a PDF"),
        (b"\xff\xfe1\x009\x00", "UTF-16"),
        (b"192.0.2.1\nab\0c", "f:2:3: no known format: it looks like binary data"),
        (b"<!DOCTYPE html><html>", "an HTML page"),
        (b"<?xml version='1.0'?><rss/>", "it looks like XML"),
        (b"<stix:STIX_Package>", "this is STIX 1 XML, which is not read"),
        (b"{\"stix_header\": {}, \"observables\": []}", "this is STIX 1 in JSON, which is not read"),
        (b"{\"response\": \"denied\"}", "f:1:14: not valid JSON: `response` holds no MISP events"),
        (b"{\"list\": [], \"matching_attributes\": [], \"type\": \"cidr\"}", "this is a MISP warning list"),
        (b"{\"type\": \"indicator\", \"id\": \"x\"}", "a single STIX object"),
        (b"{}", "a JSON object without `objects` or `Event`"),
        (b"[{\"type\": \"indicator\"}]", "a JSON array"),
        (b"when,what\ntoday,192.0.2.1\n", "text of which no line is an indicator"),
        (b"just a few words\nand more", "f:1:1: no known format: it looks like text of which no line is an indicator"),
        (b"{\"type\": \"bundle\",\n \"objects\": [ {\"a\": ]}", "f:2:21: not valid JSON"),
        (b"{\"type\": \"bundle\", \"objects\": [", "f:1:31: not valid JSON"),
        (b"{\"type\": \"bundle\",\n\"objects\": {}}", "f:2:12: not valid JSON: `objects` is no array"),
        (b"{\"type\": \"bundle\",\n \"id\": \"\xff\"}", "f:2:9: not UTF-8"),
    ] {
        let found = fault(Format::AUTO, bytes);
        assert!(found.contains(expected), "{expected}: {found}");
    }
}

#[test]
fn a_format_that_is_set_is_insisted_on() {
    assert!(fault(named("stix"), b"192.0.2.1\n").contains("the format is set to stix, but it looks like text"));
    assert!(fault(named("list"), b"{\"type\": \"bundle\", \"objects\": []}").contains("the format is set to list"));
    assert_eq!(
        parse(&named("talos").into(), &Arc::from("f"), b"{\"type\": \"bundle\", \"objects\": []}").unwrap().read,
        0
    );
    assert_eq!(parse(&named("talos").into(), &Arc::from("f"), b"192.0.2.1").unwrap().read, 1);
    assert_eq!(parse(&Reading::default(), &Arc::from("f"), b"[2001:db8::1]:443\n").unwrap().read, 1);
}

#[test]
fn names_of_formats_are_read_back() {
    for name in Format::names() {
        assert_eq!(name.parse::<Format>().unwrap().to_string(), name);
        assert_eq!(serde_json::to_value(name.parse::<Format>().unwrap()).unwrap(), name);
    }
    assert_eq!("xml".parse::<Format>(), Err("`xml` is none of auto, stix, misp, csv, talos, list".to_owned()));
}

#[test]
fn positions_count_from_one() {
    assert_eq!(position(b"ab\ncd", 0), (1, 1));
    assert_eq!(position(b"ab\ncd", 4), (2, 2));
    assert_eq!(position(b"ab\ncd", 99), (2, 3));
}
