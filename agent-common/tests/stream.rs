//! What the first octets of a stream name: hellos and requests as programs send them, whole, cut and odd.

use agent_common::stream::{HelloWalk, Named, RequestWalk};
use proptest::prelude::*;

/// An extension of a ClientHello.
fn extension(kind: u16, content: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &(content.len() as u16).to_be_bytes(), content].concat()
}

fn server_name(name: &str) -> Vec<u8> {
    let length = name.len() as u16;
    let content = [&(length + 3).to_be_bytes()[..], &[0], &length.to_be_bytes(), name.as_bytes()].concat();
    extension(0, &content)
}

/// A ClientHello with these extensions and a session id of so many octets.
fn hello(extensions: &[Vec<u8>], session_id: usize) -> Vec<u8> {
    let extensions = extensions.concat();
    let mut body = vec![3, 3];
    body.extend([0xab; 32]);
    body.push(session_id as u8);
    body.extend(vec![7; session_id]);
    body.extend([0, 4, 0x13, 1, 0x13, 2, 1, 0]);
    body.extend((extensions.len() as u16).to_be_bytes());
    body.extend(extensions);
    let mut record = vec![22, 3, 1];
    record.extend((body.len() as u16 + 4).to_be_bytes());
    record.extend([1, 0]);
    record.extend((body.len() as u16).to_be_bytes());
    record.extend(body);
    record
}

fn walk_hello(octets: &[u8]) -> Option<(Named, bool)> {
    let mut walk = HelloWalk::new(octets)?;
    for _ in 0..HelloWalk::STEPS {
        if !walk.step(octets) {
            break;
        }
    }
    Some((walk.finish(), walk.is_encrypted()))
}

fn walk_request(octets: &[u8]) -> Option<Named> {
    let mut walk = RequestWalk::new(octets, octets.len() as u32)?;
    for _ in 0..RequestWalk::STEPS {
        if !walk.step(octets) {
            break;
        }
    }
    Some(walk.finish())
}

fn text(octets: &[u8], named: Named) -> Option<&str> {
    match named {
        Named::Text { at, length } => std::str::from_utf8(&octets[at as usize..][..length as usize]).ok(),
        _ => None,
    }
}

proptest! {
    #[test]
    fn a_server_name_is_found_wherever_it_is(
        before in prop::collection::vec((1_u16..0xfe00, 0_usize..40), 0..20),
        after in prop::collection::vec((1_u16..0xfe00, 0_usize..40), 0..20),
        session_id in 0_usize..33,
        name in "[a-z.]{1,253}",
    ) {
        let others = |list: &[(u16, usize)]| list.iter().map(|(kind, length)| extension(*kind, &vec![9; *length])).collect::<Vec<_>>();
        let octets = hello(&[others(&before), vec![server_name(&name)], others(&after)].concat(), session_id);
        let (named, encrypted) = walk_hello(&octets).unwrap();
        prop_assert_eq!((text(&octets, named), encrypted), (Some(name.as_str()), false));
    }

    #[test]
    fn a_host_is_found_wherever_it_is(
        before in prop::collection::vec(("[A-Za-z-]{1,20}", "[ -~]{0,40}"), 0..10),
        field in prop::sample::select(vec!["Host: ", "host:", "HOST:  \t"]),
        name in "[a-z]{1,20}(\\.[a-z]{1,20}){0,5}",
        rest in prop::sample::select(vec!["", ":8080", " ", ":80 "]),
        newline in prop::sample::select(vec!["\r\n", "\n"]),
    ) {
        let fields: String = before
            .iter()
            .filter(|(key, _)| !key.eq_ignore_ascii_case("host"))
            .map(|(key, value)| format!("{key}: {value}{newline}"))
            .collect();
        let request = format!("GET / HTTP/1.1{newline}{fields}{field}{name}{rest}{newline}{newline}");
        prop_assert_eq!(text(request.as_bytes(), walk_request(request.as_bytes()).unwrap()), Some(name.as_str()));
    }

    #[test]
    fn any_octets_are_judged_without_a_panic(octets in prop::collection::vec(any::<u8>(), 0..400), cut in 0_usize..400) {
        walk_hello(&octets);
        walk_request(&octets);
        let mut whole = hello(&[extension(0x2a2a, b""), server_name("evil.example")], 32);
        for (to, from) in whole.iter_mut().skip(6).zip(&octets) {
            *to ^= from & 1;
        }
        walk_hello(&whole[..cut.min(whole.len())]);
    }
}

#[test]
fn a_hello_that_is_cut_before_its_name_is_unread_and_one_without_names_nothing() {
    let whole = hello(&[extension(0x2a2a, b""), extension(51, &[1; 1200]), server_name("evil.example")], 32);
    for length in 6..whole.len() - "evil.example".len() {
        assert_eq!(walk_hello(&whole[..length]).unwrap().0, Named::Unread, "{length}");
    }
    let mut in_two_records = whole.clone();
    in_two_records[4] -= 1;
    assert_eq!(
        walk_hello(&in_two_records).unwrap().0,
        Named::Unread,
        "its rest is behind the header of a second record"
    );
    assert_eq!(walk_hello(&whole[..5]), None);
    assert_eq!(walk_hello(&hello(&[extension(51, b"x")], 0)).unwrap().0, Named::Nothing);
    assert_eq!(walk_hello(&[&[23, 3, 3, 0, 9][..], &[0; 40]].concat()), None, "application data");
}

#[test]
fn an_encrypted_hello_is_told() {
    let octets = hello(&[server_name("provider.example"), extension(0xfe0d, &[0; 200])], 32);
    let (named, encrypted) = walk_hello(&octets).unwrap();
    assert_eq!((text(&octets, named), encrypted), (Some("provider.example"), true));
}

#[test]
fn requests_without_a_host_and_what_is_none() {
    for (request, expected) in [
        ("GET / HTTP/1.0\r\nX: y\r\n\r\nHost: body.example\r\n", Some(Named::Nothing)),
        ("GET / HTTP/1.0\n\nHost: body.example\n", Some(Named::Nothing)),
        ("GET / HTTP/1.1\r\nX-Host: other.example\r\n\r\n", Some(Named::Nothing)),
        ("GET / HTTP/1.1\r\nHost:\r\n\r\n", Some(Named::Nothing)),
        ("GET / HTTP/1.1\r\nHost: cut.exam", Some(Named::Unread)),
        ("GET / HTTP/1.1\r\nAccept: */*\r\n", Some(Named::Unread)),
        ("get / HTTP/1.1\r\nHost: a.example\r\n\r\n", None),
        ("\u{16}\u{3}\u{1}", None),
        ("", None),
    ] {
        assert_eq!(walk_request(request.as_bytes()), expected, "{request:?}");
    }
}
