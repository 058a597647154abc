//! [`Overview`] → one HTML file that needs nothing else: no script, no font, no picture from anywhere.
//!
//! Records hold what strangers chose: file names, arguments, domains, publishers' names. All of it is escaped by the template, and
//! the page forbids itself scripts and every connection.

mod chart;
mod sections;

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::overview::Overview;
use super::printable_lines;
use chart::date_and_time;

const STYLE: &str = include_str!("page/page.css");
/// Styles in the page and nothing else, whatever a browser is asked for.
const CONTENT_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'";

/// The page. `host` is the name of the host that the journal is of.
#[must_use]
pub fn page(overview: &Overview, host: &str) -> String {
    let is_empty = overview.total.total() == 0;
    let (since, until) = (date_and_time(overview.window.since()), date_and_time(overview.window.until()));
    let markup = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="Content-Security-Policy" content=(CONTENT_POLICY);
                meta name="referrer" content="no-referrer";
                meta name="color-scheme" content="light dark";
                title { "Cordon on " (host) ", " (since) " to " (until) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                header {
                    p.eyebrow { "Cordon report" }
                    h1 { (host) }
                    p.when { (since) " to " (until) " UTC" }
                }
                main {
                    @if is_empty {
                        (empty(overview))
                    } @else {
                        (full(overview))
                    }
                }
                footer {
                    p {
                        "Made from this host's journal by Cordon " (env!("CARGO_PKG_VERSION")) ". Times are UTC. Hits that were folded into one record count as evenly "
                        "spread between the first and the last of them. " code { "cordon log" } " shows each record, " code { "cordon explain X" } " why."
                    }
                }
            }
        }
    };
    // Once over all of it, so that no name can be forgotten.
    printable_lines(&markup.into_string()).into_owned()
}

fn empty(overview: &Overview) -> Markup {
    html! {
        (sections::losses(overview))
        section.empty {
            h2 { "No hits" }
            p { "Nothing that intelligence names was connected to, looked up or run in this time, as far as the journal says." }
        }
    }
}

fn full(overview: &Overview) -> Markup {
    html! {
        p.lead { (sentence(overview)) }
        (sections::tiles(overview))
        (sections::losses(overview))
        (sections::timeline(overview))
        (sections::indicators(overview))
        div.pair {
            (sections::names("Actors", "Who the indicators stand for, as their publishers say.", &overview.actors))
            (sections::names("Malware and tools", "What the indicators stand for.", &overview.malware))
        }
        (sections::programs(overview))
        (sections::techniques(overview))
        (sections::sources(overview))
        (sections::suspects(overview))
    }
}

/// What happened, in words.
fn sentence(overview: &Overview) -> String {
    let total = &overview.total;
    let stopped = total.blocked + total.killed;
    let programs = overview.programs.iter().filter(|(name, _)| name.is_some()).count();
    let mut text = format!(
        "Cordon met {} of {} to {}.",
        counted(total.total(), "attempt", "attempts"),
        counted(programs as u64, "program", "programs"),
        counted(overview.indicators.len() as u64, "listed value", "different listed values"),
    );
    let parts = [
        (stopped, "stopped"),
        (total.would_block, "let pass because the mode was monitor"),
        (total.reported, "let pass and reported, as the policy says"),
    ];
    let parts: Vec<String> = parts
        .iter()
        .filter(|(hits, _)| *hits > 0)
        .map(|(hits, what)| format!("{} {} {what}", grouped(*hits), if *hits == 1 { "was" } else { "were" }))
        .collect();
    text.push_str(&format!(" Of these {}.", joined(&parts)));
    let named: Vec<&str> = overview.actors.iter().filter_map(|row| row.name.as_deref()).collect();
    match named.as_slice() {
        [] => {}
        [only] => text.push_str(&format!(" The one actor named is {only}.")),
        [most, ..] => text.push_str(&format!(" {} actors are named, {most} most often.", named.len())),
    }
    text
}

/// `a`, `a and b`, `a, b and c`.
fn joined(parts: &[String]) -> String {
    match parts {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}

fn counted(count: u64, one: &str, more: &str) -> String {
    format!("{} {}", grouped(count), if count == 1 { one } else { more })
}

/// `1234567` as `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests;
