//! Rules that cannot do what they look like: never reached, over, or weaker than they say.

use std::fmt;

use jiff::Timestamp;

use super::document::{BUNDLED, Document, Mode, Rule, RuleAction};

/// Types of values that no hook can block.
const ONLY_REPORTED: [&str; 3] = ["url", "path", "file_name"];

/// What is odd about a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// Whatever it matches, a rule before it matches: which.
    Shadowed(String),
    /// Its time is over since then.
    Over(Timestamp),
    /// It is about a source `bundle.…` that the policy does not bring.
    NoSuchSource(String),
    /// It blocks, and is about values only that cannot be blocked.
    OnlyReports,
    /// The whole policy is in mode `monitor`, and the rule says so again.
    MonitorAnyway,
}

impl fmt::Display for Oddity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shadowed(by) => write!(f, "never reached: rule `{by}` before it matches all that it matches"),
            Self::Over(until) => write!(f, "dead: it ended at {until}"),
            Self::NoSuchSource(source) => write!(f, "dead: the policy brings no intelligence for `{source}`"),
            Self::OnlyReports => {
                write!(f, "it blocks nothing: values of types {} are only reported", ONLY_REPORTED.join(", "))
            }
            Self::MonitorAnyway => write!(f, "its mode `monitor` changes nothing: the policy's own is that"),
        }
    }
}

impl Oddity {
    /// A name for it that never changes.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Shadowed(_) => "shadowed",
            Self::Over(_) => "over",
            Self::NoSuchSource(_) => "no_such_source",
            Self::OnlyReports => "only_reports",
            Self::MonitorAnyway => "monitor_anyway",
        }
    }
}

/// What is odd about the rules of a document at `now`, in their order, each by its name.
#[must_use]
pub fn lint(document: &Document, now: Timestamp) -> Vec<(String, Oddity)> {
    let mut found = Vec::new();
    for (index, rule) in document.rule.iter().enumerate() {
        let before = document.rule.get(..index).unwrap_or_default();
        let shadow = before.iter().find(|before| outlives(before, rule) && before.which.covers(&rule.which));
        let oddities = [
            shadow.map(|shadow| Oddity::Shadowed(shadow.name.clone())),
            rule.until.filter(|until| *until <= now).map(Oddity::Over),
            missing(document, rule).map(Oddity::NoSuchSource),
            blocks_nothing(rule).then_some(Oddity::OnlyReports),
            (document.mode == Some(Mode::Monitor) && rule.mode == Some(Mode::Monitor)).then_some(Oddity::MonitorAnyway),
        ];
        found.extend(oddities.into_iter().flatten().map(|oddity| (rule.name.clone(), oddity)));
    }
    found
}

/// Whether a rule is there for as long as another.
fn outlives(one: &Rule, other: &Rule) -> bool {
    one.until.is_none_or(|own| other.until.is_some_and(|until| own >= until))
}

/// The first source that it is about, if the policy should have brought all of them and brings none.
fn missing(document: &Document, rule: &Rule) -> Option<String> {
    let sources = &rule.which.source;
    let is_brought = |source: &String| {
        source.strip_prefix(BUNDLED).is_none_or(|name| document.intelligence.iter().any(|one| one.name == name))
    };
    if sources.iter().any(is_brought) { None } else { sources.first().cloned() }
}

fn blocks_nothing(rule: &Rule) -> bool {
    let kinds = &rule.which.kind;
    rule.action == RuleAction::Block
        && !kinds.is_empty()
        && kinds.iter().all(|kind| ONLY_REPORTED.contains(&kind.as_str()))
}
