//! Taking what is due to one destination.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use super::sharing::{judge, share};
use super::spool::Outcome;
use super::stix::{Objects, bundle, objects};
use super::{Destination, NAMESPACE, Sighting, Sightings, Spool, SpoolError, To, misp};
use crate::http::{self, Client, Limits, Stop};
use crate::intel::source::Share;
use crate::intel::taxii::{self, Collection, Outgoing};

/// Sightings taken at a time.
const BATCH: usize = 200;
/// What one delivery may cost.
const LIMITS: Limits = Limits { bytes: 16 << 20, time: Duration::from_secs(60) };

/// Why nothing more is delivered for now; it stays in the spool.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server.
    #[error(transparent)]
    Taxii(#[from] taxii::Error),
    /// The spool.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The directory.
    #[error("{path}: {error}")]
    Write {
        /// File or directory.
        path: String,
        /// Why not.
        #[source]
        error: io::Error,
    },
}

impl Error {
    /// How long the server asks to be left alone, if it does.
    #[must_use]
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Taxii(taxii::Error::Http(http::Error::Status { retry_after, .. })) => *retry_after,
            _ => None,
        }
    }

    /// Whether it is only that the agent stops.
    #[must_use]
    pub const fn is_stop(&self) -> bool {
        matches!(self, Self::Taxii(taxii::Error::Http(http::Error::Stopped)))
    }
}

/// What came of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivered {
    /// Sightings that the destination now has.
    pub sent: u64,
    /// Objects that were refused, and why: the first few of each batch.
    pub refused: Vec<String>,
}

/// Delivers all that is due.
///
/// # Errors
/// What is not delivered stays due.
pub fn deliver(
    spool: &Spool,
    sightings: &Sightings,
    destination: &Destination,
    now: Timestamp,
    stop: &Stop,
) -> Result<Delivered, Error> {
    let ended = (!destination.to.takes_versions()).then(|| now.checked_sub(sightings.window).unwrap_or(now));
    let share_of = |source: &str| sightings.shares.get(source).copied().unwrap_or(Share::Nothing);
    let mut delivered = Delivered::default();
    loop {
        let due = spool.due(&destination.name, ended, BATCH)?;
        if due.is_empty() {
            return Ok(delivered);
        }
        let (mut told, mut withheld) = (Vec::new(), Vec::new());
        for sighting in &due {
            let share = share(sighting, share_of);
            match judge(destination, sighting, share) {
                Ok(()) => told.push((sighting, share)),
                Err(why) => withheld.push((sighting, Outcome::Withheld(why))),
            }
        }
        spool.settle(&destination.name, &withheld)?;
        if told.is_empty() {
            continue;
        }
        let outcomes = tell(spool, sightings, destination, &told, stop, &mut delivered)?;
        delivered.sent += outcomes.iter().filter(|(_, outcome)| *outcome == Outcome::Sent).count() as u64;
        spool.settle(&destination.name, &outcomes)?;
        // What was refused, or may not have come through, is due again, and would be at once.
        if outcomes.iter().any(|(_, outcome)| *outcome == Outcome::Refused) || outcomes.len() < told.len() {
            return Ok(delivered);
        }
    }
}

/// Tells of sightings, and what became of each; of what is not known yet nothing is told.
fn tell<'s>(
    spool: &Spool,
    sightings: &Sightings,
    destination: &Destination,
    told: &[(&'s Sighting, Share)],
    stop: &Stop,
    delivered: &mut Delivered,
) -> Result<Vec<(&'s Sighting, Outcome)>, Error> {
    let identity = &sightings.identity;
    let made = || -> Vec<Objects> {
        let of_each = |(sighting, share): &(&Sighting, Share)| {
            objects(sighting, identity, spool.salt(), *share, destination.observed_data)
        };
        told.iter().map(of_each).collect()
    };
    match &destination.to {
        To::Taxii(address) => {
            let client = Client::new(&destination.access, &address.url, LIMITS, stop.clone());
            let client = client.map_err(taxii::Error::Http)?;
            return send(&Collection::find(&client, address)?, told, &made(), delivered);
        }
        To::Directory(path) => {
            let made = made();
            let (id, text) = bundle(&once_each(&made));
            write(path, &format!("sightings-{id}.json"), &text)?;
        }
        To::Misp(path) => {
            let bodies: Vec<String> = told.iter().map(|(told, _)| misp::body(told, identity).to_string()).collect();
            let text = bodies.join("\n") + "\n";
            // The same name for the same content, so that what is written again after a crash is not there twice.
            let name = format!("sightings-{}.jsonl", Uuid::new_v5(&NAMESPACE, text.as_bytes()));
            write(path, &name, &text)?;
        }
    }
    Ok(told.iter().map(|(sighting, _)| (*sighting, Outcome::Sent)).collect())
}

/// Sends to a collection, and tells what became of each sighting; of what is not known yet nothing is told.
fn send<'s>(
    collection: &Collection<'_>,
    told: &[(&'s Sighting, Share)],
    made: &[Objects],
    delivered: &mut Delivered,
) -> Result<Vec<(&'s Sighting, Outcome)>, Error> {
    let objects: Vec<Outgoing> = once_each(made).into_iter().cloned().collect();
    let sent = collection.send(&objects)?;
    // What has no versions is known to receivers by its id, or is no more than an addition.
    let matters = |id: &String| objects.iter().any(|object| object.id == *id && object.modified.is_some());
    let refused = sent.refused.iter().filter(|(id, _)| matters(id)).take(8);
    delivered.refused.extend(refused.map(|(id, why)| format!("{id}: {why}")));
    let outcome = |made: &Objects| {
        let id = &made.sighting()?.id;
        match (sent.accepted.contains(id), sent.refused.contains_key(id)) {
            (true, _) => Some(Outcome::Sent),
            (_, true) => Some(Outcome::Refused),
            _ => None,
        }
    };
    let told = told.iter().zip(made);
    Ok(told.filter_map(|((sighting, _), made)| Some((*sighting, outcome(made)?))).collect())
}

/// The newest version of each object, in the order in which they came first.
fn once_each(made: &[Objects]) -> Vec<&Outgoing> {
    let all = || made.iter().flat_map(|made| made.common.iter().chain(&made.own));
    let mut newest: BTreeMap<&str, &Outgoing> = BTreeMap::new();
    for object in all() {
        let known = newest.entry(&object.id).or_insert(object);
        if object.modified > known.modified {
            *known = object;
        }
    }
    all().filter_map(|object| newest.remove(object.id.as_str())).collect()
}

/// Puts a file into the directory in one piece.
fn write(directory: &Path, name: &str, text: &str) -> Result<(), Error> {
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |error| Error::Write { path, error }
    };
    DirBuilder::new().recursive(true).mode(0o750).create(directory).map_err(failed(directory))?;
    let (unfinished, path) = (directory.join(format!(".{name}~")), directory.join(name));
    let written = File::create(&unfinished).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()
    });
    written.and_then(|()| fs::rename(&unfinished, &path)).map_err(failed(&path))
}
