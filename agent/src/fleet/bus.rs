//! The connection.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, Context, kv};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, Subscriber};
use bytes::Bytes;

use super::{Error, HOSTS, NEWS, POLICY};
use crate::http::chance;
use crate::settings::bus::Connection;

/// Until a connection stands.
const CONNECT: Duration = Duration::from_secs(10);
/// For an answer.
const ANSWER: Duration = Duration::from_secs(10);
/// A server that says nothing for three of these is gone.
const PING: Duration = Duration::from_secs(15);
/// Between two attempts at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// Header of a value that was removed (NATS ADR-8).
const OPERATION: &str = "KV-Operation";

/// What the connection tells of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It stands, for the first time or again.
    Connected,
    /// It does not.
    Lost,
    /// The bus refused something, or an attempt to connect failed.
    Refused(String),
}

/// Whom a value is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// Any server that has it; it may be behind for a moment.
    Any,
    /// The one that orders all writes.
    Leader,
}

/// A value of a bucket.
pub(super) struct Value {
    pub(super) bytes: Bytes,
    pub(super) revision: u64,
}

/// A connection to the bus.
#[derive(Clone, Debug)]
pub struct Bus {
    client: Client,
    pub(super) jetstream: Context,
    servers: Arc<str>,
}

impl Bus {
    /// Connects, once.
    ///
    /// # Errors
    /// A credential cannot be used, or no server can be reached.
    pub async fn connect(to: &Connection) -> Result<Self, Error> {
        // The library waits before the first attempt, too: a fleet that comes up must, somebody at a terminal need not.
        let at_once = |attempts| if attempts <= 1 { Duration::ZERO } else { pause(attempts) };
        Self::with(to, options(to)?.reconnect_delay_callback(at_once)).await
    }

    /// Returns at once, and connects again and again, for as long as it is kept; `hear` is told how that goes.
    ///
    /// # Errors
    /// A credential cannot be used.
    pub async fn keep(
        to: &Connection,
        host: &str,
        hear: impl Fn(Heard) + Send + Sync + 'static,
    ) -> Result<Self, Error> {
        let hear = Arc::new(hear);
        let options = options(to)?
            .name(format!("cordon {host}"))
            .custom_inbox_prefix(format!("_INBOX.{host}"))
            .retry_on_initial_connect()
            .event_callback(move |event| {
                let hear = Arc::clone(&hear);
                async move {
                    match event {
                        Event::Connected => hear(Heard::Connected),
                        Event::Disconnected | Event::Closed => hear(Heard::Lost),
                        Event::ServerError(error) => hear(Heard::Refused(error.to_string())),
                        Event::ClientError(error) => hear(Heard::Refused(error.to_string())),
                        // Draining is our own doing; of the others the next event tells what becomes.
                        Event::Draining | Event::LameDuckMode | Event::SlowConsumer(_) => {}
                    }
                }
            });
        Self::with(to, options).await
    }

    async fn with(to: &Connection, options: ConnectOptions) -> Result<Self, Error> {
        let servers: Vec<&str> = to.servers.iter().map(url::Url::as_str).collect();
        let unreachable = |why: String| Error::Unreachable { servers: to.names(), why };
        let addresses = servers.iter().map(|server| server.parse()).collect::<Result<Vec<async_nats::ServerAddr>, _>>();
        let addresses = addresses.map_err(|error| unreachable(error.to_string()))?;
        let client = options.connect(addresses).await.map_err(|error| unreachable(error.to_string()))?;
        let mut jetstream = jetstream::new(client.clone());
        jetstream.set_timeout(ANSWER);
        Ok(Self { client, jetstream, servers: Arc::from(to.names()) })
    }

