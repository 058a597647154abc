//! The two rings as streams of decoded events.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use aya::maps::{Map, MapData, RingBuf};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::Error;
use crate::event::{self, DecodeError, Event};

/// How long the exec ring is left alone while it is busy: nothing wakes its reader, because a wakeup costs an exec ten
/// times what the record does.
const BUSY: Duration = Duration::from_millis(5);
/// How long when the last look found nothing.
const IDLE: Duration = Duration::from_millis(50);
/// Most records taken at a time, so that a flood does not starve the reader's other work.
const MOST: usize = 4096;

/// Some records, in the order in which they were written.
#[derive(Debug, Default)]
pub struct Batch {
    /// Decoded.
    pub events: Vec<Event>,
    /// Records that made no sense, each with its reason: to be counted as a loss.
    pub damaged: Vec<DecodeError>,
}

/// One ring. The kernel keeps the reading position with the ring, so the next daemon goes on where this one stopped.
pub struct EventRing {
    waiter: Option<AsyncFd<OwnedFd>>,
    ring: RingBuf<MapData>,
    idle: bool,
}

impl EventRing {
    fn new(map: Map, wakes: bool, name: &'static str) -> Result<Self, Error> {
        let ring = RingBuf::try_from(map)
            .map_err(|error| Error::Bpf { what: format!("ring {name}"), source: io::Error::other(error) })?;
        let wait = |ring: &RingBuf<MapData>| {
            let descriptor = ring.as_fd().try_clone_to_owned()?;
            // SAFETY: an OwnedFd is open until it is dropped and never changes its number, which is what the call asks for.
            unsafe { AsyncFd::register_with_interest(descriptor, Interest::READABLE) }.map_err(io::Error::other)
        };
        let waiter = wakes.then(|| wait(&ring)).transpose();
        let waiter =
            waiter.map_err(|source| Error::Bpf { what: format!("ring {name}: cannot wait for it"), source })?;
        Ok(Self { waiter, ring, idle: false })
    }

    pub(super) fn hits(map: Map) -> Result<Self, Error> {
        Self::new(map, true, "HITS")
    }

    pub(super) fn execs(map: Map) -> Result<Self, Error> {
        Self::new(map, false, "EXECS")
    }

    /// Takes what is there, without waiting.
    pub fn drain(&mut self) -> Batch {
        let mut batch = Batch::default();
        for _ in 0..MOST {
            let Some(record) = self.ring.next() else { break };
            match event::decode(&record) {
                Ok(event) => batch.events.push(event),
                Err(error) => batch.damaged.push(error),
            }
        }
        self.idle = batch.events.is_empty() && batch.damaged.is_empty();
        batch
    }

    /// The next records: at once for a hit, within 50 ms for an exec. An empty batch means that nothing came for a while;
    /// dropping the future loses nothing.
    ///
    /// # Errors
    /// When the ring can no longer be waited for.
    pub async fn next(&mut self) -> io::Result<Batch> {
        let batch = self.drain();
        if !batch.events.is_empty() || !batch.damaged.is_empty() {
            return Ok(batch);
        }
        match &mut self.waiter {
            Some(waiter) => {
                // A wakeup that got lost must not hold a hit back, so the wait has an end.
                if let Ok(ready) = timeout(IDLE * 5, waiter.readable()).await {
                    ready?.clear_ready();
                }
            }
            None => tokio::time::sleep(if self.idle { IDLE } else { BUSY }).await,
        }
        Ok(self.drain())
    }
}
