use jiff::SignedDuration;

use super::*;
use crate::report::tests::record;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn hour(buckets: usize) -> Window {
    Window::new(at("2026-11-23T19:00:00Z"), at("2026-11-23T20:00:00Z"), buckets).unwrap()
}

/// `count` hits from `minute` on, the last `minutes` later.
fn repeated(count: u64, minute: i64, minutes: i64) -> Finding {
    let time = at("2026-11-23T19:00:00Z") + SignedDuration::from_mins(minute);
    Finding { time, last_time: time + SignedDuration::from_mins(minutes), count, ..record("connect") }
}

#[test]
fn one_hit_falls_into_the_bucket_of_its_time() {
    let spread = |minute| hour(6).spread(&repeated(1, minute, 0)).collect::<Vec<_>>();
    assert_eq!(spread(0), [(0, 1)]);
    assert_eq!(spread(9), [(0, 1)]);
    assert_eq!(spread(10), [(1, 1)]);
    assert_eq!(spread(60), [(5, 1)], "the end is in the window");
    assert_eq!(spread(61), []);
    assert_eq!(spread(-1), []);
}

#[test]
fn folded_repeats_are_spread_and_none_is_lost_or_made_up() {
    assert_eq!(
        hour(6).spread(&repeated(7, 0, 60)).collect::<Vec<_>>(),
        [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 2)]
    );
    for count in [2, 3, 59, 60, 61, 1000, u64::MAX / 2] {
        for (minute, minutes) in [(0, 60), (7, 13), (30, 1), (59, 1)] {
            for buckets in [1, 6, 7, 60] {
                let hits: u64 = hour(buckets).spread(&repeated(count, minute, minutes)).map(|(_, hits)| hits).sum();
                assert_eq!(hits, count, "{count} from {minute} for {minutes} in {buckets}");
            }
        }
    }
}

#[test]
fn what_lies_outside_of_the_window_does_not_count() {
    let hits = |finding: &Finding| hour(6).spread(finding).map(|(_, hits)| hits).sum::<u64>();
    assert_eq!(hits(&repeated(11, -50, 100)), 6, "every ten minutes from 18:10 to 19:50");
    assert_eq!(hits(&repeated(11, 30, 100)), 4, "every ten minutes from 19:30 to 21:10");
    assert_eq!(hits(&repeated(5, -30, 10)), 0);
}

#[test]
fn a_window_of_a_nanosecond_holds_its_hit() {
    let moment = repeated(3, 5, 0);
    let window = Window::new(moment.time, moment.time, 24).unwrap();
    assert_eq!(window.spread(&moment).map(|(_, hits)| hits).sum::<u64>(), 3);
    assert_eq!(Window::new(at("2026-11-23T20:00:00Z"), at("2026-11-23T19:00:00Z"), 1), None);
}

#[test]
fn rows_are_ordered_and_what_has_no_name_comes_last() {
    let mut groups = Groups::new(By::Actor);
    let mut nameless = repeated(100, 1, 0);
    nameless.attribution.actors.clear();
    let mut other = repeated(2, 1, 0);
    other.attribution.actors = vec!["B".into(), "A".into()];
    for finding in [&nameless, &other, &repeated(3, 2, 5), &repeated(9, 90, 0)] {
        groups.add(finding, &hour(2));
    }
    let rows: Vec<_> = groups.rows().into_iter().map(|row| (row.name, row.tally.hits())).collect();
    let name = |text: &str| Some(text.to_owned());
    assert_eq!(
        rows,
        [(name("Example Bear"), 3), (name("Second Name"), 3), (name("A"), 2), (name("B"), 2), (None, 100)]
    );
}

#[test]
fn each_way_to_group_names_what_it_says() {
    let names = |by: By, name: &str| {
        By::names(by, &record(name)).into_iter().map(|name| name.map(Cow::into_owned)).collect::<Vec<_>>()
    };
    let one = |text: &str| vec![Some(text.to_owned())];
    assert_eq!(names(By::Indicator, "connect"), one("203.0.113.0/24"));
    assert_eq!(names(By::Dest, "connect"), one("c2.example"));
    assert_eq!(names(By::Dest, "exec"), [None]);
    assert_eq!(names(By::Exe, "connect"), one("/usr/bin/curl"));
    assert_eq!(names(By::Source, "connect"), one("example"));
    assert_eq!(names(By::Verdict, "connect"), one("blocked"));
    assert_eq!(names(By::Technique, "connect"), one("T1071.001"));
    assert_eq!(names(By::Malware, "connect"), one("ExampleRAT"));
}