    /// Whether it stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.client.connection_state() == async_nats::connection::State::Connected
    }

    /// The server that it stands with.
    #[must_use]
    pub fn server(&self) -> String {
        let info = self.client.server_info();
        format!("{} {}", info.server_name, info.version)
    }

    /// Hears what is new: a policy, an order. Goes on after a reconnect; what came meanwhile is not heard.
    ///
    /// # Errors
    /// The connection was closed.
    pub async fn news(&self) -> Result<Subscriber, Error> {
        let heard = self.client.subscribe(format!("{NEWS}.>")).await;
        heard.map_err(|error| self.refused("tell what is new", error))
    }

    /// Leaves the latest of a host there.
    ///
    /// # Errors
    /// It was not taken.
    pub async fn beat(&self, host: &str, heartbeat: Vec<u8>) -> Result<(), Error> {
        self.publish(format!("$KV.{HOSTS}.{host}"), HeaderMap::new(), heartbeat.into()).await.map(drop)
    }

    /// Publishes to a stream, and waits until that has it; its number there.
    pub(super) async fn publish(&self, subject: String, headers: HeaderMap, bytes: Bytes) -> Result<u64, Error> {
        let what = format!("take a message for `{subject}`");
        let sent = self.jetstream.publish_with_headers(subject, headers, bytes).await;
        let taken = sent.map_err(|error| self.refused(&what, error))?.await;
        taken.map(|ack| ack.sequence).map_err(|error| self.refused(&what, error))
    }

    /// The value of a key among what is signed; `None` where there is none.
    pub(super) async fn read(&self, key: &str, from: Reader) -> Result<Option<Value>, Error> {
        let what = format!("give `{key}`");
        let stream = self.jetstream.get_stream_no_info(format!("KV_{POLICY}")).await;
        let stream = stream.map_err(|error| self.refused(&what, error))?;
        let subject = format!("$KV.{POLICY}.{key}");
        let message = match from {
            Reader::Any => match stream.direct_get_last_for_subject(subject).await {
                Err(error) if error.kind() == jetstream::stream::DirectGetErrorKind::NotFound => return Ok(None),
                answer => answer.map_err(|error| self.refused(&what, error))?,
            },
            Reader::Leader => match stream.get_last_raw_message_by_subject(&subject).await {
                Err(error) if error.kind() == jetstream::stream::LastRawMessageErrorKind::NoMessageFound => {
                    return Ok(None);
                }
                answer => answer.map_err(|error| self.refused(&what, error))?,
            },
        };
        let is_removed = message.headers.get(OPERATION).is_some();
        Ok((!is_removed).then_some(Value { bytes: message.payload, revision: message.sequence }))
    }

    /// A bucket, for those who may look after it.
    pub(super) async fn bucket(&self, name: &'static str) -> Result<kv::Store, Error> {
        let store = self.jetstream.get_key_value(name).await;
        store.map_err(|error| match self.is_connected() {
            true if is_missing(&error) => Error::NotSetUp(name),
            _ => self.refused(&format!("open `{name}`"), error),
        })
    }

    pub(super) fn refused(&self, what: &str, why: impl std::error::Error) -> Error {
        let why = with_causes(&why);
        match self.is_connected() {
            true => Error::Refused { what: what.to_owned(), why },
            false => Error::Unreachable { servers: self.servers.to_string(), why },
        }
    }
}

/// Whether a stream is not there: "stream not found", as the server numbers it.
pub(super) fn is_missing(error: &dyn std::error::Error) -> bool {
    // The library tells it by words only.
    with_causes(error).contains("10059")
}

/// An error with what is behind it, each said once.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        next = cause.source();
    }
    text
}

fn options(to: &Connection) -> Result<ConnectOptions, Error> {
    let mut options = ConnectOptions::new()
        .connection_timeout(CONNECT)
        .request_timeout(Some(ANSWER))
        .ping_interval(PING)
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .require_tls(to.needs_tls());
    if to.needs_tls() || to.access.ca.is_some() {
        options = options.tls_client_config(to.access.client_config()?);
    }
    if let Some(credentials) = &to.credentials {
        let bad =
            |error: std::io::Error| Error::Unreachable { servers: to.names(), why: format!("credentials: {error}") };
        // The library finds the seed by the line end behind its frame, which a secret has not.
        options = options.credentials(&(credentials.text()? + "\n")).map_err(bad)?;
    }
    if let Some(nkey) = &to.nkey {
        options = options.nkey(nkey.text()?);
    }
    if let (Some(username), Some(password)) = (&to.access.username, &to.access.password) {
        options = options.user_and_password(username.clone(), password.text()?);
    }
    if let Some(token) = &to.access.token {
        options = options.token(token.text()?);
    }
    Ok(options)
}

/// Before another attempt: so that a fleet does not come back in step.
fn pause(attempts: usize) -> Duration {
    let doublings = u32::try_from(attempts).unwrap_or(u32::MAX).min(7);
    (Duration::from_millis(250) * 2_u32.pow(doublings)).min(LONGEST_PAUSE).mul_f64(0.5 + chance())
}
