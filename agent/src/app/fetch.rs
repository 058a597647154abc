//! The stage that fetches what sources list elsewhere, each at its own pace. It never holds up anything else: a server that is
//! slow or gone only makes its source grow old.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::shared::{Shared, lock, read};
use crate::health::{Fault, Stage};
use crate::http::{Stop, chance};
use crate::intel::Source;
use crate::intel::fetch::{Error, Fetched, State, fetch};

/// Fetches at a time.
const AT_A_TIME: usize = 2;
/// First pause after a failure; it doubles up to the source's interval.
const FIRST_PAUSE: Duration = Duration::from_secs(15);
/// Longest wish of a server that is granted.
const LONGEST_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
/// What has come waits no longer than this for what is still on its way, so that both make one generation.
const GATHER: Duration = Duration::from_secs(5);
/// After a restart, so that a fleet does not ask at once.
const FIRST_DELAY: Duration = Duration::from_secs(30);

/// What is known of the fetching of one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// When a fetch last succeeded.
    pub succeeded: Option<Timestamp>,
    /// When what is kept last changed.
    pub changed: Option<Timestamp>,
    /// When it was last tried.
    pub attempted: Option<Timestamp>,
    /// When it is tried next.
    pub next: Option<Timestamp>,
    /// Whether it is on its way.
    pub running: bool,
    /// In a row.
    pub failures: u32,
    /// Why the last one failed, or what of it could not be used.
    pub error: Option<String>,
}

/// What is known of all of them, by name.
pub type Fetches = Mutex<BTreeMap<String, Progress>>;

/// Asks for sources to be fetched now.
pub struct Wanted {
    /// Their names.
    pub names: BTreeSet<String>,
    /// Told when all of them are done, and what was new is in force.
    pub done: oneshot::Sender<()>,
}

type Done = (Source, Result<Fetched, Error>);

/// The stage.
pub struct Fetching {
    shared: Arc<Shared>,
    wanted: mpsc::Receiver<Wanted>,
    waiting: Vec<Wanted>,
    running: JoinSet<Done>,
    /// By name, on the clock that does not jump; with the source as it was then.
    due: HashMap<String, (Source, Instant)>,
    /// Names of what is new and not in force yet, and since when.
    fresh: Option<(BTreeSet<String>, Instant)>,
    stop: Stopping,
}

/// Tells the threads that fetch to stop when the stage is dropped.
struct Stopping(Stop);

impl Drop for Stopping {
    fn drop(&mut self) {
        self.0.stop();
    }
}

