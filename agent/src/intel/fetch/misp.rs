//! A MISP feed: `manifest.json` names the events and their versions, each is a file `<uuid>.json` beside it (misp-rfc, MISP
//! core format, "manifest").

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};

use serde::Deserialize;
use serde_json::value::RawValue;
use url::Url;
use uuid::Uuid;

use super::{Error, Fetched, INCOMING, Place, State, cannot_keep};
use crate::http::{self, Answer, Ask, Client};
use crate::intel::source::{Feed, MAX_FILES};

const ACCEPT: &str = "application/json, */*;q=0.5";

/// What the manifest says of one event.
#[derive(Deserialize)]
struct Entry {
    /// Seconds since 1970, as a number or as text.
    timestamp: Box<RawValue>,
}

pub(super) fn fetch(client: &Client, feed: &Feed, place: &Place<'_>, state: &mut State) -> Result<Fetched, Error> {
    let manifest = manifest(client, feed)?;
    let mut fetched = Fetched::default();
    for (uuid, version) in &manifest {
        let name = format!("{uuid}.json");
        let is_kept = state.events.get(uuid) == Some(version) && place.source.path.join(&name).exists();
        if is_kept {
            continue;
        }
        let url = beside(feed, &name)?;
        match receive(client, &url, place).and_then(|()| place.land(&name, url.as_str())) {
            Ok(is_changed) => {
                fetched.is_changed |= is_changed;
                state.events.insert(uuid.clone(), version.clone());
                // Kept as it goes, so that a fetch that is cut off need not begin anew.
                if fetched.is_changed && state.events.len().is_multiple_of(64) {
                    place.remember(state)?;
                }
            }
            // One event that is broken or missing does not keep the others out.
            Err(
                error @ (Error::Content(_) | Error::Http(http::Error::Status { .. } | http::Error::ContentType { .. })),
            ) => {
                fetched.refused.push(error.to_string());
            }
            Err(error) => return Err(error),
        }
    }
    fetched.is_changed |= forget_gone(place, &manifest)?;
    state.events.retain(|uuid, _| manifest.contains_key(uuid));
    if !manifest.is_empty() && fetched.refused.len() == manifest.len() {
        let why = fetched.refused.swap_remove(0);
        return Err(Error::Feed { url: feed.url.to_string(), why: format!("no event can be used: {why}") });
    }
    Ok(fetched)
}

/// The version of each event, by its UUID.
fn manifest(client: &Client, feed: &Feed) -> Result<BTreeMap<String, String>, Error> {
    let url = beside(feed, "manifest.json")?;
    let wrong = |why: String| Error::Feed { url: url.to_string(), why };
    let bytes = client.ask(&url, &Ask { accept: ACCEPT, ..Ask::default() }, |answer| {
        check_type(&answer)?;
        answer.bytes()
    })?;
    let entries: BTreeMap<String, Entry> =
        serde_json::from_slice(&bytes).map_err(|error| wrong(format!("no manifest of a MISP feed: {error}")))?;
    if entries.len() > MAX_FILES {
        return Err(wrong(format!("{} events; at most {MAX_FILES} are read", entries.len())));
    }
    let known = entries.into_iter().map(|(uuid, entry)| match Uuid::parse_str(&uuid) {
        // Spelled anew, because it becomes the name of a file.
        Ok(uuid) => Ok((uuid.hyphenated().to_string(), entry.timestamp.get().trim_matches('"').to_owned())),
        Err(_) => Err(wrong(format!("`{}` is no UUID of an event", uuid.escape_debug()))),
    });
    known.collect()
}

fn receive(client: &Client, url: &Url, place: &Place<'_>) -> Result<(), Error> {
    let incoming = place.incoming();
    client.ask(url, &Ask { accept: ACCEPT, ..Ask::default() }, |answer| {
        check_type(&answer)?;
        let mut file = File::create(&incoming).map_err(http::Error::Keep)?;
        answer.write_to(&mut file)
    })?;
    Ok(())
}

/// Web servers send the files of a directory as JSON, as text, or as nothing in particular.
fn check_type(answer: &Answer<'_>) -> Result<(), http::Error> {
    match answer.media_type().as_str() {
        "application/json" | "text/json" | "text/plain" | "application/octet-stream" | "" => Ok(()),
        _ => Err(answer.wrong_type("JSON")),
    }
}

/// Removes the files of events that the manifest no longer names; whether there was one.
fn forget_gone(place: &Place<'_>, manifest: &BTreeMap<String, String>) -> Result<bool, Error> {
    let directory = &place.source.path;
    let wanted: HashSet<String> = manifest.keys().map(|uuid| format!("{uuid}.json")).collect();
    let mut is_changed = false;
    for entry in fs::read_dir(directory).map_err(cannot_keep(directory))? {
        let entry = entry.map_err(cannot_keep(directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with('.') && name != INCOMING || wanted.contains(&name) {
            continue;
        }
        fs::remove_file(entry.path()).map_err(cannot_keep(&entry.path()))?;
        is_changed |= name != INCOMING;
    }
    Ok(is_changed)
}

/// The URL of a file in the feed's directory.
fn beside(feed: &Feed, name: &str) -> Result<Url, Error> {
    let mut url = feed.url.clone();
    match url.path_segments_mut() {
        Ok(mut parts) => {
            // Whoever gives the manifest itself means its directory.
            if feed.url.path().ends_with("/manifest.json") {
                parts.pop();
            }
            parts.pop_if_empty().push(name);
        }
        Err(()) => {
            return Err(Error::Feed { url: feed.url.to_string(), why: "not a directory of a web server".to_owned() });
        }
    }
    Ok(url)
}
