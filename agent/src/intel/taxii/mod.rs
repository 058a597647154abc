//! A TAXII 2.1 client: discovery, API roots, collections, reading by pages, sending with the status of each object.
//!
//! Sections are those of the OASIS Standard "TAXII Version 2.1".

mod document;
mod read;
mod send;

#[cfg(test)]
mod tests;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use ureq::http::StatusCode;
use url::Url;

use crate::http::{self, Answer, Ask, Client};
use document::{ApiRoot, CollectionInfo, Collections, Document};

pub use read::{PAGE, Run};
pub use send::{Outgoing, Sent};

/// `Accept` and `Content-Type` of everything (§1.6.8).
const MEDIA_TYPE: &str = "application/taxii+json;version=2.1";
/// Bytes of an envelope where a server does not say how many it takes.
const DEFAULT_MAX_CONTENT: u64 = 1 << 20;

/// Which collection of which server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Address {
    /// The server's discovery document, or one of its API roots.
    pub url: Url,
    /// A collection's id, alias or title.
    pub collection: String,
}

/// Why a collection cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No answer.
    #[error(transparent)]
    Http(#[from] http::Error),
    /// An answer, but no TAXII 2.1.
    #[error("{url}: {why}")]
    NotTaxii {
        /// Asked for.
        url: String,
        /// What it is instead, and what to do.
        why: String,
    },
    /// The server has collections, but not this one.
    #[error("no collection `{wanted}` at {url}: {known}")]
    NoCollection {
        /// By id, alias or title.
        wanted: String,
        /// Asked for.
        url: String,
        /// What there is instead.
        known: String,
    },
    /// The account may not.
    #[error("collection `{title}`: the account may not {what} it")]
    NotPermitted {
        /// The collection.
        title: String,
        /// `read` or `write`.
        what: &'static str,
    },
    /// The server contradicts itself.
    #[error("{url}: cannot be read to its end: {why}")]
    Paging {
        /// Asked for.
        url: String,
        /// What is missing.
        why: &'static str,
    },
}

/// A collection that was found.
pub struct Collection<'a> {
    client: &'a Client,
    info: CollectionInfo,
    /// Of its API root; ends with `/`.
    root: Url,
    /// Bytes of an envelope (§4.2.1).
    max_content: u64,
}

impl<'a> Collection<'a> {
    /// Finds the collection, in the default API root first. A root of another origin is not asked: `client` was made for the
    /// origin in the settings, and whoever can write a discovery document could otherwise lead the agent elsewhere.
    ///
    /// # Errors
    /// No TAXII server, or no such collection; the error then names what there is.
    pub fn find(client: &'a Client, address: &Address) -> Result<Self, Error> {
        let url = directory(&address.url);
        let (mut roots, mut foreign) = (Vec::new(), Vec::new());
        match get::<Document>(client, &url)? {
            Document { api_roots: None, versions: None, .. } => {
                let why = "neither a discovery document nor an API root; a server's discovery is usually at /taxii2/";
                return Err(Error::NotTaxii { url: url.to_string(), why: why.to_owned() });
            }
            Document { api_roots: None, max_content_length, .. } => roots.push((url.clone(), max_content_length)),
            Document { api_roots: Some(offered), default, .. } => {
                for root in default.into_iter().chain(offered) {
                    // Relative ones are relative to the discovery document, whatever host the server thinks it has.
                    let Ok(root) = url.join(&root).map(|root| directory(&root)) else { continue };
                    let list = if root.origin() == url.origin() { &mut roots } else { &mut foreign };
                    if !list.iter().any(|(known, _)| *known == root) {
                        list.push((root, None));
                    }
                }
            }
        }
        let mut known = Vec::new();
        for (root, max_content) in roots {
            let collections: Collections = get(client, &below(&root, &["collections", ""]))?;
            if let Some(info) = choose(&collections.collections, &address.collection) {
                let max_content = match max_content {
                    Some(bytes) => bytes,
                    None => get::<ApiRoot>(client, &root)?.max_content_length.unwrap_or(DEFAULT_MAX_CONTENT),
                };
                return Ok(Self { client, info: info.clone(), root, max_content });
            }
            known.extend(collections.collections.iter().map(|info| format!("`{}` ({})", info.title, info.id)));
        }
        let mut known =
            if known.is_empty() { "there is none".to_owned() } else { format!("there is {}", known.join(", ")) };
        for (root, _) in &foreign {
            known
                .push_str(&format!("; {root} is on another origin and was not asked: if it is right, set `url` to it"));
        }
        Err(Error::NoCollection { wanted: address.collection.clone(), url: url.to_string(), known })
    }

    /// The collection's title.
    #[must_use]
    pub fn title(&self) -> &str {
        &self.info.title
    }

    fn url(&self, rest: &[&str]) -> Url {
        let mut parts = vec!["collections", &self.info.id];
        parts.extend(rest);
        below(&self.root, &parts)
    }
}

/// By id, else by alias, else by title.
fn choose<'a>(collections: &'a [CollectionInfo], wanted: &str) -> Option<&'a CollectionInfo> {
    let by_id = collections.iter().find(|info| info.id.eq_ignore_ascii_case(wanted));
    let by_alias = || collections.iter().find(|info| info.alias.as_deref() == Some(wanted));
    by_id.or_else(by_alias).or_else(|| collections.iter().find(|info| info.title == wanted))
}

/// The URL with the `/` at its end that every TAXII URL has (§1.6.4).
fn directory(url: &Url) -> Url {
    let mut url = url.clone();
    if let Ok(mut parts) = url.path_segments_mut() {
        parts.pop_if_empty().push("");
    }
    url
}

/// `root` with more path; an empty last part makes the `/` at the end. What a server names is escaped.
fn below(root: &Url, parts: &[&str]) -> Url {
    let mut url = root.clone();
    if let Ok(mut path) = url.path_segments_mut() {
        path.pop_if_empty().extend(parts);
    }
    url
}

fn get<T: DeserializeOwned>(client: &Client, url: &Url) -> Result<T, Error> {
    ask(client, url, None, |answer| document(answer).map(|(document, _)| document))
}

/// Asks in TAXII's media type.
fn ask<'a, T>(
    client: &'a Client,
    url: &Url,
    body: Option<&[u8]>,
    read: impl FnMut(Answer<'a>) -> Result<T, http::Error>,
) -> Result<T, Error> {
    let body = body.map(|body| (body, MEDIA_TYPE));
    client.ask(url, &Ask { accept: MEDIA_TYPE, body, ..Ask::default() }, read).map_err(|error| match error {
        http::Error::Status { url, status: StatusCode::NOT_ACCEPTABLE, .. } => {
            Error::NotTaxii { url, why: "the server does not speak TAXII 2.1 (406)".to_owned() }
        }
        error => Error::Http(error),
    })
}

/// Takes a JSON document of TAXII's media type, with the URL it came from.
fn document<T: DeserializeOwned>(answer: Answer<'_>) -> Result<(T, Url), http::Error> {
    match answer.media_type().as_str() {
        "application/taxii+json" => {}
        _ => return Err(answer.wrong_type(MEDIA_TYPE)),
    }
    let url = answer.url().clone();
    let bytes = answer.bytes()?;
    let document = serde_json::from_slice(&bytes).map_err(|error| Answer::wrong(&url, error))?;
    Ok((document, url))
}
