use proptest::prelude::*;

use super::*;
use crate::intel::SkipReason;
use crate::intel::parse::values::Reduced;

fn parse(text: &str) -> Result<Observation, PatternError> {
    super::parse(text, Version::V21)
}

fn reduced(text: &str) -> Reduced {
    let reduced = reduce(&parse(text).unwrap_or_else(|error| panic!("{text}: {error}")));
    reduced.clone().usable().unwrap_or(reduced)
}

fn values(text: &str) -> Vec<String> {
    let reduced = reduced(text);
    assert_eq!(reduced.dropped, [], "{text}");
    reduced.observables.iter().map(|value| format!("{} {value}", value.type_name())).collect()
}

fn why(text: &str) -> (SkipReason, String) {
    let reduced = reduced(text);
    assert_eq!(reduced.observables, [], "{text}");
    (reduced.dropped[0].reason, reduced.dropped[0].why.to_string())
}

#[test]
fn one_comparison_is_its_value() {
    let sha256 = "a".repeat(64);
    for (pattern, expected) in [
        ("[ipv4-addr:value = '192.0.2.1']", "ipv4 192.0.2.1"),
        ("[ipv4-addr:value == '192.0.2.1'] // note", "ipv4 192.0.2.1"),
        ("([ (ipv4-addr:value = '192.0.2.1') ])", "ipv4 192.0.2.1"),
        ("[ ipv4-addr:value\n =\t'192[.]0[.]2[.]1' /* x */ ]", "ipv4 192.0.2.1"),
        ("[ipv4-addr:value ISSUBSET '192.0.2.77/28']", "ipv4_prefix 192.0.2.64/28"),
        ("[ipv6-addr:value = '2001:DB8::1']", "ipv6 2001:db8::1"),
        ("[network-traffic:dst_ref.value = '192.0.2.1']", "ipv4 192.0.2.1"),
        (
            "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '192.0.2.1']",
            "ipv4 192.0.2.1",
        ),
        ("[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:protocols[0] = 'ipv4']", "ipv4 192.0.2.1"),
        (
            "[network-traffic:src_ref.type = 'ipv6-addr' AND network-traffic:src_ref.value = '2001:db8::1']",
            "ipv6 2001:db8::1",
        ),
        (
            "[network-traffic:dst_ref.type = 'domain-name' AND network-traffic:dst_ref.value = 'c2.example.net']",
            "domain c2.example.net",
        ),
        ("[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port = 443]", "endpoint 192.0.2.1:443"),
        (
            "[network-traffic:dst_port = '443' AND network-traffic:dst_ref.value = '192.0.2.1']",
            "endpoint 192.0.2.1:443",
        ),
        ("[network-traffic:src_ref.value = '192.0.2.1' AND network-traffic:src_port = 443]", "endpoint 192.0.2.1:443"),
        ("[domain-name:value = 'a[.]example.net']", "domain a.example.net"),
        ("[url:value = 'http://a.example/x']", "url http://a.example/x"),
        ("[file:name = 'it\\'s']", "file_name it's"),
        ("[process:name='x']", "file_name x"),
        ("[file:path='/opt/x']", "path /opt/x"),
        ("[file:parent_directory_ref.path = '/opt/' AND file:name = 'x']", "path /opt/x"),
    ] {
        assert_eq!(values(pattern), [expected], "{pattern}");
    }
    for spelling in ["'SHA-256'", "SHA256", "sha256", "'sha-256'", "SHA_256"] {
        for object in ["file:", "process:image_ref.", "process:binary_ref."] {
            let pattern = format!("[{object}hashes.{spelling} = '{sha256}']");
            assert_eq!(values(&pattern), [format!("sha256 {sha256}")], "{pattern}");
        }
    }
}

#[test]
fn alternatives_are_several_values() {
    let expected = ["ipv4 192.0.2.1", "domain a.example.net"];
    assert_eq!(values("[ipv4-addr:value = '192.0.2.1' OR domain-name:value = 'a.example.net']"), expected);
    assert_eq!(values("[ipv4-addr:value = '192.0.2.1'] OR [domain-name:value = 'a.example.net']"), expected);
    assert_eq!(
        values("[ipv4-addr:value IN ('192.0.2.1', '192.0.2.2', '192.0.2.1')]"),
        ["ipv4 192.0.2.1", "ipv4 192.0.2.2"]
    );
    assert_eq!(
        values(
            "[network-traffic:dst_ref.value IN ('192.0.2.1', '192.0.2.2') AND network-traffic:dst_port IN (80, 443)]"
        )
        .len(),
        4
    );
    assert_eq!(
        values(
            "[network-traffic:dst_ref.value = '192.0.2.1' AND (network-traffic:dst_port = 80 OR network-traffic:dst_port = 443)]"
        ),
        ["endpoint 192.0.2.1:80", "endpoint 192.0.2.1:443"]
    );
    let (md5, sha1) = ("1".repeat(32), "2".repeat(40));
    let pattern = format!("[(file:name = 'a' OR file:size = 7) AND file:hashes.MD5 IN ('{md5}')]");
    assert_eq!(values(&pattern), [format!("md5 {md5}")]);
    let pattern = format!("[file:hashes.MD5 = '{md5}' AND file:hashes.'SHA-1' = '{sha1}' AND file:size = 7]");
    assert_eq!(values(&pattern), [format!("md5 {md5}"), format!("sha1 {sha1}")]);
}

