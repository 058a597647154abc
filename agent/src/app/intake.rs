//! Sources, local rules and the clock → one generation, ready to be published.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use agent_common::image::Seed;
use anyhow::Context;
use jiff::Timestamp;

use super::fetch::{is_stale, stale_from};
use super::operator::Operator;
use super::orders::StandingOrders;
use super::own_files::OwnFiles;
use super::shared::lock;
use crate::health::{Fault, Health};
use crate::host::{DPKG_INFO, network_identity};
use crate::intel::fetch::State;
use crate::intel::packed::{Damaged, Held, HeldSkips};
use crate::intel::source::{self, Kept, Load};
use crate::intel::{Action, Indicator, Indicators, Skips, Source, normalise};
use crate::policy::document::BUNDLED;
use crate::policy::{self, Central, LocalAction, NeverBlock, RuledValues, Rules, Supply, WarningList};
use crate::settings::{Places, Settings};
use crate::tables::Compilation;

/// What is known of one source.
#[derive(Debug)]
pub struct Supplier {
    /// As the settings say, or made up for a file in the watched directory.
    pub source: Source,
    /// The last good set.
    pub good: Option<GoodSet>,
    /// Why the latest reading was not used.
    pub error: Option<String>,
    /// Outcome of its indicators in the live generation.
    pub outcome: policy::Outcome,
    /// Values left out by the policy in the live generation.
    pub skipped: HeldSkips,
    /// Which set of the ruling it is.
    set: Option<usize>,
}

impl Supplier {
    fn new(source: Source, good: Option<GoodSet>, error: Option<String>) -> Self {
        let (outcome, skipped) = (policy::Outcome::default(), HeldSkips::default());
        Self { source, good, error, outcome, skipped, set: None }
    }
}

/// What a source said when it was last good. It is in memory while a generation is made, and then in that generation's file.
#[derive(Debug)]
pub struct GoodSet {
    /// When it was read.
    pub loaded_at: Timestamp,
    /// How many files it was read from.
    pub files: usize,
    /// Indicators in them.
    pub read: u64,
    /// Those that can be used as far as their format says.
    indicators: Held,
    /// Those that cannot.
    pub skipped: HeldSkips,
}

impl Supplier {
    /// Its indicators, while they are in memory.
    fn indicators(&self) -> Option<&Arc<Indicators>> {
        match &self.good.as_ref()?.indicators {
            Held::Here(indicators) => Some(indicators),
            Held::Elsewhere(_) => None,
        }
    }
}

impl GoodSet {
    fn of(load: Load) -> Self {
        Self {
            loaded_at: load.loaded_at,
            files: load.files.len(),
            read: load.read,
            indicators: Held::Here(load.indicators),
            skipped: HeldSkips::Here(load.skipped),
        }
    }

    /// Brings it back into memory.
    fn recall(&mut self) -> Result<(), Damaged> {
        self.indicators = Held::Here(self.indicators.resident()?);
        self.skipped = HeldSkips::Here(self.skipped.resident()?.into_owned());
        Ok(())
    }
}

/// All sources with what they gave.
#[derive(Debug)]
pub struct Intake {
    settings: Arc<Settings>,
    places: Places,
    health: Health,
    kept: Kept,
    central: Option<Arc<Central>>,
    suppliers: Vec<Supplier>,
}

/// A generation that is decided but not yet in the kernel.
pub struct Prepared {
    /// To be written into the kernel's map.
    pub compilation: Compilation,
    /// When the ruling would next come out differently.
    pub next_change: Option<Timestamp>,
}

impl Intake {
    /// No source has been read yet.
    #[must_use]
    pub fn new(settings: Arc<Settings>, places: Places, health: Health, central: Option<Arc<Central>>) -> Self {
        let kept = Kept::new(places.sources());
        Self { settings, places, health, kept, central, suppliers: Vec::new() }
    }

    /// The sources, as the settings and the watched directory now have them.
    #[must_use]
    pub fn suppliers(&self) -> &[Supplier] {
        &self.suppliers
    }

    /// Everything that is to be watched for changes.
    #[must_use]
    pub fn watched(&self) -> Vec<PathBuf> {
        let mut paths = vec![self.places.intel.clone()];
        // What is fetched changes by our own hand, which says so.
        let local = self.settings.sources.iter().filter(|source| source.remote().is_none());
        paths.extend(local.map(|source| source.path.clone()));
        paths.extend(self.settings.never_block.warninglists.iter().cloned());
        paths
    }

