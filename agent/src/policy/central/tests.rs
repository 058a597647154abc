use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::intel::{
    Attribution, Indicator, Indicators, Name, Origin, Path, Place, SkipReason, Tlp, TlpOrigin, normalise,
};
use crate::policy::{Outcome, Rules, Supply, rule};

fn now() -> Timestamp {
    "2026-06-01T00:00:00Z".parse().unwrap()
}

fn enrolment() -> Enrolment {
    Enrolment { tenant: "acme".into(), group: "web".into() }
}

fn text(serial: u64, rest: &str) -> String {
    format!("schema = 1\ntenant = \"acme\"\ngroup = \"web\"\nserial = {serial}\n{rest}")
}

fn accept(text: &str, standing: Option<&Standing>) -> Result<Central, Refused> {
    Central::accept(&Verified::assumed(text, &[]), &enrolment(), standing, now())
}

fn reason(text: &str, standing: Option<&Standing>) -> &'static str {
    accept(text, standing).map_or_else(|refused| refused.reason(), |_| "taken")
}

#[test]
fn a_host_takes_what_is_for_it_and_newer_and_nothing_else() {
    let five = accept(&text(5, ""), None).unwrap().standing();
    assert_eq!(reason(&text(5, ""), Some(&five)), "taken", "the same again");
    assert_eq!(reason(&text(6, ""), Some(&five)), "taken");
    assert_eq!(reason(&text(4, ""), Some(&five)), "rollback");
    assert_eq!(reason(&text(5, "mode = \"monitor\"\n"), Some(&five)), "serial_reused");
    assert_eq!(reason(&text(6, "").replace("acme", "other"), Some(&five)), "wrong_tenant");
    assert_eq!(reason(&text(6, "").replace("web", "db"), Some(&five)), "wrong_group");
    assert_eq!(reason(&text(6, "valid_from = \"2027-01-01T00:00:00Z\"\n"), None), "not_yet_valid");
    assert_eq!(reason(&text(6, "valid_until = \"2026-01-01T00:00:00Z\"\n"), None), "expired");
    assert_eq!(reason(&text(6, "requires = [\"telepathy\"]\n"), None), "unknown_requirement");
    assert_eq!(reason(&text(6, "[[intelligence]]\nname = \"a\"\nfile = \"a.txt\"\n"), None), "mixed");
    assert_eq!(reason("schema", None), "invalid");
}

#[test]
fn what_was_taken_while_it_was_valid_stays_when_it_is_over() {
    let old = text(5, "valid_until = \"2026-01-01T00:00:00Z\"\n");
    let sha256 = Verified::assumed(&old, &[]).get().sha256.clone();
    assert_eq!(reason(&old, Some(&Standing { serial: 5, sha256 })), "taken");
}

fn value(text: &str) -> Observable {
    normalise::address(text).or_else(|_| normalise::domain(text)).or_else(|_| normalise::url(text)).unwrap()
}

fn indicator(text: &str, confidence: Option<u8>) -> Indicator {
    let name = |name: &str, path| Name { name: name.into(), path };
    Indicator {
        id: Some(format!("indicator--{text}").into()),
        confidence,
        tlp: Some((Tlp::Green, TlpOrigin::Own)),
        attribution: Arc::new(Attribution {
            actors: vec![name("APT Zero", Path::Indicates)],
            malware: vec![name("Loader", Path::Label)],
            techniques: vec![name("T1071.001", Path::Report)],
            ..Attribution::default()
        }),
        ..Indicator::new(vec![value(text)], Origin { file: "f".into(), place: Place::Line(1) })
    }
}

/// What becomes of 198.51.101.7 (confidence 60) of source `feed`, and by which rule.
fn judged(rules: &str) -> (String, String) {
    let indicators: Arc<Indicators> = Arc::new([indicator("198.51.101.7", Some(60))].into_iter().collect());
    let source = Source::new("feed", "f");
    let central = Some(Arc::new(accept(&text(1, rules), None).unwrap()));
    let rules = Rules { central, ..Rules::default() };
    let ruling = rule(&[Supply::new(&source, &indicators)], &rules, now());
    let Some(ruled) = ruling.ruled.iter().next() else {
        let skipped = ruling.skipped.iter().next().unwrap();
        assert_eq!((skipped.reason, ruling.outcome.skipped), (SkipReason::Ignored, 1));
        return ("ignore".into(), skipped.why);
    };
    assert_eq!(
        ruling.outcome,
        Outcome {
            block: u64::from(ruled.action == Action::Block),
            report: u64::from(ruled.action == Action::Report),
            skipped: 0
        }
    );
    let trial = if ruled.is_trial { " trial" } else { "" };
    (format!("{:?}/{:?}{trial}", ruled.action, ruled.inbound), ruled.rule.to_string())
}

