//! Asking servers: one client with caps on size and time, retries, conditional requests and TLS by rustls. It blocks, so it
//! runs on threads of its own.
//!
//! A proxy is taken from the environment (`https_proxy`, `no_proxy`), as other clients do.

mod access;
mod answer;
mod retry;

#[cfg(test)]
pub(crate) mod tests;

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use ureq::http::{HeaderName, HeaderValue, Request, Response, StatusCode, header, response};
use ureq::{Agent, AsSendBody, Body};
use url::{Origin, Url};

pub use access::{Access, Credential};
pub use answer::Answer;
use retry::Again;
pub use retry::{Stop, chance};

/// Redirects followed for one request.
const MAX_REDIRECTS: usize = 5;
/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Without a byte from the server.
const SILENCE: Duration = Duration::from_secs(30);

/// What one conversation with a server may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of all bodies together, after decompression.
    pub bytes: u64,
    /// All requests together, with retries and the waiting between them.
    pub time: Duration,
}

/// What is asked for.
#[derive(Clone, Debug, Default)]
pub struct Ask<'a> {
    /// `Accept`.
    pub accept: &'a str,
    /// Answer only if the entity tag is another one.
    pub if_none_match: Option<&'a str>,
    /// Answer only if it was changed since, as the server said it.
    pub if_modified_since: Option<&'a str>,
    /// A body to POST, and its type; a GET without.
    pub body: Option<(&'a [u8], &'a str)>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A secret that cannot be used.
    #[error("credential `{name}`: {why}")]
    Credential {
        /// As the settings name it.
        name: String,
        /// Why, and what to do.
        why: String,
    },
    /// Certificates that cannot be used.
    #[error("{path}: {why}")]
    Certificate {
        /// Their file.
        path: String,
        /// Why, and what to do.
        why: String,
    },
    /// What cannot be said in HTTP.
    #[error("not HTTP: {0}")]
    Syntax(#[from] ureq::http::Error),
    /// No connection, or one that broke.
    #[error("{url}: {why}")]
    Unreachable {
        /// Asked for.
        url: String,
        /// Why.
        why: String,
    },
    /// We do not believe the server, or it does not believe us.
    #[error("{url}: TLS: {why}; if the server has an authority of its own, set `ca`")]
    Untrusted {
        /// Asked for.
        url: String,
        /// Why.
        why: String,
    },
    /// A status other than success.
    #[error("{url}: the server answers {status}{says}")]
    Status {
        /// Asked for.
        url: String,
        /// Its answer.
        status: StatusCode,
        /// The reason it gives, with `: ` before it.
        says: String,
        /// When it wants to be asked again, if it said so.
        retry_after: Option<Duration>,
    },
    /// A type that nobody asked for.
    #[error("{url}: the answer is {found}, not {wanted}{advice}")]
    ContentType {
        /// Asked for.
        url: String,
        /// As the server names it.
        found: String,
        /// What would do.
        wanted: String,
        /// What that usually means.
        advice: &'static str,
    },
    /// A redirect that is not followed.
    #[error("{url}: redirected to {to}, which is not followed: {why}")]
    Redirect {
        /// Asked for.
        url: String,
        /// Where to.
        to: String,
        /// Why not.
        why: &'static str,
    },
    /// More than the limit.
    #[error("{url}: more than {limit} bytes (after decompression); raise `max_bytes` if that is right")]
    TooLarge {
        /// Asked for.
        url: String,
        /// Bytes.
        limit: u64,
    },
    /// Longer than the limit.
    #[error("{url}: not done within {} s; raise `timeout` if the server is that slow", limit.as_secs())]
    TooSlow {
        /// Asked for.
        url: String,
        /// The limit.
        limit: Duration,
    },
    /// A body that is not what was asked for.
    #[error("{url}: {why}")]
    Content {
        /// Asked for.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// What is received cannot be kept.
    #[error("cannot keep what is received: {0}")]
    Keep(#[source] io::Error),
    /// The agent stops.
    #[error("stopped")]
    Stopped,
}

/// One conversation with one server: credentials go to its origin (RFC 6454) only, and the limits hold for all of it.
pub struct Client {
    agent: Agent,
    /// For other origins, which do not see our certificate either.
    stranger: Agent,
    authorization: Option<(HeaderName, HeaderValue)>,
    origin: Origin,
    limits: Limits,
    end: Instant,
    received: AtomicU64,
    stop: Stop,
}

impl Client {
    /// Reads credentials and certificates, which may have been renewed; connects to nobody yet.
    ///
    /// # Errors
    /// A credential or certificate cannot be used.
    pub fn new(access: &Access, url: &Url, limits: Limits, stop: Stop) -> Result<Self, Error> {
        let provider = provider();
        let agent = |with_certificate| agent(access, url, &provider, with_certificate);
        Ok(Self {
            agent: agent(true)?,
            stranger: agent(false)?,
            authorization: access.authorization()?,
            origin: url.origin(),
            limits,
            end: Instant::now() + limits.time,
            received: AtomicU64::new(0),
            stop,
        })
    }

    /// Asks, and lets `read` take the answer. Both are repeated after failures that may pass: broken connections, 429, 502,
    /// 503, 504. `read` must start anew each time.
    ///
    /// # Errors
    /// [`enum@Error`], of the last attempt.
    pub fn ask<'a, T>(
        &'a self,
        url: &Url,
        ask: &Ask<'_>,
        mut read: impl FnMut(Answer<'a>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut again = Again::default();
        loop {
            let error = match self.once(url, ask).and_then(&mut read) {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let Some(pause) = again.pause_after(&error) else { return Err(error) };
            if pause > self.left() {
                return Err(error);
            }
            tracing::debug!(%error, ?pause, "asking again");
            self.pause(pause)?;
        }
    }

    /// Waits, or fails at once when the agent stops.
    ///
    /// # Errors
    /// [`Error::Stopped`].
    pub fn pause(&self, pause: Duration) -> Result<(), Error> {
        if self.stop.sleep(pause) { Err(Error::Stopped) } else { Ok(()) }
    }

    /// What is left of the time limit.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// One attempt, redirects included.
    fn once(&self, url: &Url, ask: &Ask<'_>) -> Result<Answer<'_>, Error> {
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.exchange(&at, ask)?;
            let status = response.status();
            if status.is_redirection() && status != StatusCode::NOT_MODIFIED {
                at = redirected(&at, &response, ask.body.is_some())?;
                continue;
            }
            let (parts, body) = response.into_parts();
            if status.is_success() || status == StatusCode::NOT_MODIFIED {
                return Ok(Answer::new(self, at, parts, body));
            }
            return Err(self.refusal(at, parts, body));
        }
        let why = "it is the last of too many redirects";
        Err(Error::Redirect { url: url.to_string(), to: at.to_string(), why })
    }

    fn exchange(&self, url: &Url, ask: &Ask<'_>) -> Result<Response<Body>, Error> {
        if self.stop.is_stopped() {
            return Err(Error::Stopped);
        }
        let left = self.left();
        if left.is_zero() {
            return Err(Error::TooSlow { url: url.to_string(), limit: self.limits.time });
        }
        let is_own = url.origin() == self.origin;
        let mut request = Request::builder().uri(url.as_str()).header(header::ACCEPT, ask.accept);
        if let Some(tag) = ask.if_none_match {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        if let Some(time) = ask.if_modified_since {
            request = request.header(header::IF_MODIFIED_SINCE, time);
        }
        if let Some((name, value)) = self.authorization.as_ref().filter(|_| is_own) {
            request = request.header(name, value);
        }
        let agent = if is_own { &self.agent } else { &self.stranger };
        let sent = match ask.body {
            None => run(agent, request.method("GET").body(())?, left),
            Some((body, kind)) => {
                run(agent, request.method("POST").header(header::CONTENT_TYPE, kind).body(body)?, left)
            }
        };
        sent.map_err(|error| self.failure(url, error))
    }

    /// Counts what was received; too much is an error.
    fn count(&self, url: &Url, bytes: usize) -> Result<(), Error> {
        if self.stop.is_stopped() {
            return Err(Error::Stopped);
        }
        let received = self.received.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        if received > self.limits.bytes {
            return Err(Error::TooLarge { url: url.to_string(), limit: self.limits.bytes });
        }
        Ok(())
    }

    fn refusal(&self, url: Url, parts: response::Parts, body: Body) -> Error {
        let status = parts.status;
        let retry_after = parts.headers.get(header::RETRY_AFTER).and_then(|value| retry::after(value.to_str().ok()?));
        let says = Answer::new(self, url.clone(), parts, body).reason();
        Error::Status { url: url.to_string(), status, says, retry_after }
    }

    fn failure(&self, url: &Url, error: ureq::Error) -> Error {
        let url = url.to_string();
        match error {
            ureq::Error::Timeout(ureq::Timeout::Global) => Error::TooSlow { url, limit: self.limits.time },
            ureq::Error::Timeout(step) => Error::Unreachable { url, why: format!("no answer in time ({step})") },
            ureq::Error::HostNotFound => Error::Unreachable { url, why: "no such host".to_owned() },
            ureq::Error::Rustls(error) => Error::Untrusted { url, why: error.to_string() },
            ureq::Error::Io(error) if is_tls(&error) => Error::Untrusted { url, why: error.to_string() },
            error => Error::Unreachable { url, why: error.to_string() },
        }
    }
}

/// The one cryptographic library (docs/decisions/0011).
fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn agent(access: &Access, url: &Url, provider: &Arc<CryptoProvider>, with_certificate: bool) -> Result<Agent, Error> {
    let mut config = Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .timeout_connect(Some(CONNECT_TIMEOUT))
        .timeout_per_read(Some(SILENCE))
        .timeout_per_write(Some(SILENCE))
        .user_agent(concat!("cordon/", env!("CARGO_PKG_VERSION")));
    if url.scheme() == "https" {
        config = config.tls_config(access.tls(provider, with_certificate)?);
    }
    Ok(config.build().new_agent())
}

fn run<B: AsSendBody>(agent: &Agent, request: Request<B>, left: Duration) -> Result<Response<Body>, ureq::Error> {
    agent.run(agent.configure_request(request).timeout_global(Some(left)).build())
}

/// Where a redirect leads, if it may be followed.
fn redirected(from: &Url, response: &Response<Body>, is_post: bool) -> Result<Url, Error> {
    let location = response.headers().get(header::LOCATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let refused = |why| Err(Error::Redirect { url: from.to_string(), to: location.to_owned(), why });
    let Ok(to) = from.join(location) else { return refused("it is no URL") };
    if location.is_empty() {
        return refused("it says not where to");
    }
    if to.scheme() != from.scheme() {
        return refused("it changes between http and https; put the right URL into the settings");
    }
    // RFC 9110 §15.4: only these two keep the method.
    let keeps = matches!(response.status(), StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
    if is_post && !(keeps && to.origin() == from.origin()) {
        return refused("what is sent goes to the server in the settings only");
    }
    Ok(to)
}

/// Whether an error comes out of a TLS handshake.
fn is_tls(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>())
}
