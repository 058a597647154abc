//! Indicators and [`Rules`] → [`Ruling`].

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::benign::covered;
use super::central::{Central, Decision};
use super::files::is_of_the_empty_file;
use super::names::{Popular, is_public_suffix};
use super::which::Facts;
use super::{Action, LocalAction, NeverBlock, Outcome, RuledValues, Rules, Ruling, Terms, observable, reserved};
use crate::intel::packed::{Dates, View};
use crate::intel::source::Age;
use crate::intel::{Indicator, Indicators, Observable, Origin, Place, SkipReason, Skipped, Source};

/// What one source supplies: [`crate::intel::Load`] without what was skipped.
#[derive(Clone, Copy, Debug)]
pub struct Supply<'a> {
    /// The source, which says what is done with its indicators.
    pub source: &'a Source,
    /// Its indicators.
    pub indicators: &'a Arc<Indicators>,
    /// The most that is done about them, whatever a rule says: [`Action::Report`] for a source that is stale.
    pub at_most: Action,
}

impl<'a> Supply<'a> {
    /// Of a source that may block.
    #[must_use]
    pub const fn new(source: &'a Source, indicators: &'a Arc<Indicators>) -> Self {
        Self { source, indicators, at_most: Action::Block }
    }
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
pub fn rule<'a>(supplies: &[Supply<'a>], rules: &'a Rules, now: Timestamp) -> Ruling {
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
        let set = judge.ruling.ruled.add_set(Arc::clone(supply.indicators));
        let mut feed = judge.feed(supply, set);
        supply.indicators.views().for_each(|view| judge.indicator(&mut feed, &view));
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

/// The most a value of this type may do: names and URLs are shared by the innocent, no hook sees a whole URL, and of what a
/// program must be user space hears when it runs.
const fn strongest(value: &Observable) -> Action {
    match value {
        Observable::Url(_) | Observable::Path(_) | Observable::FileName(_) | Observable::Process(_) => Action::Report,
        _ => Action::Block,
    }
}

/// Why an indicator of this source ended at `until`.
fn ended(until: Timestamp, dates: Dates, source: &Source) -> String {
    match (source.max_age, dates.modified.or(dates.valid_from)) {
        (Some(age), Some(from)) if dates.valid_until != Some(until) => {
            format!("last changed {from}, max_age {age} passed at {until}")
        }
        _ => format!("valid_until {until}"),
    }
}

/// What is asked for: by which rule of the policy, if any, the action, and whether that is on trial.
type Asked = (Option<usize>, Action, bool);

/// A source whose indicators are judged.
struct Feed<'a> {
    source: &'a Source,
    indicators: &'a Indicators,
    at_most: Action,
    /// The organisation's policy with the numbers of its rules that can match something here, if any can.
    central: Option<(&'a Central, Vec<usize>)>,
    /// Under which values are that no rule of it matches.
    own: Terms,
    /// The numbers of terms that are used.
    numbers: Vec<(Asked, u32)>,
}

impl Feed<'_> {
    /// The rule that decides about a value, if it is one of the policy's.
    fn rule(&self, view: &View<'_>, value: &Observable) -> Option<usize> {
        let (central, candidates) = self.central.as_ref()?;
        let attribution = || view.attribution(self.indicators).unwrap_or_default();
        let (id, confidence, tlp) = (view.id, view.confidence, view.tlp());
        central.first(candidates, &Facts { id, confidence, tlp, attribution: &attribution }, value)
    }

    /// What is done about a value, and the number of the terms for it; `None` if its rule ignores it.
    fn terms(&mut self, rule: Option<usize>, value: &Observable, ruled: &mut RuledValues) -> Option<(Action, u32)> {
        let decision = match rule.zip(self.central.as_ref()) {
            Some((number, (central, _))) => Some(central.decision(number)?),
            None => None,
        };
        let asked = decision.as_ref().map_or(self.own.action, |decision| decision.action);
        let most = self.at_most.min(strongest(value));
        let action = asked.min(most);
        // What could not be blocked anyway is on no trial.
        let is_trial = most == Action::Block && decision.as_ref().is_some_and(|decision| decision.is_trial);
        let key = (rule, action, is_trial);
        if let Some((_, number)) = self.numbers.iter().find(|(known, _)| *known == key) {
            return Some((action, *number));
        }
        let terms = match decision {
            Some(Decision { inbound, until, name, .. }) => {
                let inbound = inbound.min(self.at_most.into());
                Terms { rule: name, is_trial, action, inbound, until, ..self.own.clone() }
            }
            None => Terms { action, ..self.own.clone() },
        };
        let number = ruled.number(terms);
        self.numbers.push((key, number));
        Some((action, number))
    }

    fn skipped(&self, view: &View<'_>, refusal: Refusal, value: String) -> Skipped {
        let origin = view.origin(self.indicators);
        let origin = origin.unwrap_or_else(|| Origin { file: Arc::from(""), place: Place::Line(0) });
        Skipped { reason: refusal.reason, origin, value, why: refusal.why }
    }
}

/// The values as given, cut at 200 characters.
fn excerpt(view: &View<'_>) -> String {
    let mut text = String::new();
    for (_, value) in view.values().take(8) {
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&value.to_string());
    }
    text.chars().take(200).collect()
}

