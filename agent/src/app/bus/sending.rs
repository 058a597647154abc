//! The stage that sends records to the organisation. The journal is what they wait in: it is followed from where the bus last took
//! something, and nothing here is ever waited for.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::spawn_blocking;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use crate::app::operator;
use crate::app::shared::{Shared, lock, read};
use crate::attribute::Finding;
use crate::fleet;
use crate::health::{Fault, Health, Stage};
use crate::journal::{Cursor, Follow, Followed, JournalError, Query, Reader};

/// How often the journal is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// Records are gone, which is told until somebody has seen it.
const GAP: &str = "";
/// The journal cannot be read; of the fault's subjects.
const JOURNAL: &str = "the journal";
/// The place is not kept.
const PLACE: &str = "the place";
/// After a failure.
const PAUSE: Duration = Duration::from_secs(5);

/// The stage.
pub struct Sending {
    shared: Arc<Shared>,
    follow: Option<Follow>,
}

impl Sending {
    /// Nothing is sent yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, follow: None }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// Reading the journal panicked.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut often = interval(LOOK);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut again = Instant::now();
        loop {
            often.tick().await;
            stage.tick();
            let is_wanted = read(&self.shared.settings).bus.as_ref().is_some_and(|bus| bus.findings);
            if !is_wanted {
                self.follow = None;
                continue;
            }
            if again > Instant::now() {
                continue;
            }
            // As many as there are, but letting others see that this is alive.
            while let Some(more) = self.send_some().await? {
                stage.tick();
                if !more {
                    break;
                }
                sleep(Duration::ZERO).await;
            }
            if self.follow.is_none() {
                again = Instant::now() + PAUSE;
            }
        }
    }

    /// Sends the next part of the journal: whether there may be more; `None` if it could not be sent.
    async fn send_some(&mut self) -> anyhow::Result<Option<bool>> {
        let path = place(&self.shared.places.state);
        let journal = self.shared.places.journal.clone();
        let known = self.follow.take();
        let health = self.shared.health.clone();
        let polled = spawn_blocking(move || {
            let mut follow = match known {
                Some(follow) => follow,
                None => begin(&journal, &path, &health)?,
            };
            let followed = follow.poll_some()?;
            anyhow::Ok((follow, followed))
        });
        let polled = polled.await?;
        self.note(JOURNAL, polled.as_ref().err());
        let Ok((follow, followed)) = polled else { return Ok(None) };
        if followed.is_empty() {
            self.follow = Some(follow);
            return Ok(Some(false));
        }
        let findings: Vec<Finding> = followed
            .into_iter()
            .filter_map(|followed| match followed {
                Followed::Record(finding) => Some(*finding),
                Followed::Loss(_) => None,
            })
            .collect();
        let (bus, host) = {
            let attachment = lock(&self.shared.bus);
            (attachment.bus(), attachment.host.clone())
        };
        // What was not taken is read again from the journal, from the cursor that is kept.
        let Some(bus) = bus else { return Ok(None) };
        if let Err(error) = fleet::send(&bus, &host, &findings).await {
            self.shared.health.raise(Fault::BusNotReached, "findings", error.to_string());
            return Ok(None);
        }
        self.shared.health.clear(Fault::BusNotReached, "findings");
        self.note(PLACE, operator::write(&place(&self.shared.places.state), &follow.cursor()).err().as_ref());
        lock(&self.shared.bus).sent += findings.len() as u64;
        self.follow = Some(follow);
        Ok(Some(true))
    }

    fn note(&self, subject: &str, error: Option<&anyhow::Error>) {
        match error {
            Some(error) => self.shared.health.raise(Fault::FindingsNotSent, subject, format!("{error:#}")),
            None => {
                self.shared.health.clear(Fault::FindingsNotSent, subject);
            }
        }
    }
}

/// Where it is kept how far records were sent.
fn place(state: &Path) -> PathBuf {
    state.join("findings.json")
}

/// The journal from where it was last sent; from its end when nothing ever was: what happened before is not told.
fn begin(journal: &Path, path: &Path, health: &Health) -> anyhow::Result<Follow> {
    let reader = Reader::open(journal)?;
    let cursor: Option<Cursor> = operator::read(path)?;
    let follow = match cursor {
        Some(cursor) => reader.follow_from(&Query::default(), cursor),
        None => reader.follow(&Query::default()),
    };
    let follow = follow.map_err(|error: JournalError| anyhow::Error::from(error))?;
    if cursor.is_none() {
        operator::write(path, &follow.cursor())?;
    }
    if follow.has_gap() {
        health.counter("findings.gaps").add(1);
        let detail = "the journal gave up records before they were sent".to_owned();
        health.raise(Fault::FindingsNotSent, GAP, detail);
    }
    Ok(follow)
}
