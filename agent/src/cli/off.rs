//! `cordon off` and `cordon on`: break-glass.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::Context;
use jiff::Timestamp;

use super::rules::parse_duration;
use super::{Exit, ask};
use crate::app::{Off, Operator};
use crate::control::{self, Answer, Request};
use crate::kernel;
use crate::settings::Places;

/// Compiling millions of indicators on the way up takes seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// `cordon off`
#[derive(Debug, clap::Args)]
pub struct OffArgs {
    /// How long; the agent then switches itself on again. It stays off across restarts, also when none is running now
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
        Ok(Ok(document)) => {
            settle(places, State::Off)?;
            document
        }
        Ok(Err(exit)) => return Ok(exit),
        Err(error) if is_not_running(&error) => off_without_agent(args, places)?,
        Err(error) => return Err(error),
    };
    if args.json {
        println!("{document}");
    } else {
        println!("off until {}; removed {} pins", document["until"].as_str().unwrap_or("?"), document["pins_removed"]);
    }
    Ok(Exit::Done)
}

/// Written down before the pins go: systemd may be about to start the agent that died.
fn off_without_agent(args: &OffArgs, places: &Places) -> anyhow::Result<serde_json::Value> {
    let until = Timestamp::now().checked_add(args.duration).unwrap_or(Timestamp::MAX);
    Operator::open(&places.state)?.set_off(Some(Off { until, reason: args.reason.clone() }))?;
    let removed = kernel::unpin_all(&places.pins).with_context(|| {
        format!(
            "{}; under self-protection only the program at the path that the agent was started from may remove pins",
            places.pins.display()
        )
    })?;
    eprintln!("cordon: no agent is running; one that is started before then stays off until then");
    let pins = removed.links + removed.maps;
    Ok(serde_json::json!({ "schema": 1, "off": true, "until": until, "pins_removed": pins }))
}

fn is_not_running(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(control::Error::NotRunning(_)))
}

/// Ends `cordon off` early.
///
/// # Errors
/// No agent is running; the next one that is started is on.
pub fn on(args: &OnArgs, places: &Places) -> anyhow::Result<Exit> {
    let answer = match ask(places, &Request::On) {
        Err(error) if is_not_running(&error) => {
            Operator::open(&places.state)?.set_off(None)?;
            return Err(error);
        }
        answer => answer?,
    };
    match answer {
        Ok(document) => {
            settle(places, State::On)?;
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

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Off,
    On,
}

/// Waits until the agent has come up in `wanted`: between the two it lets go of its socket for a moment.
fn settle(places: &Places, wanted: State) -> anyhow::Result<()> {
    let end = Instant::now() + PATIENCE;
    loop {
        let state = match control::ask(&places.socket, &Request::Status) {
            Ok(Answer::Done(document)) if document["off"].is_null() => Some(State::On),
            Ok(Answer::Done(_)) => Some(State::Off),
            Ok(Answer::Failed { .. }) | Err(control::Error::NotRunning(_)) => None,
            Err(error) => return Err(error.into()),
        };
        if state == Some(wanted) {
            return Ok(());
        }
        anyhow::ensure!(
            Instant::now() < end,
            "the agent did not come up again within {} s; see its log",
            PATIENCE.as_secs()
        );
        sleep(Duration::from_millis(20));
    }
}
