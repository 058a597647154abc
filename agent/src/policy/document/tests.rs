use std::fs;
use std::path::Path;

use schemars::{JsonSchema, schema_for};
use serde_json::Value;

use super::*;
use crate::policy::lint::{Oddity, lint};

const LEAST: &str = "schema = 1\ntenant = \"acme\"\ngroup = \"web\"\nserial = 1\n";

fn page() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
    fs::read_to_string(path).unwrap()
}

/// One table of keys.
fn table<T: JsonSchema>(heading: &str) -> String {
    let schema = Value::from(schema_for!(T));
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut keys: Vec<(&String, &Value)> = schema["properties"].as_object().unwrap().iter().collect();
    keys.sort_by_key(|(key, _)| (!required.contains(&key.as_str()), *key));
    let mut text = format!("### {heading}\n\n| key | type | |\n|---|---|---|\n");
    for (key, about) in keys {
        let kind = match &about["type"] {
            Value::String(kind) => kind.clone(),
            Value::Array(kinds) => kinds.first().and_then(Value::as_str).unwrap().to_owned(),
            _ => "table".to_owned(),
        };
        let needed = if required.contains(&key.as_str()) { ", needed" } else { "" };
        let words =
            about["description"].as_str().unwrap_or_else(|| panic!("`{key}` is not described")).replace('\n', " ");
        text.push_str(&format!("| `{key}` | {kind}{needed} | {words} |\n"));
    }
    text
}

#[test]
fn the_reference_is_made_from_the_types() {
    let expected = [
        table::<Document>("The policy"),
        table::<Intelligence>("`[[intelligence]]`"),
        table::<Rule>("`[[rule]]`"),
        table::<Which>("`[rule.which]`"),
        table::<Scope>("`[rule.where]`"),
    ]
    .join("\n");
    let page = page();
    let (before, rest) = page.split_once("<!-- reference -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- /reference -->").unwrap();
    if std::env::var_os("CORDON_BLESS").is_some() && found != expected {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/policy.md");
        fs::write(path, format!("{before}<!-- reference -->\n{expected}<!-- /reference -->{after}")).unwrap();
        return;
    }
    assert_eq!(found, expected, "docs/policy.md is stale: run this test with CORDON_BLESS=1");
}

#[test]
fn the_example_of_the_page_is_a_policy_without_oddities() {
    let page = page();
    let example = page.split("```toml\n").nth(1).and_then(|rest| rest.split("```").next()).unwrap();
    let document = Document::parse(example).unwrap();
    assert_eq!(lint(&document, Timestamp::UNIX_EPOCH), []);
    assert!(document.rule.len() > 2 && !document.intelligence.is_empty());
}

#[test]
fn every_error_says_where_and_what_to_do() {
    let rule = |text: &str| format!("{LEAST}[[rule]]\nname = \"r\"\n{text}");
    for (text, wanted) in [
        ("schema = ".to_owned(), "line 1"),
        (LEAST.replace("serial = 1", "serial = 0"), "serial: it counts from 1"),
        (LEAST.replace("schema = 1", "schema = 2"), "this version knows 1"),
        (LEAST.replace("acme", "Acme Corp"), "tenant: `Acme Corp`"),
        (format!("{LEAST}colour = 1\n"), "line 5, column 1: unknown field `colour`"),
        (
            format!("{LEAST}valid_from = \"2026-02-01T00:00:00Z\"\nvalid_until = \"2026-01-01T00:00:00Z\"\n"),
            "not after",
        ),
        (format!("{LEAST}never_block = [\"what?\"]\n"), "`what?` is no address, prefix or domain"),
        (
            format!("{LEAST}requires = [\"telepathy\"]\nmagic = true\n"),
            "requires `telepathy`, which this version does not know",
        ),
        (rule("action = \"destroy\"\n"), "unknown variant `destroy`"),
        (rule("action = \"block\"\n[rule.which]\ntype = [\"ipv5\"]\n"), "type `ipv5` is not known"),
        (rule("action = \"block\"\n[rule.which]\nmin_confidence = 101\n"), "min_confidence is 0 to 100"),
        (rule("action = \"report\"\nmode = \"monitor\"\n"), "goes with action `block`"),
        (rule("action = \"block\"\nmode = \"monitor\"\ninbound = \"report\"\n"), "without `inbound`"),
        (rule("action = \"ignore\"\ninbound = \"block\"\n"), "leave `inbound` out"),
        (rule("action = \"block\"\n[[rule]]\nname = \"r\"\naction = \"block\"\n"), "rule `r`: it is there twice"),
        (format!("{LEAST}[[intelligence]]\nname = \"a\"\nfile = \"../a\"\n"), "not a path"),
        (format!("{LEAST}[[intelligence]]\nname = \"a\"\nfile = \"a@web\"\n"), "not a path"),
    ] {
        let error = Document::parse(&text).unwrap_err().to_string();
        assert!(error.contains(wanted), "{error}\nwanted: {wanted}");
    }
    assert_eq!(Document::parse(LEAST).unwrap().serial, 1);
}

