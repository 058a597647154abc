//! Which indicators may be false positives (pure). The page states the rules as [`Reason`] gives them.

use std::collections::BTreeSet;

use super::overview::IndicatorRow;
use crate::policy::Popular;

/// From so many programs on one value is hit by "many".
const MANY_PROGRAMS: usize = 4;
/// From so many host names below different registered domains on an address is shared by "many".
const MANY_SITES: usize = 4;
/// Confidence below this, of 100, is low.
const LOW_CONFIDENCE: u8 = 50;
/// From so many hits on a low confidence is worth a look.
const MANY_HITS: u64 = 10;

/// Why an indicator may be a false positive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Many different programs hit it.
    ManyPrograms(usize),
    /// A host name that led to it, or the value itself, is a popular site.
    Popular(&'static str),
    /// Many unrelated host names led to the one address.
    SharedAddress(usize),
    /// Its publisher is not sure, and it is hit often.
    LowConfidence(u8),
}

impl Reason {
    /// The rules, as the page states them.
    pub const RULES: [&str; 4] = [
        "4 or more different programs hit it: malware is one program, shared infrastructure is used by many",
        "it is, or was reached under, the name of one of the popular sites that Cordon knows",
        "4 or more unrelated host names led to the one address: shared hosting",
        "its publisher's confidence is below 50 of 100, and it was hit 10 times or more",
    ];

    /// In words.
    #[must_use]
    pub fn words(&self) -> String {
        match self {
            Self::ManyPrograms(programs) => format!("hit by {programs} different programs"),
            Self::Popular(site) => format!("is the popular site {site}"),
            Self::SharedAddress(sites) => format!("{sites} unrelated sites on one address"),
            Self::LowConfidence(confidence) => format!("confidence {confidence} of 100, hit often"),
        }
    }
}

/// An indicator with what speaks against it.
#[derive(Clone, Debug)]
pub struct Suspect {
    /// Its value.
    pub value: String,
    /// Whose.
    pub source: String,
    /// Its hits.
    pub hits: u64,
    /// At least one.
    pub reasons: Vec<Reason>,
}

/// Those of `indicators` that a rule speaks against: most reasons first, then as they come.
pub(super) fn suspects(indicators: &[IndicatorRow], popular: &Popular) -> Vec<Suspect> {
    let mut found: Vec<Suspect> = indicators
        .iter()
        .map(|row| Suspect {
            value: row.indicator.value.clone(),
            source: row.indicator.source.clone(),
            hits: row.tally.hits(),
            reasons: reasons(row, popular),
        })
        .filter(|suspect| !suspect.reasons.is_empty())
        .collect();
    found.sort_by_key(|suspect| std::cmp::Reverse(suspect.reasons.len()));
    found
}

fn reasons(row: &IndicatorRow, popular: &Popular) -> Vec<Reason> {
    let many_programs = (row.programs.len() >= MANY_PROGRAMS).then_some(Reason::ManyPrograms(row.programs.len()));
    let names = row.domains.iter().chain((row.indicator.kind == "domain").then_some(&row.indicator.value));
    let popular = names.into_iter().find_map(|name| popular.site(name)).map(Reason::Popular);
    let sites: BTreeSet<&[u8]> = row.domains.iter().map(|name| registered(name)).collect();
    let is_address = matches!(row.indicator.kind.as_str(), "ipv4" | "ipv6" | "endpoint");
    let shared = (is_address && sites.len() >= MANY_SITES).then_some(Reason::SharedAddress(sites.len()));
    let low = row.indicator.confidence.filter(|confidence| *confidence < LOW_CONFIDENCE);
    let low = low.filter(|_| row.tally.hits() >= MANY_HITS).map(Reason::LowConfidence);
    [many_programs, popular, shared, low].into_iter().flatten().collect()
}

/// What somebody registered, of a host name; all of it where no suffix is known.
fn registered(name: &str) -> &[u8] {
    psl::domain(name.as_bytes()).map_or(name.as_bytes(), |domain| domain.as_bytes())
}
