//! All that `cordon report` shows of a stretch of the journal, before it becomes a page (pure).

use std::collections::{BTreeMap, BTreeSet, HashMap};

use jiff::Timestamp;

use super::summary::{By, Groups, Outcomes, Row, Tally, VERDICTS, Window, program};
use super::suspects::{Suspect, suspects};
use crate::attribute::Finding;
use crate::attribute::finding::{IndicatorRef, Process};
use crate::journal::Loss;
use crate::policy::Popular;

/// Distinct programs and host names that are remembered of one indicator: more than the rules and the page ask for.
const REMEMBERED: usize = 32;

/// Hits of one indicator's value.
#[derive(Clone, Debug)]
pub struct IndicatorRow {
    /// The indicator that decided, as the latest record has it.
    pub indicator: IndicatorRef,
    /// Its hits.
    pub tally: Tally,
    /// Programs that hit it; 32 at most.
    pub programs: BTreeSet<String>,
    /// Host names under which it was hit; 32 at most.
    pub domains: BTreeSet<String>,
    /// Sources that list the same value, the deciding one included.
    pub sources: BTreeSet<String>,
    /// Who it stands for: actors, else malware.
    pub stands_for: BTreeSet<String>,
}

/// Hits of one program.
#[derive(Clone, Debug, Default)]
pub struct ProgramRow {
    /// Its hits.
    pub tally: Tally,
    /// Users it ran as.
    pub users: BTreeSet<String>,
    /// Units and containers it ran in.
    pub places: BTreeSet<String>,
    /// Values of indicators it hit; 32 at most.
    pub indicators: BTreeSet<String>,
}

/// What a source was worth.
#[derive(Clone, Debug, Default)]
pub struct SourceRow {
    /// Hits that its indicators decided.
    pub decided: Outcomes,
    /// Hits that no other source lists the value of.
    pub alone: u64,
    /// Hits that an indicator of another source decided, and that it lists as well.
    pub seconded: u64,
    /// Values of its indicators that decided a hit.
    pub indicators: BTreeSet<String>,
}

/// A technique and its hits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Technique {
    /// As records name it.
    pub id: String,
    /// Its hits.
    pub hits: u64,
}

/// A stretch of the journal, summed up.
#[derive(Clone, Debug)]
pub struct Overview {
    /// Which.
    pub window: Window,
    /// Records that hold a hit in it.
    pub records: u64,
    /// All hits.
    pub total: Outcomes,
    /// Hits in each bucket, by verdict in the order of [`VERDICTS`].
    pub timeline: Vec<[u64; 4]>,
    /// Most hits first.
    pub indicators: Vec<IndicatorRow>,
    /// Most hits first; `None` for what has no actor.
    pub actors: Vec<Row>,
    /// The same for malware and tools.
    pub malware: Vec<Row>,
    /// Most hits first; `None` where the program is not known.
    pub programs: Vec<(Option<String>, ProgramRow)>,
    /// ATT&CK techniques, most hits first.
    pub techniques: Vec<Technique>,
    /// Hits that have no technique.
    pub without_technique: u64,
    /// Most hits first.
    pub sources: Vec<(String, SourceRow)>,
    /// Indicators that may be false positives, most reasons first.
    pub suspects: Vec<Suspect>,
    /// Hits known not to be recorded.
    pub losses: Vec<Loss>,
    /// What of the journal could not be read, in words.
    pub unread: Vec<String>,
}

/// Takes in records one by one.
#[derive(Debug)]
pub struct Survey {
    window: Window,
    records: u64,
    total: Outcomes,
    timeline: Vec<[u64; 4]>,
    indicators: HashMap<String, IndicatorRow>,
    actors: Groups,
    malware: Groups,
    techniques: Groups,
    programs: HashMap<Option<String>, ProgramRow>,
    sources: BTreeMap<String, SourceRow>,
}

impl Survey {
    /// Of `window`, without a record yet.
    #[must_use]
    pub fn new(window: Window) -> Self {
        Self {
            window,
            records: 0,
            total: Outcomes::default(),
            timeline: vec![[0; 4]; window.buckets()],
            indicators: HashMap::new(),
            actors: Groups::new(By::Actor),
            malware: Groups::new(By::Malware),
            techniques: Groups::new(By::Technique),
            programs: HashMap::new(),
            sources: BTreeMap::new(),
        }
    }

    /// Takes in a record; what of it lies outside of the window does not count.
    pub fn add(&mut self, finding: &Finding) {
        let before = self.total.total();
        let column = VERDICTS.iter().position(|verdict| *verdict == finding.verdict).unwrap_or_default();
        for (bucket, hits) in self.window.spread(finding) {
            self.timeline[bucket][column] += hits;
            self.total.add(finding.verdict, hits);
        }
        let hits = self.total.total() - before;
        if hits == 0 {
            return;
        }
        self.records += 1;
        for groups in [&mut self.actors, &mut self.malware, &mut self.techniques] {
            groups.add(finding, &self.window);
        }
        self.add_indicator(finding);
        self.add_program(finding);
        self.add_sources(finding, hits);
    }

