//! What a stretch of the journal comes to: hits by verdict over time, and by what they have in common (pure).

use std::borrow::Cow;
use std::collections::HashMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::attribute::Finding;
use crate::attribute::finding::Verdict;

/// The verdicts in the order in which they are shown.
pub const VERDICTS: [Verdict; 4] = [Verdict::Blocked, Verdict::Killed, Verdict::Reported, Verdict::WouldBlock];

/// A stretch of time, both ends in it, cut into buckets of equal length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    since: Timestamp,
    until: Timestamp,
    buckets: usize,
}

impl Window {
    /// `None` when it would end before it begins or have no bucket.
    #[must_use]
    pub fn new(since: Timestamp, until: Timestamp, buckets: usize) -> Option<Self> {
        (since <= until && buckets > 0).then_some(Self { since, until, buckets })
    }

    /// Its first moment.
    #[must_use]
    pub const fn since(&self) -> Timestamp {
        self.since
    }

    /// Its last moment.
    #[must_use]
    pub const fn until(&self) -> Timestamp {
        self.until
    }

    /// Into how many buckets it is cut.
    #[must_use]
    pub const fn buckets(&self) -> usize {
        self.buckets
    }

    /// Nanoseconds since 1970 at which bucket `index` begins; that of the last and one more is just after the end.
    fn edge(&self, index: usize) -> i128 {
        if index >= self.buckets {
            return self.until.as_nanosecond() + 1;
        }
        // Rounded up: of a window of fewer nanoseconds than buckets some are empty.
        let (length, buckets) = (self.nanoseconds() * index as i128, self.buckets as i128);
        self.since.as_nanosecond() + (length + buckets - 1) / buckets
    }

    fn nanoseconds(&self) -> i128 {
        self.until.as_nanosecond() - self.since.as_nanosecond()
    }

    /// When bucket `index` begins.
    #[must_use]
    pub fn start(&self, index: usize) -> Timestamp {
        Timestamp::from_nanosecond(self.edge(index)).unwrap_or(self.until)
    }

    /// The bucket that holds `moment`, or the nearest.
    fn bucket(&self, moment: i128) -> usize {
        if moment >= self.until.as_nanosecond() {
            return self.buckets - 1;
        }
        let offset = (moment - self.since.as_nanosecond()).max(0);
        usize::try_from(offset * self.buckets as i128 / self.nanoseconds()).unwrap_or(0)
    }

    /// How many of a record's hits fall into which bucket. Of repeats that were folded into it only the last is dated: the
    /// others count as evenly spread between the first and the last.
    pub fn spread(&self, finding: &Finding) -> impl Iterator<Item = (usize, u64)> {
        let hits = Hits::of(finding);
        let (first, last) = (self.bucket(hits.first), self.bucket(hits.last));
        let window = *self;
        (first..=last).filter_map(move |bucket| {
            let count = hits.before(window.edge(bucket + 1)) - hits.before(window.edge(bucket));
            (count > 0).then_some((bucket, count))
        })
    }
}

/// The hits of one record, in nanoseconds since 1970.
#[derive(Clone, Copy)]
struct Hits {
    first: i128,
    last: i128,
    count: u64,
}

impl Hits {
    fn of(finding: &Finding) -> Self {
        let first = finding.time.as_nanosecond();
        Self { first, last: finding.last_time.as_nanosecond().max(first), count: finding.count }
    }

    /// How many came before `moment`: hit `n` of `count` came `n / (count - 1)` of the way from first to last.
    fn before(&self, moment: i128) -> u64 {
        let (since_first, length) = (moment - self.first, self.last - self.first);
        if since_first <= 0 {
            return 0;
        }
        let gaps = i128::from(self.count.saturating_sub(1));
        if since_first > length || gaps == 0 {
            return self.count;
        }
        let passed = since_first.saturating_mul(gaps);
        u64::try_from(passed / length + i128::from(passed % length != 0)).unwrap_or(u64::MAX).min(self.count)
    }
}

/// Hits by what was done about them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Outcomes {
    /// Failed with `EPERM`.
    pub blocked: u64,
    /// Killed before the first instruction.
    pub killed: u64,
    /// Let pass, as the policy says.
    pub reported: u64,
    /// Let pass, because the mode is monitor.
    pub would_block: u64,
}

impl Outcomes {
    /// Those of one verdict.
    #[must_use]
    pub const fn of(&self, verdict: Verdict) -> u64 {
        match verdict {
            Verdict::Blocked => self.blocked,
            Verdict::Killed => self.killed,
            Verdict::Reported => self.reported,
            Verdict::WouldBlock => self.would_block,
        }
    }

