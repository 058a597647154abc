use super::*;
use crate::intel::{Tlp, TlpOrigin, normalise};
use crate::policy::{LocalRule, Ruled, WarningList};

fn time(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn now() -> Timestamp {
    time("2026-11-01T00:00:00Z")
}

fn value(text: &str) -> Observable {
    normalise::address(text).or_else(|_| normalise::endpoint(text)).or_else(|_| normalise::domain(text)).unwrap()
}

fn indicator(values: &[Observable]) -> Indicator {
    Indicator {
        id: Some("indicator--a".into()),
        tlp: Some((Tlp::Amber, TlpOrigin::SourceDefault)),
        ..Indicator::new(values.to_vec(), Origin { file: "f".into(), place: Place::Object("indicator--a".into()) })
    }
}

fn ruled(source: &Source, rules: &Rules, indicators: Vec<Indicator>) -> Ruling {
    let indicators: Arc<Indicators> = Arc::new(indicators.into_iter().collect());
    let ruling = rule(&[Supply::new(source, &indicators)], rules, now());
    let Outcome { block, report, skipped } = ruling.outcome;
    assert_eq!(block + report + skipped, indicators.len() as u64);
    assert_eq!(ruling.by_supply, [ruling.outcome]);
    ruling
}

fn open() -> Source {
    Source { allow_reserved: true, ..Source::new("feed", "f") }
}

fn reason(source: &Source, rules: &Rules, indicator: Indicator) -> Option<(SkipReason, String)> {
    ruled(source, rules, vec![indicator]).skipped.iter().last().map(|skipped| (skipped.reason, skipped.why))
}

fn reason_of(text: &str) -> Option<SkipReason> {
    reason(&Source::new("feed", "f"), &Rules::default(), indicator(&[value(text)])).map(|(reason, _)| reason)
}

#[test]
fn reserved_addresses_are_refused_unless_asked_for() {
    for text in [
        "127.0.0.1",
        "127.0.0.2",
        "10.0.0.0",
        "172.31.255.255",
        "192.168.1.1:80",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.9",
        "198.18.0.1",
        "224.0.0.251",
        "255.255.255.255",
        "240.0.0.1",
        "10.1.0.0/16",
        "::",
        "::1",
        "fe80::1",
        "fd00::1",
        "fd00::/32",
        "ff02::1",
        "2001:db8::1",
        "3fff::1",
        "100::1",
        "::ffff:127.0.0.1",
        "64:ff9b::10.0.0.1",
    ] {
        assert_eq!(reason_of(text), Some(SkipReason::ReservedAddress), "{text}");
        assert_eq!(reason(&open(), &Rules::default(), indicator(&[value(text)])), None, "{text}");
    }
    for text in [
        "1.1.1.1",
        "9.255.255.255",
        "11.0.0.0",
        "172.32.0.0",
        "192.167.0.0/16",
        "2606:4700::1",
        "8.8.8.8:53",
        "a.example",
    ] {
        assert_eq!(reason_of(text), None, "{text}");
    }
}

#[test]
fn prefixes_may_not_be_broader_than_the_limit() {
    for text in ["0.0.0.0/0", "::/0", "8.0.0.0/7", "2a00::/18"] {
        assert_eq!(reason_of(text), Some(SkipReason::TooBroad), "{text}");
    }
    for text in ["9.0.0.0/8", "2a00::/19"] {
        assert_eq!(reason_of(text), None, "{text}");
    }
    let strict = Rules { min_prefix_v4: 16, ..Rules::default() };
    assert_eq!(reason(&open(), &strict, indicator(&[value("9.0.0.0/15")])).unwrap().0, SkipReason::TooBroad);
}

#[test]
fn what_is_reserved_inside_a_prefix_is_an_exception_to_it() {
    let source = Source::new("feed", "f");
    let ruling = ruled(&source, &Rules::default(), vec![indicator(&[value("192.0.0.0/8")])]);
    assert_eq!(ruling.outcome.block, 1);
    let texts: Vec<String> = ruling.exceptions.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["192.0.0.0/24", "192.0.2.0/24", "192.168.0.0/16"]);
    assert_eq!(ruled(&open(), &Rules::default(), vec![indicator(&[value("192.0.0.0/8")])]).exceptions, []);
}