fn one(action: &str, rest: &str) -> String {
    format!("[[rule]]\nname = \"r\"\naction = \"{action}\"\n{rest}")
}

#[test]
fn a_rule_matches_by_everything_that_is_known_of_an_indicator() {
    for which in [
        "source = [\"feed\"]",
        "type = [\"ipv4\", \"domain\"]",
        "id = [\"indicator--198.51.101.7\"]",
        "min_confidence = 60",
        "label = [\"loader\"]",
        "actor = [\"apt zero\"]",
        "malware = [\"Loader\"]",
        "technique = [\"T1071\"]",
        "tlp = [\"clear\", \"green\"]",
        "source = [\"feed\"]\nactor = [\"APT Zero\"]\nmin_confidence = 10",
    ] {
        let found = judged(&one("report", &format!("[rule.which]\n{which}\n")));
        assert_eq!(found, ("Report/Report".into(), "policy.r".into()), "{which}");
    }
    for which in [
        "source = [\"other\"]",
        "type = [\"ipv6\"]",
        "id = [\"indicator--2\"]",
        "min_confidence = 61",
        "label = [\"APT Zero\"]",
        "actor = [\"APT\"]",
        "campaign = [\"Loader\"]",
        "technique = [\"T107\"]",
        "tlp = [\"amber\"]",
        "source = [\"feed\"]\nactor = [\"nobody\"]",
    ] {
        let found = judged(&one("report", &format!("[rule.which]\n{which}\n")));
        assert_eq!(found, ("Block/Block".into(), "feeds.feed".into()), "{which}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let (action, why) = judged(&(one("ignore", "").replace("\"r\"", "\"first\"") + &one("block", "")));
    assert_eq!((action.as_str(), why.as_str()), ("ignore", "rule `first` of the policy ignores it"));
    let over = one("ignore", "until = \"2026-01-01T00:00:00Z\"\n").replace("\"r\"", "\"over\"");
    assert_eq!(judged(&(over + &one("report", ""))).1, "policy.r", "one whose time is over is passed by");
    assert_eq!(judged(&one("block", "mode = \"monitor\"\n")).0, "Report/Report trial");
    assert_eq!(judged(&one("block", "inbound = \"ignore\"\n")).0, "Block/Ignore");
}

#[test]
fn only_what_could_be_blocked_is_on_trial() {
    let indicators: Arc<Indicators> =
        Arc::new([indicator("198.51.101.7", None), indicator("https://a.example/x", None)].into_iter().collect());
    let source = Source::new("feed", "f");
    let central = accept(&text(1, &one("block", "mode = \"monitor\"\n")), None).unwrap();
    let trials = |central: Central, at_most| {
        let rules = Rules { central: Some(Arc::new(central)), ..Rules::default() };
        let ruling = rule(&[Supply { at_most, ..Supply::new(&source, &indicators) }], &rules, now());
        let trials: Vec<bool> = ruling.ruled.iter().map(|ruled| ruled.is_trial).collect();
        (ruling.outcome.report, trials)
    };
    assert_eq!(trials(central.clone(), Action::Block), (2, vec![true, false]));
    assert_eq!(trials(central.clone(), Action::Report), (2, vec![false, false]));
    assert_eq!(trials(central.at_most(Action::Report), Action::Block), (2, vec![false, false]));
}

#[test]
fn a_rule_ends_in_the_kernel_too_and_makes_a_new_generation_then() {
    let indicators: Arc<Indicators> = Arc::new([indicator("198.51.101.7", None)].into_iter().collect());
    let source = Source { action: Action::Report, ..Source::new("feed", "f") };
    let until: Timestamp = "2026-07-01T00:00:00Z".parse().unwrap();
    let document = text(1, &one("block", &format!("until = \"{until}\"\n")));
    let rules = Rules { central: Some(Arc::new(accept(&document, None).unwrap())), ..Rules::default() };
    let ruling = rule(&[Supply::new(&source, &indicators)], &rules, now());
    assert_eq!(ruling.next_change, Some(until));
    assert_eq!(ruling.ruled.get(0).unwrap().expires, Some(until));
    let ruling = rule(&[Supply::new(&source, &indicators)], &rules, until);
    assert_eq!((ruling.outcome.report, ruling.next_change), (1, None));
}