#[test]
fn an_alternative_that_cannot_be_decided_is_named() {
    let reduced =
        reduced("[ipv4-addr:value = '192.0.2.1' OR email-addr:value = 'a@b.example'] OR [domain-name:value LIKE '%']");
    assert_eq!(reduced.observables.len(), 1);
    assert_eq!(reduced.dropped.len(), 2);
    assert_eq!(reduced.dropped[0].reason, SkipReason::UnsupportedType);
    assert_eq!(reduced.dropped[1].reason, SkipReason::UnsupportedPattern);
}

#[test]
fn what_one_observation_cannot_decide_is_unsupported() {
    for pattern in [
        "[ipv4-addr:value != '192.0.2.1']",
        "[ipv4-addr:value <> '192.0.2.1']",
        "[ipv4-addr:value NOT = '192.0.2.1']",
        "[ipv4-addr:value NOT IN ('192.0.2.1')]",
        "[ipv4-addr:value ISSUPERSET '192.0.2.0/24']",
        "[domain-name:value ISSUBSET '192.0.2.0/24']",
        "[domain-name:value LIKE '%.example.net']",
        "[domain-name:value MATCHES '^(a|b)\\\\.example.net$']",
        "[file:size > 10]",
        "[EXISTS file:name]",
        "[network-traffic:dst_port = 443]",
        "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_port = 443]",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:protocols[*] = 'tcp']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:src_ref.value = '192.0.2.2']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:src_port = 1]",
        "[network-traffic:dst_ref.value = '192.0.2.0/24' AND network-traffic:dst_port = 1]",
        "[domain-name:value = 'a.example.net' AND domain-name:resolves_to_refs[*].value = '192.0.2.1']",
        "[file:name = 'x' AND file:size = 3]",
        "[file:name = 'x' AND (file:size = 3 OR file:size = 4)]",
        "[ipv4-addr:value = '192.0.2.1'] AND [domain-name:value = 'a.example.net']",
        "[ipv4-addr:value = '192.0.2.1'] FOLLOWEDBY [file:name = 'x']",
        "[ipv4-addr:value = '192.0.2.1'] WITHIN 5 SECONDS",
        "([ipv4-addr:value = '192.0.2.1'] OR [ipv4-addr:value = '192.0.2.2']) REPEATS 5 TIMES",
        "[ipv4-addr:value = '192.0.2.1'] START t'2026-01-01T00:00:00Z' STOP t'2026-02-01T00:00:00.5Z'",
    ] {
        assert_eq!(why(pattern).0, SkipReason::UnsupportedPattern, "{pattern}: {}", why(pattern).1);
    }
}

#[test]
fn values_of_other_types_and_broken_values_are_told_apart() {
    for pattern in [
        "[email-addr:value = 'a@b.example']",
        "[windows-registry-key:key = 'HKCU\\\\x']",
        "[x-vendor:thing = 'v']",
        "[process:command_line = 'sh -c x']",
        "[file:hashes.IMPHASH = 'x']",
        "[directory:path = '/x']",
        "[artifact:payload_bin = b'AAEC']",
        "[file:magic_number_hex = h'ffd8']",
    ] {
        assert_eq!(why(pattern).0, SkipReason::UnsupportedType, "{pattern}");
    }
    for pattern in [
        "[ipv4-addr:value = '198.51.100.999']",
        "[ipv4-addr:value = '']",
        "[ipv4-addr:value = true]",
        "[ipv4-addr:value IN ()]",
        "[domain-name:value = 'a.example/x']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port = 70000]",
        "[file:name = 'a/b']",
    ] {
        assert_eq!(why(pattern).0, SkipReason::Malformed, "{pattern}");
    }
}