#[test]
fn what_the_kernel_cannot_tell_apart_is_refused_and_not_ignored() {
    for (key, value) in
        [("unit", "backup.service"), ("cgroup", "/x"), ("user", "www-data"), ("executable", "/usr/bin/nmap")]
    {
        let text = format!("{LEAST}[[rule]]\nname = \"r\"\naction = \"ignore\"\nwhere = {{ {key} = [\"{value}\"] }}\n");
        let error = Document::parse(&text).unwrap_err().to_string();
        assert!(error.contains(&format!("`where` ({key}) cannot be enforced")), "{error}");
    }
}

fn oddities(rules: &str) -> Vec<(String, &'static str)> {
    let document = Document::parse(&format!("{LEAST}{rules}")).unwrap();
    let now = "2026-06-01T00:00:00Z".parse().unwrap();
    lint(&document, now).into_iter().map(|(rule, oddity)| (rule, oddity.name())).collect()
}

#[test]
fn shadowed_and_dead_rules_are_found_and_others_are_not() {
    let rule = |name: &str, rest: &str| format!("[[rule]]\nname = \"{name}\"\naction = \"block\"\n{rest}");
    let wide = "[rule.which]\nsource = [\"a\", \"b\"]\nmin_confidence = 50\n";
    let narrow = "[rule.which]\nsource = [\"a\"]\nmin_confidence = 70\nactor = [\"X\"]\n";
    assert_eq!(oddities(&(rule("one", wide) + &rule("two", narrow))), [("two".to_owned(), "shadowed")]);
    assert_eq!(oddities(&(rule("two", narrow) + &rule("one", wide))), []);
    assert_eq!(oddities(&(rule("all", "") + &rule("other", ""))), [("other".to_owned(), "shadowed")]);
    // One that ends sooner leaves something to the one behind it.
    let ends = "until = \"2027-01-01T00:00:00Z\"\n";
    assert_eq!(oddities(&(rule("all", ends) + &rule("other", ""))), []);
    assert_eq!(oddities(&(rule("all", "") + &rule("other", ends))), [("other".to_owned(), "shadowed")]);
    assert_eq!(oddities(&rule("old", "until = \"2026-01-01T00:00:00Z\"\n")), [("old".to_owned(), "over")]);
    assert_eq!(
        oddities(&rule("lost", "[rule.which]\nsource = [\"bundle.gone\"]\n")),
        [("lost".to_owned(), "no_such_source")]
    );
    assert_eq!(
        oddities(&rule("mild", "[rule.which]\ntype = [\"url\", \"path\"]\n")),
        [("mild".to_owned(), "only_reports")]
    );
    assert_eq!(
        oddities(&format!("mode = \"monitor\"\n{}", rule("m", "mode = \"monitor\"\n"))),
        [("m".to_owned(), "monitor_anyway")]
    );
    assert_eq!(
        Oddity::Shadowed("one".into()).to_string(),
        "never reached: rule `one` before it matches all that it matches"
    );
}
