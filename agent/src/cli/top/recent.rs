//! The latest records, and what they come to (pure).

use std::collections::VecDeque;

use jiff::{SignedDuration, Timestamp};

use crate::attribute::Finding;
use crate::report::summary::{By, Groups, Row, Window};

/// Records kept at most: enough for an hour of most hosts, little enough to count through at each change.
pub(super) const KEPT: usize = 5000;
/// Minutes that the lists and the rate are about.
const MINUTES: usize = 60;

/// The latest records, the newest last.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<Finding>);

/// What the records of the last hour come to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Hits of each minute, the current one last.
    pub(super) rate: Vec<u64>,
    /// By indicator, program and actor.
    pub(super) tops: [Vec<Row>; 3],
}

impl Recent {
    /// Takes a record in; one that is known already, with repeats folded into it since, becomes the newest.
    pub(super) fn take(&mut self, finding: Finding) {
        if let Some(known) = self.0.iter().rposition(|other| other.id == finding.id) {
            self.0.remove(known);
        } else if self.0.len() == KEPT {
            self.0.pop_front();
        }
        self.0.push_back(finding);
    }

    /// Whether older ones may have been given up.
    pub(super) fn is_full(&self) -> bool {
        self.0.len() == KEPT
    }

    /// Those that `filter` finds, the newest first.
    pub(super) fn matching(&self, filter: &str) -> impl Iterator<Item = &Finding> {
        let filter = filter.to_lowercase();
        self.0.iter().rev().filter(move |finding| filter.is_empty() || is_about(finding, &filter))
    }

    /// What those that `filter` finds come to in the hour that ends with the minute of `now`.
    pub(super) fn sums(&self, filter: &str, now: Timestamp) -> Sums {
        let Some(window) = hour(now) else { return Sums::default() };
        let mut groups = [By::Indicator, By::Exe, By::Actor].map(Groups::new);
        let mut rate = vec![0; MINUTES];
        for finding in self.matching(filter) {
            for (minute, hits) in window.spread(finding) {
                rate[minute] += hits;
            }
            groups.iter_mut().for_each(|groups| groups.add(finding, &window));
        }
        Sums { rate, tops: groups.map(Groups::rows) }
    }
}

/// The last sixty minutes, the current one included and whole.
fn hour(now: Timestamp) -> Option<Window> {
    let end = (now.as_second().div_euclid(60) + 1).checked_mul(60)?;
    let until = Timestamp::new(end - 1, 999_999_999).ok()?;
    let since = Timestamp::from_second(end - 60 * MINUTES as i64).ok()?;
    Window::new(since, until, MINUTES)
}

/// When the hour begins that is shown at `now`.
pub(super) fn since(now: Timestamp) -> Timestamp {
    hour(now).map_or_else(|| now - SignedDuration::from_hours(1), |window| window.since())
}

/// Whether any of its names holds `filter`, which is in lower case.
fn is_about(finding: &Finding, filter: &str) -> bool {
    let holds = |text: &str| text.to_lowercase().contains(filter);
    let process = finding.process.as_ref().is_some_and(|process| {
        [&process.exe, &process.comm, &process.user, &process.unit, &process.container]
            .into_iter()
            .flatten()
            .any(|name| holds(name))
    });
    let destination = finding.destination.as_ref().is_some_and(|destination| {
        destination.domain.as_deref().is_some_and(holds) || holds(&destination.ip.to_string())
    });
    let file = finding.file.as_ref().is_some_and(|file| file.path.as_deref().is_some_and(holds));
    let attribution = &finding.attribution;
    let indicator = &finding.indicator;
    process
        || destination
        || file
        || [indicator.value.as_str(), &indicator.source, finding.verdict.name()].into_iter().any(holds)
        || [&attribution.actors, &attribution.campaigns, &attribution.malware]
            .into_iter()
            .flatten()
            .any(|name| holds(name))
}
