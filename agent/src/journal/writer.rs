//! The stage that writes the journal, on a thread of its own: detection hands over and goes on.
//!
//! What waits in the queue when the thread looks is one batch and one sync, so that batches grow with the load and a lone hit
//! is on disk at once.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::mirror::{Mirror, MirrorSettings};
use super::{Entry, Journal, JournalError, Loss, LossReason};
use crate::health::{Fault, Health, Stage};

/// Name of the stage and of its thread.
pub const STAGE: &str = "journal";
/// Entries that may wait. At some 2 KiB each this bounds the memory of the queue to 32 MiB.
pub const QUEUE: usize = 16 << 10;
/// Entries of one batch.
const BATCH: usize = 1024;
/// How often an idle writer says that it is alive.
const TICK: Duration = Duration::from_secs(1);
/// How often old segments are looked for.
const RETAIN: Duration = Duration::from_secs(60);

enum Message {
    Entry(Entry),
    Flush(oneshot::Sender<()>),
    Stop,
}

/// Losses that are not in the journal yet. Kept apart from the queue, because the queue being full is one of their reasons.
#[derive(Clone, Default)]
struct PendingLosses(Arc<Mutex<BTreeMap<LossReason, Loss>>>);

impl PendingLosses {
    fn add(&self, loss: Loss) {
        let mut pending = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pending
            .entry(loss.reason)
            .and_modify(|known| {
                known.count = known.count.saturating_add(loss.count);
                known.from = known.from.min(loss.from);
                known.to = known.to.max(loss.to);
            })
            .or_insert(loss);
    }

    fn take(&self) -> Vec<Loss> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).into_values().collect()
    }
}

/// Where hits are handed over; clones lead to the same writer.
#[derive(Clone)]
pub struct Sink {
    queue: mpsc::Sender<Message>,
    losses: PendingLosses,
    health: Health,
}

/// Whether an entry was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use = "a refused entry is counted, but the caller may know a better place for it"]
pub enum Offered {
    /// It will be written.
    Taken,
    /// The queue is full or the writer has ended; its hits are counted as lost.
    Refused,
}

impl Sink {
    /// Hands an entry over and never waits.
    pub fn offer(&self, entry: Entry) -> Offered {
        let Err(refused) = self.queue.try_send(Message::Entry(entry)) else { return Offered::Taken };
        let reason = match refused {
            mpsc::error::TrySendError::Full(_) => LossReason::QueueFull,
            mpsc::error::TrySendError::Closed(_) => LossReason::WriteFailed,
        };
        if let Message::Entry(entry) = refused.into_inner() {
            if reason == LossReason::QueueFull {
                self.health.raise(Fault::JournalOverrun, "", "the writer's queue is full");
            }
            self.lost(reason, entry.hits());
        }
        Offered::Refused
    }

    /// Says that `count` hits were lost just now, here or before they could be offered. `cordon log` will show it.
    pub fn lost(&self, reason: LossReason, count: u64) {
        let now = Timestamp::now();
        self.lost_between(Loss { reason, count, from: now, to: now });
    }

    /// As [`Sink::lost`], where it is known since when.
    pub fn lost_between(&self, loss: Loss) {
        if loss.count == 0 {
            return;
        }
        self.health.counter(&format!("journal.lost.{}", loss.reason.name())).add(loss.count);
        self.losses.add(loss);
    }

    /// Waits until all that was taken before is on disk, or was counted as lost.
    pub async fn flush(&self) {
        let (done, wait) = oneshot::channel();
        if self.queue.send(Message::Flush(done)).await.is_ok() {
            // An error means that the writer ended, which flushes too.
            let _ended = wait.await;
        }
    }
}

/// The running writer.
pub struct Writer {
    queue: mpsc::Sender<Message>,
    thread: JoinHandle<()>,
}

impl Writer {
    /// Starts the stage, named [`STAGE`] in `health`.
    ///
    /// # Errors
    /// No thread can be started.
    pub fn start(
        journal: Journal,
        mirror: Option<MirrorSettings>,
        queue: usize,
        health: &Health,
    ) -> io::Result<(Sink, Self)> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        let (sender, receiver) = mpsc::channel(queue.max(1));
        let losses = PendingLosses::default();
        let mut stage = Writing {
            journal,
            mirror: mirror.map(Mirror::new),
            losses: losses.clone(),
            health: health.clone(),
            stage: health.stage(STAGE, TICK),
            retained: Instant::now(),
            overrun: 0,
        };
        let thread = std::thread::Builder::new().name(STAGE.to_owned()).spawn(move || {
            runtime.block_on(stage.run(receiver));
            stage.stage.end();
            stage.journal.close();
        })?;
        let sink = Sink { queue: sender.clone(), losses, health: health.clone() };
        Ok((sink, Self { queue: sender, thread }))
    }

    /// Whether the thread ended without being told to, which the supervisor must not leave unnoticed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Writes what waits, closes the journal and ends the thread. Entries offered from then on are refused and counted.
    pub async fn stop(self) {
        // An error means that it has ended already.
        let _ended = self.queue.send(Message::Stop).await;
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the journal's thread ended by a panic");
        }
    }
}

