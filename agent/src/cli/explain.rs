//! `cordon explain`.

use serde_json::Value;

use super::table::printable;
use super::{Exit, ask};
use crate::control::Request;
use crate::journal::Reader;
use crate::settings::Places;

/// `cordon explain`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Address, endpoint, prefix, domain, URL, hash, absolute path, or the id of a record
    value: String,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// Says what would happen to a value, and why.
///
/// # Errors
/// No agent is running, or the journal cannot be read.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let value = match uuid::Uuid::try_parse(&args.value) {
        Ok(_) => match Reader::open(&places.journal)?.find(&args.value)? {
            Some(finding) => finding.indicator.value,
            None => anyhow::bail!("the journal has no record {}", args.value),
        },
        Err(_) => args.value.clone(),
    };
    let document = match ask(places, &Request::Explain { value })? {
        Ok(document) => document,
        Err(exit) => return Ok(exit),
    };
    if args.json {
        println!("{document}");
    } else {
        lines(&document).iter().for_each(|line| println!("{line}"));
    }
    Ok(Exit::Done)
}

fn list(value: &Value) -> String {
    let names: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    printable(&names.join(", ")).into_owned()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| printable(text).into_owned())
}

/// The answer for people.
pub(super) fn lines(document: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "{} ({}): {}, because {}",
        text(&document["value"]),
        text(&document["type"]),
        text(&document["outcome"]),
        text(&document["why"])
    )];
    for indicator in document["indicators"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  {} by {}, {}, rule {}",
            text(&indicator["value"]),
            text(&indicator["source"]),
            text(&indicator["action"]),
            text(&indicator["rule"])
        ));
        lines.push(format!("    read at {}", text(&indicator["origin"])));
        for kind in ["actors", "campaigns", "malware", "techniques", "reports", "references"] {
            let names = list(&indicator["attribution"][kind]);
            if !names.is_empty() {
                lines.push(format!("    {kind}: {names}"));
            }
        }
    }
    for skipped in document["skipped"].as_array().into_iter().flatten() {
        lines.push(format!(
            "  not used from {}: {} ({})",
            text(&skipped["origin"]),
            text(&skipped["reason"]),
            text(&skipped["why"])
        ));
    }
    lines
}