    /// Goes on with other settings; what was read from sources that stay is kept.
    pub fn resettle(&mut self, settings: Arc<Settings>) {
        self.settings = settings;
    }

    /// The organisation's policy that the next generation is made under.
    #[must_use]
    pub fn central(&self) -> Option<&Arc<Central>> {
        self.central.as_ref()
    }

    /// Puts another one in its place; the one before.
    pub fn replace_central(&mut self, central: Option<Arc<Central>>) -> Option<Arc<Central>> {
        std::mem::replace(&mut self.central, central)
    }

    /// Reads every source that `wanted` accepts, and forgets those that are gone. A source that cannot be read keeps its last
    /// good set, be it from before this agent started, and raises a fault.
    pub fn read(&mut self, now: Timestamp, wanted: impl Fn(&Source) -> bool) {
        let mut old: BTreeMap<String, Supplier> =
            std::mem::take(&mut self.suppliers).into_iter().map(|known| (known.source.name.clone(), known)).collect();
        for source in self.sources() {
            let mut known = old.remove(&source.name).filter(|known| known.source.path == source.path);
            let is_current = known.as_ref().is_some_and(|known| known.source == source) && !wanted(&source);
            let good = known.as_mut().and_then(|known| known.good.take());
            let supplier = match (known, good) {
                (Some(known), Some(good)) if is_current => match self.recalled(&source, good) {
                    Some(good) => Supplier { good: Some(good), ..known },
                    None => self.read_one(source, None, now),
                },
                (_, good) => self.read_one(source, good, now),
            };
            self.suppliers.push(supplier);
        }
        for gone in old.keys() {
            for fault in [
                Fault::SourceInvalid,
                Fault::SourceUnreadable,
                Fault::SourceNotKept,
                Fault::SourceStale,
                Fault::GenerationNotKept,
            ] {
                self.health.clear(fault, gone);
            }
        }
        let kept = self.kept.keep_only(self.suppliers.iter().map(|supplier| &supplier.source));
        self.note(Fault::SourceNotKept, "", kept.err().map(|error| error.to_string()));
    }

    /// What a source said, brought back into memory; what cannot be read is forgotten, and read from the source again.
    fn recalled(&self, source: &Source, mut good: GoodSet) -> Option<GoodSet> {
        let recalled = good.recall();
        self.note(Fault::GenerationNotKept, &source.name, recalled.err().map(|error| error.to_string()));
        recalled.is_ok().then_some(good)
    }

    fn note(&self, fault: Fault, subject: &str, detail: Option<String>) {
        match detail {
            Some(detail) => self.health.raise(fault, subject, detail),
            None => {
                self.health.clear(fault, subject);
            }
        }
    }

    fn read_one(&self, source: Source, last_good: Option<GoodSet>, now: Timestamp) -> Supplier {
        if source.remote().is_some() && !source.path.exists() {
            // Not fetched yet: the stage that fetches says why, if it cannot.
            return Supplier::new(source, None, None);
        }
        let read = source::load(&source, now);
        let is_whole = read.as_ref().is_ok_and(|load| load.refused.is_empty());
        let recalled = || last_good.and_then(|good| self.recalled(&source, good));
        let last_good = if is_whole { None } else { recalled().or_else(|| self.last_time(&source)) };
        let (good, error) = match read {
            Ok(load) => {
                // What is fetched, or came with the policy, is a copy already.
                if source.remote().is_none() && !source.name.starts_with(BUNDLED) {
                    let kept = self.kept.keep(&load);
                    self.note(Fault::SourceNotKept, &source.name, kept.err().map(|error| error.to_string()));
                }
                let refused: Vec<String> = load.refused.iter().map(|refused| refused.error.to_string()).collect();
                let good = GoodSet::of(carry_over(load, last_good));
                (Some(good), (!refused.is_empty()).then(|| refused.join("; ")))
            }
            Err(error) => (last_good, Some(error.error.to_string())),
        };
        let is_there = source.path.exists();
        self.note(Fault::SourceInvalid, &source.name, error.clone().filter(|_| is_there));
        self.note(Fault::SourceUnreadable, &source.name, error.clone().filter(|_| !is_there));
        Supplier::new(source, good, error)
    }

