//! The stage that tells others what was hit here: it folds the journal into the spool, and delivers to each destination at
//! that one's pace. It reads nothing but the journal, and a destination that is slow or gone only makes the spool grow.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::shared::{Shared, lock, read};
use crate::health::{Fault, Stage};
use crate::http::{Stop, chance};
use crate::journal::{Follow, Followed, Query, Reader};
use crate::report::sightings::{Delivered, Destination, Error, Sightings, Spool, Standing, deliver};

/// First pause after a failure; it doubles up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_secs(15);
const LONGEST_PAUSE: Duration = Duration::from_secs(60 * 60);
/// Parts of the journal folded in one go: some hundred records each.
const PARTS: usize = 64;
/// Between two looks at what may be removed from the spool.
const TRIM: Duration = Duration::from_secs(60);

/// How it goes with one destination.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Progress {
    /// What it got, and what it did not.
    #[serde(flatten)]
    pub standing: Standing,
    /// When it last took all that was due.
    pub succeeded: Option<Timestamp>,
    /// When it is tried next.
    pub next: Option<Timestamp>,
    /// In a row.
    pub failures: u32,
    /// Why the last delivery failed, or what of it was refused.
    pub error: Option<String>,
}

/// By name.
pub type Told = Mutex<BTreeMap<String, Progress>>;

type Done = (String, Result<Delivered, Error>, Standing);

/// The stage.
pub struct Sharing {
    shared: Arc<Shared>,
    spool: Option<Arc<Spool>>,
    follow: Option<Follow>,
    /// As they were when the spool was judged by them.
    sightings: Option<Sightings>,
    running: JoinSet<Done>,
    busy: HashSet<String>,
    due: HashMap<String, Instant>,
    trimmed: Option<Instant>,
    stop: Stopping,
}

