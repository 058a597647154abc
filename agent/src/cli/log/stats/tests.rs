use jiff::tz::TimeZone;
use serde_json::json;

use super::*;
use crate::cli::log::tests::{journal, now};

fn counted(by: By) -> Stats {
    let dir = journal();
    let window =
        Window::new("2026-11-23T00:00:00Z".parse().unwrap(), "2026-11-24T00:00:00Z".parse().unwrap(), BUCKETS).unwrap();
    let query = Query { since: Some(window.since()), until: Some(window.until()), ..Query::default() };
    let mut exit = Exit::Done;
    let stats = count(&Reader::open(dir.path()).unwrap(), &query, by, window, &mut exit);
    assert_eq!(exit, Exit::Done);
    stats
}

fn printed(by: By, limit: usize, width: Option<usize>) -> String {
    let mut out = Vec::new();
    let utc = now().with_time_zone(TimeZone::UTC);
    print(&counted(by), limit, &Terminal { width, is_coloured: false }, &utc, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[test]
fn rows_are_aligned_with_a_trend_each() {
    assert_eq!(
        printed(By::Actor, 20, Some(80)),
        "-- 5 hits from 2026-11-23 00:00:00 to 2026-11-24 00:00:00 --
-- 12 more hits are not recorded; `cordon log` says when and why --
ACTOR         HITS  BLOCKED  KILLED  TREND
Example Bear     2        1       0                     █
Second Name      1        1       0                     █
-                3        0       3                     █
"
    );
}

#[test]
fn a_narrow_terminal_gets_what_fits_and_a_pipe_all() {
    for width in [30, 40, 60, 80, 200] {
        let text = printed(By::Indicator, 20, Some(width));
        let table = text.lines().filter(|line| !line.starts_with("--"));
        assert!(table.clone().all(|line| line.chars().count() <= width), "{width}:\n{text}");
        assert!(table.clone().all(|line| line.len() > 10) && text.contains("HITS"), "{width}:\n{text}");
    }
    assert!(printed(By::Indicator, 20, Some(30)).contains('…'));
    assert!(printed(By::Indicator, 20, None).contains(&"2".repeat(64)), "nothing is cut");
}

#[test]
fn rows_beyond_the_limit_are_counted() {
    let text = printed(By::Indicator, 1, Some(80));
    assert!(text.ends_with("-- 2 more rows: --limit N shows more, --limit 0 all --\n"), "{text}");
}

#[test]
fn the_document_holds_every_row_and_bucket() {
    let text = serde_json::to_string(&document(&counted(By::Verdict))).unwrap();
    assert!(text.starts_with(r#"{"schema":1,"#), "{text}");
    let document: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(document["bucket_seconds"], 3600.0);
    assert_eq!(document["hits"], json!({"blocked": 1, "killed": 3, "reported": 0, "would_block": 1}));
    assert_eq!(document["rows"][0]["name"], "killed");
    assert_eq!(document["rows"][0]["buckets"].as_array().unwrap().len(), BUCKETS);
    assert_eq!(document["rows"][0]["buckets"][19], 3);
    assert_eq!(document["rows"][0]["last"], "2026-11-23T19:06:00Z");
    assert_eq!(document["losses"][0]["count"], 12);
}
