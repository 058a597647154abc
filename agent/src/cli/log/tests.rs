use clap::Parser as _;
use jiff::SignedDuration;
use jiff::tz::TimeZone;

use super::*;
use crate::attribute::finding::{Kind, Verdict};
use crate::health::Health;
use crate::journal::{Entry, Journal, Limits, LossReason};

#[derive(clap::Parser)]
struct Program {
    #[command(flatten)]
    args: Args,
}

fn args(line: &str) -> Result<Records, String> {
    let words = std::iter::once("log").chain(line.split_whitespace());
    Program::try_parse_from(words).map(|program| program.args.records).map_err(|error| error.to_string())
}

pub(super) fn now() -> ZonedDateTime {
    "2026-11-23T19:30:00+01:00[Europe/Berlin]".parse().unwrap()
}

pub(in crate::cli) fn record(name: &str) -> Finding {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/data/records/{name}.json"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// A journal of the three records and one loss between the first two.
pub(super) fn journal() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), Limits::default(), &Health::new()).unwrap();
    let records = ["connect", "exec", "send"].map(record);
    let time = records[0].time + SignedDuration::from_millis(500);
    let loss = Loss { reason: LossReason::RingFull, count: 12, from: time, to: time };
    journal.append(&records).unwrap();
    journal.write(&[Entry::Loss(loss)]).unwrap();
    journal.close();
    dir
}

fn printed(line: &str, width: Option<usize>, is_coloured: bool) -> String {
    let dir = journal();
    let args = args(line).unwrap();
    let utc = now().with_time_zone(TimeZone::UTC);
    let show = Show::new(args.format(), Terminal { width, is_coloured }, utc);
    let mut out = Vec::new();
    assert_eq!(print(&args, dir.path(), &show, &mut out).unwrap(), Exit::Done);
    String::from_utf8(out).unwrap()
}

#[test]
fn times_mean_what_people_mean() {
    for (text, expected) in [
        ("now", "2026-11-23T18:30:00Z"),
        ("10m", "2026-11-23T18:20:00Z"),
        ("2h", "2026-11-23T16:30:00Z"),
        ("2h ago", "2026-11-23T16:30:00Z"),
        ("1h30m", "2026-11-23T17:00:00Z"),
        ("3d", "2026-11-20T18:30:00Z"),
        ("today", "2026-11-22T23:00:00Z"),
        ("yesterday", "2026-11-21T23:00:00Z"),
        ("2026-11-23", "2026-11-22T23:00:00Z"),
        ("2026-11-23T10:00", "2026-11-23T09:00:00Z"),
        ("2026-11-23 10:00:05", "2026-11-23T09:00:05Z"),
        ("2026-11-23T10:00:00Z", "2026-11-23T10:00:00Z"),
        ("2026-11-23T10:00:00+02:00", "2026-11-23T08:00:00Z"),
    ] {
        assert_eq!(when::parse(text, &now()).unwrap(), expected.parse().unwrap(), "{text}");
    }
    for text in ["", "soon", "2x", "-2h", "2026-13-01", "99999999y"] {
        assert!(when::parse(text, &now()).is_err(), "{text:?}");
    }
}