#[test]
fn validity_is_judged_at_the_given_time() {
    let at = |from: Option<&str>, until: Option<&str>| Indicator {
        valid_from: from.map(time),
        valid_until: until.map(time),
        ..indicator(&[value("1.1.1.1")])
    };
    let rules = Rules::default();
    assert_eq!(reason(&open(), &rules, at(None, Some("2026-11-01T00:00:00Z"))).unwrap().0, SkipReason::Expired);
    assert_eq!(reason(&open(), &rules, at(None, Some("2026-11-01T00:00:00.001Z"))), None);
    assert_eq!(reason(&open(), &rules, at(Some("2026-11-01T00:00:00Z"), None)), None);
    let ahead = at(Some("2026-11-02T00:00:00Z"), Some("2026-11-03T00:00:00Z"));
    assert_eq!(reason(&open(), &rules, ahead.clone()).unwrap().0, SkipReason::NotYetValid);
    let later = at(None, Some("2026-12-01T00:00:00Z"));
    let ruling = ruled(&open(), &rules, vec![later, ahead]);
    assert_eq!(ruling.next_change, Some(time("2026-11-02T00:00:00Z")));
    assert_eq!(ruling.ruled.iter().next().unwrap().expires, Some(time("2026-12-01T00:00:00Z")));
}

#[test]
fn a_source_may_age_its_indicators() {
    let source = Source { max_age: Some("30d".parse().unwrap()), ..open() };
    let changed = |text: &str| Indicator { modified: Some(time(text)), ..indicator(&[value("1.1.1.1")]) };
    let (expired, why) = reason(&source, &Rules::default(), changed("2026-10-02T00:00:00Z")).unwrap();
    assert_eq!(expired, SkipReason::Expired);
    assert!(why.contains("max_age 30d"), "{why}");
    let ruling = ruled(&source, &Rules::default(), vec![changed("2026-10-02T00:00:01Z")]);
    assert_eq!(ruling.ruled.iter().next().unwrap().expires, Some(time("2026-11-01T00:00:01Z")));
    assert_eq!(reason(&source, &Rules::default(), indicator(&[value("1.1.1.1")])), None);
}

#[test]
fn a_publishers_clock_may_be_wrong() {
    let source = Source { max_age: Some("30d".parse().unwrap()), ..open() };
    let rules = Rules::default();
    let dated = |from: &str, until: Option<&str>, modified: &str| Indicator {
        valid_from: Some(time(from)),
        valid_until: until.map(time),
        modified: Some(time(modified)),
        ..indicator(&[value("1.1.1.1")])
    };
    // A minute ahead: used from then on.
    let ahead = dated("2026-11-01T00:01:00Z", None, "2026-11-01T00:01:00Z");
    assert_eq!(reason(&source, &rules, ahead.clone()).unwrap().0, SkipReason::NotYetValid);
    assert_eq!(ruled(&source, &rules, vec![ahead]).next_change, Some(time("2026-11-01T00:01:00Z")));
    // Changed in a year that adds up to none, and before there were computers.
    let late = dated("2026-10-01T00:00:00Z", None, "9999-12-30T00:00:00Z");
    assert_eq!(ruled(&source, &rules, vec![late]).ruled.iter().next().unwrap().expires, None);
    let early = dated("0001-01-01T00:00:00Z", None, "0001-01-01T00:00:00Z");
    assert_eq!(reason(&source, &rules, early).unwrap().0, SkipReason::Expired);
    // Ends before it begins: it is never valid.
    let never = dated("2026-12-01T00:00:00Z", Some("2026-10-15T00:00:00Z"), "2026-10-15T00:00:00Z");
    assert!(reason(&source, &rules, never).is_some());
}

#[test]
fn confidence_below_the_least_is_skipped_and_none_is_not() {
    let source = Source { min_confidence: Some(30), ..open() };
    for (confidence, expected) in [(Some(29), true), (Some(30), false), (Some(0), true), (None, false)] {
        let given = Indicator { confidence, ..indicator(&[value("1.1.1.1")]) };
        let found = reason(&source, &Rules::default(), given).map(|(reason, _)| reason);
        assert_eq!(found, expected.then_some(SkipReason::LowConfidence), "{confidence:?}");
    }
}

