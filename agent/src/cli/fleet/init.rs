//! `cordon fleet init`: what Cordon needs on the bus.

use serde_json::json;

use super::super::table::printable;
use super::{Exit, OnBus};
use crate::fleet::{self, Sizes};
use crate::intel::source::Age;
use crate::settings::Places;

/// Make the streams that Cordon needs in the organisation's account, or change their sizes
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    on: OnBus,
    /// Servers that have a copy of everything
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=5))]
    replicas: u8,
    /// Mebibytes of records, which the servers must have free; the oldest records go first
    #[arg(long, value_name = "MIB", default_value_t = 1024, value_parser = clap::value_parser!(u32).range(1..))]
    findings_mib: u32,
    /// How long records are kept
    #[arg(long, value_name = "AGE", default_value = "30d")]
    findings_age: Age,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// # Errors
/// The bus does not allow it.
pub async fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let bus = args.on.connect(places).await?;
    let sizes = Sizes {
        replicas: args.replicas.into(),
        findings_bytes: i64::from(args.findings_mib) << 20,
        findings_age: args.findings_age.unsigned(),
    };
    let made = fleet::set_up(&bus, &sizes).await?;
    if args.json {
        println!("{}", json!({ "schema": 1, "server": bus.server(), "made": made }));
        return Ok(Exit::Done);
    }
    let server = bus.server();
    match made.is_empty() {
        true => println!("{}: everything is there; the sizes are as given", printable(&server)),
        false => println!("{}: made {}", printable(&server), made.join(", ")),
    }
    Ok(Exit::Done)
}
