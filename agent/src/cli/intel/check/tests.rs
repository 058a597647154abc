use std::fs;

use clap::Parser;
use serde_json::Value;

use super::*;

#[derive(Parser)]
struct Line {
    #[command(flatten)]
    args: Args,
}

fn check(arguments: &[&str]) -> (Exit, String, String) {
    let args = Line::parse_from([&["check"], arguments].concat()).args;
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let now = "2026-11-01T00:00:00Z".parse().unwrap();
    let packages = Packages::open(args.paths[0].with_file_name("info"), args.paths[0].with_file_name("own-files"));
    let exit = run(&args, &packages, now, &mut output, &mut errors).unwrap();
    (exit, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
}

fn example() -> (tempfile::TempDir, String) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("example.json");
    fs::write(&path, crate::intel::EXAMPLE).unwrap();
    (directory, path.to_str().unwrap().to_owned())
}

#[test]
fn the_document_is_the_contract() {
    let (_directory, path) = example();
    let (exit, output, errors) = check(&["--json", "--allow-reserved", &path]);
    assert_eq!((exit, errors.as_str()), (Exit::Done, ""));
    assert!(output.starts_with("{\"schema\":1,\"files\":1,\"indicators\":9,\"outcome\":{\"block\":7,\"report\":1,\"skipped\":1},\"values\":{\"ipv4\":3,\"ipv4_prefix\":1,\"ipv6\":1,\"ipv6_prefix\":1,\"endpoint\":1,\"domain\":1,\"url\":1,\"sha256\":1,\"sha1\":0,\"md5\":0,\"path\":0,\"file_name\":0},\"skipped\":[{\"reason\":\"expired\",\"count\":1,\"examples\":[{\"where\":"), "{output}");
    let document: Value = serde_json::from_str(&output).unwrap();
    let example = &document["skipped"][0]["examples"][0];
    assert!(example["where"].as_str().unwrap().starts_with(&format!("{path}#indicator--")));
    assert_eq!(example["value"], "192.0.2.200");
    assert_eq!(example["why"], "valid_until 2026-03-01T00:00:00Z");
}

#[test]
fn the_clock_is_settable_and_reserved_addresses_are_not_blocked_by_default() {
    let (_directory, path) = example();
    let document = |arguments: &[&str]| -> Value { serde_json::from_str(&check(arguments).1).unwrap() };
    let early = document(&["--json", "--allow-reserved", "--at", "2026-02-01T00:00:00Z", &path]);
    assert_eq!(early["outcome"], serde_json::json!({"block": 8, "report": 1, "skipped": 0}));
    let default = document(&["--json", &path]);
    assert_eq!(default["outcome"], serde_json::json!({"block": 2, "report": 1, "skipped": 6}));
    assert_eq!(default["skipped"][1]["reason"], "reserved_address");
    let reporting = document(&["--json", "--allow-reserved", "--action", "report", "--min-confidence", "80", &path]);
    assert_eq!(reporting["outcome"], serde_json::json!({"block": 0, "report": 6, "skipped": 3}));
}

#[test]
fn intelligence_that_cannot_be_used_is_exit_3_with_its_place() {
    let directory = tempfile::tempdir().unwrap();
    let (good, bad) = (directory.path().join("good.txt"), directory.path().join("bad.json"));
    fs::write(&good, "9.9.9.9\n").unwrap();
    fs::write(&bad, "{\"type\": \"bundle\",\n \"objects\": [nonsense]}").unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let (exit, output, errors) = check(&["--json", good, bad]);
    assert_eq!((exit, output.as_str()), (Exit::Invalid, ""));
    assert!(errors.starts_with(&format!("cordon: {bad}:2:15: not valid JSON")), "{errors}");
    let (exit, output, errors) = check(&["--json", directory.path().to_str().unwrap()]);
    assert_eq!(exit, Exit::Done);
    assert!(errors.contains(&format!("left out: {bad}:2:15")), "{errors}");
    let document: Value = serde_json::from_str(&output).unwrap();
    assert_eq!((&document["files"], &document["refused"][0]["file"]), (&Value::from(1), &Value::from(bad)));
    assert_eq!(check(&["--warning-list", good, good]).0, Exit::Invalid);
    assert_eq!(check(&["/nonexistent"]).0, Exit::Invalid);
}

#[test]
fn people_get_a_table() {
    let (_directory, path) = example();
    let (exit, output, _) = check(&["--allow-reserved", &path]);
    assert_eq!(exit, Exit::Done);
    assert!(output.starts_with("9 indicators in 1 file: 7 block, 1 report, 1 skipped\n"), "{output}");
    assert!(output.contains("ipv4_prefix") && output.contains("skipped: 1 expired"), "{output}");
}

