//! Whether a policy does well on the hosts of a group (pure).

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::fleet::Heartbeat;

/// What may happen before a rollout is halted.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Hosts that may do badly.
    pub hosts: usize,
    /// Hits of a host since the policy was pushed: blocked, or reported in monitor mode.
    pub hits: u64,
    /// How long a host may take to apply the policy.
    pub patience: SignedDuration,
}

/// Why a host does badly.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Wrong {
    /// It does not take the policy: why.
    Refused(String),
    /// It was not heard of since.
    Silent,
    /// It has not applied the policy in time.
    Behind,
    /// Faults that it did not have before.
    Faults(Vec<String>),
    /// More hits than the budget allows.
    Hits(u64),
}

/// How a group does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Standing {
    /// Hosts that were there when the policy was pushed.
    pub hosts: usize,
    /// Those of them that have it.
    pub applied: usize,
    /// Those that do badly.
    pub wrong: BTreeMap<String, Wrong>,
}

impl Standing {
    /// Whether every host has the policy, but for those that do badly and may.
    pub fn is_everywhere(&self) -> bool {
        self.applied + self.wrong.len() >= self.hosts
    }
}

/// Hosts of a group that were heard of, by name.
pub type Hosts = BTreeMap<String, Heartbeat>;

/// Compares the hosts with what they were `before` a policy with that serial was pushed, at `pushed`.
pub fn judge(before: &Hosts, now: &Hosts, serial: u64, budget: &Budget, pushed: Timestamp, at: Timestamp) -> Standing {
    let mut standing = Standing { hosts: before.len(), ..Standing::default() };
    for (name, earlier) in before {
        let later = now.get(name).filter(|later| !later.is_silent(at));
        let has_it = later.is_some_and(|later| later.policy.serial >= Some(serial));
        match later.map_or(Some(Wrong::Silent), |later| wrong(earlier, later, has_it, budget, pushed, at)) {
            Some(wrong) => drop(standing.wrong.insert(name.clone(), wrong)),
            None => standing.applied += usize::from(has_it),
        }
    }
    standing
}

fn wrong(
    earlier: &Heartbeat,
    later: &Heartbeat,
    has_it: bool,
    budget: &Budget,
    pushed: Timestamp,
    at: Timestamp,
) -> Option<Wrong> {
    if let Some(why) =
        later.policy.refused.as_ref().filter(|_| !has_it && later.policy.refused != earlier.policy.refused)
    {
        return Some(Wrong::Refused(why.clone()));
    }
    if !has_it {
        return (at.duration_since(pushed) > budget.patience).then_some(Wrong::Behind);
    }
    // A fault is told with its details, which change: the number is what is compared.
    let number = |fault: &str| fault.split(' ').next().unwrap_or_default().to_owned();
    let known: Vec<String> = earlier.faults.iter().map(|fault| number(fault)).collect();
    let new: Vec<String> = later.faults.iter().filter(|fault| !known.contains(&number(fault))).cloned().collect();
    if !new.is_empty() {
        return Some(Wrong::Faults(new));
    }
    // Counters of the kernel: an agent that was restarted goes on counting, a host that was begins anew.
    let grown = |counter: fn(&Heartbeat) -> u64| counter(later).saturating_sub(counter(earlier));
    let hits = grown(|host| host.blocked) + grown(|host| host.reported);
    (hits > budget.hits).then_some(Wrong::Hits(hits))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::fleet::status::tests::host;

    const BUDGET: Budget = Budget { hosts: 0, hits: 10, patience: SignedDuration::from_mins(5) };

    fn at(seconds: i64) -> Timestamp {
        host("a", None).time + SignedDuration::from_secs(seconds)
    }

    /// How a host that was as `host` makes it does once it is `later`.
    fn outcome(later: Heartbeat, seconds: i64) -> Standing {
        let before = Hosts::from([("a".to_owned(), host("a", Some(11)))]);
        let later = Heartbeat { time: at(seconds), ..later };
        judge(&before, &Hosts::from([("a".to_owned(), later)]), 12, &BUDGET, at(0), at(seconds))
    }

    #[test]
    fn a_host_that_has_it_and_nothing_else_is_applied() {
        let standing = outcome(host("a", Some(12)), 20);
        assert_eq!((standing.applied, standing.wrong.len(), standing.is_everywhere()), (1, 0, true));
        let waiting = outcome(host("a", Some(11)), 20);
        assert_eq!((waiting.applied, waiting.wrong.len(), waiting.is_everywhere()), (0, 0, false));
        let later = outcome(host("a", Some(13)), 20);
        assert_eq!(later.applied, 1, "somebody signed another one since");
    }

    #[test]
    fn a_host_that_does_badly_is_named_with_the_reason() {
        let of = |later: Heartbeat, seconds| outcome(later, seconds).wrong.remove("a");
        let mut refused = host("a", Some(11));
        refused.policy.refused = Some("rollback".into());
        assert_eq!(of(refused, 20), Some(Wrong::Refused("rollback".into())));
        assert_eq!(of(host("a", Some(11)), 301), Some(Wrong::Behind));
        let faulty = Heartbeat { faults: vec!["C030 cgroup_connect4".into()], ..host("a", Some(12)) };
        assert_eq!(of(faulty, 20), Some(Wrong::Faults(vec!["C030 cgroup_connect4".into()])));
        let noisy = Heartbeat { blocked: 6, reported: 5, ..host("a", Some(12)) };
        assert_eq!(of(noisy, 20), Some(Wrong::Hits(11)));
        let quiet = Heartbeat { blocked: 5, reported: 5, ..host("a", Some(12)) };
        assert_eq!(of(quiet, 20), None);
    }

    #[test]
    fn a_host_that_goes_silent_or_away_is_named() {
        let before = Hosts::from([("a".to_owned(), host("a", Some(11))), ("b".to_owned(), host("b", Some(11)))]);
        let now = Hosts::from([("a".to_owned(), Heartbeat { time: at(0), ..host("a", Some(12)) })]);
        let standing = judge(&before, &now, 12, &BUDGET, at(0), at(91));
        assert_eq!(standing.wrong.values().collect::<Vec<_>>(), [&Wrong::Silent, &Wrong::Silent]);
    }

    #[test]
    fn what_was_wrong_before_is_not_the_policys_fault() {
        let mut sick = Heartbeat { faults: vec!["C010 x".into()], ..host("a", Some(11)) };
        sick.policy.refused = Some("old".into());
        let before = Hosts::from([("a".to_owned(), sick.clone())]);
        sick.policy.serial = Some(12);
        let now = Hosts::from([("a".to_owned(), Heartbeat { faults: vec!["C010 y".into()], ..sick })]);
        assert_eq!(judge(&before, &now, 12, &BUDGET, at(0), at(1)).applied, 1);
    }
}
