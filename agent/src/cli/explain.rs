//! `cordon explain`.

use serde_json::Value;

use super::table::printable;
use super::{Exit, ask};
use crate::control::Request;
use crate::journal::Reader;
use crate::settings::Places;

/// Columns that the name of a step takes.
const STEP: usize = 10;

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

/// The answer for people: the outcome, then each step that leads there, from the source to the hooks.
pub(super) fn lines(document: &Value) -> Vec<String> {
    let mut lines = vec![format!(
        "{} ({}): {}, because {}",
        text(&document["value"]),
        text(&document["type"]),
        text(&document["outcome"]),
        text(&document["why"])
    )];
    for rule in items(&document["local_rules"]) {
        let until = or_none(&rule["until"], |until| format!(" until {until}"));
        let reason = or_none(&rule["reason"], |reason| format!(": {reason}"));
        lines.push(step("local", &format!("{} {}{until}{reason}", text(&rule["effect"]), text(&rule["value"]))));
    }
    for indicator in items(&document["indicators"]) {
        lines.extend(chain(indicator, &document["sources"]));
    }
    lines.extend(more(&document["indicators_more"], "indicators with the same value"));
    if !document["table"].is_null() {
        let table = &document["table"];
        let ends = or_none(&table["expires"], |ends| format!(", ends {ends}"));
        let (kind, entry, generation) = (text(&table["type"]), text(&table["entry"]), text(&table["generation"]));
        lines.push(step("table", &format!("{kind} {entry}, generation {generation}{ends}")));
    }
    lines.extend(judges(document));
    for skipped in items(&document["skipped"]) {
        let (origin, reason, why) = (text(&skipped["origin"]), text(&skipped["reason"]), text(&skipped["why"]));
        lines.push(step("not used", &format!("{reason}: {why}; read at {origin}")));
    }
    lines.extend(more(&document["skipped_more"], "not used"));
    lines
}

/// From the source to the rule, for one indicator.
fn chain(indicator: &Value, sources: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let name = &indicator["source"];
    let source = items(sources).find(|source| source["name"] == *name).unwrap_or(&Value::Null);
    let from = [&source["fetch"]["url"], &source["path"]].into_iter().find(|place| !place.is_null());
    let from = from.map(|place| format!(", {}", text(place))).unwrap_or_default();
    let age = source["age_seconds"].as_i64().map(|age| format!(", {age} s old")).unwrap_or_default();
    let error = or_none(&source["error"], |error| format!("; its latest reading failed: {error}"));
    lines.push(step("source", &format!("{}{from}{age}{error}", text(name))));
    let title = or_none(&indicator["name"], |name| format!(" “{name}”"));
    let confidence = or_none(&indicator["confidence"], |confidence| format!(", confidence {confidence}"));
    let tlp = or_none(&indicator["tlp"], |tlp| format!(", TLP {tlp}"));
    lines.push(step("object", &format!("{}{title}{confidence}{tlp}", text(&indicator["id"]))));
    lines.push(step("", &format!("read at {}", text(&indicator["origin"]))));
    let named = ["actors", "campaigns", "malware", "techniques"].map(|kind| (kind, &indicator["paths"][kind]));
    let told = ["reports", "references"].map(|kind| (kind, &indicator["attribution"][kind]));
    for (kind, names) in named.into_iter().chain(told) {
        let names = list(names);
        if !names.is_empty() {
            lines.push(step("", &format!("{kind}: {names}")));
        }
    }
    let until = or_none(&indicator["expires"], |expires| format!(" until {expires}"));
    let why_not = or_none(&indicator["why_not"], |why| format!("; not in force: {why}"));
    let (rule, action, value) = (text(&indicator["rule"]), text(&indicator["action"]), text(&indicator["value"]));
    lines.push(step("rule", &format!("{rule}: {action} {value}{until}{why_not}")));
    lines
}

/// What would look the value up here, and what of that is not there.
fn judges(document: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    let attached: Vec<String> =
        items(&document["hooks"]).filter(|hook| hook["state"] == "attached").map(|hook| text(&hook["hook"])).collect();
    let mode = or_none(&document["mode"], |mode| format!("{mode}; "));
    let exec = or_none(&document["exec"], |exec| format!("; execs: {exec}"));
    let judging = if attached.is_empty() {
        "no hook of the kernel looks it up".to_owned()
    } else {
        format!("looked up by {}", attached.join(", "))
    };
    if !mode.is_empty() {
        lines.push(step("here", &format!("{mode}{judging}{exec}")));
    }
    for hook in items(&document["hooks"]).filter(|hook| hook["state"] != "attached") {
        let (hook, state, why) = (text(&hook["hook"]), text(&hook["state"]), text(&hook["why"]));
        lines.push(step("", &format!("{hook} is {state}: {why}")));
    }
    lines
}

fn step(name: &str, words: &str) -> String {
    format!("  {name:<STEP$}{words}")
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// `words` about a value that is there.
fn or_none(value: &Value, words: impl FnOnce(String) -> String) -> String {
    let is_there = !value.is_null() && value.as_str() != Some("");
    if is_there { words(text(value)) } else { String::new() }
}

/// That there are more than are told.
fn more(count: &Value, what: &str) -> Option<String> {
    let count = count.as_u64().filter(|count| *count > 0)?;
    Some(step("", &format!("and {count} more {what}")))
}

/// Texts, or names with the path that led to each.
fn list(value: &Value) -> String {
    let texts = items(value).map(|item| match (item["name"].as_str(), item["path"].as_str()) {
        (Some(name), Some(path)) => format!("{} ({})", printable(name), path.replace('_', " ")),
        _ => text(item),
    });
    texts.collect::<Vec<_>>().join(", ")
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| printable(text).into_owned())
}

#[cfg(test)]
mod tests;