#[test]
fn options_say_what_a_source_would() {
    let directory = tempfile::tempdir().unwrap();
    let (csv, misp) = (directory.path().join("x.csv"), directory.path().join("event.json"));
    fs::write(&csv, "when,what\ntoday,9.9.9.9\n").unwrap();
    fs::write(
        &misp,
        r#"{"Event": {"info": "x", "Attribute": [{"type": "ip-dst", "value": "9.9.9.9", "to_ids": false}]}}"#,
    )
    .unwrap();
    let (csv, misp) = (csv.to_str().unwrap(), misp.to_str().unwrap());
    let blocked = |arguments: &[&str]| {
        let (exit, output, errors) = check(&[&["--json"], arguments].concat());
        assert_eq!(exit, Exit::Done, "{errors}");
        serde_json::from_str::<Value>(&output).unwrap()["outcome"]["block"].clone()
    };
    assert_eq!(check(&["--json", csv]).0, Exit::Invalid);
    assert_eq!(blocked(&["--format", "csv", "--column", "value=what", csv]), 1);
    assert_eq!(blocked(&["--column", "value=2", csv]), 1, "without a header the first line is a row too");
    assert_eq!((blocked(&[misp]), blocked(&["--to-ids", "ignore", misp])), (Value::from(0), Value::from(1)));
    for wrong in [["--column", "value"], ["--column", "colour=2"], ["--to-ids", "perhaps"], ["--format", "xml"]] {
        assert!(Line::try_parse_from([&["check"], &wrong[..], &["f"]].concat()).is_err(), "{wrong:?}");
    }
    let (_, output, _) = check(&["--column", "value=2", csv]);
    assert!(output.contains("1 read as csv: value from `2`"), "{output}");
}

#[test]
fn each_refusal_is_listed_with_its_reason() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("list.txt");
    let lines = [
        "0.0.0.0/0",
        "2a00::/18",
        "duckdns.org",
        "github.com",
        "127.0.0.1",
        "d41d8cd98f00b204e9800998ecf8427e",
        "00112233445566778899aabbccddeeff",
        "https://github.com/lamp/x",
        "9.9.9.9",
    ];
    fs::write(&path, lines.join("\n")).unwrap();
    fs::create_dir(directory.path().join("info")).unwrap();
    let sums = "00112233445566778899aabbccddeeff  usr/bin/lamp\n";
    fs::write(directory.path().join("info/lamp.md5sums"), sums).unwrap();
    let (_, output, _) = check(&["--json", path.to_str().unwrap()]);
    let document: Value = serde_json::from_str(&output).unwrap();
    assert_eq!(document["outcome"], serde_json::json!({"block": 1, "report": 1, "skipped": 7}));
    let listed: Vec<(&str, &str, &str)> = document["skipped"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|reason| {
            let name = reason["reason"].as_str().unwrap();
            let examples = reason["examples"].as_array().unwrap().iter();
            examples.map(move |example| (name, example["value"].as_str().unwrap(), example["why"].as_str().unwrap()))
        })
        .collect();
    assert_eq!(
        listed,
        [
            ("reserved_address", "127.0.0.1", "127.0.0.0/8 is loopback; allow_reserved is not set for this source"),
            (
                "benign",
                "github.com",
                "it covers github.com, which everybody uses; allow_popular is not set for this source"
            ),
            ("benign", "d41d8cd98f00b204e9800998ecf8427e", "the digest of an empty file"),
            ("benign", "00112233445566778899aabbccddeeff", "a package of this host installed it as /usr/bin/lamp"),
            ("too_broad", "0.0.0.0/0", "/0 is broader than the limit of /8"),
            ("too_broad", "2a00::/18", "/18 is broader than the limit of /19"),
            ("too_broad", "duckdns.org", "a public suffix: it covers every name that anybody registers below it"),
        ]
    );
}

#[test]
fn all_that_is_skipped_is_named_if_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("list.txt");
    fs::write(&path, (1..20).map(|number| format!("10.0.0.{number}\n")).collect::<String>() + "9.9.9.9\n").unwrap();
    let examples = |arguments: &[&str]| {
        let (_, output, _) = check(&[arguments, &["--json", path.to_str().unwrap()]].concat());
        let document: Value = serde_json::from_str(&output).unwrap();
        (document["skipped"][0]["count"].clone(), document["skipped"][0]["examples"].as_array().unwrap().len())
    };
    assert_eq!((examples(&[]), examples(&["--all"])), ((19.into(), 5), (19.into(), 19)));
}

#[test]
fn the_list_of_encrypted_resolvers_is_whole_and_none_is_left_out() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("encrypted-resolvers.txt");
    let list = include_str!("../../../../../packaging/encrypted-resolvers.txt");
    fs::write(&path, list).unwrap();
    let (exit, output, _) = check(&["--json", "--allow-popular", path.to_str().unwrap()]);
    let document: Value = serde_json::from_str(&output).unwrap();
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).count();
    assert_eq!(exit, Exit::Done);
    assert_eq!(document["outcome"], serde_json::json!({"block": lines, "report": 0, "skipped": 0}));
    assert_eq!(document["values"]["endpoint"].as_u64().unwrap() % 2, 0, "each at both ports");
    assert_eq!(
        document["values"]["domain"].as_u64().unwrap() + document["values"]["endpoint"].as_u64().unwrap(),
        lines as u64
    );
}
