//! Sending objects, and what became of each (§5.5, §4.3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use ureq::http::StatusCode;

use super::document::{Envelope, Status, Version};
use super::{Collection, Error, ask, below, document, get};
use crate::http;

/// Objects of one envelope.
const BATCH: usize = 100;
/// Bytes of an envelope besides its objects.
const AROUND: u64 = 64;
/// First pause before a status is asked for again; it doubles up to [`LAST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LAST_PAUSE: Duration = Duration::from_secs(5);

/// An object to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outgoing {
    /// Its id.
    pub id: String,
    /// Its version; `None` for a type without.
    pub modified: Option<Timestamp>,
    /// All of it, as JSON.
    pub json: String,
}

/// What became of the objects sent, by id. What is in neither is not known: send it again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sent {
    /// The server has them.
    pub accepted: BTreeSet<String>,
    /// The server will not have them, and why.
    pub refused: BTreeMap<String, String>,
}

impl Sent {
    fn refuse(&mut self, object: &Outgoing, why: impl Into<String>) {
        self.refused.insert(object.id.clone(), why.into());
    }
}

impl Collection<'_> {
    /// Sends objects in envelopes as large as the server takes them, and waits for what becomes of each as long as the
    /// client's time limit allows. An exact duplicate counts as accepted, also where a server calls it a failure.
    ///
    /// # Errors
    /// The server cannot be reached or refuses everything; what was sent before that is not told, so send all of it again.
    pub fn send(&self, objects: &[Outgoing]) -> Result<Sent, Error> {
        if !self.info.can_write {
            return Err(Error::NotPermitted { title: self.info.title.clone(), what: "write" });
        }
        let mut sent = Sent::default();
        let (versioned, unversioned): (Vec<_>, Vec<_>) =
            objects.iter().cloned().partition(|object| object.modified.is_some());
        let mut waiting: Vec<&[Outgoing]> = self.batches(&unversioned, &mut sent);
        waiting.extend(self.batches(&versioned, &mut sent));
        waiting.reverse();
        while let Some(batch) = waiting.pop() {
            match self.post(batch) {
                Ok(status) => self.settle(batch, status, &mut sent)?,
                // One object that the server does not take spoils the envelope: the halves find it.
                Err(Error::Http(http::Error::Status {
                    status: StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNPROCESSABLE_ENTITY,
                    says,
                    ..
                })) => match batch {
                    [] => {}
                    [object] => sent.refuse(object, says.trim_start_matches(": ")),
                    batch => {
                        let (first, second) = batch.split_at(batch.len() / 2);
                        waiting.extend([second, first]);
                    }
                },
                // OpenTAXII 0.9.3 breaks on whatever has no versions: markings and observables. The rest does without them.
                Err(Error::Http(http::Error::Status { status: StatusCode::INTERNAL_SERVER_ERROR, .. }))
                    if batch.iter().all(|object| object.modified.is_none()) =>
                {
                    batch.iter().for_each(|object| sent.refuse(object, "the server breaks on it"));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(sent)
    }

    /// Consecutive objects that fit one envelope; what fits none is refused.
    fn batches<'o>(&self, objects: &'o [Outgoing], sent: &mut Sent) -> Vec<&'o [Outgoing]> {
        let room = self.max_content.saturating_sub(AROUND);
        let mut batches = Vec::new();
        let (mut start, mut bytes) = (0, 0);
        for (index, object) in objects.iter().enumerate() {
            let length = object.json.len() as u64 + 1;
            if length > room {
                sent.refuse(object, format!("{length} bytes, and the server takes {}", self.max_content));
            }
            let is_full = index - start == BATCH || bytes + length > room;
            if is_full {
                batches.extend(objects.get(start..index).filter(|batch| !batch.is_empty()));
                (start, bytes) = (index, 0);
            }
            if length > room {
                start = index + 1;
            } else {
                bytes += length;
            }
        }
        batches.extend(objects.get(start..).filter(|batch| !batch.is_empty()));
        batches
    }

    fn post(&self, batch: &[Outgoing]) -> Result<Status, Error> {
        let objects: Vec<&str> = batch.iter().map(|object| object.json.as_str()).collect();
        let envelope = format!("{{\"objects\":[{}]}}", objects.join(","));
        let url = self.url(&["objects", ""]);
        ask(self.client, &url, Some(envelope.as_bytes()), |answer| document(answer).map(|(status, _)| status))
    }

    /// Waits until the server is done with a batch, as long as there is time.
    fn settle(&self, batch: &[Outgoing], mut status: Status, sent: &mut Sent) -> Result<(), Error> {
        let mut pause = FIRST_PAUSE;
        while status.status != "complete" && !status.id.is_empty() {
            if pause >= self.client.left() {
                sent.accepted.extend(status.successes.into_iter().map(|detail| detail.id));
                return Ok(());
            }
            self.client.pause(pause)?;
            pause = LAST_PAUSE.min(pause * 2);
            status = match get(self.client, &below(&self.root, &["status", &status.id, ""])) {
                // A server may forget a status after a day (§4.3); each object is then asked for.
                Err(Error::Http(http::Error::Status { status: StatusCode::NOT_FOUND, .. })) => break,
                other => other?,
            };
        }
        let failures: BTreeMap<&str, Option<&str>> =
            status.failures.iter().map(|detail| (detail.id.as_str(), detail.message.as_deref())).collect();
        let is_told = status.status == "complete" && failures.len() as u64 >= status.failure_count;
        for object in batch {
            let failure = failures.get(object.id.as_str());
            if (is_told && failure.is_none()) || self.has(object)? {
                sent.accepted.insert(object.id.clone());
            } else {
                sent.refuse(object, failure.copied().flatten().unwrap_or("the server gives no reason"));
            }
        }
        Ok(())
    }

    /// Whether the server has the object in this version or a later one: some call a duplicate a failure, against §5.5.
    fn has(&self, object: &Outgoing) -> Result<bool, Error> {
        if !self.info.can_read {
            return Ok(false);
        }
        match get::<Envelope>(self.client, &self.url(&["objects", &object.id, ""])) {
            Ok(found) => Ok(found.objects.iter().any(|json| is_version_of(json.get(), object))),
            Err(Error::Http(http::Error::Status { status: StatusCode::NOT_FOUND, .. })) => Ok(false),
            Err(error) => Err(error),
        }
    }
}

fn is_version_of(json: &str, object: &Outgoing) -> bool {
    let Ok(found) = serde_json::from_str::<Version>(json) else { return false };
    let modified = found.modified.and_then(|text| text.parse::<Timestamp>().ok());
    found.id == object.id && modified >= object.modified
}
