//! An answer whose body has not been read yet.

use std::io::{Read, Write};

use serde_json::Value;
use ureq::Body;
use ureq::http::{HeaderName, StatusCode, header, response};
use url::Url;

use super::{Client, Error};

/// Bytes read at a time.
const PIECE: usize = 64 << 10;
/// Bytes read of a refusal, for its reason.
const REASON_BYTES: u64 = 4 << 10;

/// What a server answered: success, or that nothing was changed.
pub struct Answer<'a> {
    client: &'a Client,
    url: Url,
    parts: response::Parts,
    body: Body,
}

impl<'a> Answer<'a> {
    pub(super) const fn new(client: &'a Client, url: Url, parts: response::Parts, body: Body) -> Self {
        Self { client, url, parts, body }
    }

    /// Where it came from, after redirects.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.url
    }

    /// 2xx or 304.
    #[must_use]
    pub const fn status(&self) -> StatusCode {
        self.parts.status
    }

    /// Whether the condition of the request was not met: there is nothing new.
    #[must_use]
    pub fn is_unchanged(&self) -> bool {
        self.parts.status == StatusCode::NOT_MODIFIED
    }

    /// A header's text.
    #[must_use]
    pub fn header(&self, name: &HeaderName) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The header with that name, where there is no constant for it.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<&str> {
        self.parts.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// The media type without parameters, lower case; empty if the server names none.
    #[must_use]
    pub fn media_type(&self) -> String {
        let given = self.header(&header::CONTENT_TYPE).unwrap_or_default();
        given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
    }

    /// That the type is not what was wanted.
    #[must_use]
    pub fn wrong_type(&self, wanted: &str) -> Error {
        let media_type = self.media_type();
        let advice = match media_type.as_str() {
            "text/html" | "application/xhtml+xml" => ": a login or error page, or the wrong URL",
            _ => "",
        };
        let found = if media_type.is_empty() { "of no type".to_owned() } else { media_type };
        Error::ContentType { url: self.url.to_string(), found, wanted: wanted.to_owned(), advice }
    }

    /// What is wrong with the content.
    pub fn wrong(url: &Url, why: impl ToString) -> Error {
        Error::Content { url: url.to_string(), why: why.to_string() }
    }

    /// Writes the body, decompressed, to `to`.
    ///
    /// # Errors
    /// The connection broke, a limit was passed, or `to` takes no more.
    pub fn write_to(mut self, to: &mut impl Write) -> Result<(), Error> {
        // gzip is what ureq offers and undoes; it then takes the header away.
        if let Some(coding) = self.header(&header::CONTENT_ENCODING)
            && !coding.eq_ignore_ascii_case("identity")
        {
            return Err(Self::wrong(&self.url, format!("compressed with `{coding}`, which was not asked for")));
        }
        let mut piece = vec![0; PIECE];
        let mut reader = self.body.as_reader();
        loop {
            let length = match reader.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(length) => length,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(self.client.failure(&self.url, error.into())),
            };
            self.client.count(&self.url, length)?;
            to.write_all(piece.get(..length).unwrap_or_default()).map_err(Error::Keep)?;
        }
    }

    /// The body, decompressed.
    ///
    /// # Errors
    /// The connection broke, or a limit was passed.
    pub fn bytes(self) -> Result<Vec<u8>, Error> {
        let mut bytes = Vec::new();
        self.write_to(&mut bytes)?;
        Ok(bytes)
    }

    /// Why a server refuses, as far as it says so: the title of a JSON error, or the first line of a text.
    pub(super) fn reason(mut self) -> String {
        let is_page = self.media_type().contains("html");
        let mut bytes = Vec::new();
        if is_page || self.body.as_reader().take(REASON_BYTES).read_to_end(&mut bytes).is_err() {
            return String::new();
        }
        let text = String::from_utf8_lossy(&bytes);
        let reason = match serde_json::from_str::<Value>(&text) {
            Ok(document) => ["description", "title", "message", "error"]
                .iter()
                .find_map(|name| document.get(name).and_then(Value::as_str))
                .unwrap_or_default()
                .to_owned(),
            Err(_) => text.lines().next().unwrap_or_default().to_owned(),
        };
        let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
        if reason.trim().is_empty() { reason } else { format!(": {}", reason.trim()) }
    }
}
