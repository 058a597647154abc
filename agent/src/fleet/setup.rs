//! The streams that Cordon needs on the bus.

use std::time::Duration;

use async_nats::jetstream::stream::{Config, DiscardPolicy, Republish};

use super::{Bus, Error, FINDINGS, HOSTS, NEWS, POLICY};

/// A message that comes again within this time is taken once.
const DUPLICATES: Duration = Duration::from_secs(10 * 60);
/// A host that was not heard of for so long is forgotten.
const FORGOTTEN: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// What may be chosen about the streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// Servers that have a copy; 1 to 5.
    pub replicas: usize,
    /// Bytes of all records; the oldest go first.
    pub findings_bytes: i64,
    /// How long records are kept.
    pub findings_age: Duration,
}

/// Makes the streams, or changes them to what is asked for; what is in them stays. The names of those that were made.
///
/// # Errors
/// The bus does not allow it.
pub async fn set_up(bus: &Bus, sizes: &Sizes) -> Result<Vec<String>, Error> {
    let mut made = Vec::new();
    for config in streams(sizes) {
        let name = config.name.clone();
        let what = match config.max_bytes {
            0 => format!("make the stream `{name}`"),
            bytes => format!("make the stream `{name}` with {} MiB", bytes >> 20),
        };
        match bus.jetstream.get_stream(&name).await {
            Ok(_) => {
                bus.jetstream.update_stream(config).await.map_err(|error| bus.refused(&what, error))?;
            }
            Err(_) => {
                bus.jetstream.create_stream(config).await.map_err(|error| bus.refused(&what, error))?;
                made.push(name);
            }
        }
    }
    Ok(made)
}

fn streams(sizes: &Sizes) -> [Config; 3] {
    // As the library makes buckets (NATS ADR-8); it cannot on servers before 2.10, whose account information it does not read.
    let bucket = |name: &str| Config {
        name: format!("KV_{name}"),
        subjects: vec![format!("$KV.{name}.>")],
        max_messages_per_subject: 1,
        discard: DiscardPolicy::New,
        allow_rollup: true,
        deny_delete: true,
        allow_direct: true,
        num_replicas: sizes.replicas,
        ..Config::default()
    };
    let news =
        Republish { source: format!("$KV.{POLICY}.news.>"), destination: format!("{NEWS}.>"), headers_only: false };
    [
        Config { republish: Some(news), ..bucket(POLICY) },
        Config { max_age: FORGOTTEN, ..bucket(HOSTS) },
        Config {
            name: FINDINGS.to_owned(),
            subjects: vec!["cordon.findings.>".to_owned()],
            max_bytes: sizes.findings_bytes,
            max_age: sizes.findings_age,
            duplicate_window: DUPLICATES,
            num_replicas: sizes.replicas,
            ..Config::default()
        },
    ]
}
