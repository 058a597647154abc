//! Indicators and [`Rules`] → [`Ruling`].

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::benign::covered;
use super::files::is_of_the_empty_file;
use super::names::{Popular, is_public_suffix};
use super::{Action, LocalAction, NeverBlock, Outcome, Ruled, Rules, Ruling, observable, reserved};
use crate::intel::{Indicator, Observable, Origin, Place, SkipReason, Skipped, Source};

/// What one source supplies: [`crate::intel::Load`] without what was skipped.
#[derive(Clone, Copy, Debug)]
pub struct Supply<'a> {
    /// The source, which says what is done with its indicators.
    pub source: &'a Source,
    /// Its indicators.
    pub indicators: &'a [Arc<Indicator>],
}

/// Why a value or an indicator is not used.
struct Refusal {
    reason: SkipReason,
    why: String,
}

struct Judge<'a> {
    rules: &'a Rules,
    /// The local rules that allow, as far as they are in force.
    allowed: NeverBlock,
    popular: Option<Popular>,
    now: Timestamp,
    ruling: Ruling,
    exceptions: BTreeSet<Observable>,
}

/// Decides for every value of every indicator whether it blocks, reports or is not used, at the time `now`. Every indicator
/// ends in exactly one of block, report and skipped; the counts are in [`Ruling::outcome`].
#[must_use]
pub fn rule(supplies: &[Supply<'_>], rules: &Rules, now: Timestamp) -> Ruling {
    let mut judge = Judge {
        rules,
        allowed: NeverBlock::default(),
        popular: (!rules.allow_popular_domains).then(Popular::new),
        now,
        ruling: Ruling::default(),
        exceptions: BTreeSet::new(),
    };
    judge.local_rules();
    for supply in supplies {
        let before = judge.ruling.outcome;
        let source: Arc<str> = Arc::from(supply.source.name.as_str());
        let rule: Arc<str> = Arc::from(format!("feeds.{source}"));
        for indicator in supply.indicators {
            judge.indicator(supply.source, &source, &rule, indicator);
        }
        let after = judge.ruling.outcome;
        judge.ruling.by_supply.push(Outcome {
            block: after.block - before.block,
            report: after.report - before.report,
            skipped: after.skipped - before.skipped,
        });
    }
    judge.ruling.exceptions = judge.exceptions.into_iter().collect();
    judge.ruling
}

/// The most a value of this type may do: names and URLs are shared by the innocent, and no hook sees a whole URL.
const fn strongest(value: &Observable) -> Action {
    match value {
        Observable::Url(_) | Observable::Path(_) | Observable::FileName(_) => Action::Report,
        _ => Action::Block,
    }
}

/// When an indicator of this source ends: its own `valid_until`, or the source's `max_age` after its latest version.
fn expiry(indicator: &Indicator, source: &Source) -> Option<(Timestamp, String)> {
    let stated = indicator.valid_until.map(|until| (until, format!("valid_until {until}")));
    let aged = source.max_age.and_then(|age| {
        let from = indicator.modified.or(indicator.valid_from)?;
        let until = from.checked_add(age.duration()).ok()?;
        Some((until, format!("last changed {from}, max_age {age} passed at {until}")))
    });
    [stated, aged].into_iter().flatten().min_by_key(|(until, _)| *until)
}

/// The values as given, cut at 200 characters.
fn excerpt(indicator: &Indicator) -> String {
    let mut text = String::new();
    for value in indicator.observables.iter().take(8) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&value.to_string());
    }
    text.chars().take(200).collect()
}