impl<'a> Judge<'a> {
    fn feed(&mut self, supply: &Supply<'a>, set: u32) -> Feed<'a> {
        let Supply { source, indicators, at_most } = *supply;
        let rules = self.rules;
        let central = rules.central.as_deref().and_then(|central| {
            let (candidates, end) = central.candidates(&source.name, self.now);
            end.into_iter().for_each(|end| self.ends(end));
            (!candidates.is_empty()).then_some((central, candidates))
        });
        let own = Terms {
            set,
            source: Arc::from(source.name.as_str()),
            rule: Arc::from(format!("feeds.{}", source.name)),
            is_trial: false,
            action: source.action,
            inbound: source.inbound.unwrap_or_else(|| source.action.into()).min(at_most.into()),
            max_age: source.max_age.map(Age::duration),
            until: None,
        };
        Feed { source, indicators, at_most, central, own, numbers: Vec::new() }
    }

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
        let mut local = Indicators::default();
        for rule in in_force {
            let wanted = match rule.action {
                LocalAction::Allow => continue,
                LocalAction::Report => Action::Report,
                LocalAction::Block => Action::Block,
            };
            let origin = Origin { file: Arc::from(rule.source), place: Place::Object(Arc::clone(&rule.name)) };
            if let Some(entry) = self.rules.never_block.containing(&rule.observable) {
                self.ruling.skipped.push(&Skipped {
                    reason: SkipReason::Benign,
                    origin,
                    value: rule.observable.to_string(),
                    why: format!("{entry} is on the never-block list, which wins over local rules"),
                });
                continue;
            }
            self.exceptions.extend(self.rules.never_block.inside(&rule.observable));
            let place = local.push_one(&Indicator {
                name: Some(Arc::from(rule.reason.as_str())),
                valid_until: rule.until,
                ..Indicator::new(vec![rule.observable.clone()], origin)
            });
            let number = self.ruling.ruled.number(Terms {
                set: 0,
                source: Arc::from(rule.source),
                rule: Arc::from(format!("{}.{}", rule.source, rule.name)),
                is_trial: false,
                action: wanted.min(strongest(&rule.observable)),
                inbound: wanted.into(),
                max_age: None,
                until: None,
            });
            self.ruling.ruled.push(place, number);
        }
        local.seal();
        // The first of all sets, empty or not.
        self.ruling.ruled.add_set(Arc::new(local));
    }

    fn indicator(&mut self, feed: &mut Feed<'_>, view: &View<'_>) {
        if let Err(refusal) = self.in_force(feed.source, view) {
            return self.skip(feed, view, refusal);
        }
        let mut strongest_used = None;
        let mut refused = Vec::new();
        for (place, value) in view.values() {
            match self.refusal(feed.source, &value) {
                Some(refusal) => refused.push((value, refusal)),
                None => {
                    let rule = feed.rule(view, &value);
                    let Some((action, terms)) = feed.terms(rule, &value, &mut self.ruling.ruled) else {
                        let name =
                            feed.central.as_ref().zip(rule).map_or("", |((central, _), rule)| central.name(rule));
                        let why = format!("rule `{name}` of the policy ignores it");
                        refused.push((value, Refusal { reason: SkipReason::Ignored, why }));
                        continue;
                    };
                    strongest_used = strongest_used.max(Some(action));
                    self.except(feed.source, &value);
                    self.ruling.ruled.push(place, terms);
                }
            }
        }
        match strongest_used {
            Some(action) => {
                match action {
                    Action::Block => self.ruling.outcome.block += 1,
                    Action::Report => self.ruling.outcome.report += 1,
                }
                let text = |value: &Observable| value.to_string().chars().take(200).collect();
                let left_out = refused.into_iter().map(|(value, refusal)| feed.skipped(view, refusal, text(&value)));
                self.ruling.trimmed.extend(left_out);
            }
            None => {
                let refusal = refused
                    .into_iter()
                    .next()
                    .map(|(_, refusal)| refusal)
                    .unwrap_or_else(|| Refusal { reason: SkipReason::Malformed, why: "it has no value".to_owned() });
                self.skip(feed, view, refusal);
            }
        }
    }

    fn skip(&mut self, feed: &Feed<'_>, view: &View<'_>, refusal: Refusal) {
        self.ruling.outcome.skipped += 1;
        self.ruling.skipped.push(&feed.skipped(view, refusal, excerpt(view)));
    }

    fn in_force(&mut self, source: &Source, view: &View<'_>) -> Result<(), Refusal> {
        if let Some(until) = Terms::expiry(source.max_age.map(Age::duration), view.dates) {
            if until <= self.now {
                return Err(Refusal { reason: SkipReason::Expired, why: ended(until, view.dates, source) });
            }
            self.ends(until);
        }
        if let Some(from) = view.dates.valid_from.filter(|from| *from > self.now) {
            self.ends(from);
            return Err(Refusal { reason: SkipReason::NotYetValid, why: format!("valid_from {from}") });
        }
        if let (Some(confidence), Some(least)) = (view.confidence, source.min_confidence)
            && confidence < least
        {
            let why = format!("confidence {confidence}, min_confidence {least}");
            return Err(Refusal { reason: SkipReason::LowConfidence, why });
        }
        Ok(())
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
            if let Some(site) =
                self.popular.as_ref().filter(|_| !source.allow_popular).and_then(|popular| popular.below(name))
            {
                return benign(format!(
                    "it covers {site}, which everybody uses; allow_popular is not set for this source"
                ));
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