    /// What a source said to an agent before this one.
    fn last_time(&self, source: &Source) -> Option<GoodSet> {
        match self.kept.load(source) {
            Ok(load) => load.map(GoodSet::of),
            Err(error) => {
                self.note(Fault::SourceNotKept, &source.name, Some(error.error.to_string()));
                None
            }
        }
    }

    /// The sources of the settings, those that came with the policy, and one for each file or directory of the watched directory that none of them covers: a
    /// broken file there disarms nothing but itself.
    fn sources(&self) -> Vec<Source> {
        let mut sources = self.settings.sources.clone();
        sources.extend(self.central.iter().flat_map(|central| central.sources().to_vec()));
        let mut dropped: Vec<PathBuf> =
            fs::read_dir(&self.places.intel).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
        dropped.sort();
        for path in dropped {
            let is_covered = self
                .settings
                .sources
                .iter()
                .any(|source| path.starts_with(&source.path) || source.path.starts_with(&path));
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if is_covered || name.starts_with('.') || name.ends_with('~') {
                continue;
            }
            let mut name: String =
                name.chars().map(|c| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' }).collect();
            if name.starts_with(BUNDLED) {
                name.insert(0, '_');
            }
            while sources.iter().any(|source| source.name == name) {
                name.push('_');
            }
            sources.push(Source::new(name, path));
        }
        sources
    }

    /// Rules on all that was read and compiles it.
    ///
    /// # Errors
    /// A never-block value or warning list that cannot be read, or too many entries for one image.
    pub fn prepare(
        &mut self,
        operator: &Operator,
        orders: &StandingOrders,
        own_files: &Mutex<OwnFiles>,
        now: Timestamp,
        generation: u32,
        seed: Seed,
    ) -> anyhow::Result<Prepared> {
        let mut rules = self.rules(operator, orders, now)?;
        if self.settings.never_block.packages {
            let sets = self.suppliers.iter().filter_map(Supplier::indicators);
            match lock(own_files).among(sets.map(AsRef::as_ref)) {
                Ok(own_files) => {
                    rules.own_files = own_files;
                    self.health.clear(Fault::OwnFilesUnknown, DPKG_INFO);
                }
                Err(error) => self.health.raise(Fault::OwnFilesUnknown, DPKG_INFO, error.to_string()),
            }
        }
        let mut whole = policy::rule(&[], &rules, now);
        // Ruled on one by one, so that each source's outcome is known; local blocks are in already.
        rules.local.retain(|rule| rule.action == LocalAction::Allow);
        for supplier in &mut self.suppliers {
            supplier.set = None;
            let Some(indicators) = supplier.indicators() else { continue };
            let (by_age, turns_stale) = most_by_age(&supplier.source, now, &self.health);
            let by_lease = rules.central.as_ref().map_or(Action::Block, |central| central.most_of(&supplier.source));
            let supply = Supply { source: &supplier.source, indicators, at_most: by_age.min(by_lease) };
            let ruling = policy::rule(&[supply], &rules, now);
            whole.next_change = [whole.next_change, turns_stale].into_iter().flatten().min();
            supplier.outcome = ruling.outcome;
            supplier.skipped = HeldSkips::Here(ruling.skipped);
            whole.ruled.append(ruling.ruled);
            // The last is the source's: local rules come before.
            supplier.set = whole.ruled.sets.len().checked_sub(1);
            whole.exceptions.extend(ruling.exceptions);
            whole.next_change = [whole.next_change, ruling.next_change].into_iter().flatten().min();
        }
        whole.exceptions.sort();
        whole.exceptions.dedup();
        let next_change = whole.next_change;
        Ok(Prepared { compilation: Compilation::new(whole, generation, seed)?, next_change })
    }

    /// What was skipped of each source, by it and by the policy, for [`Self::settle`] in the same order.
    #[must_use]
    pub fn skips(&self) -> Vec<&Skips> {
        let mut all = Vec::new();
        for supplier in &self.suppliers {
            for held in [supplier.good.as_ref().map(|good| &good.skipped), Some(&supplier.skipped)] {
                all.push(match held {
                    Some(HeldSkips::Here(skips)) => skips,
                    _ => const { &Skips::EMPTY },
                });
            }
        }
        all
    }

    /// Lets go of what is now in the file of a generation.
    pub fn settle(&mut self, ruled: &RuledValues, skips: Vec<HeldSkips>) {
        let mut skips = skips.into_iter();
        for supplier in &mut self.suppliers {
            let (read, by_policy) = (skips.next().unwrap_or_default(), skips.next().unwrap_or_default());
            supplier.skipped = by_policy;
            let held = supplier.set.and_then(|set| ruled.sets.get(set));
            if let (Some(good), Some(held)) = (&mut supplier.good, held) {
                (good.indicators, good.skipped) = (held.clone(), read);
            }
        }
    }

    fn rules(&self, operator: &Operator, orders: &StandingOrders, now: Timestamp) -> anyhow::Result<Rules> {
        let never = &self.settings.never_block;
        let mut never_block = NeverBlock::default();
        for value in &never.values {
            let known = normalise::any(value);
            never_block
                .insert(known.with_context(|| format!("never_block: `{value}` is no address, prefix or domain"))?);
        }
        if never.host {
            let own = network_identity();
            for address in own.resolvers.iter().chain(&own.gateways).chain(&own.own) {
                never_block.insert(normalise::address(&address.to_string())?);
            }
            // What took these away could not be taken back by them.
            for host in self.settings.upstreams() {
                if let Ok(value) = normalise::address(&host).or_else(|_| normalise::domain(&host)) {
                    never_block.insert(value);
                }
            }
        }
        if let Some(central) = &self.central {
            for value in central.document().passing() {
                never_block.insert(value);
            }
        }
        let mut warning_lists = Vec::new();
        for path in &never.warninglists {
            for file in files_of(path).with_context(|| format!("never_block.warninglists: {}", path.display()))? {
                warning_lists.push(WarningList::parse(&file.to_string_lossy(), &fs::read(&file)?)?);
            }
        }
        let mut local = operator.rules();
        if let Some(central) = &self.central {
            // What this host's own operator decided about a value stays so.
            let ordered = orders.rules(central, now).into_iter();
            let mut ordered: Vec<_> =
                ordered.filter(|order| local.iter().all(|rule| rule.observable != order.observable)).collect();
            local.append(&mut ordered);
        }
        Ok(Rules {
            never_block,
            warning_lists,
            local,
            central: self.central.clone(),
            min_prefix_v4: never.min_prefix_v4,
            min_prefix_v6: never.min_prefix_v6,
            allow_popular_domains: !never.popular_domains,
            own_files: policy::OwnFiles::default(),
        })
    }
}

/// The most that is done about a source, which only reports if no fetch has succeeded for too long; and when it will come to that.
fn most_by_age(source: &Source, now: Timestamp, health: &Health) -> (Action, Option<Timestamp>) {
    let succeeded = source.stale_after.and_then(|_| State::read(&source.path).succeeded);
    let turns_stale = stale_from(source, succeeded);
    if !is_stale(source, now, succeeded) {
        health.clear(Fault::SourceStale, &source.name);
        return (Action::Block, turns_stale);
    }
    let detail = format!("last fetched {}", succeeded.map_or_else(|| "never".to_owned(), |time| time.to_string()));
    health.raise(Fault::SourceStale, &source.name, detail);
    (Action::Report, None)
}

/// The file itself, or the JSON files of a directory.
fn files_of(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// A file that was good and is now refused keeps in force what it said when it was good.
fn carry_over(mut load: Load, last_good: Option<GoodSet>) -> Load {
    let last_good = last_good.filter(|_| !load.refused.is_empty());
    let Some(last_good) = last_good.and_then(|good| good.indicators.resident().ok()) else { return load };
    let refused: Vec<_> = load.refused.iter().map(|refused| refused.file.to_string_lossy()).collect();
    let is_kept = |indicator: &Indicator| refused.iter().any(|name| *indicator.origin.file == **name);
    let kept: Indicators = last_good.iter().filter(is_kept).collect();
    if load.indicators.fits(&kept) {
        load.read += kept.len() as u64;
        Arc::make_mut(&mut load.indicators).append(kept);
    } else {
        let (source, indicators) = (&load.source.name, kept.len());
        tracing::error!(source, indicators, "there is no room for what its refused files said before");
    }
    load
}