#[test]
fn a_stale_source_and_a_lease_that_is_over_only_report_whatever_a_rule_says() {
    let indicators: Arc<Indicators> = Arc::new([indicator("198.51.101.7", None)].into_iter().collect());
    let source = Source::new("feed", "f");
    let central = accept(&text(1, &one("block", "inbound = \"block\"\n")), None).unwrap();
    for (central, at_most) in [(central.clone(), Action::Report), (central.at_most(Action::Report), Action::Block)] {
        let rules = Rules { central: Some(Arc::new(central)), ..Rules::default() };
        let ruling = rule(&[Supply { at_most, ..Supply::new(&source, &indicators) }], &rules, now());
        let ruled = ruling.ruled.get(0).unwrap();
        assert_eq!((ruled.action, ruled.inbound), (Action::Report, Inbound::Report));
    }
}

#[test]
fn what_must_pass_passes_whatever_a_rule_says() {
    let indicators: Arc<Indicators> =
        Arc::new([indicator("198.51.101.7", None), indicator("10.0.0.1", None)].into_iter().collect());
    let source = Source::new("feed", "f");
    let mut rules =
        Rules { central: Some(Arc::new(accept(&text(1, &one("block", "")), None).unwrap())), ..Rules::default() };
    rules.never_block.insert(value("198.51.101.7"));
    let ruling = rule(&[Supply::new(&source, &indicators)], &rules, now());
    let reasons: Vec<SkipReason> = ruling.skipped.iter().map(|skipped| skipped.reason).collect();
    assert_eq!(reasons, [SkipReason::Benign, SkipReason::ReservedAddress]);
}

fn which() -> impl Strategy<Value = String> {
    let list = |key: &'static str, values: &'static [&'static str]| {
        prop::sample::subsequence(values.to_vec(), 0..=values.len()).prop_map(move |chosen| match chosen.is_empty() {
            true => String::new(),
            false => format!("{key} = {chosen:?}\n"),
        })
    };
    (
        list("source", &["feed", "other"]),
        list("type", &["ipv4", "domain"]),
        list("actor", &["APT Zero", "nobody"]),
        list("tlp", &["green", "amber"]),
        prop::option::of(0..=100_u8),
    )
        .prop_map(|(source, kind, actor, tlp, least)| {
            let least = least.map_or_else(String::new, |least| format!("min_confidence = {least}\n"));
            format!("[rule.which]\n{source}{kind}{actor}{tlp}{least}")
        })
}

proptest! {
    /// What the lint calls shadowed never decides: taking it out changes nothing.
    #[test]
    fn a_shadowed_rule_never_decides(one in which(), other in which(), confidence in prop::option::of(0..=100_u8)) {
        let rules = |names: &[(&str, &str, &str)]| {
            let text: String = names
                .iter()
                .map(|(name, action, which)| format!("[[rule]]\nname = \"{name}\"\naction = \"{action}\"\n{which}"))
                .collect();
            accept(&text_of(&text), None).unwrap()
        };
        let both = rules(&[("one", "report", &one), ("two", "ignore", &other)]);
        let odd = crate::policy::lint::lint(both.document(), now());
        if odd.iter().any(|(name, oddity)| name == "two" && oddity.name() == "shadowed") {
            let alone = rules(&[("one", "report", &one)]);
            for source in ["feed", "other"] {
                for text in ["198.51.101.7", "evil.example"] {
                    let indicators: Arc<Indicators> = Arc::new([indicator(text, confidence)].into_iter().collect());
                    let source = Source::new(source, "f");
                    let outcome = |central: &Central| {
                        let rules = Rules { central: Some(Arc::new(central.clone())), ..Rules::default() };
                        rule(&[Supply::new(&source, &indicators)], &rules, now()).outcome
                    };
                    prop_assert_eq!(outcome(&both), outcome(&alone));
                }
            }
        }
    }

    /// Whatever is not TOML, or not a policy, is an error.
    #[test]
    fn no_text_is_a_panic(text in "\\PC*") {
        let _judged = Document::parse(&text);
    }
}

fn text_of(rules: &str) -> String {
    text(1, rules)
}
