//! Indicators and [`Rules`] → [`Ruling`].

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;

use super::benign::covered;
use super::files::is_of_the_empty_file;
use super::names::{Popular, is_public_suffix};
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
        let set = judge.ruling.ruled.add_set(Arc::clone(supply.indicators));
        let inbound = supply.source.inbound.unwrap_or_else(|| supply.source.action.into());
        let max_age = supply.source.max_age.map(Age::duration);
        let terms = Terms { set, source, rule, action: Action::Block, inbound, max_age };
        let terms = [Action::Report, Action::Block].map(|action| Terms { action, ..terms.clone() });
        let mut feed = Feed { source: supply.source, indicators: supply.indicators, terms, numbers: [None; 2] };
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

/// A source whose indicators are judged.
struct Feed<'a> {
    source: &'a Source,
    indicators: &'a Indicators,
    /// For each action in its order, and their numbers once they are used.
    terms: [Terms; 2],
    numbers: [Option<u32>; 2],
}

impl Feed<'_> {
    fn number(&mut self, action: Action, ruled: &mut RuledValues) -> u32 {
        let [report, block] = &mut self.numbers;
        let [report_terms, block_terms] = &self.terms;
        let (number, terms) = match action {
            Action::Report => (report, report_terms),
            Action::Block => (block, block_terms),
        };
        *number.get_or_insert_with(|| ruled.number(terms.clone()))
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
        let mut local = Indicators::default();
        for rule in in_force {
            let wanted = match rule.action {
                LocalAction::Allow => continue,
                LocalAction::Report => Action::Report,
                LocalAction::Block => Action::Block,
            };
            let origin = Origin { file: Arc::from("local"), place: Place::Object(Arc::clone(&rule.name)) };
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
                source: Arc::from("local"),
                rule: Arc::from(format!("local.{}", rule.name)),
                action: wanted.min(strongest(&rule.observable)),
                inbound: wanted.into(),
                max_age: None,
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
                    let action = feed.source.action.min(strongest(&value));
                    strongest_used = strongest_used.max(Some(action));
                    self.except(feed.source, &value);
                    let terms = feed.number(action, &mut self.ruling.ruled);
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
