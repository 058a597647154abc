//! The stage that hands hits on to journald where the settings ask for it. It reads nothing but the journal, from its own start on: when
//! journald takes nothing for a while, it goes on where it was.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::shared::{Shared, read};
use crate::health::{Fault, Stage};
use crate::journal::{Follow, Followed, Query, Reader};
use crate::report::journald::{Journald, SOCKET};

/// How often the journal is looked at.
const POLL: Duration = Duration::from_millis(500);
/// Parts of the journal handed on in one go: some hundred records each.
const PARTS: usize = 16;

/// The stage.
pub struct ToJournald {
    shared: Arc<Shared>,
    follow: Option<Follow>,
    journald: Option<Journald>,
    /// Read from the journal, and not taken by journald yet.
    waiting: VecDeque<Followed>,
}

impl ToJournald {
    /// Nothing is handed on yet.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { shared, follow: None, journald: None, waiting: VecDeque::new() }
    }

    /// Runs until it is dropped.
    ///
    /// # Errors
    /// None; it is a stage like others.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut often = interval(POLL);
        often.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            often.tick().await;
            if read(&self.shared.settings).journal.journald {
                self.hand_on();
            } else if self.follow.take().is_some() {
                (self.journald, self.waiting) = (None, VecDeque::new());
                self.shared.health.clear(Fault::JournaldFailed, "");
            }
            stage.tick();
        }
    }

    fn hand_on(&mut self) {
        match self.try_hand_on() {
            Ok(()) => {
                self.shared.health.clear(Fault::JournaldFailed, "");
            }
            Err(why) => {
                // A journald that was restarted listens on another socket of the same name.
                self.journald = None;
                self.shared.health.raise(Fault::JournaldFailed, "", why);
            }
        }
    }

    fn try_hand_on(&mut self) -> Result<(), String> {
        let follow = match &mut self.follow {
            Some(follow) => follow,
            none => {
                let reader = Reader::open(&self.shared.places.journal).map_err(|error| error.to_string())?;
                none.insert(reader.follow(&Query::default()).map_err(|error| error.to_string())?)
            }
        };
        for _ in 0..PARTS {
            while let Some(next) = self.waiting.front() {
                let journald = match &self.journald {
                    Some(journald) => journald,
                    None => {
                        let opened = Journald::connect(Path::new(SOCKET));
                        self.journald.insert(opened.map_err(|error| format!("{SOCKET}: {error}"))?)
                    }
                };
                let taken = match next {
                    Followed::Record(finding) => journald.hit(finding),
                    Followed::Loss(loss) => journald.loss(loss),
                };
                match taken {
                    Ok(()) => drop(self.waiting.pop_front()),
                    // It is busy; the rest goes with the next look.
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                    Err(error) => return Err(format!("{SOCKET}: {error}")),
                }
            }
            self.waiting.extend(follow.poll_some().map_err(|error| error.to_string())?);
            if self.waiting.is_empty() {
                break;
            }
        }
        Ok(())
    }
}
