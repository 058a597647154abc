//! What the policy decided, value by value: four bytes each beside the packed indicators.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Action, Inbound};
use crate::intel::packed::{Damaged, Dates, Held, Numbers};
use crate::intel::{Indicator, Indicators, Observable};

/// One value of one indicator, as the policy wants it enforced.
#[derive(Clone, Debug)]
pub struct Ruled {
    /// The value.
    pub observable: Observable,
    /// Whose it is: the source's name in the settings.
    pub source: Arc<str>,
    /// What to do.
    pub action: Action,
    /// What to do when the other end begins.
    pub inbound: Inbound,
    /// Until when; the kernel holds to it.
    pub expires: Option<Timestamp>,
    /// `feeds.<source>`, `local.<rule>` or `policy.<rule>`.
    pub rule: Arc<str>,
    /// Whether the rule is on trial: it would block, and is compiled to report.
    pub is_trial: bool,
    /// Which indicator.
    pub indicator: Arc<Indicator>,
}

/// What values of one source have in common.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Which of the sets of indicators they are in.
    pub set: u32,
    /// The source's name in the settings.
    pub source: Arc<str>,
    /// `feeds.<source>`, `local.<rule>` or `policy.<rule>`.
    pub rule: Arc<str>,
    /// Whether the rule is on trial: it would block, and is compiled to report.
    pub is_trial: bool,
    /// What to do.
    pub action: Action,
    /// What to do when the other end begins.
    pub inbound: Inbound,
    /// How long after its latest version an indicator ends.
    pub max_age: Option<SignedDuration>,
    /// When the rule ends.
    pub until: Option<Timestamp>,
}

impl Terms {
    /// When an indicator ends: its own `valid_until`, or `max_age` after its latest version.
    pub(super) fn expiry(max_age: Option<SignedDuration>, dates: Dates) -> Option<Timestamp> {
        let aged = || dates.modified.or(dates.valid_from)?.checked_add(max_age?).ok();
        [dates.valid_until, aged()].into_iter().flatten().min()
    }

    /// When a value ends: with its indicator, or with the rule.
    fn end(&self, dates: Dates) -> Option<Timestamp> {
        [Self::expiry(self.max_age, dates), self.until].into_iter().flatten().min()
    }
}

/// All values that are to be enforced: what `tables` compiles.
#[derive(Clone, Debug, Default)]
pub struct RuledValues {
    /// The indicators of each source.
    pub sets: Vec<Held>,
    /// What values have in common.
    pub terms: Vec<Terms>,
    /// Where each value lies in its set.
    pub places: Numbers,
    /// Which terms they are under: the first value of each stretch under the same, and the number of these.
    pub under: Numbers,
}

impl RuledValues {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a further set in; its number.
    pub(super) fn add_set(&mut self, indicators: Arc<Indicators>) -> u32 {
        self.sets.push(Held::Here(indicators));
        self.sets.len() as u32 - 1
    }

    /// The number of these terms.
    pub(super) fn number(&mut self, terms: Terms) -> u32 {
        // Of one source they are at the end; there are few of one source.
        let known = self.terms.iter().rposition(|known| *known == terms);
        known.unwrap_or_else(|| {
            self.terms.push(terms);
            self.terms.len() - 1
        }) as u32
    }

    pub(super) fn push(&mut self, place: u32, terms: u32) {
        if self.under.here().last() != Some(&terms) {
            self.under.push(self.len() as u32);
            self.under.push(terms);
        }
        self.places.push(place);
    }

    /// Takes in those of another ruling.
    pub fn append(&mut self, other: Self) {
        let (sets, terms, values) = (self.sets.len() as u32, self.terms.len() as u32, self.len() as u32);
        self.sets.extend(other.sets);
        self.terms.extend(other.terms.into_iter().map(|terms| Terms { set: terms.set + sets, ..terms }));
        match (&mut self.places, other.places) {
            (Numbers::Here(own), Numbers::Here(others)) if own.is_empty() => *own = others,
            (Numbers::Here(own), Numbers::Here(others)) => own.extend(others),
            _ => {}
        }
        for stretch in other.under.here().as_chunks::<2>().0 {
            let [first, number] = *stretch;
            self.under.push(first + values);
            self.under.push(number + terms);
        }
    }

    fn find(&self, index: usize) -> Result<(&Terms, &Held, u32), Damaged> {
        let place = self.places.get(index)?.ok_or(Damaged)?;
        let terms = self.terms.get(self.terms_of(index)? as usize).ok_or(Damaged)?;
        let set = self.sets.get(terms.set as usize).ok_or(Damaged)?;
        Ok((terms, set, place))
    }

