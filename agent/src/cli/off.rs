//! `cordon off` and `cordon on`: break-glass.

use std::time::Duration;

use anyhow::Context;

use super::rules::parse_duration;
use super::{Exit, ask};
use crate::control::{self, Request};
use crate::kernel;
use crate::settings::Places;

/// `cordon off`
#[derive(Debug, clap::Args)]
pub struct OffArgs {
    /// How long; it ends by itself, even when the agent has died
    #[arg(long = "for", value_name = "DURATION", default_value = "10m", value_parser = parse_duration)]
    duration: Duration,
    /// Why; it goes into the log
    #[arg(long)]
    reason: String,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// `cordon on`
#[derive(Debug, clap::Args)]
pub struct OnArgs {
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// Switches everything off and removes every pin. Works without a running agent too: whoever is locked out may have killed it.
///
/// # Errors
/// A pin cannot be removed.
pub fn off(args: &OffArgs, places: &Places) -> anyhow::Result<Exit> {
    let request = Request::Off { seconds: args.duration.as_secs(), reason: args.reason.clone() };
    let document = match ask(places, &request) {
        Ok(Ok(document)) => document,
        Ok(Err(exit)) => return Ok(exit),
        Err(error) if matches!(error.downcast_ref(), Some(control::Error::NotRunning(_))) => {
            let removed = kernel::unpin_all(&places.pins).with_context(|| format!("{}", places.pins.display()))?;
            eprintln!("cordon: no agent is running; enforcement stays off until one is started");
            serde_json::json!({ "schema": 1, "off": true, "until": null, "pins_removed": removed.links + removed.maps })
        }
        Err(error) => return Err(error),
    };
    if args.json {
        println!("{document}");
    } else {
        match document["until"].as_str() {
            Some(until) => println!("off until {until}"),
            None => println!("off; removed {} pins", document["pins_removed"]),
        }
    }
    Ok(Exit::Done)
}

/// Ends `cordon off` early.
///
/// # Errors
/// No agent is running.
pub fn on(args: &OnArgs, places: &Places) -> anyhow::Result<Exit> {
    match ask(places, &Request::On)? {
        Ok(document) => {
            if args.json {
                println!("{document}");
            } else {
                println!("on");
            }
            Ok(Exit::Done)
        }
        Err(exit) => Ok(exit),
    }
}
