//! `cordon hunt`: whether this host has ever contacted or run what is hunted, as far as is known.

mod look;
mod wanted;

use std::path::Path;

use jiff::Timestamp;
use serde::Serialize;

use super::Exit;
use super::table::{Terminal, Tone, printable};
use crate::intel::normalise;
use crate::intel::source::{Source, load_all};
use crate::settings::Places;
use look::{Found, Hunt, Looked, Place, Unseen};
use wanted::Wanted;

/// Look for a value, or for all that a file of intelligence lists, in the journal, open flows and running programs; needs no
/// running agent
#[derive(Debug, clap::Args)]
pub struct Args {
    /// An address, prefix, endpoint, domain, URL, hash or absolute path; or a file that `cordon intel check` reads
    #[arg(value_name = "X|FILE")]
    what: String,
    /// X is a value even if there is a file of that name
    #[arg(long)]
    value: bool,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    /// How many values are hunted.
    values: usize,
    found: &'a [Found],
    looked_at: Looked,
    not_looked_at: &'a [Unseen],
}

/// Hunts. Exit is done whether or not something is found.
///
/// # Errors
/// The output cannot be made.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let wanted = match wanted(args) {
        Ok(wanted) => wanted,
        Err((exit, message)) => {
            eprintln!("cordon hunt: {message}");
            return Ok(exit);
        }
    };
    let mut hunt = Hunt::new(&wanted);
    hunt.look_at_flows();
    hunt.look_at_processes();
    hunt.look_into_journal(&places.journal);
    hunt.look_at_contacts(&places.journal);
    // What is there now comes first, then what was, the newest before.
    hunt.found.sort_by(|a, b| (a.place, b.last_seen, &a.value).cmp(&(b.place, a.last_seen, &b.value)));
    for unseen in &hunt.unseen {
        eprintln!("cordon hunt: not looked at: {}: {}", printable(&unseen.what), printable(&unseen.why));
    }
    if args.json {
        let document = Document {
            schema: 1,
            values: wanted.values().len(),
            found: &hunt.found,
            looked_at: hunt.looked,
            not_looked_at: &hunt.unseen,
        };
        println!("{}", serde_json::to_string(&document)?);
    } else {
        print!("{}", text(&hunt, wanted.values().len(), Terminal::stdout()));
    }
    Ok(Exit::Done)
}

/// What is hunted, or what is wrong with how that was said. A file of that name is intelligence; only where it cannot be read as
/// such and the name is a path is it that path which is hunted.
fn wanted(args: &Args) -> Result<Wanted, (Exit, String)> {
    let value = normalise::any(&args.what);
    let path = Path::new(&args.what);
    if args.value || !path.exists() {
        return value.map(Wanted::of).ok_or_else(|| {
            let what = "is no address, prefix, endpoint, domain, URL, hash or absolute path, and no file of that name is there";
            (Exit::Usage, format!("`{}` {what}", args.what))
        });
    }
    let source = Source { allow_reserved: true, ..Source::new("hunt", "") };
    match load_all(&source, &[path.to_owned()], Timestamp::now()) {
        Ok(load) => {
            for refused in &load.refused {
                eprintln!("cordon hunt: left out: {}", refused.error);
            }
            Ok(Wanted::listed(load.indicators.iter()))
        }
        Err(error) => match value.filter(|value| value.type_name() == "path") {
            Some(value) => {
                eprintln!("cordon hunt: {} is hunted as a path: it is no intelligence ({})", args.what, error.error);
                Ok(Wanted::of(value))
            }
            None => Err((Exit::Invalid, error.error.to_string())),
        },
    }
}

fn text(hunt: &Hunt<'_>, values: usize, terminal: Terminal) -> String {
    let rows = hunt.found.iter().map(|found| {
        let place = match found.place {
            Place::Socket => "open now",
            Place::Process => "runs now",
            Place::Journal => "journal",
            Place::Contact => "met",
        };
        let value = if found.is_host_only { format!("{} (its host)", found.value) } else { found.value.clone() };
        vec![place.to_owned(), outcome(found), value, what(found), process(found), seen(found), found.names.join(", ")]
    });
    let mut text = String::new();
    if hunt.found.is_empty() {
        text.push_str(&format!("{}\n", terminal.paint(Tone::Good, "nothing found")));
    } else {
        let heading = ["WHERE", "OUTCOME", "HUNTED", "WHAT", "PROCESS", "SEEN", "NAMES"];
        text.push_str(&terminal.table(&heading, rows));
    }
    let Looked { records, contacts, flows, processes } = hunt.looked;
    let looked = format!(
        "{values} values hunted in {records} records, {contacts} contacts and executables, {flows} open flows, {processes} running processes"
    );
    text.push_str(&format!("{}\n", terminal.paint(Tone::Faint, &looked)));
    text
}

fn outcome(found: &Found) -> String {
    let name = |value: serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let attempted = found.attempted.map(|kind| name(serde_json::json!(kind)));
    let verdict = found.verdict.map(|verdict| name(serde_json::json!(verdict)));
    let count = (found.count > 1).then(|| format!("×{}", found.count));
    [attempted, verdict, count].into_iter().flatten().collect::<Vec<_>>().join(" ")
}

fn what(found: &Found) -> String {
    match (&found.destination, &found.path, &found.sha256) {
        (Some(destination), _, _) => {
            let address = std::net::SocketAddr::new(destination.ip, destination.port);
            let domain = destination.domain.as_ref().map(|domain| format!(" {domain}")).unwrap_or_default();
            format!("{address}/{}{domain}", destination.protocol)
        }
        (None, Some(path), _) => path.clone(),
        (None, None, digest) => digest.clone().unwrap_or_default(),
    }
}

fn process(found: &Found) -> String {
    let Some(who) = &found.process else { return "?".to_owned() };
    format!("{}[{}]", who.exe.as_deref().unwrap_or("?"), who.pid)
}

fn seen(found: &Found) -> String {
    let time = |time: Timestamp| time.strftime("%Y-%m-%d %H:%M:%SZ").to_string();
    match (found.first_seen, found.last_seen) {
        (Some(first), Some(last)) if first != last => format!("{} … {}", time(first), time(last)),
        (Some(first), _) => time(first),
        _ => String::new(),
    }
}