#[test]
fn names_and_urls_are_reported_at_most() {
    let url = normalise::url("http://a.example/x").unwrap();
    let values = [url, normalise::path("/x").unwrap(), normalise::file_name("x").unwrap()];
    let ruling = ruled(&open(), &Rules::default(), vec![indicator(&values)]);
    assert_eq!(ruling.outcome, Outcome { block: 0, report: 1, skipped: 0 });
    let mixed = [values[0].clone(), normalise::md5(&"a".repeat(32)).unwrap()];
    let ruling = ruled(&open(), &Rules::default(), vec![indicator(&mixed)]);
    assert_eq!(ruling.outcome, Outcome { block: 1, report: 0, skipped: 0 });
    assert_eq!(ruling.ruled.iter().map(|ruled| ruled.action).collect::<Vec<_>>(), [Action::Report, Action::Block]);
    let reporting = Source { action: Action::Report, ..open() };
    assert_eq!(ruled(&reporting, &Rules::default(), vec![indicator(&mixed)]).outcome.report, 1);
    assert_eq!(&*ruling.ruled.iter().next().unwrap().rule, "feeds.feed");
}

#[test]
fn an_indicator_is_skipped_only_if_no_value_is_left() {
    let source = Source::new("feed", "f");
    let ruling = ruled(&source, &Rules::default(), vec![indicator(&[value("10.0.0.1"), value("1.1.1.1")])]);
    assert_eq!(ruling.outcome.block, 1);
    assert!(ruling.skipped.is_empty());
    assert_eq!((ruling.trimmed.len(), ruling.trimmed.iter().next().unwrap().value.as_str()), (1, "10.0.0.1"));
    let ruling = ruled(&source, &Rules::default(), vec![indicator(&[value("10.0.0.1"), value("0.0.0.0/0")])]);
    assert_eq!(ruling.skipped.iter().next().unwrap().value, "10.0.0.1, 0.0.0.0/0");
    assert_eq!(
        ruled(&source, &Rules::default(), vec![indicator(&[])]).skipped.iter().next().unwrap().reason,
        SkipReason::Malformed
    );
}

#[test]
fn never_block_and_warning_lists_win() {
    let mut rules = Rules::default();
    rules.never_block.insert(value("9.9.9.9"));
    rules.never_block.insert(value("good.example"));
    let list = r#"{"name": "Public resolvers", "type": "cidr", "list": ["8.8.8.8", "8.8.4.0/24"]}"#;
    rules.warning_lists.push(WarningList::parse("l", list.as_bytes()).unwrap());
    for (text, part) in [
        ("9.9.9.9", "never-block"),
        ("9.9.9.9:443", "never-block"),
        ("www.good.example", "good.example is on the never-block list"),
        ("8.8.8.8", "Public resolvers"),
        ("8.8.4.4", "Public resolvers"),
    ] {
        let (reason, why) = reason(&open(), &rules, indicator(&[value(text)])).unwrap();
        assert_eq!(reason, SkipReason::Benign, "{text}");
        assert!(why.contains(part), "{why}");
    }
    let ruling = ruled(&open(), &rules, vec![indicator(&[value("8.8.0.0/16"), value("9.9.9.0/24")])]);
    let texts: Vec<String> = ruling.exceptions.iter().map(ToString::to_string).collect();
    assert_eq!(texts, ["8.8.8.8", "9.9.9.9", "8.8.4.0/24"]);
}

