//! `cordon intel`: check files, list the sources, read them again.

mod check;

use jiff::Timestamp;
use serde_json::Value;

use super::table::{self, Terminal};
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
    /// Have the running agent read a source again, or all
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
        Ok(document) => print!("{}", list(&document, Terminal::stdout())),
        Err(exit) => return Ok(exit),
    }
    Ok(Exit::Done)
}

/// The sources as a table: one row for each entry of `sources`, one column for each of its plain fields.
fn list(document: &Value, terminal: Terminal) -> String {
    const FIRST: [&str; 4] = ["name", "path", "action", "loaded_at"];
    let Some(sources) = document.get("sources").and_then(Value::as_array).filter(|sources| !sources.is_empty()) else {
        return "no source\n".to_owned();
    };
    let mut columns: Vec<&str> =
        FIRST.iter().copied().filter(|name| sources.iter().any(|s| s.get(name).is_some())).collect();
    for source in sources {
        for (name, value) in source.as_object().into_iter().flatten() {
            if !columns.contains(&name.as_str()) && !value.is_object() && !value.is_array() {
                columns.push(name);
            }
        }
    }
    let cell = |value: Option<&Value>| match value {
        None | Some(Value::Null) => "-".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let rows = sources.iter().map(|source| columns.iter().map(|name| cell(source.get(*name))).collect());
    terminal.table(&columns, rows)
}