/// Tells the threads that deliver to stop when the stage is dropped.
struct Stopping(Stop);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Sharing {
    /// Nobody is told anything yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            spool: None,
            follow: None,
            sightings: None,
            running: JoinSet::new(),
            busy: HashSet::new(),
            due: HashMap::new(),
            trimmed: None,
            stop: Stopping(Stop::default()),
        }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// A delivery panicked.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut every_second = interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every_second.tick() => self.look().await?,
                Some(done) = self.running.join_next() => self.note(done?),
            }
            stage.tick();
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let Some(sightings) = read(&self.shared.settings).sightings.clone() else {
            self.forget();
            return Ok(());
        };
        if let Err(error) = self.follow_settings(&sightings) {
            self.shared.health.raise(Fault::SightingsNotKept, "", format!("{error:#}"));
            return Ok(());
        }
        match self.fold(&sightings).await? {
            Ok(()) => {
                self.shared.health.clear(Fault::SightingsNotKept, "");
            }
            Err(error) => self.shared.health.raise(Fault::SightingsNotKept, "", format!("{error:#}")),
        }
        self.start_what_is_due(&sightings);
        Ok(())
    }

    /// Opens the spool, and judges anew what it keeps back when the settings are others.
    fn follow_settings(&mut self, sightings: &Sightings) -> anyhow::Result<()> {
        if self.spool.is_none() {
            self.spool = Some(Arc::new(Spool::open(&self.shared.places.state.join("sightings.sqlite"))?));
        }
        if self.sightings.as_ref() != Some(sightings)
            && let Some(spool) = &self.spool
        {
            spool.judge_anew()?;
            self.sightings = Some(sightings.clone());
            self.due.clear();
            lock(&self.shared.told).retain(|name, _| {
                let is_known = sightings.to.iter().any(|to| to.name == *name);
                if !is_known {
                    self.shared.health.clear(Fault::SightingsNotDelivered, name);
                }
                is_known
            });
        }
        Ok(())
    }

    /// Nobody is named any more: what is in the spool stays there.
    fn forget(&mut self) {
        if self.spool.take().is_some() {
            (self.follow, self.sightings) = (None, None);
            for name in std::mem::take(&mut *lock(&self.shared.told)).keys() {
                self.shared.health.clear(Fault::SightingsNotDelivered, name);
            }
        }
    }

    /// Takes what is new in the journal into the spool, a bounded part of it.
    async fn fold(&mut self, sightings: &Sightings) -> anyhow::Result<anyhow::Result<()>> {
        let Some(spool) = self.spool.clone() else { return Ok(Ok(())) };
        let (directory, follow) = (self.shared.places.journal.clone(), self.follow.take());
        let (window, health) = (sightings.window, self.shared.health.clone());
        let names: Vec<String> = sightings.to.iter().map(|to| to.name.clone()).collect();
        let is_time = self.trimmed.is_none_or(|last| last.elapsed() >= TRIM);
        let folded = spawn_blocking(move || {
            let mut follow = match follow {
                Some(follow) => follow,
                None => {
                    let reader = Reader::open(&directory)?;
                    let follow = match spool.cursor()? {
                        Some(cursor) => reader.follow_from(&Query::default(), cursor)?,
                        None => {
                            // What happened before anybody was to be told is not told.
                            let follow = reader.follow(&Query::default())?;
                            spool.fold(&[], follow.cursor(), window, Timestamp::now())?;
                            follow
                        }
                    };
                    health.counter("sightings.gaps").add(u64::from(follow.has_gap()));
                    follow
                }
            };
            for _ in 0..PARTS {
                let followed = follow.poll_some()?;
                if followed.is_empty() {
                    break;
                }
                let findings: Vec<_> = followed
                    .into_iter()
                    .filter_map(|followed| match followed {
                        Followed::Record(finding) => Some(*finding),
                        Followed::Loss(_) => None,
                    })
                    .collect();
                spool.fold(&findings, follow.cursor(), window, Timestamp::now())?;
            }
            if is_time {
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let dropped = spool.trim(&names, window, Timestamp::now())?;
                health.counter("sightings.dropped").add(dropped);
            }
            anyhow::Ok(follow)
        });
        if is_time {
            self.trimmed = Some(Instant::now());
        }
        Ok(folded.await?.map(|follow| self.follow = Some(follow)))
    }

    fn start_what_is_due(&mut self, sightings: &Sightings) {
        let Some(spool) = &self.spool else { return };
        let now = Instant::now();
        for destination in &sightings.to {
            let is_due = self.due.get(&destination.name).is_none_or(|due| *due <= now);
            if !is_due || !self.busy.insert(destination.name.clone()) {
                continue;
            }
            let (spool, stop) = (Arc::clone(spool), self.stop.0.clone());
            let (sightings, destination) = (sightings.clone(), destination.clone());
            self.running.spawn_blocking(move || {
                let result = deliver(&spool, &sightings, &destination, Timestamp::now(), &stop);
                let standing = spool.standing(&destination.name).unwrap_or_default();
                (destination.name, result, standing)
            });
        }
    }

    fn note(&mut self, (name, result, standing): Done) {
        self.busy.remove(&name);
        let Some(pace) = self.pace_of(&name) else { return };
        let mut told = lock(&self.shared.told);
        let progress = told.entry(name.clone()).or_default();
        progress.standing = standing;
        let (pause, retry_after) = match result {
            Ok(delivered) => {
                progress.error = delivered.refused.first().map(|first| format!("refused: {first}"));
                (progress.succeeded, progress.failures) = (Some(Timestamp::now()), 0);
                (pace, None)
            }
            Err(error) if error.is_stop() => (pace, None),
            Err(error) => {
                progress.failures = progress.failures.saturating_add(1);
                progress.error = Some(error.to_string());
                let doublings = progress.failures.min(16) - 1;
                ((FIRST_PAUSE * 2_u32.pow(doublings)).min(LONGEST_PAUSE).max(pace), error.retry_after())
            }
        };
        match &progress.error {
            Some(error) => self.shared.health.raise(Fault::SightingsNotDelivered, &name, error.clone()),
            None => {
                self.shared.health.clear(Fault::SightingsNotDelivered, &name);
            }
        }
        let pause = pause.mul_f64(0.9 + 0.2 * chance()).max(retry_after.unwrap_or_default().min(LONGEST_PAUSE));
        progress.next = Timestamp::now().checked_add(SignedDuration::try_from(pause).unwrap_or_default()).ok();
        drop(told);
        self.due.insert(name, Instant::now() + pause);
    }

    fn pace_of(&self, name: &str) -> Option<Duration> {
        let sightings = self.sightings.as_ref()?;
        sightings.to.iter().find(|to| to.name == name).map(|Destination { interval, .. }| *interval)
    }
}
