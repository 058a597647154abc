use proptest::prelude::*;

use super::*;
use crate::intel::parse::values::Reduced;
use crate::intel::{Observable, SkipReason};

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
        "[file:size > 10]",
        "[EXISTS file:name]",
        "[network-traffic:dst_port = 443]",
        "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_port = 443]",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:protocols[*] = 'tcp']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:protocols[*] IN ('ipv4', 'tcp')]",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port = 53 AND network-traffic:protocols[*] = 'udp']",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:protocols[*] = 'ipv6']",
        "[network-traffic:dst_ref.type = 'ipv6-addr' AND network-traffic:dst_ref.value = '192.0.2.1']",
        "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = 'c2.example.net']",
        "[network-traffic:src_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '192.0.2.1']",
        "[network-traffic:dst_ref.value LIKE '192.0.2.%' AND network-traffic:dst_port = 1]",
        "[network-traffic:dst_ref.value = '192.0.2.1' AND network-traffic:dst_port LIKE '4%']",
        "[domain-name:value LIKE '%.example.net' AND domain-name:value LIKE 'a%']",
        "[process:command_line LIKE '%x%' AND network-traffic:dst_ref.value = '192.0.2.1']",
        "[process:command_line = 'x' AND process:pid = 7]",
        "[process:command_line != 'x']",
        "[process:command_line NOT LIKE '%x%']",
        "[process:command_line MATCHES '(?=x)y']",
        "[process:command_line MATCHES '(x)\\\\1']",
        "[process:command_line = 'x' AND process:image_ref.hashes.MD5 = '11111111111111111111111111111111']",
        "[process:command_line > 'x']",
        "[file:name LIKE '%.sh' AND file:size = 3]",
        "[file:hashes.MD5 = '11111111111111111111111111111111' AND file:hashes.MD5 = '22222222222222222222222222222222']",
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
fn a_pattern_of_a_name_is_used_where_it_says_just_a_name_and_what_is_below() {
    for pattern in [
        "LIKE 'a.example.net'",
        "LIKE '%.A.example.net'",
        "MATCHES '^a\\\\.example\\\\.net$'",
        "MATCHES '(?i)^a\\\\.example\\\\.net$'",
        "MATCHES '(^|\\\\.)a\\\\.example\\\\.net$'",
        "MATCHES '(?:^|\\\\.)a\\\\.example\\\\.net$'",
        "MATCHES '^(.*\\\\.)?a\\\\.example\\\\.net$'",
        "MATCHES '^.+\\\\.a\\\\.example\\\\.net$'",
        "MATCHES '\\\\.a\\\\.example\\\\.net$'",
    ] {
        assert_eq!(values(&format!("[domain-name:value {pattern}]")), ["domain a.example.net"], "{pattern}");
    }
    for pattern in [
        "LIKE '%'",
        "LIKE '%a.example.net'",
        "LIKE 'a.example.%'",
        "LIKE '%.a.exam_le.net'",
        "LIKE '%.%.example.net'",
        "MATCHES 'a\\\\.example\\\\.net$'",
        "MATCHES '^a\\\\.example\\\\.net'",
        "MATCHES '^a.example.net$'",
        "MATCHES '^(a|b)\\\\.example\\\\.net$'",
        "MATCHES '(.*\\\\.)?a\\\\.example\\\\.net$'",
        "MATCHES '^a\\\\.example\\\\.net\\\\$'",
        "MATCHES '^[a-z]+\\\\.example\\\\.net$'",
        "MATCHES '^a?\\\\.example\\\\.net$'",
        "MATCHES ''",
        "MATCHES '$'",
    ] {
        let (reason, why) = why(&format!("[domain-name:value {pattern}]"));
        assert!(matches!(reason, SkipReason::UnsupportedPattern | SkipReason::Malformed), "{pattern}: {why}");
    }
    assert_eq!(why("[domain-name:value LIKE '%.x y']").0, SkipReason::Malformed);
}

