//! `cordon log contacts`: what was met, whether or not anybody lists it.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use jiff::{Timestamp, ZonedDateTime};
use serde::Serialize;

use super::explain;
use super::show::seconds;
use crate::attribute::protocol_name;
use crate::cli::Exit;
use crate::cli::table::Terminal;
use crate::host;
use crate::journal::{Contacts, Met, Seen};
use crate::report;

/// How it is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// For people.
    Table,
    /// One of them as JSON a line.
    Json,
    /// One OCSF Network or Process Activity a line.
    Ocsf,
}

/// `cordon log contacts`
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Args {
    /// How to print them
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    output: Format,
    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// What `--json` prints of one; a struct, so that the schema comes first.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    kind: &'static str,
    ip: Option<IpAddr>,
    port: Option<u16>,
    protocol: Option<String>,
    /// The program that reached it, or the file that was executed.
    exe: Option<&'a str>,
    sha256: Option<&'a str>,
    pid: u32,
    first_time: Timestamp,
    last_time: Timestamp,
    count: u64,
}

impl<'a> Document<'a> {
    fn new(seen: &'a Seen) -> Self {
        let known = |text: &'a str| (!text.is_empty()).then_some(text);
        let common = Self {
            schema: 1,
            kind: "exec",
            ip: None,
            port: None,
            protocol: None,
            exe: None,
            sha256: None,
            pid: seen.pid,
            first_time: seen.first,
            last_time: seen.last,
            count: seen.count,
        };
        match &seen.met {
            Met::Contact { ip, port, protocol, exe } => Self {
                kind: "contact",
                ip: Some(*ip),
                port: Some(*port),
                protocol: Some(protocol_name(*protocol)),
                exe: known(exe),
                ..common
            },
            Met::Executable { sha256, path } => Self { exe: known(path), sha256: known(sha256), ..common },
        }
    }

    fn row(&self, now: &ZonedDateTime) -> Vec<String> {
        let what = match (self.ip, self.port, &self.protocol) {
            (Some(ip), Some(port), Some(protocol)) => format!("{} {protocol}", SocketAddr::new(ip, port)),
            _ => "executed".to_owned(),
        };
        let times = [self.last_time, self.first_time].map(|time| seconds(time, now));
        let [last, first] = times;
        vec![last, first, self.count.to_string(), self.exe.unwrap_or("?").to_owned(), what]
    }
}

/// Prints what the agent that writes the journal in `journal_dir` keeps; needs no running agent.
pub(super) fn run(args: &Args, journal_dir: &Path) -> io::Result<Exit> {
    let contacts = match Contacts::read(journal_dir) {
        Ok(Some(contacts)) => contacts,
        Ok(None) => {
            eprintln!("cordon log: no contacts are kept here; `telemetry.contacts = true` in the settings keeps them");
            return Ok(Exit::Failed);
        }
        Err(error) => return Ok(explain("log", &error)),
    };
    let mut out = io::BufWriter::new(io::stdout().lock());
    let (now, host) = (ZonedDateTime::now(), host::name());
    let format = if args.json { Format::Json } else { args.output };
    let mut rows = Vec::new();
    let mut written = Ok(());
    let read = contacts.each(|seen| {
        if written.is_err() {
            return;
        }
        written = match format {
            Format::Table => {
                rows.push(Document::new(&seen).row(&now));
                Ok(())
            }
            Format::Json => serde_json::to_string(&Document::new(&seen))
                .map_err(io::Error::from)
                .and_then(|line| writeln!(out, "{line}")),
            Format::Ocsf => writeln!(out, "{}", report::ocsf_contact(&seen, &host)),
        };
    });
    written?;
    if let Err(error) = read {
        return Ok(explain("log", &error));
    }
    if format == Format::Table {
        let heading = ["LAST", "FIRST", "COUNT", "PROGRAM", "WHAT"];
        out.write_all(Terminal::stdout().table(&heading, rows).as_bytes())?;
    }
    out.flush()?;
    Ok(Exit::Done)
}
