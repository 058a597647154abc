//! `cordon status`.

use serde::Deserialize;
use serde_json::Value;

use super::doctor::exec_words;
use super::table::{Terminal, Tone, printable};
use super::{Exit, ask};
use crate::control::Request;
use crate::kernel::probe::ExecPath;
use crate::settings::Places;

/// `cordon status`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// Prints what the running agent is doing.
///
/// # Errors
/// No agent is running.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let document = match ask(places, &Request::Status)? {
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

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text).into_owned(),
        other => other.to_string(),
    }
}

fn rows(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// Whose policy is in force, on a host that takes one.
fn print_policy(policy: &Value, terminal: Terminal) {
    if policy["group"].is_null() {
        return;
    }
    let (tone, stale) = if policy["stale"].is_null() { (Tone::Plain, "") } else { (Tone::Bad, ", STALE") };
    let [serial, group, tenant, checked] = ["serial", "group", "tenant", "checked"].map(|key| text(&policy[key]));
    let line = format!("serial {serial} for group {group} of {tenant}, looked at {checked}{stale}");
    println!("policy       {}", terminal.paint(tone, &line));
}

/// How it goes with the message bus, on a host that has one.
fn print_bus(bus: &Value, terminal: Terminal) {
    if bus.is_null() {
        return;
    }
    let [server, host, since, sent] = ["server", "host", "since", "findings_sent"].map(|key| text(&bus[key]));
    let (tone, line) = match bus["connected"].as_bool() {
        Some(true) => (Tone::Plain, format!("{server} as {host} since {since}, {sent} records sent")),
        _ => (Tone::Bad, format!("not connected: {}", text(&bus["error"]))),
    };
    println!("bus          {}", terminal.paint(tone, &line));
}

fn print(document: &Value) {
    let terminal = Terminal::stdout();
    let mode = text(&document["mode"]);
    let tone = if mode == "enforce" { Tone::Good } else { Tone::Notice };
    println!("mode         {}", terminal.paint(tone, &mode));
    if !document["off"].is_null() {
        println!("off until    {} ({})", text(&document["off"]["until"]), text(&document["off"]["reason"]));
        return;
    }
    println!("generation   {}, live since {}", text(&document["generation"]), text(&document["published"]));
    print_policy(&document["policy"], terminal);
    print_bus(&document["bus"], terminal);
    println!("values       {} in {} bytes", text(&document["tables"]["entries"]), text(&document["tables"]["bytes"]));
    for unenforced in rows(&document["tables"]["not_enforced"]) {
        println!("not enforced {} ({})", text(&unenforced["count"]), text(&unenforced["reason"]));
    }
    if let Ok(exec) = ExecPath::deserialize(&document["exec"]) {
        let (tone, words) = exec_words(exec);
        println!("exec         {}", terminal.paint(tone, words));
    }
    let counters = &document["counters"];
    let by_guard = document["losses"]["exec_guard.denied"].as_u64().unwrap_or(0);
    let [blocked, reported] = ["blocked", "reported"].map(|key| text(&counters[key]));
    println!("blocked      {blocked} by the kernel, {by_guard} by the exec guard; reported {reported}");
    let hits = &document["hits"];
    let [counted, recorded, unrecorded] = ["counted", "recorded", "unrecorded"].map(|key| text(&hits[key]));
    println!(
        "hits         {counted} counted in this generation, {recorded} recorded, {unrecorded} on their way or lost"
    );
    println!();
    let sources = rows(&document["sources"]).iter().map(|source| {
        let outcome = &source["outcome"];
        vec![
            text(&source["name"]),
            text(&source["action"]),
            text(&source["indicators"]),
            text(&outcome["block"]),
            text(&outcome["report"]),
            text(&outcome["skipped"]),
            source["age_seconds"].as_i64().map_or_else(|| "-".to_owned(), |age| format!("{age} s")),
        ]
    });
    println!("{}", terminal.table(&["source", "action", "read", "block", "report", "skipped", "age"], sources));
    if !document["sightings"].is_null() {
        let told = rows(&document["sightings"]["destinations"]).iter().map(|destination| {
            let withheld = destination["withheld"].as_object().into_iter().flatten();
            let withheld: Vec<String> = withheld.map(|(why, count)| format!("{why} {count}")).collect();
            let mut row =
                vec![text(&destination["name"]), text(&destination["audience"]), text(&destination["max_tlp"])];
            row.extend(["sent", "waiting", "refused", "dropped"].map(|name| text(&destination[name])));
            row.push(if withheld.is_empty() { "0".to_owned() } else { withheld.join(", ") });
            row
        });
        let heading = ["sightings to", "audience", "max tlp", "sent", "waiting", "refused", "dropped", "withheld"];
        println!("{}", terminal.table(&heading, told));
    }
    let hooks =
        rows(&document["hooks"]).iter().map(|hook| vec![text(&hook["hook"]), text(&hook["state"]), text(&hook["why"])]);
    println!("{}", terminal.table(&["hook", "state", "why"], hooks));
    for fault in rows(&document["faults"]) {
        let line = format!(
            "{} {} {}: {}",
            text(&fault["number"]),
            text(&fault["title"]),
            text(&fault["subject"]),
            text(&fault["detail"])
        );
        println!("{}", terminal.paint(Tone::Bad, &line));
    }
}