#[test]
fn broken_patterns_say_where() {
    for (pattern, column, part) in [
        ("", 1, "expected `[`"),
        ("[ipv4-addr:value = ", 20, "a constant"),
        ("[ipv4-addr:value = 'x", 20, "quoted text"),
        ("[ipv4-addr:value = 'x'", 23, "`]`"),
        ("[ipv4-addr:value = 'x'] x", 25, "the end"),
        ("[ipv4-addr:value within 'x']", 18, "an operator"),
        ("[ipv4-addr value = 'x']", 12, "`:`"),
        ("[AND:value = 'x']", 2, "an object type"),
        ("[a:b = 'x'] WITHIN -5 SECONDS", 20, "after WITHIN"),
        ("[a:b = 'x'] WITHIN 5", 21, "SECONDS"),
        ("[a:b = 'x'] REPEATS 1 TIMES REPEATS 2 TIMES", 44, "twice"),
        ("[a:b = 'x'] START t'2026-01-02T00:00:00Z' STOP 'x'", 48, "a timestamp"),
        ("[a:b = 1 AND file:hashes.'SHA-256' = 'abcd']", 14, "`abcd` is no SHA-256"),
        ("[a:b = 'C:\\x']", 11, "a backslash that is not doubled"),
        ("[a:b-c = 1]", 4, "in quotes"),
        ("[a:b > true]", 8, "has an order"),
        ("[a:b = t'2026-13-01T00:00:00Z']", 8, "timestamp"),
        ("[a:b = h'abc']", 8, "hexadecimal"),
        ("[a:b = b'a']", 8, "base64"),
        ("[a:b = 007]", 8, "not a number"),
        ("[a:b LIKE 5]", 11, "quoted text"),
        ("[NOT a:b = 1]", 6, "EXISTS"),
        ("[a:b = 'é' ; ]", 12, "`;`"),
        ("[a:b = 1] /* x", 11, "a comment"),
        ("rule x { condition: false }", 1, "expected `[`"),
        ("[rule x { condition: false }]", 9, "`{` starts nothing"),
        ("title x", 1, "expected `[`"),
    ] {
        let error = parse(pattern).map_or_else(|error| error, |tree| panic!("{pattern}: {tree:?}"));
        assert_eq!(error.column, column, "{pattern}: {error}");
        assert!(error.to_string().contains(part), "{pattern}: {error}");
    }
}

#[test]
fn caps_hold() {
    for bomb in ["[".repeat(100_000), "(".repeat(100_000), format!("[{}", "(".repeat(100_000))] {
        assert!(matches!(parse(&bomb).unwrap_err().fault, PatternFault::TooDeep | PatternFault::Expected { .. }));
    }
    assert_eq!(parse(&format!("[{}", " ".repeat(MAX_BYTES))).unwrap_err().fault, PatternFault::TooLong);
    let many = format!("[a:b IN ({})]", vec!["1"; MAX_NODES + 1].join(","));
    assert_eq!(parse(&many).unwrap_err().fault, PatternFault::TooMany);
    let nested = format!("{}[a:b = 1]{}", "(".repeat(MAX_DEPTH - 1), ")".repeat(MAX_DEPTH - 1));
    assert!(parse(&nested).is_ok());
    let wide = format!("[{}]", vec!["ipv4-addr:value = '192.0.2.1'"; 50_000].join(" OR "));
    assert_eq!(values(&wide), ["ipv4 192.0.2.1"]);
}

#[test]
fn and_binds_closer_than_or() {
    let Observation::One(Comparison::Or(items)) = parse("[a:b = 1 OR a:c = 2 AND a:d = 3]").unwrap() else { panic!() };
    assert!(matches!(items.as_slice(), [Comparison::Test { .. }, Comparison::And(parts)] if parts.len() == 2));
    let Observation::FollowedBy(items) = parse("[a:b=1] FOLLOWEDBY [a:b=2] OR [a:b=3] AND [a:b=4]").unwrap() else {
        panic!()
    };
    assert!(matches!(items.as_slice(), [Observation::One(_), Observation::Or(parts)] if parts.len() == 2));
}

#[test]
fn names_may_be_like_keywords_in_lower_case() {
    let Observation::One(Comparison::Test { path, .. }) = parse("[process:start.'in-x'[0].within[*] = 1]").unwrap()
    else {
        panic!()
    };
    assert_eq!(path.to_string(), "process:start.in-x[0].within[*]");
}

proptest! {
    #[test]
    fn no_text_panics(text in "[\\[\\]()':.,=<>a-c0-9 \\\\*/bhtORANDISUBET-]{0,80}") {
        if let Ok(tree) = parse(&text) {
            let _reduced = reduce(&tree);
        }
    }

    #[test]
    fn any_text_constant_survives_quoting(constant in "\\PC{0,40}") {
        let quoted = constant.replace('\\', "\\\\").replace('\'', "\\'");
        let Ok(Observation::One(Comparison::Test { constants, .. })) = parse(&format!("[x:y = '{quoted}']")) else {
            return Err(TestCaseError::fail("not parsed"));
        };
        prop_assert_eq!(constants, vec![Constant::Text(constant)]);
    }
}
