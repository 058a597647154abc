use super::*;
use crate::attribute::Finding;
use crate::journal::{Loss, LossReason};
use crate::policy::Popular;
use crate::report::overview::Survey;
use crate::report::summary::Window;
use crate::report::tests::record;

fn overview(findings: &[Finding]) -> Overview {
    let (since, until) = ("2026-11-23T18:00:00Z".parse().unwrap(), "2026-11-23T20:00:00Z".parse().unwrap());
    let mut survey = Survey::new(Window::new(since, until, 24).unwrap());
    findings.iter().for_each(|finding| survey.add(finding));
    survey.finish(Vec::new(), Vec::new(), &Popular::new())
}

fn records() -> [Finding; 3] {
    ["connect", "exec", "send"].map(record)
}

/// The elements of `html` that are open at its end; panics where one is closed that is not the last opened.
fn unclosed(html: &str) -> Vec<String> {
    const VOID: [&str; 2] = ["meta", "br"];
    let mut open = Vec::new();
    let body = html.strip_prefix("<!DOCTYPE html>").expect("a document type");
    let (before, after) = body.split_once("<style>").unwrap();
    let (style, after) = after.split_once("</style>").unwrap();
    assert!(!style.contains('<'), "no markup in the style");
    for tag in before.split('<').skip(1).chain(after.split('<').skip(1)) {
        let (tag, text) = tag.split_once('>').expect("each tag ends");
        assert!(!text.contains('>'), "no stray bracket: {text}");
        assert_eq!(tag.matches('"').count() % 2, 0, "quotes are paired: {tag}");
        let name = tag.split(' ').next().unwrap();
        match name.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop().as_deref(), Some(name)),
            None if !VOID.contains(&name) => open.push(name.to_owned()),
            None => {}
        }
    }
    open
}

#[test]
fn the_page_is_well_formed_and_asks_nobody_for_anything() {
    let html = page(&overview(&records()), "server.example");
    assert_eq!(unclosed(&html), Vec::<String>::new());
    for forbidden in ["<script", "<link", "<img", "<iframe", "src=", "url(", "@import", "javascript:"] {
        assert!(!html.contains(forbidden), "{forbidden}");
    }
    let tags: String = html.split('<').skip(1).filter_map(|tag| tag.split_once('>')).map(|(tag, _)| tag).collect();
    assert!(!regex::Regex::new(" on[a-z]+=").unwrap().is_match(&tags), "no handler of events");
    let addresses: Vec<&str> = html.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(!addresses.is_empty());
    assert!(
        addresses.iter().all(|address| address.starts_with("https://attack.mitre.org/techniques/T")),
        "{addresses:?}"
    );
    assert!(html.contains("default-src 'none'") && html.contains("width=device-width"));
    let ids: Vec<&str> = html.split(" id=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(ids.len(), ids.iter().collect::<std::collections::BTreeSet<_>>().len(), "{ids:?}");
}

#[test]
fn what_strangers_chose_is_text_wherever_it_stands() {
    const EVIL: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)>&amp;\u{202e}\u{1b}[2J";
    let mut finding = record("connect");
    let process = finding.process.as_mut().unwrap();
    (process.exe, process.user, process.unit) = (Some(EVIL.into()), Some(EVIL.into()), Some(EVIL.into()));
    finding.indicator.value = EVIL.into();
    finding.indicator.kind = EVIL.into();
    finding.indicator.source = EVIL.into();
    finding.indicator.confidence = Some(1);
    finding.count = 100;
    finding.destination.as_mut().unwrap().domain = Some(EVIL.into());
    finding.also =
        vec![crate::attribute::finding::IndicatorRef { source: format!("{EVIL}2"), ..finding.indicator.clone() }];
    let attribution = &mut finding.attribution;
    for names in [&mut attribution.actors, &mut attribution.malware, &mut attribution.techniques] {
        *names = vec![EVIL.into(), "T1071".into(), "T1\" onclick=\"x".into()];
    }
    let html = page(&overview(&[finding]), EVIL);
    assert_eq!(unclosed(&html), Vec::<String>::new());
    assert!(!html.contains("<script") && !html.contains("<img"), "markup of a stranger");
    assert!(!html.contains('\u{202e}') && !html.contains('\u{1b}'), "what turns or steers text is spelled out");
    assert!(html.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "it is shown, not dropped");
    assert!(!html.contains("T1\" onclick"), "attributes are escaped too");
}

#[test]
fn an_empty_journal_gives_a_page_that_says_so() {
    let html = page(&overview(&[]), "server.example");
    assert_eq!(unclosed(&html), Vec::<String>::new());
    assert!(html.contains("No hits") && !html.contains("<table"), "{html}");
}

#[test]
fn what_is_missing_is_said_with_and_without_hits() {
    for findings in [&records()[..], &[]] {
        let time = "2026-11-23T19:00:00Z".parse().unwrap();
        let mut overview = overview(findings);
        overview.losses = vec![Loss { reason: LossReason::RingFull, count: 1204, from: time, to: time }];
        overview.unread = vec!["journal segment x is damaged".into()];
        let html = page(&overview, "server.example");
        assert!(html.contains("1,204 hits are not in the journal"), "{html}");
        assert!(
            html.contains("the kernel's ring was full") || html.contains("the kernel&#39;s ring was full"),
            "{html}"
        );
        assert!(html.contains("journal segment x is damaged"));
    }
}

#[test]
fn the_same_records_give_the_same_page() {
    assert_eq!(page(&overview(&records()), "server.example"), page(&overview(&records()), "server.example"));
}

#[test]
fn the_sentence_says_what_was_stopped_and_what_was_not() {
    assert_eq!(
        sentence(&overview(&records())),
        "Cordon met 5 attempts of 3 programs to 3 different listed values. Of these 4 were stopped and 1 was let pass because the mode was \
         monitor. 2 actors are named, Example Bear most often."
    );
    assert_eq!([0, 999, 1000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
}
