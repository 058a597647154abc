//! One file behind a URL.

use std::fs::File;

use ureq::http::header;
use url::Url;

use super::{Error, Fetched, Place, State};
use crate::http::{self, Answer, Ask, Client};

/// The name it lands under: what a file holds is told by its content.
const NAME: &str = "feed";

pub(super) fn fetch(client: &Client, url: &Url, place: &Place<'_>, state: &mut State) -> Result<Fetched, Error> {
    // Only worth asking for a change of what is still there.
    let is_there = place.source.path.join(NAME).exists();
    let (etag, modified) = if is_there { (state.etag.take(), state.last_modified.take()) } else { (None, None) };
    let ask = Ask {
        accept: "application/stix+json, application/json, text/csv, text/plain, */*;q=0.5",
        if_none_match: etag.as_deref(),
        if_modified_since: modified.as_deref(),
        body: None,
    };
    let incoming = place.incoming();
    let validators = client.ask(url, &ask, |answer| {
        if answer.is_unchanged() {
            return Ok(None);
        }
        check_type(&answer)?;
        let validators = [header::ETAG, header::LAST_MODIFIED].map(|name| answer.header(&name).map(str::to_owned));
        let mut file = File::create(&incoming).map_err(http::Error::Keep)?;
        answer.write_to(&mut file)?;
        Ok(Some(validators))
    })?;
    let Some([new_etag, new_modified]) = validators else {
        (state.etag, state.last_modified) = (etag, modified);
        return Ok(Fetched::default());
    };
    let is_changed = place.land(NAME, url.as_str())?;
    (state.etag, state.last_modified) = (new_etag, new_modified);
    Ok(Fetched { is_changed, refused: Vec::new() })
}

/// What no list or bundle is ever sent as; the content itself is judged when it is read.
fn check_type(answer: &Answer<'_>) -> Result<(), http::Error> {
    let media_type = answer.media_type();
    let is_other =
        ["image/", "audio/", "video/", "font/", "multipart/"].iter().any(|kind| media_type.starts_with(kind));
    if is_other || ["text/html", "application/xhtml+xml", "application/pdf"].contains(&media_type.as_str()) {
        return Err(answer.wrong_type("JSON, CSV or text"));
    }
    Ok(())
}
