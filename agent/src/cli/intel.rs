//! `cordon intel`: check files, list the sources, read them again.

mod check;

use jiff::Timestamp;
use serde_json::Value;

use super::table::{self, Terminal, Tone, printable};
use super::{Exit, ask};
use crate::control::Request;
use crate::host::{DPKG_INFO, Packages};
use crate::settings::Places;

/// `cordon intel`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Check(check::Args),
    /// The sources of the running agent: when they were read, and what each gave
    List(ListArgs),
    /// Have the running agent fetch and read a source now, or all
    Refresh(RefreshArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
struct RefreshArgs {
    /// Its name in the settings; all of them if none is given
    source: Option<String>,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// Runs a verb of `cordon intel`.
///
/// # Errors
/// No agent is running (`list`, `refresh`), or the output cannot be written.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let (request, is_json) = match &args.verb {
        Verb::Check(args) => {
            let (output, errors) = (&mut std::io::stdout().lock(), &mut std::io::stderr().lock());
            let packages = Packages::open(DPKG_INFO.into(), places.state.join("own-files"));
            return Ok(check::run(args, &packages, Timestamp::now(), output, errors)?);
        }
        Verb::List(args) => (Request::Sources, args.json),
        Verb::Refresh(args) => (Request::Refresh { source: args.source.clone() }, args.json),
    };
    match ask(places, &request)? {
        Ok(document) if is_json => println!("{document}"),
        Ok(document) if document["sources"].is_null() => {
            println!("generation {} is live", cell(&document["generation"]))
        }
        Ok(document) => print!("{}", list(&document, Terminal::stdout())),
        Err(exit) => return Ok(exit),
    }
    Ok(Exit::Done)
}

/// The sources as a table: where each comes from, what it gave, and how old that is.
fn list(document: &Value, terminal: Terminal) -> String {
    const COLUMNS: [&str; 9] =
        ["source", "from", "action", "indicators", "block", "report", "skipped", "last good", "next"];
    let Some(sources) = document["sources"].as_array().filter(|sources| !sources.is_empty()) else {
        return "no source\n".to_owned();
    };
    let rows = sources.iter().map(|source| {
        let fetch = &source["fetch"];
        let outcome = &source["outcome"];
        let from = if fetch.is_null() { &source["path"] } else { &fetch["url"] };
        let last_good = if fetch.is_null() { &source["loaded_at"] } else { &fetch["succeeded"] };
        let next = if fetch["running"] == true { "now".to_owned() } else { time(&fetch["next"]) };
        let counts = [&source["indicators"], &outcome["block"], &outcome["report"], &outcome["skipped"]].map(cell);
        let mut row = vec![cell(&source["name"]), cell(from), cell(&source["action"])];
        row.extend(counts);
        row.extend([time(last_good), next]);
        row
    });
    let mut text = terminal.table(&COLUMNS, rows);
    for source in sources {
        for error in [&source["error"], &source["fetch"]["error"]].into_iter().filter_map(Value::as_str) {
            let line = format!("{}: {}", cell(&source["name"]), printable(error));
            text.push_str(&format!("{}\n", terminal.paint(Tone::Bad, &line)));
        }
    }
    text
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text).into_owned(),
        other => other.to_string(),
    }
}

/// A time to the second.
fn time(value: &Value) -> String {
    match value.as_str().and_then(|text| text.parse::<Timestamp>().ok()) {
        Some(time) => time.strftime("%Y-%m-%d %H:%M:%SZ").to_string(),
        None => cell(value),
    }
}