#[test]
fn what_a_program_must_be_is_one_value_in_one_spelling() {
    for (pattern, expected) in [
        ("[process:command_line='sh  -c x']", "process process:command_line = 'sh  -c x'"),
        (
            "[ (process:command_line LIKE '%it\\'s%' AND process:name = 'a\\\\b') ]",
            "process process:command_line LIKE '%it\\'s%' AND process:name = 'a\\\\b'",
        ),
        (
            "[process:command_line MATCHES 'x+' AND process:image_ref.name IN ('a','b')]",
            "process process:command_line MATCHES 'x+' AND process:image_ref.name IN ('a', 'b')",
        ),
        ("[file:name LIKE '%.sh']", "process file:name LIKE '%.sh'"),
        ("[process:image_ref.parent_directory_ref.path = '/opt' AND process:image_ref.name = 'x']", "path /opt/x"),
        (
            "[file:parent_directory_ref.path LIKE '/tmp%' AND file:name = 'x']",
            "process file:parent_directory_ref.path LIKE '/tmp%' AND file:name = 'x'",
        ),
    ] {
        assert_eq!(values(pattern), [expected], "{pattern}");
        if let Some(text) = expected.strip_prefix("process ") {
            assert_eq!(values(&format!("[{text}]")), [expected], "it reads back as itself");
        }
    }
    assert_eq!(values("[process:command_line IN ('a', 'b')]").len(), 2);
    for everything in ["LIKE '%'", "LIKE '%%'", "MATCHES '.*'", "MATCHES 'x*'", "MATCHES ''"] {
        let (reason, why) = why(&format!("[process:command_line {everything}]"));
        assert_eq!(reason, SkipReason::TooBroad, "{everything}: {why}");
    }
    assert_eq!(why("[process:command_line = 7]").0, SkipReason::Malformed);
}

/// Whether an exec meets what a pattern's value says.
fn meets(pattern: &str, paths: &[&str], command_line: Option<&str>) -> bool {
    let reduced = reduced(pattern);
    let [Observable::Process(text)] = reduced.observables.as_slice() else { panic!("{pattern}: {reduced:?}") };
    Condition::read(text).unwrap().holds(&Program { paths: paths.to_vec(), command_line })
}

#[test]
fn an_exec_is_compared_as_the_operators_say() {
    let line =
        |pattern: &str, line: &str| meets(&format!("[process:command_line {pattern}]"), &["/bin/sh"], Some(line));
    for (pattern, text, expected) in [
        ("= 'sh -c x'", "sh -c x", true),
        ("= 'sh -c x'", "sh -c xx", false),
        ("LIKE 'sh -c %'", "sh -c x", true),
        ("LIKE 'sh -c %'", "a sh -c x", false),
        ("LIKE '%| sh'", "curl x\ny | sh", true),
        ("LIKE 's_ x'", "sé x", true),
        ("LIKE 's_ x'", "s x", false),
        ("LIKE '%.*%'", "a.b", false),
        ("LIKE '%\\\\%'", "a\\b", true),
        ("MATCHES 'c x$'", "sh -c x", true),
        ("MATCHES '^c x$'", "sh -c x", false),
        ("MATCHES 'a.b'", "a\nb", true),
        ("MATCHES '(?i)CURL\\\\s+http'", "curl  http://x", true),
    ] {
        assert_eq!(line(pattern, text), expected, "{pattern} {text:?}");
    }
    let and = "[process:command_line LIKE '%-e%' AND process:name = 'nc']";
    assert!(meets(and, &["/usr/bin/nc"], Some("nc -e sh")));
    assert!(!meets(and, &["/usr/bin/ncat"], Some("nc -e sh")), "an AND needs both");
    assert!(!meets(and, &["/usr/bin/nc"], Some("nc -l")), "an AND needs both");
    assert!(!meets(and, &["/usr/bin/nc"], None), "what is not known is not met");
    let both = "[file:parent_directory_ref.path LIKE '/tmp%' AND file:name LIKE 'x%']";
    assert!(meets(both, &["/tmp/a/x1"], None));
    assert!(!meets(both, &["/tmp/y", "/bin/x1"], None), "directory and name of different paths");
    assert!(meets("[file:parent_directory_ref.path LIKE '/' AND file:name LIKE 'x%']", &["/x1"], None));
}

#[test]
fn values_of_other_types_and_broken_values_are_told_apart() {
    for pattern in [
        "[email-addr:value = 'a@b.example']",
        "[windows-registry-key:key = 'HKCU\\\\x']",
        "[x-vendor:thing = 'v']",
        "[process:cwd LIKE '/tmp/%']",
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