#[test]
fn local_rules_come_before_sources() {
    let local = |name: &str, text: &str, action, until: Option<&str>| LocalRule {
        source: "local",
        name: name.into(),
        observable: value(text),
        action,
        until: until.map(time),
        reason: "because".to_owned(),
    };
    let mut rules = Rules {
        local: vec![
            local("a", "1.1.1.1", LocalAction::Allow, None),
            local("b", "10.0.0.1", LocalAction::Block, Some("2026-11-01T01:00:00Z")),
            local("c", "2.2.2.2", LocalAction::Report, None),
            local("past", "3.3.3.3", LocalAction::Allow, Some("2026-10-31T00:00:00Z")),
            local("no", "9.9.9.9", LocalAction::Block, None),
        ],
        ..Rules::default()
    };
    rules.never_block.insert(value("9.9.9.9"));
    let ruling = ruled(&open(), &rules, vec![indicator(&[value("1.1.1.1")]), indicator(&[value("3.3.3.3")])]);
    assert_eq!(ruling.outcome, Outcome { block: 1, report: 0, skipped: 1 });
    let ruled: Vec<Ruled> = ruling.ruled.iter().collect();
    let ours: Vec<(String, &str, Action)> =
        ruled.iter().map(|ruled| (ruled.observable.to_string(), &*ruled.rule, ruled.action)).collect();
    assert_eq!(
        ours,
        [
            ("10.0.0.1".to_owned(), "local.b", Action::Block),
            ("2.2.2.2".to_owned(), "local.c", Action::Report),
            ("3.3.3.3".to_owned(), "feeds.feed", Action::Block),
        ]
    );
    assert_eq!(ruling.exceptions, [value("1.1.1.1")]);
    assert_eq!(ruling.next_change, Some(time("2026-11-01T01:00:00Z")));
    assert!(ruling.skipped.iter().any(|skipped| skipped.why.contains("wins over local rules")));
}

#[test]
fn names_that_belong_to_everybody_are_refused() {
    for (text, expected, part) in [
        ("duckdns.org", SkipReason::TooBroad, "a public suffix"),
        ("co.uk", SkipReason::TooBroad, "a public suffix"),
        ("github.com", SkipReason::Benign, "it covers github.com"),
        ("www.bitbucket.org", SkipReason::Benign, "it covers bitbucket.org"),
        ("officeapps.live.com", SkipReason::Benign, ""),
    ] {
        let found = reason(&open(), &Rules::default(), indicator(&[value(text)]));
        if part.is_empty() {
            assert_eq!(found, None, "a name below a popular one is not meant by it");
            continue;
        }
        let (reason, why) = found.unwrap();
        assert_eq!(reason, expected, "{text}");
        assert!(why.contains(part), "{why}");
    }
    let open_minded = Rules { allow_popular_domains: true, ..Rules::default() };
    assert_eq!(reason(&open(), &open_minded, indicator(&[value("github.com")])), None);
    let trusting = Source { allow_popular: true, ..open() };
    assert_eq!(reason(&trusting, &Rules::default(), indicator(&[value("github.com")])), None);
    let local = LocalRule {
        source: "local",
        name: "1".into(),
        observable: value("github.com"),
        action: LocalAction::Block,
        until: None,
        reason: "policy".to_owned(),
    };
    let explicit = Rules { local: vec![local], ..Rules::default() };
    assert_eq!(rule(&[], &explicit, now()).ruled.iter().next().unwrap().action, Action::Block, "the operator may");
}

#[test]
fn a_url_on_a_popular_host_is_reported_and_blocks_no_host() {
    let urls = ["https://github.com/lamp/x.sh", "http://drive.google.com/uc?id=1", "t.me/lamp"];
    let values: Vec<Observable> = urls.iter().map(|url| normalise::url(url).unwrap()).collect();
    let ruling =
        ruled(&open(), &Rules::default(), values.iter().map(|url| indicator(std::slice::from_ref(url))).collect());
    assert_eq!(ruling.outcome, Outcome { block: 0, report: 3, skipped: 0 });
    assert!(
        ruling
            .ruled
            .iter()
            .all(|ruled| matches!(ruled.observable, Observable::Url(_)) && ruled.action == Action::Report)
    );
}

#[test]
fn contents_that_nobody_means_are_refused() {
    let empty = normalise::md5("d41d8cd98f00b204e9800998ecf8427e").unwrap();
    let (found, why) = reason(&open(), &Rules::default(), indicator(std::slice::from_ref(&empty))).unwrap();
    assert_eq!((found, why.as_str()), (SkipReason::Benign, "the digest of an empty file"));
    let shell = normalise::sha256(&"a".repeat(64)).unwrap();
    let own_files = [(shell.clone(), "/usr/bin/lamp".into())].into_iter().collect();
    let rules = Rules { own_files, ..Rules::default() };
    let (found, why) = reason(&open(), &rules, indicator(std::slice::from_ref(&shell))).unwrap();
    assert_eq!((found, why.as_str()), (SkipReason::Benign, "a package of this host installed it as /usr/bin/lamp"));
    assert_eq!(reason(&open(), &Rules::default(), indicator(&[shell])), None);
}
