use std::path::{Path, PathBuf};

use super::*;
use crate::attribute::Finding;

const RECORDS: [&str; 3] = ["connect", "exec", "send"];

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/records").join(name)
}

pub(super) fn record(name: &str) -> Finding {
    serde_json::from_str(&std::fs::read_to_string(path(&format!("{name}.json"))).unwrap()).unwrap()
}

/// Compares with a file that was checked by hand; `CORDON_BLESS=1` rewrites it, to be checked again. The version of the
/// product is the one thing that may change on its own.
fn check(name: &str, mut found: Value) {
    for pointer in ["/metadata/product/version", "/observer/version"] {
        if let Some(version) = found.pointer_mut(pointer) {
            assert_eq!(*version, env!("CARGO_PKG_VERSION"));
            *version = "VERSION".into();
        }
    }
    let path = path(name);
    if std::env::var_os("CORDON_BLESS").is_some() {
        std::fs::write(&path, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert_eq!(found, expected, "{}", path.display());
}

#[test]
fn ocsf_is_as_checked_by_hand() {
    for name in RECORDS {
        check(&format!("{name}.ocsf.json"), ocsf(&record(name)));
    }
}

#[test]
fn ecs_is_as_checked_by_hand() {
    for name in RECORDS {
        check(&format!("{name}.ecs.json"), ecs(&record(name)));
    }
}

#[test]
fn every_verdict_has_the_outcome_that_ocsf_gives_it() {
    use crate::attribute::finding::Verdict;
    for (verdict, action, disposition, event) in [
        (Verdict::Blocked, 2, 2, 400_105),
        (Verdict::Killed, 2, 2, 400_105),
        (Verdict::Reported, 3, 15, 400_101),
        (Verdict::WouldBlock, 3, 17, 400_101),
    ] {
        let document = ocsf(&Finding { verdict, ..record("connect") });
        assert_eq!(document["action_id"], action, "{verdict:?}");
        assert_eq!(document["disposition_id"], disposition, "{verdict:?}");
        assert_eq!(document.pointer("/finding_info/related_events/0/type_uid").unwrap(), event, "{verdict:?}");
        let (class, activity) = (document["class_uid"].as_u64().unwrap(), document["activity_id"].as_u64().unwrap());
        assert_eq!(document["type_uid"], class * 100 + activity);
        assert_eq!(class / 1000, document["category_uid"].as_u64().unwrap());
    }
}

#[test]
fn a_record_reads_back_as_it_was_and_begins_with_its_schema() {
    for name in RECORDS {
        let text = serde_json::to_string(&record(name)).unwrap();
        assert!(text.starts_with(r#"{"schema":1,"#), "{text}");
        let given: Value =
            serde_json::from_str(&std::fs::read_to_string(path(&format!("{name}.json"))).unwrap()).unwrap();
        assert_eq!(
            serde_json::from_str::<Value>(&text).unwrap(),
            given,
            "unknown values are null, nothing is left out"
        );
    }
}

#[test]
fn what_was_found_by_looking_back_says_so_and_nothing_else_does() {
    let plain = record("connect");
    let retro = Finding { retro: true, ..plain.clone() };
    assert_eq!(ocsf(&retro).pointer("/unmapped/retro"), Some(&true.into()));
    assert_eq!(ecs(&retro).pointer("/cordon/retro"), Some(&true.into()));
    assert_eq!(serde_json::to_value(&retro).unwrap()["retro"], true);
    for document in [ocsf(&plain), ecs(&plain), serde_json::to_value(&plain).unwrap()] {
        assert!(!document.to_string().contains("retro"));
    }
}

#[test]
fn what_is_not_known_is_not_there() {
    fn has_unknown(value: &Value) -> bool {
        match value {
            Value::Null => true,
            Value::Object(members) => members.is_empty() || members.values().any(has_unknown),
            Value::Array(items) => items.is_empty() || items.iter().any(has_unknown),
            _ => false,
        }
    }
    for name in RECORDS {
        assert!(!has_unknown(&ocsf(&record(name))), "{name}");
        assert!(!has_unknown(&ecs(&record(name))), "{name}");
    }
}