impl Judge<'_> {
    fn ends(&mut self, at: Timestamp) {
        if at > self.now && self.ruling.next_change.is_none_or(|next| at < next) {
            self.ruling.next_change = Some(at);
        }
    }

    fn local_rules(&mut self) {
        let in_force: Vec<_> =
            self.rules.local.iter().filter(|rule| rule.until.is_none_or(|until| until > self.now)).collect();
        for rule in &in_force {
            if let Some(until) = rule.until {
                self.ends(until);
            }
            if rule.action == LocalAction::Allow {
                self.allowed.insert(rule.observable.clone());
                self.exceptions.insert(rule.observable.clone());
            }
        }
        for rule in in_force {
            let wanted = match rule.action {
                LocalAction::Allow => continue,
                LocalAction::Report => Action::Report,
                LocalAction::Block => Action::Block,
            };
            let origin = Origin { file: Arc::from("local"), place: Place::Object(Arc::clone(&rule.name)) };
            if let Some(entry) = self.rules.never_block.containing(&rule.observable) {
                self.ruling.skipped.push(Skipped {
                    reason: SkipReason::Benign,
                    origin,
                    value: rule.observable.to_string(),
                    why: format!("{entry} is on the never-block list, which wins over local rules"),
                });
                continue;
            }
            self.exceptions.extend(self.rules.never_block.inside(&rule.observable));
            let indicator = Arc::new(Indicator {
                name: Some(Arc::from(rule.reason.as_str())),
                valid_until: rule.until,
                ..Indicator::new(vec![rule.observable.clone()], origin)
            });
            self.ruling.ruled.push(Ruled {
                observable: rule.observable.clone(),
                source: Arc::from("local"),
                action: wanted.min(strongest(&rule.observable)),
                inbound: wanted.into(),
                expires: rule.until,
                rule: Arc::from(format!("local.{}", rule.name)),
                indicator,
            });
        }
    }

    fn indicator(&mut self, source: &Source, name: &Arc<str>, rule: &Arc<str>, indicator: &Arc<Indicator>) {
        let expires = match self.in_force(source, indicator) {
            Ok(expires) => expires,
            Err(refusal) => return self.skip(indicator, refusal),
        };
        let mut strongest_used = None;
        let mut refused = Vec::new();
        for value in &indicator.observables {
            match self.refusal(source, value) {
                Some(refusal) => refused.push((value, refusal)),
                None => {
                    let action = source.action.min(strongest(value));
                    strongest_used = strongest_used.max(Some(action));
                    self.except(source, value);
                    self.ruling.ruled.push(Ruled {
                        observable: value.clone(),
                        source: Arc::clone(name),
                        action,
                        inbound: source.inbound.unwrap_or_else(|| source.action.into()),
                        expires,
                        rule: Arc::clone(rule),
                        indicator: Arc::clone(indicator),
                    });
                }
            }
        }
        match strongest_used {
            Some(action) => {
                match action {
                    Action::Block => self.ruling.outcome.block += 1,
                    Action::Report => self.ruling.outcome.report += 1,
                }
                self.ruling.trimmed.extend(refused.into_iter().map(|(value, refusal)| Skipped {
                    reason: refusal.reason,
                    origin: indicator.origin.clone(),
                    value: value.to_string().chars().take(200).collect(),
                    why: refusal.why,
                }));
            }
            None => {
                let refusal = refused
                    .into_iter()
                    .next()
                    .map(|(_, refusal)| refusal)
                    .unwrap_or_else(|| Refusal { reason: SkipReason::Malformed, why: "it has no value".to_owned() });
                self.skip(indicator, refusal);
            }
        }
    }

    fn skip(&mut self, indicator: &Indicator, refusal: Refusal) {
        self.ruling.outcome.skipped += 1;
        self.ruling.skipped.push(Skipped {
            reason: refusal.reason,
            origin: indicator.origin.clone(),
            value: excerpt(indicator),
            why: refusal.why,
        });
    }

    fn in_force(&mut self, source: &Source, indicator: &Indicator) -> Result<Option<Timestamp>, Refusal> {
        let expiry = expiry(indicator, source);
        if let Some((until, why)) = &expiry {
            if *until <= self.now {
                return Err(Refusal { reason: SkipReason::Expired, why: why.clone() });
            }
            self.ends(*until);
        }
        if let Some(from) = indicator.valid_from.filter(|from| *from > self.now) {
            self.ends(from);
            return Err(Refusal { reason: SkipReason::NotYetValid, why: format!("valid_from {from}") });
        }
        if let (Some(confidence), Some(least)) = (indicator.confidence, source.min_confidence)
            && confidence < least
        {
            let why = format!("confidence {confidence}, min_confidence {least}");
            return Err(Refusal { reason: SkipReason::LowConfidence, why });
        }
        Ok(expiry.map(|(until, _)| until))
    }

    fn refusal(&self, source: &Source, value: &Observable) -> Option<Refusal> {
        let benign = |why| Some(Refusal { reason: SkipReason::Benign, why });
        if let Some(entry) = self.rules.never_block.containing(value) {
            return benign(format!("{entry} is on the never-block list"));
        }
        if let Some(entry) = self.allowed.containing(value) {
            return benign(format!("{entry} is allowed by a local rule"));
        }
        if let Some(range) = covered(value).filter(|_| !source.allow_reserved).and_then(reserved::containing) {
            let why = format!("{} is {}; allow_reserved is not set for this source", range.prefix, range.purpose);
            return Some(Refusal { reason: SkipReason::ReservedAddress, why });
        }
        let shortest = match value {
            Observable::Ipv4Prefix(prefix) => Some((prefix.prefix_len(), self.rules.min_prefix_v4)),
            Observable::Ipv6Prefix(prefix) => Some((prefix.prefix_len(), self.rules.min_prefix_v6)),
            _ => None,
        };
        if let Some((length, least)) = shortest.filter(|(length, least)| length < least) {
            let why = format!("/{length} is broader than the limit of /{least}");
            return Some(Refusal { reason: SkipReason::TooBroad, why });
        }
        if let Observable::Domain(name) = value {
            if is_public_suffix(name) {
                let why = "a public suffix: it covers every name that anybody registers below it".to_owned();
                return Some(Refusal { reason: SkipReason::TooBroad, why });
            }
            if let Some(site) = self.popular.as_ref().and_then(|popular| popular.below(name)) {
                return benign(format!("it covers {site}, which everybody uses"));
            }
        }
        if is_of_the_empty_file(value) {
            return benign("the digest of an empty file".to_owned());
        }
        if let Some(path) = self.rules.own_files.path_of(value) {
            return benign(format!("a package of this host installed it as {path}"));
        }
        let list = self.rules.warning_lists.iter().find(|list| list.matches(value))?;
        benign(format!("on the warning list `{}`", list.name))
    }

    /// What lies in a value and is never to be blocked becomes an exception to it.
    fn except(&mut self, source: &Source, value: &Observable) {
        self.exceptions.extend(self.rules.never_block.inside(value));
        self.exceptions.extend(self.allowed.inside(value));
        if !matches!(value, Observable::Ipv4Prefix(_) | Observable::Ipv6Prefix(_)) {
            return;
        }
        for list in &self.rules.warning_lists {
            self.exceptions.extend(list.inside(value));
        }
        if let Some(prefix) = covered(value).filter(|_| !source.allow_reserved) {
            self.exceptions.extend(reserved::inside(prefix).map(|range| observable(range.prefix)));
        }
    }
}

#[cfg(test)]
mod tests;
