//! `cordon block`, `cordon allow`, `cordon unblock`: rules of this host's operator.

use std::time::Duration;

use jiff::Timestamp;

#[cfg(feature = "bus")]
use super::fleet::order::{self, ToFleet};
use super::{Exit, ask};
use crate::control::{Effect, LocalRule, Request};
use crate::settings::Places;

/// What `block` and `allow` have in common.
#[derive(Debug, clap::Args)]
pub struct RuleArgs {
    /// Address, endpoint, prefix, domain, hash or absolute path
    value: String,
    /// How long, as in `90s`, `2h` or `1d`; for good unless given
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration)]
    duration: Option<Duration>,
    /// Why; it goes into the log
    #[arg(long)]
    reason: Option<String>,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// `cordon block`
#[derive(Debug, clap::Args)]
pub struct BlockArgs {
    #[command(flatten)]
    rule: RuleArgs,
    #[cfg(feature = "bus")]
    #[command(flatten)]
    to: ToFleet,
}

/// `cordon allow`
#[derive(Debug, clap::Args)]
pub struct AllowArgs {
    #[command(flatten)]
    rule: RuleArgs,
}

/// `cordon unblock`
#[derive(Debug, clap::Args)]
pub struct UnblockArgs {
    /// The value, as it was given to `block` or `allow`
    value: String,
    #[cfg(feature = "bus")]
    #[command(flatten)]
    to: ToFleet,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// # Errors
/// No agent is running.
pub fn block(args: &BlockArgs, places: &Places) -> anyhow::Result<Exit> {
    #[cfg(feature = "bus")]
    if args.to.fleet {
        let RuleArgs { value, duration, reason, json } = &args.rule;
        return order::block(&args.to, value, *duration, reason.clone(), *json, places);
    }
    add(&args.rule, Effect::Block, places)
}

/// # Errors
/// No agent is running.
pub fn allow(args: &AllowArgs, places: &Places) -> anyhow::Result<Exit> {
    add(&args.rule, Effect::Allow, places)
}

/// # Errors
/// No agent is running.
pub fn unblock(args: &UnblockArgs, places: &Places) -> anyhow::Result<Exit> {
    #[cfg(feature = "bus")]
    if args.to.fleet {
        return order::unblock(&args.to, &args.value, args.json, places);
    }
    say(ask(places, &Request::RemoveRule { value: args.value.clone() })?, args.json)
}

fn add(args: &RuleArgs, effect: Effect, places: &Places) -> anyhow::Result<Exit> {
    let until = args.duration.map(|duration| Timestamp::now().checked_add(duration)).transpose()?;
    let rule = LocalRule { value: args.value.clone(), effect, until, reason: args.reason.clone() };
    say(ask(places, &Request::AddRule { rule })?, args.json)
}

fn say(answer: Result<serde_json::Value, Exit>, json: bool) -> anyhow::Result<Exit> {
    match answer {
        Ok(document) if json => println!("{document}"),
        Ok(document) => println!("generation {} is live", document["generation"]),
        Err(exit) => return Ok(exit),
    }
    Ok(Exit::Done)
}

/// `90s`, `2h30m`, `1d`: jiff's friendly durations, positive and at most a year.
pub(super) fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("`{text}` is no duration; write for example 90s, 10m, 2h or 1d");
    let span: jiff::Span = text.parse().map_err(|_| bad())?;
    let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| bad())?;
    let duration = Duration::try_from(duration).map_err(|_| bad())?;
    if duration.is_zero() || duration > Duration::from_secs(366 * 86_400) {
        return Err(format!("`{text}` is not between a second and a year"));
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        assert_eq!(parse_duration("90s"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_duration("10m"), Ok(Duration::from_secs(600)));
        assert_eq!(parse_duration("1d"), Ok(Duration::from_secs(86_400)));
        for bad in ["", "ten", "0s", "-5m", "400d"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
    }
}
