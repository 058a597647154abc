//! Which records: what `cordon log` and `cordon log stats` have in common. All that is given must be met.

use jiff::{Timestamp, ZonedDateTime};

use super::when;
use crate::attribute::finding::{Kind, Verdict};
use crate::journal::{Destination, Order, Query};

/// Which records.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Filters {
    /// Not before TIME: 10m, 2h, today, yesterday, 2026-11-23, 2026-11-23T10:00, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Not after TIME
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// blocked, killed, reported, would_block; several with commas
    #[arg(long, value_delimiter = ',', value_parser = parse_name::<Verdict>)]
    pub verdict: Vec<Verdict>,
    /// connect, send, accept, dns, tls, http, socket, exec; several with commas
    #[arg(long, value_delimiter = ',', value_parser = parse_name::<Kind>)]
    pub kind: Vec<Kind>,
    /// Process id
    #[arg(long)]
    pub pid: Option<u32>,
    /// Executable: a path or a name, with * ? […]
    #[arg(long, value_name = "GLOB")]
    pub exe: Option<String>,
    /// Destination: an address, a prefix or a host name, with or without :PORT
    #[arg(long, value_name = "DEST")]
    pub dest: Option<Destination>,
    /// Id or value of an indicator
    #[arg(long, value_name = "ID|VALUE")]
    pub indicator: Option<String>,
    /// SHA-256 of the file or of the process's executable, or a digest that is an indicator
    #[arg(long, value_name = "DIGEST")]
    pub hash: Option<String>,
    /// Threat actor, with * ? […]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Source of the intelligence, as the settings name it
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
}

pub(in crate::cli) fn parse_time(text: &str) -> Result<Timestamp, String> {
    when::parse(text, &ZonedDateTime::now())
}

/// A unit variant by the name that serde gives it.
fn parse_name<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let name = text.trim().to_lowercase().replace('-', "_");
    serde_json::from_value(serde_json::Value::String(name)).map_err(|error| error.to_string())
}

impl Filters {
    /// What the journal is asked for.
    pub fn query(&self, limit: Option<usize>, order: Order) -> Query {
        Query {
            since: self.since,
            until: self.until,
            verdicts: self.verdict.clone(),
            kinds: self.kind.clone(),
            pid: self.pid,
            exe: self.exe.clone(),
            destination: self.dest.clone(),
            indicator: self.indicator.clone(),
            hash: self.hash.clone(),
            actor: self.actor.clone(),
            source: self.source.clone(),
            limit,
            order,
        }
    }
}
