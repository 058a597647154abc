//! `cordon policy push`: a signed repository → the message bus.

use std::path::PathBuf;

use serde_json::json;

use super::super::fleet::{OnBus, exit_of};
use super::super::table::printable;
use super::{Exit, say};
use crate::fleet::{self, Pushed};
use crate::settings::Places;

/// Put a signed repository onto the message bus; hosts that follow it there hear of it at once
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The directory that `sign` wrote
    repository: PathBuf,
    #[command(flatten)]
    on: OnBus,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// # Errors
/// The bus cannot be reached, or the repository not be read.
pub async fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let bus = args.on.connect(places).await?;
    let Pushed { version, files, bytes, removed } = match fleet::push(&bus, &args.repository).await {
        Ok(pushed) => pushed,
        Err(error) => {
            eprintln!("cordon policy: {}", printable(&error.to_string()));
            return Ok(exit_of(&error));
        }
    };
    let document = json!({ "schema": 1, "server": bus.server(), "version": version, "files": files, "bytes": bytes, "removed": removed });
    let words = format!(
        "{}: version {version}, {files} new files with {bytes} bytes, {removed} old ones removed",
        printable(&bus.server())
    );
    say(&document, args.json, &words);
    Ok(Exit::Done)
}
