use jiff::SignedDuration;

use super::*;
use crate::attribute::finding::Verdict;
use crate::report::suspects::Reason;
use crate::report::tests::record;

fn window() -> Window {
    Window::new("2026-11-23T19:00:00Z".parse().unwrap(), "2026-11-23T20:00:00Z".parse().unwrap(), 6).unwrap()
}

fn surveyed(findings: &[Finding]) -> Overview {
    let mut survey = Survey::new(window());
    findings.iter().for_each(|finding| survey.add(finding));
    survey.finish(Vec::new(), Vec::new(), &Popular::new())
}

/// `connect` by another program.
fn by(program: &str) -> Finding {
    let mut finding = record("connect");
    finding.process.as_mut().unwrap().exe = Some(program.into());
    finding
}

fn reasons(findings: &[Finding]) -> Vec<Reason> {
    surveyed(findings).suspects.into_iter().flat_map(|suspect| suspect.reasons).collect()
}

#[test]
fn the_three_records_come_to_what_they_hold() {
    let overview = surveyed(&["connect", "exec", "send"].map(record));
    assert_eq!(overview.records, 3);
    assert_eq!(overview.total, Outcomes { blocked: 1, killed: 3, reported: 0, would_block: 1 });
    assert_eq!(overview.timeline.iter().flatten().sum::<u64>(), 5);
    assert_eq!(overview.timeline[0], [1, 3, 0, 1], "all within ten minutes");
    assert_eq!(overview.busiest(), Some((window().since(), 5)));
    assert_eq!(overview.indicators[0].indicator.kind, "sha256", "three hits");
    assert_eq!(overview.indicators.len(), 3);
    let actors: Vec<_> = overview.actors.iter().map(|row| (row.name.as_deref(), row.tally.hits())).collect();
    assert_eq!(actors, [(Some("Example Bear"), 2), (Some("Second Name"), 1), (None, 3)]);
    let programs: Vec<_> = overview.programs.iter().map(|(name, _)| name.as_deref()).collect();
    assert_eq!(programs, [Some("/tmp/dropper"), Some("/usr/bin/curl"), Some("resolver")]);
    let technique = |id: &str| Technique { id: id.into(), hits: 1 };
    assert_eq!(overview.techniques, [technique("T1071"), technique("T1071.001")]);
    assert_eq!(overview.without_technique, 3);
}

#[test]
fn a_source_is_worth_what_it_decides_alone_and_what_it_seconds() {
    let overview = surveyed(&["connect", "exec", "send"].map(record));
    let [(first, decider), (second, seconder)] = &overview.sources[..] else { panic!("{:?}", overview.sources) };
    assert_eq!((first.as_str(), second.as_str()), ("example", "second"));
    assert_eq!((decider.decided.total(), decider.decided.would_block), (5, 1));
    assert_eq!((decider.alone, decider.seconded, decider.indicators.len()), (4, 0, 3));
    assert_eq!((seconder.decided.total(), seconder.alone, seconder.seconded), (0, 0, 1));
}

#[test]
fn what_is_outside_of_the_window_is_in_no_number() {
    let mut late = record("connect");
    late.time += SignedDuration::from_hours(1);
    late.last_time = late.time;
    let overview = surveyed(&[late]);
    assert_eq!((overview.records, overview.total.total(), overview.busiest()), (0, 0, None));
    assert!(overview.indicators.is_empty() && overview.programs.is_empty() && overview.sources.is_empty());
}

#[test]
fn an_indicator_that_many_programs_hit_is_suspect() {
    let programs = ["/usr/bin/curl", "/usr/bin/wget", "/usr/bin/python3", "/usr/sbin/ntpd"];
    assert_eq!(reasons(&programs.map(by)), [Reason::ManyPrograms(4)]);
    assert_eq!(reasons(&[by("/a"), by("/b"), by("/c"), by("/c")]), []);
}

#[test]
fn an_indicator_that_is_a_popular_site_is_suspect_and_a_name_below_one_is_not() {
    let named = |name: &str| {
        let mut finding = record("connect");
        finding.indicator.kind = "domain".into();
        finding.indicator.value = name.into();
        finding
    };
    assert_eq!(reasons(&[named("github.com")]), [Reason::Popular("github.com")]);
    assert_eq!(reasons(&[named("evil.github.com")]), []);
}

#[test]
fn an_address_that_unrelated_names_led_to_is_suspect() {
    let reached = |name: &str| {
        let mut finding = record("connect");
        finding.indicator.kind = "ipv4".into();
        finding.destination.as_mut().unwrap().domain = Some(name.into());
        finding
    };
    assert_eq!(reasons(&["a.example", "b.example", "c.example", "d.example"].map(reached)), [Reason::SharedAddress(4)]);
    assert_eq!(reasons(&["a.x.example", "b.x.example", "c.x.example", "d.x.example"].map(reached)), []);
}

#[test]
fn an_indicator_of_little_confidence_is_suspect_once_it_is_hit_often() {
    let unsure = |count| {
        let mut finding = Finding { count, verdict: Verdict::WouldBlock, ..record("connect") };
        finding.indicator.confidence = Some(49);
        finding
    };
    assert_eq!(reasons(&[unsure(10)]), [Reason::LowConfidence(49)]);
    assert_eq!(reasons(&[unsure(9)]), []);
}