    /// All of them.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.blocked + self.killed + self.reported + self.would_block
    }

    /// Adds hits of one verdict.
    pub const fn add(&mut self, verdict: Verdict, hits: u64) {
        match verdict {
            Verdict::Blocked => self.blocked += hits,
            Verdict::Killed => self.killed += hits,
            Verdict::Reported => self.reported += hits,
            Verdict::WouldBlock => self.would_block += hits,
        }
    }
}

/// What hits can have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The value of the indicator that decided
    Indicator,
    /// The host name, else the address
    Dest,
    /// The program that acted
    Exe,
    /// The threat actor
    Actor,
    /// The source whose indicator decided
    Source,
    /// What was done
    Verdict,
    /// The malware or tool
    #[value(skip)]
    Malware,
    /// The ATT&CK technique
    #[value(skip)]
    Technique,
}

impl By {
    /// The names under which `finding` counts; one `None` where it has none.
    fn names(self, finding: &Finding) -> Vec<Option<Cow<'_, str>>> {
        let attribution = &finding.attribution;
        let several = match self {
            Self::Actor => &attribution.actors,
            Self::Malware => &attribution.malware,
            Self::Technique => &attribution.techniques,
            Self::Indicator => return vec![Some(Cow::Borrowed(&finding.indicator.value))],
            Self::Source => return vec![Some(Cow::Borrowed(&finding.indicator.source))],
            Self::Verdict => return vec![Some(Cow::Borrowed(finding.verdict.name()))],
            Self::Exe => return vec![program(finding).map(Cow::Borrowed)],
            Self::Dest => return vec![destination(finding)],
        };
        if several.is_empty() { vec![None] } else { several.iter().map(|name| Some(Cow::Borrowed(&**name))).collect() }
    }
}

/// The program that acted: its path, else its name.
pub(super) fn program(finding: &Finding) -> Option<&str> {
    let process = finding.process.as_ref()?;
    process.exe.as_deref().or(process.comm.as_deref())
}

/// The other end: the host name, else the address.
fn destination(finding: &Finding) -> Option<Cow<'_, str>> {
    let destination = finding.destination.as_ref()?;
    Some(destination.domain.as_deref().map_or_else(|| Cow::Owned(destination.ip.to_string()), Cow::Borrowed))
}

/// What counts under one name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// By verdict.
    pub outcomes: Outcomes,
    /// Over time: hits in each bucket of the window.
    pub buckets: Vec<u64>,
    /// The latest hit in the window, as far as records say.
    pub last: Option<Timestamp>,
}

impl Tally {
    /// Takes in what [`Window::spread`] says of `finding`.
    pub(super) fn add(&mut self, finding: &Finding, window: &Window) {
        self.buckets.resize(window.buckets(), 0);
        for (bucket, hits) in window.spread(finding) {
            self.outcomes.add(finding.verdict, hits);
            self.buckets[bucket] += hits;
        }
        self.last = self.last.max(Some(finding.last_time.min(window.until())));
    }

    /// All hits.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.outcomes.total()
    }
}

/// Hits of one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Row {
    /// `None` for hits that have no such name.
    pub name: Option<String>,
    /// Them.
    #[serde(flatten)]
    pub tally: Tally,
}

/// Hits grouped by something they have in common.
#[derive(Clone, Debug)]
pub struct Groups {
    by: By,
    named: HashMap<String, Tally>,
    unnamed: Tally,
}

impl Groups {
    /// Without any hit.
    #[must_use]
    pub fn new(by: By) -> Self {
        Self { by, named: HashMap::new(), unnamed: Tally::default() }
    }

    /// Takes in a record.
    pub fn add(&mut self, finding: &Finding, window: &Window) {
        for name in self.by.names(finding) {
            let tally = match name {
                None => &mut self.unnamed,
                Some(name) => match self.named.get_mut(&*name) {
                    Some(tally) => tally,
                    None => self.named.entry(name.into_owned()).or_default(),
                },
            };
            tally.add(finding, window);
        }
    }

    /// One row a name, most hits first, equals by name; those without a name last.
    #[must_use]
    pub fn rows(self) -> Vec<Row> {
        let named = self.named.into_iter().map(|(name, tally)| Row { name: Some(name), tally });
        let mut rows: Vec<Row> = named.filter(|row| row.tally.hits() > 0).collect();
        rows.sort_by(|a, b| b.tally.hits().cmp(&a.tally.hits()).then_with(|| a.name.cmp(&b.name)));
        if self.unnamed.hits() > 0 {
            rows.push(Row { name: None, tally: self.unnamed });
        }
        rows
    }
}

#[cfg(test)]
mod tests;