struct Writing {
    journal: Journal,
    mirror: Option<Mirror>,
    losses: PendingLosses,
    health: Health,
    stage: Stage,
    retained: Instant,
    /// Hits lost to a full queue when it was last looked at: the fault is over when there are no more.
    overrun: u64,
}

impl Writing {
    async fn run(&mut self, mut queue: mpsc::Receiver<Message>) {
        let mut messages = Vec::with_capacity(BATCH);
        loop {
            let received = tokio::time::timeout(TICK, queue.recv_many(&mut messages, BATCH)).await;
            let is_over = received == Ok(0) || self.take(&mut messages);
            if is_over {
                queue.close();
                while let Ok(message) = queue.try_recv() {
                    messages.push(message);
                }
                self.take(&mut messages);
                return;
            }
            self.stage.tick();
            if self.retained.elapsed() >= RETAIN {
                self.retained = Instant::now();
                self.look_after();
            }
        }
    }

    /// What is done once in [`RETAIN`].
    fn look_after(&mut self) {
        if let Err(error) = self.journal.retain(Timestamp::now()) {
            self.health.raise(Fault::JournalWriteFailed, "", error.to_string());
        }
        let overrun = self.health.counter("journal.lost.queue_full").get();
        if overrun == self.overrun {
            self.health.clear(Fault::JournalOverrun, "");
        }
        self.overrun = overrun;
    }

    /// Writes a batch; whether the writer is told to stop.
    fn take(&mut self, messages: &mut Vec<Message>) -> bool {
        let mut entries: Vec<_> = self.losses.take().into_iter().map(Entry::Loss).collect();
        let mut flushed = Vec::new();
        let mut stop = false;
        for message in messages.drain(..) {
            match message {
                Message::Entry(entry) => entries.push(entry),
                Message::Flush(done) => flushed.push(done),
                Message::Stop => stop = true,
            }
        }
        if !entries.is_empty() {
            self.write(&entries);
        }
        for done in flushed {
            // Whoever waited may have given up.
            let _gone = done.send(());
        }
        stop
    }

    fn write(&mut self, entries: &[Entry]) {
        let mut from = 0;
        let mut is_second_attempt = false;
        loop {
            let Err(error) = self.journal.write(&entries[from..]) else {
                self.health.clear(Fault::JournalWriteFailed, "");
                self.health.clear(Fault::JournalDiskFull, "");
                self.mirror(entries);
                return;
            };
            from += error.written;
            // The second attempt is with a segment opened anew, which is what a stale file handle needs.
            if is_second_attempt || !matches!(error.source, JournalError::Sqlite { .. }) {
                self.mirror(&entries[..from]);
                self.give_up(&entries[from..], &error.source);
                return;
            }
            is_second_attempt = true;
        }
    }

    /// Counts what could not be written. It is told in the journal as soon as that can be written again.
    fn give_up(&mut self, entries: &[Entry], error: &JournalError) {
        let (fault, reason) = match error {
            JournalError::DiskFull { .. } => (Fault::JournalDiskFull, LossReason::DiskFull),
            _ => (Fault::JournalWriteFailed, LossReason::WriteFailed),
        };
        self.health.raise(fault, "", error.to_string());
        let now = Timestamp::now();
        let count: u64 = entries.iter().map(Entry::hits).sum();
        if count > 0 {
            self.health.counter(&format!("journal.lost.{}", reason.name())).add(count);
            self.losses.add(Loss { reason, count, from: now, to: now });
        }
        for entry in entries {
            if let Entry::Loss(loss) = entry {
                self.losses.add(*loss);
            }
        }
    }

    fn mirror(&mut self, entries: &[Entry]) {
        let Some(mirror) = &mut self.mirror else { return };
        let mut lines = Vec::new();
        let mut written = 0;
        for entry in entries {
            let line = match entry {
                Entry::Hit(finding) => serde_json::to_writer(&mut lines, finding.as_ref()),
                Entry::Repeat { of, repeats, last_time } => {
                    let repeat = serde_json::json!({
                        "schema": of.schema, "repeat_of": of.id, "repeats": repeats, "last_time": last_time,
                    });
                    serde_json::to_writer(&mut lines, &repeat)
                }
                Entry::Loss(loss) => serde_json::to_writer(&mut lines, &serde_json::json!({"schema": 1, "loss": loss})),
            };
            if line.is_ok() {
                lines.push(b'\n');
                written += 1;
            }
        }
        match mirror.write(&lines) {
            Ok(()) => {
                self.health.clear(Fault::JournalMirrorFailed, "");
            }
            Err(error) => {
                let detail = format!("{}: {error}", mirror.path().display());
                self.health.raise(Fault::JournalMirrorFailed, "", detail);
                self.health.counter("journal.mirror.lost").add(written);
            }
        }
    }
}
