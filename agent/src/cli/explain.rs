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
        print(&document);
    }
    Ok(Exit::Done)
}

/// Texts, or names with the path that led to each.
fn list(value: &Value) -> String {
    let items = value.as_array().into_iter().flatten();
    let texts = items.filter_map(|item| match (item["name"].as_str(), item["path"].as_str()) {
        (Some(name), Some(path)) => Some(format!("{name} ({})", path.replace('_', " "))),
        _ => item.as_str().map(str::to_owned),
    });
    printable(&texts.collect::<Vec<_>>().join(", ")).into_owned()
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| printable(text).into_owned())
}

fn print(document: &Value) {
    println!(
        "{} ({}): {}, because {}",
        text(&document["value"]),
        text(&document["type"]),
        text(&document["outcome"]),
        text(&document["why"])
    );
    for indicator in document["indicators"].as_array().into_iter().flatten() {
        println!(
            "  {} by {}, {}, rule {}",
            text(&indicator["value"]),
            text(&indicator["source"]),
            text(&indicator["action"]),
            text(&indicator["rule"])
        );
        println!("    read at {}", text(&indicator["origin"]));
        let named = ["actors", "campaigns", "malware", "techniques"].map(|kind| (kind, &indicator["paths"][kind]));
        let told = ["reports", "references"].map(|kind| (kind, &indicator["attribution"][kind]));
        for (kind, items) in named.into_iter().chain(told) {
            let items = list(items);
            if !items.is_empty() {
                println!("    {kind}: {items}");
            }
        }
    }
    more(&document["indicators_more"], "for the same value");
    for skipped in document["skipped"].as_array().into_iter().flatten() {
        println!(
            "  not used from {}: {} ({})",
            text(&skipped["origin"]),
            text(&skipped["reason"]),
            text(&skipped["why"])
        );
    }
    more(&document["skipped_more"], "not used");
}

fn more(count: &Value, what: &str) {
    if let Some(count) = count.as_u64().filter(|count| *count > 0) {
        println!("  and {count} more {what}");
    }
}

#[cfg(test)]
mod tests;
