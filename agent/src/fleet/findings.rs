//! Records on the bus: JSON lines, as `cordon log -o json` prints them, in messages that are taken once however often they are sent.

use std::collections::HashMap;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::datetime::parse_rfc3339;
use async_nats::header::NATS_MESSAGE_ID;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use futures_util::StreamExt;
use jiff::Timestamp;
use tokio::time::timeout;

use super::bus::is_missing;
use super::{Bus, Error, FINDINGS, HOSTS, Heartbeat};
use crate::attribute::Finding;
use crate::bundle::digest;

/// Bytes of a message at the most, unless one record has more.
const MESSAGE: usize = 256 << 10;
/// No more comes when nothing came for so long.
const SILENCE: Duration = Duration::from_secs(5);

/// Sends records; when this returns the bus has them all. Sending the same again does no harm: the server drops what it has, and
/// whoever reads knows a record by its id.
///
/// # Errors
/// The bus did not take all of them.
pub async fn send(bus: &Bus, host: &str, findings: &[Finding]) -> Result<(), Error> {
    for lines in messages(findings) {
        let mut headers = HeaderMap::new();
        headers.insert(NATS_MESSAGE_ID, format!("{host}:{}", digest(&lines)).as_str());
        bus.publish(format!("cordon.findings.{host}"), headers, lines.into()).await?;
    }
    Ok(())
}

/// Lines, in messages of at most [`MESSAGE`] bytes.
fn messages(findings: &[Finding]) -> Vec<Vec<u8>> {
    let mut messages: Vec<Vec<u8>> = Vec::new();
    for line in findings.iter().filter_map(|finding| serde_json::to_vec(finding).ok()) {
        match messages.last_mut().filter(|last| last.len() + line.len() < MESSAGE) {
            Some(last) => last.extend_from_slice(&line),
            None => messages.push(line),
        }
        if let Some(last) = messages.last_mut() {
            last.push(b'\n');
        }
    }
    messages
}

/// Records of the fleet that were sent since `since`, from the host that is named or from all; `take` gets each with the host's
/// name as the subject has it, or why a line is no record. Ends when all that is there was given, or with `follow` never.
///
/// # Errors
/// The bus does not give them, or `take` fails.
pub async fn receive(
    bus: &Bus,
    host: Option<&str>,
    since: Option<Timestamp>,
    follow: bool,
    mut take: impl FnMut(Result<Finding, String>) -> Result<(), Error>,
) -> Result<(), Error> {
    let what = "give records";
    let deliver_policy = match since.and_then(|since| parse_rfc3339(&since.to_string()).ok()) {
        Some(start_time) => DeliverPolicy::ByStartTime { start_time },
        None => DeliverPolicy::All,
    };
    let config = OrderedConfig {
        filter_subject: host.map_or_else(|| "cordon.findings.>".to_owned(), |host| format!("cordon.findings.{host}")),
        deliver_policy,
        replay_policy: ReplayPolicy::Instant,
        ..OrderedConfig::default()
    };
    each(bus, FINDINGS, config, follow, what, |subject, bytes| {
        let host = subject.strip_prefix("cordon.findings.").unwrap_or(subject);
        for line in bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            // Not what the message says: only who may write the subject.
            let named = |finding| Finding { host: Some(host.to_owned()), ..finding };
            take(serde_json::from_slice(line).map(named).map_err(|error| format!("{host}: {error}")))?;
        }
        Ok(())
    })
    .await
}

/// The latest heartbeat of each host, and what is none.
///
/// # Errors
/// The bus does not give them.
pub async fn hosts(bus: &Bus) -> Result<(Vec<Heartbeat>, Vec<String>), Error> {
    let config = OrderedConfig {
        filter_subject: format!("$KV.{HOSTS}.>"),
        deliver_policy: DeliverPolicy::LastPerSubject,
        ..OrderedConfig::default()
    };
    let (mut hosts, mut unread) = (HashMap::new(), Vec::new());
    each(bus, HOSTS_STREAM, config, false, "give heartbeats", |subject, bytes| {
        let host = subject.strip_prefix("$KV.").and_then(|rest| rest.strip_prefix(HOSTS)?.strip_prefix('.'));
        let host = host.unwrap_or(subject).to_owned();
        match serde_json::from_slice::<Heartbeat>(bytes) {
            Ok(heartbeat) => drop(hosts.insert(host.clone(), Heartbeat { host, ..heartbeat })),
            Err(error) => unread.push(format!("{host}: {error}")),
        }
        Ok(())
    })
    .await?;
    let mut hosts: Vec<Heartbeat> = hosts.into_values().collect();
    hosts.sort_by(|one, other| one.host.cmp(&other.host));
    Ok((hosts, unread))
}

/// The stream of the bucket of heartbeats.
const HOSTS_STREAM: &str = "KV_cordon-hosts";

/// Gives each message of a stream to `take`.
async fn each(
    bus: &Bus,
    stream: &'static str,
    config: OrderedConfig,
    follow: bool,
    what: &str,
    mut take: impl FnMut(&str, &[u8]) -> Result<(), Error>,
) -> Result<(), Error> {
    let stream = match bus.jetstream.get_stream(stream).await {
        Err(error) if is_missing(&error) => return Err(Error::NotSetUp(stream)),
        found => found.map_err(|error| bus.refused(what, error))?,
    };
    let mut consumer = stream.create_consumer(config).await.map_err(|error| bus.refused(what, error))?;
    let pending = consumer.info().await.map_err(|error| bus.refused(what, error))?.num_pending;
    if pending == 0 && !follow {
        return Ok(());
    }
    let mut messages = consumer.messages().await.map_err(|error| bus.refused(what, error))?;
    loop {
        let next = match follow {
            true => messages.next().await,
            false => timeout(SILENCE, messages.next()).await.map_err(|error| bus.refused(what, error))?,
        };
        let Some(message) = next else { return Ok(()) };
        let message = message.map_err(|error| bus.refused(what, error))?;
        take(message.subject.as_str(), &message.payload)?;
        let left = message.info().map_or(0, |info| info.pending);
        if left == 0 && !follow {
            return Ok(());
        }
    }
}
