//! A TAXII collection: what was added is merged into the bundle of what is known, the newest version of each object.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Error, Fetched, Place, State, cannot_keep};
use crate::http::Client;
use crate::intel::taxii::{Address, Collection, PAGE};

/// The bundle's name.
const NAME: &str = "objects.json";
/// An object that a server deletes is never told of, so all is read anew after this long.
const WHOLE_AFTER: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Bytes of a bundle around and between its objects, at most, for each.
const AROUND: u64 = 2;

pub(super) fn fetch(
    client: &Client,
    address: &Address,
    place: &Place<'_>,
    state: &mut State,
    now: Timestamp,
) -> Result<Fetched, Error> {
    let collection = Collection::find(client, address)?;
    let target = place.source.path.join(NAME);
    let is_due = state.whole.is_none_or(|whole| now.duration_since(whole) >= WHOLE_AFTER);
    let is_whole = is_due || !target.exists();
    let mut added = Vec::new();
    let run = collection.read(state.added_after.filter(|_| !is_whole), PAGE, |mut page| {
        added.append(&mut page);
        Ok(())
    })?;
    let mut fetched = Fetched::default();
    // Mostly nothing was added, and what is known need not be read for that.
    if is_whole || !added.is_empty() {
        let mut objects = Objects::default();
        if !is_whole && !objects.read(&fs::read(&target).map_err(cannot_keep(&target))?) {
            // What is kept is damaged: all of it is read anew.
            (state.whole, state.added_after) = (None, None);
            return fetch(client, address, place, state, now);
        }
        let before = objects.changes;
        added.into_iter().for_each(|object| objects.add(object));
        if is_whole || objects.changes > before {
            fetched.is_changed = land(&objects, address, place)?;
        }
    }
    state.added_after = run.added_after;
    if is_whole {
        state.whole = Some(now);
    }
    Ok(fetched)
}

fn land(objects: &Objects, address: &Address, place: &Place<'_>) -> Result<bool, Error> {
    let limit = place.source.limits().bytes;
    if objects.bytes > limit {
        return Err(Error::Grown { bytes: objects.bytes, limit });
    }
    let incoming = place.incoming();
    objects.write(&incoming, address).map_err(cannot_keep(&incoming))?;
    place.land(NAME, address.url.as_str())
}

/// As much of an object as tells its versions apart.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    id: Option<Cow<'a, str>>,
    #[serde(borrow)]
    modified: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    objects: Vec<Box<RawValue>>,
}

/// The newest version of each object, in the order in which they came first.
#[derive(Default)]
struct Objects {
    objects: Vec<(Option<Timestamp>, Box<RawValue>)>,
    places: HashMap<String, usize>,
    changes: u64,
    bytes: u64,
}

impl Objects {
    /// Takes what a bundle holds; whether it is one.
    fn read(&mut self, bundle: &[u8]) -> bool {
        let Ok(bundle) = serde_json::from_slice::<Bundle>(bundle) else { return false };
        bundle.objects.into_iter().for_each(|object| self.add(object));
        true
    }

    /// Takes an object unless a version at least as new is known. What is no object with an id is taken as it is: the parser
    /// says what is wrong with it.
    fn add(&mut self, object: Box<RawValue>) {
        let head = serde_json::from_str::<Head<'_>>(object.get()).ok();
        let modified = head.as_ref().and_then(|head| head.modified.as_deref()?.parse::<Timestamp>().ok());
        let length = object.get().len() as u64 + AROUND;
        if let Some(id) = head.and_then(|head| head.id) {
            let next = self.objects.len();
            let place = *self.places.entry(id.into_owned()).or_insert(next);
            if let Some((known, old)) = self.objects.get_mut(place) {
                let is_newer =
                    if modified.is_none() && known.is_none() { old.get() != object.get() } else { modified > *known };
                if is_newer {
                    self.bytes = self.bytes + length - (old.get().len() as u64 + AROUND);
                    (*known, *old) = (modified, object);
                    self.changes += 1;
                }
                return;
            }
        } else if self.objects.iter().any(|(_, known)| known.get() == object.get()) {
            return;
        }
        self.objects.push((modified, object));
        self.bytes += length;
        self.changes += 1;
    }

    fn write(&self, path: &Path, address: &Address) -> io::Result<()> {
        let mut file = BufWriter::new(File::create(path)?);
        let id = Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("{} {}", address.url, address.collection).as_bytes());
        write!(file, "{{\"type\":\"bundle\",\"id\":\"bundle--{id}\",\"objects\":[")?;
        for (index, (_, object)) in self.objects.iter().enumerate() {
            file.write_all(if index == 0 { b"\n" } else { b",\n" })?;
            file.write_all(object.get().as_bytes())?;
        }
        file.write_all(b"\n]}\n")?;
        file.into_inner()?.sync_all()
    }
}
