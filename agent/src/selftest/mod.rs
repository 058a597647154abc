//! The known ways around an agent like this one, each tried in a sandbox of its own: what is stopped here, and what is not.
//!
//! A technique is tried twice: against a target that nobody listed, which must get through, or the attempt says nothing; then
//! against a listed one. Targets are documentation addresses (RFC 5737, RFC 3849) on the loopback of a network namespace
//! without any other interface, documentation names (RFC 2606), and generated programs that do nothing but exit.

mod exec;
mod expect;
mod fire;
mod loopback;
mod name;
mod network;
mod program;
mod rig;
mod technique;

use serde::Serialize;

pub use expect::{Expected, InForce};
pub use fire::{Ended, fire};
pub use rig::{Rig, Stopped};
pub use technique::{Family, Technique, all};

/// What became of a listed target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// It was not reached, or did not run.
    Blocked,
    /// It was reached, or ran, and a record says so.
    Reported,
    /// It was reached, or ran, and no record says so.
    Missed,
    /// The technique does not work here, even against a target that nobody listed.
    NotRun,
}

/// What a technique came to.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its name.
    pub technique: &'static str,
    /// What kind it is.
    pub family: Family,
    /// What it does.
    pub what: &'static str,
    /// What became of it.
    pub outcome: Outcome,
    /// What should become of it with the hooks in force here.
    pub expected: Expected,
    /// Whether it is at least as good as expected; a technique that was not run is.
    pub as_expected: bool,
    /// Whether the journal has a record of it.
    pub recorded: bool,
    /// The hook that the record names.
    pub enforced_by: Option<String>,
    /// In words: the error that the attempt saw, or why it was not run or is expected to pass.
    pub detail: String,
}

impl Row {
    /// From what was seen of the attempt and of its record.
    fn new(technique: &Technique, expected: Expected, control: &Ended, listed: Option<&Ended>) -> Self {
        let (outcome, detail) = match (control, listed) {
            (Ended::Passed, Some(Ended::Passed)) => (Outcome::Missed, String::new()),
            // It works, and yet neither passed nor was stopped: nobody expects that.
            (Ended::Passed, Some(ended @ Ended::Impossible(_))) => (Outcome::Missed, ended.to_string()),
            (Ended::Passed, Some(stopped)) => (Outcome::Blocked, stopped.to_string()),
            (ended, _) => (Outcome::NotRun, format!("fails without an indicator too: {ended}")),
        };
        Self {
            technique: technique.name,
            family: technique.family(),
            what: technique.what,
            outcome,
            expected,
            as_expected: false,
            recorded: false,
            enforced_by: None,
            detail,
        }
    }

    /// Takes in the record of it, if there is one, and judges.
    fn judge(&mut self, enforced_by: Option<String>) {
        self.recorded = enforced_by.is_some();
        self.enforced_by = enforced_by;
        if self.outcome == Outcome::Missed && self.recorded {
            self.outcome = Outcome::Reported;
        }
        self.as_expected = match (self.expected, self.outcome) {
            (Expected::Missed(_), _) | (_, Outcome::NotRun) => true,
            (Expected::Blocked, outcome) => outcome == Outcome::Blocked && self.recorded,
        };
        match (self.expected, self.outcome) {
            (Expected::Missed(why), Outcome::Missed | Outcome::Reported) => self.detail = why.into(),
            (_, Outcome::Blocked) if !self.recorded => self.detail.push_str(", and no record says so"),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(expected: Expected, control: Ended, listed: Option<Ended>, record: Option<&str>) -> Row {
        let technique = all().first().unwrap();
        let mut row = Row::new(technique, expected, &control, listed.as_ref());
        row.judge(record.map(str::to_owned));
        row
    }

    #[test]
    fn what_should_be_blocked_must_be_blocked_and_recorded() {
        let hook = Some("cgroup_connect4");
        for (listed, record, outcome, as_expected) in [
            (Ended::Refused, hook, Outcome::Blocked, true),
            (Ended::Killed, hook, Outcome::Blocked, true),
            (Ended::Silent, hook, Outcome::Blocked, true),
            (Ended::Refused, None, Outcome::Blocked, false),
            (Ended::Passed, hook, Outcome::Reported, false),
            (Ended::Passed, None, Outcome::Missed, false),
            (Ended::Impossible("it crashed".into()), None, Outcome::Missed, false),
        ] {
            let row = row(Expected::Blocked, Ended::Passed, Some(listed.clone()), record);
            assert_eq!((row.outcome, row.as_expected), (outcome, as_expected), "{listed} {record:?}");
        }
    }

    #[test]
    fn an_attempt_that_fails_without_an_indicator_too_says_nothing() {
        let row = row(Expected::Blocked, Ended::Refused, None, None);
        assert_eq!((row.outcome, row.as_expected), (Outcome::NotRun, true));
        assert!(row.detail.contains("without an indicator"));
    }

    #[test]
    fn what_is_open_here_may_be_open_and_says_why() {
        let row = row(Expected::Missed("no hook sees it"), Ended::Passed, Some(Ended::Passed), None);
        assert!(row.as_expected);
        assert_eq!(row.detail, "no hook sees it");
    }
}