    /// The number of the terms that a value is under: those of the last stretch that begins with it or before.
    fn terms_of(&self, index: usize) -> Result<u32, Damaged> {
        let (mut known, mut beyond) = (0, self.under.len() / 2);
        while known + 1 < beyond {
            let middle = usize::midpoint(known, beyond);
            let first = self.under.get(middle * 2)?.ok_or(Damaged)?;
            (known, beyond) = if first as usize <= index { (middle, beyond) } else { (known, middle) };
        }
        self.under.get(known * 2 + 1)?.ok_or(Damaged)
    }

    /// A value.
    ///
    /// # Errors
    /// There is none of this number, or it cannot be read.
    pub fn value(&self, index: usize) -> Result<Observable, Damaged> {
        let (_, set, place) = self.find(index)?;
        set.value(place)
    }

    /// What to do about a value, what when the other end begins, and until when.
    ///
    /// # Errors
    /// There is none of this number, or it cannot be read.
    pub fn decision(&self, index: usize) -> Result<(Action, Inbound, Option<Timestamp>), Damaged> {
        let (terms, set, place) = self.find(index)?;
        let dates = if set.is_dated() { set.dates(place)? } else { Dates::default() };
        Ok((terms.action, terms.inbound, terms.end(dates)))
    }

    /// Which indicator a value is of: the same for all values of one.
    ///
    /// # Errors
    /// There is none of this number, or it cannot be read.
    pub fn owner(&self, index: usize) -> Result<(u32, u64), Damaged> {
        let (terms, set, place) = self.find(index)?;
        Ok((terms.set, set.start(place)?))
    }

    /// All about a value.
    ///
    /// # Errors
    /// There is none of this number, or it cannot be read.
    pub fn get(&self, index: usize) -> Result<Ruled, Damaged> {
        let (terms, set, place) = self.find(index)?;
        let (observable, indicator) = set.get(place)?;
        let Indicator { valid_from, valid_until, modified, .. } = indicator;
        Ok(Ruled {
            observable,
            source: Arc::clone(&terms.source),
            action: terms.action,
            inbound: terms.inbound,
            expires: terms.end(Dates { valid_from, valid_until, modified }),
            rule: Arc::clone(&terms.rule),
            is_trial: terms.is_trial,
            indicator: Arc::new(indicator),
        })
    }

    /// The same, in memory.
    ///
    /// # Errors
    /// It cannot be read from where it lies.
    pub fn resident(&self) -> Result<Self, Damaged> {
        let sets = self.sets.iter().map(|set| set.resident().map(Held::Here)).collect::<Result<_, _>>()?;
        Ok(Self { sets, terms: self.terms.clone(), places: self.places.resident()?, under: self.under.resident()? })
    }

    /// Some of those with this value, `most` at the most, in the order in which the policy gave them, and how many more there
    /// are.
    ///
    /// # Errors
    /// They cannot be read from where they lie.
    pub fn of(&self, value: &Observable, most: usize) -> Result<(Vec<Ruled>, usize), Damaged> {
        let all = self.resident()?;
        let mut same = (0..all.len()).filter(|index| all.value(*index).is_ok_and(|known| known == *value));
        let first = same.by_ref().take(most).map(|index| all.get(index)).collect::<Result<_, _>>()?;
        Ok((first, same.count()))
    }

    /// All of them; those that cannot be read are left out.
    pub fn iter(&self) -> impl Iterator<Item = Ruled> {
        (0..self.len()).filter_map(|index| self.get(index).ok())
    }
}

impl FromIterator<Ruled> for RuledValues {
    /// An indicator then stands for the one value, and ends when that does.
    fn from_iter<I: IntoIterator<Item = Ruled>>(ruled: I) -> Self {
        let (mut values, mut packed) = (Self::default(), Indicators::default());
        for Ruled { observable, source, action, inbound, expires, rule, is_trial, indicator } in ruled {
            let terms = Terms { set: 0, source, rule, is_trial, action, inbound, max_age: None, until: None };
            let number = values.number(terms);
            let place = packed.push_one(&Indicator {
                observables: vec![observable],
                valid_until: expires,
                ..Arc::unwrap_or_clone(indicator)
            });
            values.push(place, number);
        }
        packed.seal();
        values.sets.push(Held::Here(Arc::new(packed)));
        values
    }
}

impl From<Vec<Ruled>> for RuledValues {
    fn from(ruled: Vec<Ruled>) -> Self {
        ruled.into_iter().collect()
    }
}