    fn add_indicator(&mut self, finding: &Finding) {
        let row = self.indicators.entry(finding.indicator.value.clone()).or_insert_with(|| IndicatorRow {
            indicator: finding.indicator.clone(),
            tally: Tally::default(),
            programs: BTreeSet::new(),
            domains: BTreeSet::new(),
            sources: BTreeSet::new(),
            stands_for: BTreeSet::new(),
        });
        row.tally.add(finding, &self.window);
        row.indicator.clone_from(&finding.indicator);
        remember(&mut row.programs, program(finding));
        remember(&mut row.domains, finding.destination.as_ref().and_then(|destination| destination.domain.as_deref()));
        let listing = std::iter::once(&finding.indicator).chain(&finding.also);
        row.sources.extend(listing.map(|indicator| indicator.source.clone()));
        let attribution = &finding.attribution;
        let names = if attribution.actors.is_empty() { &attribution.malware } else { &attribution.actors };
        row.stands_for.extend(names.iter().cloned());
    }

    fn add_program(&mut self, finding: &Finding) {
        let row = self.programs.entry(program(finding).map(str::to_owned)).or_default();
        row.tally.add(finding, &self.window);
        remember(&mut row.indicators, Some(&finding.indicator.value));
        let Some(process) = &finding.process else { return };
        row.users.extend(user(process));
        row.places.extend(process.unit.clone().or_else(|| process.container.clone()));
    }

    fn add_sources(&mut self, finding: &Finding, hits: u64) {
        let decided = &finding.indicator.source;
        let seconds: BTreeSet<&String> =
            finding.also.iter().map(|other| &other.source).filter(|other| *other != decided).collect();
        let row = self.sources.entry(decided.clone()).or_default();
        row.decided.add(finding.verdict, hits);
        row.indicators.insert(finding.indicator.value.clone());
        if seconds.is_empty() {
            row.alone += hits;
        }
        for second in seconds {
            self.sources.entry(second.clone()).or_default().seconded += hits;
        }
    }

    /// Sums up. `losses` are those of the window, `unread` says what of the journal could not be read.
    #[must_use]
    pub fn finish(self, losses: Vec<Loss>, unread: Vec<String>, popular: &Popular) -> Overview {
        let mut indicators: Vec<IndicatorRow> = self.indicators.into_values().collect();
        indicators.sort_by(|a, b| {
            b.tally.hits().cmp(&a.tally.hits()).then_with(|| a.indicator.value.cmp(&b.indicator.value))
        });
        let mut programs: Vec<_> = self.programs.into_iter().collect();
        programs.sort_by(|(a, of_a), (b, of_b)| of_b.tally.hits().cmp(&of_a.tally.hits()).then_with(|| a.cmp(b)));
        let mut sources: Vec<_> = self.sources.into_iter().collect();
        // The names are in order already, and a stable sort leaves equals so.
        sources.sort_by_key(|(_, row)| std::cmp::Reverse((row.decided.total(), row.seconded)));
        let techniques = self.techniques.rows();
        Overview {
            window: self.window,
            records: self.records,
            total: self.total,
            timeline: self.timeline,
            suspects: suspects(&indicators, popular),
            indicators,
            actors: self.actors.rows(),
            malware: self.malware.rows(),
            programs,
            without_technique: techniques.iter().filter(|row| row.name.is_none()).map(|row| row.tally.hits()).sum(),
            techniques: named(techniques),
            sources,
            losses,
            unread,
        }
    }
}

impl Overview {
    /// When the bucket with the most hits begins, the first of equals, and its hits; `None` without any.
    #[must_use]
    pub fn busiest(&self) -> Option<(Timestamp, u64)> {
        let sums = self.timeline.iter().map(|bucket| bucket.iter().sum::<u64>());
        let (index, hits) = sums.enumerate().max_by_key(|(index, hits)| (*hits, std::cmp::Reverse(*index)))?;
        (hits > 0).then(|| (self.window.start(index), hits))
    }
}

fn user(process: &Process) -> Option<String> {
    process.user.clone().or_else(|| process.uid.map(|uid| uid.to_string()))
}

fn remember(names: &mut BTreeSet<String>, name: Option<&str>) {
    if let Some(name) = name
        && names.len() < REMEMBERED
        && !names.contains(name)
    {
        names.insert(name.to_owned());
    }
}

/// The techniques that are named, most hits first.
fn named(techniques: Vec<Row>) -> Vec<Technique> {
    techniques.into_iter().filter_map(|row| Some(Technique { id: row.name?, hits: row.tally.hits() })).collect()
}

#[cfg(test)]
mod tests;
