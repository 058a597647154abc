//! The parts of the page, from the top down.

use std::collections::BTreeSet;

use maud::{Markup, html};

use super::chart::{date_and_time, timeline as timeline_chart, trend};
use super::{counted, grouped, joined};
use crate::attribute::finding::Verdict;
use crate::journal::LossReason;
use crate::report::overview::{Overview, Technique};
use crate::report::summary::{Outcomes, Row, VERDICTS};
use crate::report::suspects::Reason;

/// Rows of a table that everybody reads; what is more is counted below it.
const ROWS: usize = 15;
/// Names in the small print of a row.
const NAMES: usize = 4;

const fn words(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Blocked => "Blocked",
        Verdict::Killed => "Killed",
        Verdict::Reported => "Reported",
        Verdict::WouldBlock => "Would block",
    }
}

pub(super) fn tiles(overview: &Overview) -> Markup {
    let values = overview.indicators.len() as u64;
    let lost: u64 = overview.losses.iter().map(|loss| loss.count).sum();
    html! {
        ul.tiles {
            @for verdict in VERDICTS {
                @let hits = overview.total.of(verdict);
                @if hits > 0 || verdict != Verdict::Killed {
                    li class=(verdict.name()) { b { (grouped(hits)) } span { (words(verdict)) } }
                }
            }
            li { b { (grouped(values)) } span { "Listed values hit" } }
            li { b { (grouped(overview.sources.len() as u64)) } span { "Sources that named them" } }
            li { b { (grouped(lost)) } span { "Hits not recorded" } }
        }
    }
}

/// Hits that are known to be missing, and what could not be read; nothing where there is none of either.
pub(super) fn losses(overview: &Overview) -> Markup {
    let lost: u64 = overview.losses.iter().map(|loss| loss.count).sum();
    let reasons: BTreeSet<LossReason> = overview.losses.iter().map(|loss| loss.reason).collect();
    let reasons: Vec<String> = reasons.into_iter().map(|reason| reason.words().to_owned()).collect();
    html! {
        @if lost > 0 {
            section.warn {
                p { strong { (counted(lost, "hit is", "hits are")) " not in the journal" } " and not in this report: " (joined(&reasons)) "." }
            }
        }
        @for unread in &overview.unread {
            section.warn { p { strong { "Part of the journal could not be read." } " " (unread) } }
        }
    }
}