impl Fetching {
    /// Nothing is fetched yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>, wanted: mpsc::Receiver<Wanted>) -> Self {
        Self {
            shared,
            wanted,
            waiting: Vec::new(),
            running: JoinSet::new(),
            due: HashMap::new(),
            fresh: None,
            stop: Stopping(Stop::default()),
        }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// A fetch panicked.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut every_second = interval(Duration::from_secs(1));
        every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = every_second.tick() => {}
                Some(wanted) = self.wanted.recv() => {
                    // So that a source that was only just added is known.
                    self.start_what_is_due();
                    let now = Instant::now();
                    let wanted_now = self.due.iter_mut().filter(|(name, _)| wanted.names.contains(*name));
                    wanted_now.for_each(|(_, (_, due))| *due = now);
                    self.waiting.push(wanted);
                }
                Some(done) = self.running.join_next() => {
                    let (source, result) = done?;
                    self.note(&source, result);
                }
            }
            self.start_what_is_due();
            self.put_in_force().await;
            stage.tick();
        }
    }

    fn start_what_is_due(&mut self) {
        let settings = Arc::clone(&read(&self.shared.settings));
        let sources: Vec<&Source> = settings.sources.iter().filter(|source| source.remote().is_some()).collect();
        self.forget_others(&sources);
        let now = Instant::now();
        for source in sources {
            let due = match self.due.get(&source.name) {
                Some((known, due)) if known == source => *due,
                // New, or another than before.
                _ => {
                    let due = first_due(&self.shared, source);
                    self.due.insert(source.name.clone(), (source.clone(), due));
                    due
                }
            };
            let mut fetches = lock(&self.shared.fetches);
            let progress = fetches.entry(source.name.clone()).or_default();
            if progress.running || due > now || self.running.len() >= AT_A_TIME {
                continue;
            }
            (progress.running, progress.attempted) = (true, Some(Timestamp::now()));
            let (source, stop) = (source.clone(), self.stop.0.clone());
            self.running.spawn_blocking(move || {
                let result = match source.remote() {
                    Some(remote) => fetch(&source, remote, Timestamp::now(), &stop),
                    None => Ok(Fetched::default()),
                };
                (source, result)
            });
        }
    }

    /// Forgets the sources that the settings no longer have.
    fn forget_others(&mut self, sources: &[&Source]) {
        let is_known = |name: &str| sources.iter().any(|source| source.name == name);
        self.due.retain(|name, _| is_known(name));
        lock(&self.shared.fetches).retain(|name, _| {
            let is_known = is_known(name);
            if !is_known {
                self.shared.health.clear(Fault::SourceNotFetched, name);
            }
            is_known
        });
    }

    fn note(&mut self, source: &Source, result: Result<Fetched, Error>) {
        let name = &source.name;
        let health = &self.shared.health;
        let was_stale =
            is_stale(source, Timestamp::now(), lock(&self.shared.fetches).get(name).and_then(|p| p.succeeded));
        let mut fetches = lock(&self.shared.fetches);
        let progress = fetches.entry(name.clone()).or_default();
        progress.running = false;
        if self.due.get(name).is_none_or(|(known, _)| known != source) {
            // The settings changed meanwhile: it is fetched as they now say.
            return;
        }
        let (pause, retry_after) = match result {
            Ok(fetched) => {
                let state = State::read(&source.path);
                (progress.succeeded, progress.changed, progress.failures) = (state.succeeded, state.changed, 0);
                progress.error = refused(&fetched);
                if fetched.is_changed || was_stale {
                    let (names, _) = self.fresh.get_or_insert_with(|| (BTreeSet::new(), Instant::now()));
                    names.insert(name.clone());
                }
                (source.interval(), None)
            }
            Err(error) if error.is_stop() => (source.interval(), None),
            Err(error) => {
                progress.failures = progress.failures.saturating_add(1);
                progress.error = Some(error.to_string());
                let doublings = progress.failures.min(16) - 1;
                ((FIRST_PAUSE * 2_u32.pow(doublings)).min(source.interval()), error.retry_after())
            }
        };
        match &progress.error {
            Some(error) => health.raise(Fault::SourceNotFetched, name, error.clone()),
            None => {
                health.clear(Fault::SourceNotFetched, name);
            }
        }
        // A tenth more or less.
        let pause = pause.mul_f64(0.9 + 0.2 * chance()).max(retry_after.unwrap_or_default().min(LONGEST_PAUSE));
        self.due.insert(name.clone(), (source.clone(), Instant::now() + pause));
        progress.next = Timestamp::now().checked_add(SignedDuration::try_from(pause).unwrap_or_default()).ok();
        drop(fetches);
        self.waiting.iter_mut().for_each(|wanted| {
            wanted.names.remove(name);
        });
    }

    /// Makes one generation of all that is new, and tells those who wait for it.
    async fn put_in_force(&mut self) {
        let is_time = |since: Instant| self.running.is_empty() || since.elapsed() >= GATHER;
        if let Some((names, _)) = self.fresh.take_if(|(_, since)| is_time(*since)) {
            // The fault says it; what is live stays, and what is kept goes into the next.
            let _refused = self.shared.renew(move |source| names.contains(&source.name)).await;
        }
        if self.fresh.is_none() {
            for wanted in self.waiting.extract_if(.., |wanted| wanted.names.is_empty()) {
                // Whoever asked may have gone.
                let _gone = wanted.done.send(());
            }
        }
    }
}

/// When a source is first fetched: at once if it never was, else when its interval is over.
fn first_due(shared: &Shared, source: &Source) -> Instant {
    let state = State::read(&source.path);
    let now = Timestamp::now();
    let left = state.succeeded.map_or(Duration::ZERO, |succeeded| {
        let age = Duration::try_from(now.duration_since(succeeded)).unwrap_or_default();
        source.interval().saturating_sub(age).max(FIRST_DELAY.min(source.interval() / 10).mul_f64(chance()))
    });
    let next = now.checked_add(SignedDuration::try_from(left).unwrap_or_default()).ok();
    let mut fetches = lock(&shared.fetches);
    let progress = fetches.entry(source.name.clone()).or_default();
    let running = progress.running;
    *progress = Progress { succeeded: state.succeeded, changed: state.changed, next, running, ..Progress::default() };
    Instant::now() + left
}

/// Whether a source has gone without a fetch for longer than it may.
pub fn is_stale(source: &Source, now: Timestamp, succeeded: Option<Timestamp>) -> bool {
    stale_from(source, succeeded).is_some_and(|from| from <= now)
}

/// From when on a source is stale if no further fetch succeeds.
pub fn stale_from(source: &Source, succeeded: Option<Timestamp>) -> Option<Timestamp> {
    succeeded?.checked_add(source.stale_after?.duration()).ok()
}

/// What of a fetch could not be used, in one line.
fn refused(fetched: &Fetched) -> Option<String> {
    let first = fetched.refused.first()?;
    Some(match fetched.refused.len() {
        1 => format!("left out: {first}"),
        count => format!("{count} parts left out, the first: {first}"),
    })
}