#[test]
fn all_that_can_be_asked_reaches_the_query() {
    let asked = args(
        "--since 2026-11-23T10:00:00Z --until 2026-11-23T11:00:00Z --verdict blocked,would-block --kind connect --kind exec --pid 7 \
         --exe curl --dest 203.0.113.0/24:443 --indicator i1 --hash abc --actor bear --source talos --limit 5 -o ecs",
    )
    .unwrap();
    assert_eq!(asked.format(), Format::Ecs);
    let query = asked.query();
    assert_eq!(query.since, Some("2026-11-23T10:00:00Z".parse().unwrap()));
    assert_eq!(query.until, Some("2026-11-23T11:00:00Z".parse().unwrap()));
    assert_eq!(query.verdicts, [Verdict::Blocked, Verdict::WouldBlock]);
    assert_eq!(query.kinds, [Kind::Connect, Kind::Exec]);
    assert_eq!((query.pid, query.exe.as_deref(), query.limit), (Some(7), Some("curl"), Some(5)));
    assert_eq!(query.destination.unwrap().to_string(), "203.0.113.0/24:443");
    assert_eq!((query.indicator.as_deref(), query.actor.as_deref()), (Some("i1"), Some("bear")));
    assert_eq!((query.hash.as_deref(), query.source.as_deref()), (Some("abc"), Some("talos")));
    assert_eq!(args("").unwrap().limit(), Some(50));
    assert_eq!(args("--limit 0").unwrap().limit(), None);
    assert_eq!(args("-f").unwrap().limit(), Some(10));
    assert_eq!(args("-f --since 2h").unwrap().limit(), None);
    assert_eq!(args("--json").unwrap().format(), Format::Json);
    for (line, said) in [
        ("--verdict maybe", "would_block"),
        ("--kind bind", "connect"),
        ("--since soon", "RFC 3339"),
        ("--dest http://x/", "host name"),
        ("-o xml", "ocsf"),
        ("--json -o ecs", "cannot be used"),
    ] {
        let error = args(line).err().unwrap();
        assert!(error.contains(said), "{line}: {error}");
    }
}

#[test]
fn json_lines_are_the_records_oldest_first() {
    let lines = printed("-o json", None, false);
    let found: Vec<Finding> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(found, ["connect", "exec", "send"].map(record));
    assert!(lines.lines().all(|line| line.starts_with(r#"{"schema":1,"#)));
    let two = printed("-o json --limit 2", None, false);
    assert_eq!(two.lines().collect::<Vec<_>>(), lines.lines().skip(1).collect::<Vec<_>>());
    assert_eq!(printed("-o json --limit 0", None, false), lines);
    let classes: Vec<_> = printed("-o ocsf", None, false)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["class_uid"].clone())
        .collect();
    assert_eq!(classes, [2004, 2004, 2004]);
    assert_eq!(printed("-o ecs", None, false).lines().count(), 3);
}

#[test]
fn a_table_fits_the_terminal_and_says_what_matters() {
    for width in [40, 80, 100, 150, 200] {
        let table = printed("", Some(width), false);
        for line in table.lines().filter(|line| !line.starts_with("--")) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
    let table = printed("", Some(80), false);
    for said in [
        "2026-11-23 19:05:11",
        "blocked",
        "killed ×3",
        "would_block",
        "203.0.113.7:443/tcp",
        "curl[4711]",
        "Example Bear",
        "-- 12 hits are not recorded at 2026-11-23 19:05:11: the kernel's ring was full --",
    ] {
        assert!(table.contains(said), "{said} is missing:\n{table}");
    }
    assert!(!table.contains('\x1b'));
    let whole = printed("", None, false);
    assert_eq!(whole.lines().count(), 4, "three records and a loss, nothing cut:\n{whole}");
    assert!(whole.contains(&"2".repeat(64)));
}

#[test]
fn the_verdict_is_coloured_where_there_is_colour() {
    let table = printed("", Some(80), true);
    assert!(table.contains("\x1b[31mblocked\x1b[0m"), "{table}");
    assert!(table.contains("\x1b[36mwould_block\x1b[0m"), "{table}");
}

#[test]
fn more_than_is_shown_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let mut journal = Journal::open(dir.path(), Limits::default(), &Health::new()).unwrap();
    let records: Vec<_> = (0..51).map(|n| Finding { id: format!("id-{n}"), ..record("connect") }).collect();
    journal.append(&records).unwrap();
    let args = args("").unwrap();
    let show = Show::new(Format::Table, Terminal { width: None, is_coloured: false }, now());
    let mut out = Vec::new();
    print(&args, dir.path(), &show, &mut out).unwrap();
    let text = String::from_utf8(out).unwrap();
    assert_eq!(text.lines().count(), 51);
    assert!(text.contains("--limit 0"), "{text}");
}

#[test]
fn a_journal_that_is_not_there_is_a_failure() {
    let args = args("").unwrap();
    let show = Show::new(Format::Table, Terminal { width: None, is_coloured: false }, now());
    let exit = print(&args, Path::new("/nonexistent/journal"), &show, &mut Vec::new()).unwrap();
    assert_eq!(exit, Exit::Failed);
}