pub(super) fn timeline(overview: &Overview) -> Markup {
    let met = |index: usize| overview.timeline.iter().any(|bucket| bucket[index] > 0);
    html! {
        section aria-labelledby="timeline" {
            h2 id="timeline" { "Hits over time" }
            ul.legend {
                @for (index, verdict) in VERDICTS.into_iter().enumerate() {
                    @if met(index) { li { i class=(verdict.name()) {} (words(verdict)) } }
                }
            }
            (timeline_chart(overview))
            details {
                summary { "The same as a table" }
                table {
                    caption { "Hits over time, by verdict" }
                    thead { tr {
                        th scope="col" { "From" }
                        @for verdict in VERDICTS { th.number scope="col" { (words(verdict)) } }
                    } }
                    tbody {
                        @for (index, bucket) in overview.timeline.iter().enumerate() {
                            @if bucket.iter().any(|hits| *hits > 0) {
                                tr {
                                    th scope="row" { (date_and_time(overview.window.start(index))) }
                                    @for hits in bucket { td.number { (grouped(*hits)) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn indicators(overview: &Overview) -> Markup {
    let most = overview.indicators.first().map_or(1, |row| row.tally.hits());
    html! {
        section aria-labelledby="indicators" {
            h2 id="indicators" { "Top indicators" }
            p.note { "Values of intelligence that were hit, and who they stand for." }
            table {
                caption { "Top indicators by hits" }
                thead { tr {
                    th scope="col" { "Indicator" }
                    th.wide scope="col" { "Trend" }
                    th.share scope="col" { "Verdicts" }
                    th.number scope="col" { "Hits" }
                } }
                tbody {
                    @for row in overview.indicators.iter().take(ROWS) {
                        tr {
                            th scope="row" {
                                code { (row.indicator.value) }
                                small {
                                    (row.indicator.kind) " from " (some_of(&row.sources))
                                    @if !row.stands_for.is_empty() { " · " (some_of(&row.stands_for)) }
                                    @if let Some(last) = row.tally.last { " · last " (date_and_time(last)) }
                                }
                            }
                            td.wide { (trend(&row.tally.buckets)) }
                            td.share { (bar(&row.tally.outcomes, most)) }
                            td.number { (grouped(row.tally.hits())) }
                        }
                    }
                }
            }
            (and_more(overview.indicators.len(), "indicators"))
        }
    }
}

/// Actors or malware; rows without a name say how much is not attributed.
pub(super) fn names(title: &str, note: &str, rows: &[Row]) -> Markup {
    let most = rows.iter().map(|row| row.tally.hits()).max().unwrap_or(1);
    let named = rows.iter().filter(|row| row.name.is_some()).count();
    html! {
        section aria-label=(title) {
            h2 { (title) }
            p.note { (note) }
            table {
                caption { (title) " by hits" }
                thead { tr { th scope="col" { "Name" } th.share scope="col" { "Verdicts" } th.number scope="col" { "Hits" } } }
                tbody {
                    @for row in rows.iter().filter(|row| row.name.is_some()).take(ROWS).chain(rows.iter().filter(|row| row.name.is_none())) {
                        tr {
                            th scope="row" { @match &row.name { Some(name) => (name), None => small { "none is named" } } }
                            td.share { (bar(&row.tally.outcomes, most)) }
                            td.number { (grouped(row.tally.hits())) }
                        }
                    }
                }
            }
            (and_more(named, "names"))
        }
    }
}

pub(super) fn programs(overview: &Overview) -> Markup {
    let most = overview.programs.first().map_or(1, |(_, row)| row.tally.hits());
    html! {
        section aria-labelledby="programs" {
            h2 id="programs" { "Programs" }
            p.note { "What ran on this host when the hit happened. Of a program that was stopped before it ran: what would have run it." }
            table {
                caption { "Programs by hits" }
                thead { tr {
                    th scope="col" { "Program" }
                    th.wide scope="col" { "Trend" }
                    th.share scope="col" { "Verdicts" }
                    th.number scope="col" { "Hits" }
                } }
                tbody {
                    @for (name, row) in overview.programs.iter().take(ROWS) {
                        tr {
                            th scope="row" {
                                @match name { Some(name) => code { (name) }, None => "not known" }
                                small {
                                    @if !row.users.is_empty() { "as " (some_of(&row.users)) }
                                    @if !row.places.is_empty() { " in " (some_of(&row.places)) }
                                }
                                small { "hit " (some_of(&row.indicators)) }
                            }
                            td.wide { (trend(&row.tally.buckets)) }
                            td.share { (bar(&row.tally.outcomes, most)) }
                            td.number { (grouped(row.tally.hits())) }
                        }
                    }
                }
            }
            (and_more(overview.programs.len(), "programs"))
        }
    }
}

pub(super) fn techniques(overview: &Overview) -> Markup {
    let most = overview.techniques.iter().map(|technique| technique.hits).max().unwrap_or(1);
    html! {
        section aria-labelledby="techniques" {
            h2 id="techniques" { "ATT&CK techniques" }
            p.note {
                "What publishers say the indicators are used for; the stronger the colour the more hits."
                @if overview.without_technique > 0 { " " (counted(overview.without_technique, "hit has", "hits have")) " none." }
            }
            ul.chips { @for technique in &overview.techniques { li { (chip(technique, most)) } } }
        }
    }
}

fn chip(technique: &Technique, most: u64) -> Markup {
    let id = &technique.id;
    let strength = 8 + 42 * technique.hits / most.max(1);
    let is_id = id.starts_with('T') && id.chars().skip(1).all(|c| c.is_ascii_digit() || c == '.');
    let address = is_id.then(|| format!("https://attack.mitre.org/techniques/{}/", id.replace('.', "/")));
    html! {
        a href=[address] rel="noreferrer" style={ "--strength:" (strength) "%" } { (id) small { (grouped(technique.hits)) } }
    }
}

pub(super) fn sources(overview: &Overview) -> Markup {
    let most = overview.sources.iter().map(|(_, row)| row.decided.total()).max().unwrap_or(1);
    html! {
        section aria-labelledby="sources" {
            h2 id="sources" { "What each source was worth" }
            p.note { "Hits that its indicators decided, how many of them no other source lists, and how many of others it lists as well." }
            table {
                caption { "Sources by hits" }
                thead { tr {
                    th scope="col" { "Source" }
                    th.share scope="col" { "Verdicts" }
                    th.number scope="col" { "Hits" }
                    th.number scope="col" { "Would block" }
                    th.number.wide scope="col" { "It alone" }
                    th.number.wide scope="col" { "Seconded" }
                } }
                tbody {
                    @for (name, row) in &overview.sources {
                        tr {
                            th scope="row" { (name) small { (counted(row.indicators.len() as u64, "value", "values")) " hit" } }
                            td.share { (bar(&row.decided, most)) }
                            td.number { (grouped(row.decided.total())) }
                            td.number { (grouped(row.decided.would_block)) }
                            td.number.wide { (grouped(row.alone)) }
                            td.number.wide { (grouped(row.seconded)) }
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn suspects(overview: &Overview) -> Markup {
    html! {
        section aria-labelledby="suspects" {
            h2 id="suspects" { "Possible false positives" }
            p.note { "Indicators worth a second look before they block anything else. One is named here when" }
            ul.rules { @for rule in Reason::RULES { li { (rule) } } }
            @if overview.suspects.is_empty() {
                p.note { "None of the indicators that were hit." }
            } @else {
                table {
                    caption { "Possible false positives" }
                    thead { tr { th scope="col" { "Indicator" } th scope="col" { "Why" } th.number scope="col" { "Hits" } } }
                    tbody {
                        @for suspect in overview.suspects.iter().take(ROWS) {
                            tr {
                                th scope="row" { code { (suspect.value) } small { "from " (suspect.source) } }
                                td { @for reason in &suspect.reasons { div { (reason.words()) } } }
                                td.number { (grouped(suspect.hits)) }
                            }
                        }
                    }
                }
                (and_more(overview.suspects.len(), "indicators"))
            }
        }
    }
}

/// One bar, as long as its share of `most`, in the colours of the verdicts. The numbers stand beside it.
fn bar(outcomes: &Outcomes, most: u64) -> Markup {
    let share = |hits: u64| format!("width:{:.1}%", hits as f64 * 100.0 / most.max(1) as f64);
    let met: Vec<Verdict> = VERDICTS.into_iter().filter(|verdict| outcomes.of(*verdict) > 0).collect();
    let spoken: Vec<String> = met
        .iter()
        .map(|verdict| format!("{} {}", words(*verdict).to_lowercase(), grouped(outcomes.of(*verdict))))
        .collect();
    html! {
        div.bar role="img" aria-label=(joined(&spoken)) title=(joined(&spoken)) {
            @for verdict in met { i class=(verdict.name()) style=(share(outcomes.of(verdict))) {} }
        }
    }
}

fn some_of(names: &BTreeSet<String>) -> String {
    let mut text = names.iter().take(NAMES).map(String::as_str).collect::<Vec<_>>().join(", ");
    if names.len() > NAMES {
        text.push_str(&format!(" and {} more", names.len() - NAMES));
    }
    text
}

fn and_more(all: usize, what: &str) -> Markup {
    html! { @if all > ROWS { p.note style="margin:.6rem 0 0" { "and " (grouped((all - ROWS) as u64)) " more " (what) } } }
}
