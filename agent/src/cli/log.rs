//! `cordon log`: what was hit, as a table for people, as JSON lines, OCSF or ECS for programs.

mod show;
mod when;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use jiff::{Timestamp, ZonedDateTime};

use super::Exit;
use super::table::Terminal;
use crate::attribute::Finding;
use crate::attribute::finding::{Kind, Verdict};
use crate::journal::{Destination, Followed, JournalError, Loss, Order, Query, Reader};
use show::Show;

/// How often `-f` looks for more.
const POLL: Duration = Duration::from_millis(200);
/// Records shown when neither `--limit` nor anything else says how many.
const LIMIT: usize = 50;
/// Records shown before those that `-f` waits for.
const LIMIT_BEFORE_FOLLOWING: usize = 10;

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// One record as JSON a line.
    Json,
    /// One OCSF Detection Finding a line.
    Ocsf,
    /// One Elastic Common Schema document a line.
    Ecs,
}

/// Show what was blocked, killed or reported, oldest first.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Args {
    /// Go on with what comes; a record shows again when repeats were folded into it
    #[arg(short, long, conflicts_with = "until")]
    pub follow: bool,
    /// Not before TIME: 10m, 2h, today, yesterday, 2026-11-23, 2026-11-23T10:00, RFC 3339
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub since: Option<Timestamp>,
    /// Not after TIME
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    pub until: Option<Timestamp>,
    /// blocked, killed, reported, would_block; several with commas
    #[arg(long, value_delimiter = ',', value_parser = parse_name::<Verdict>)]
    pub verdict: Vec<Verdict>,
    /// connect, send, accept, dns, tls, http, socket, exec; several with commas
    #[arg(long, value_delimiter = ',', value_parser = parse_name::<Kind>)]
    pub kind: Vec<Kind>,
    /// Process id
    #[arg(long)]
    pub pid: Option<u32>,
    /// Executable: a path or a name, with * ? […]
    #[arg(long, value_name = "GLOB")]
    pub exe: Option<String>,
    /// Destination: an address, a prefix or a host name, with or without :PORT
    #[arg(long, value_name = "DEST")]
    pub dest: Option<Destination>,
    /// Id or value of an indicator
    #[arg(long, value_name = "ID|VALUE")]
    pub indicator: Option<String>,
    /// Threat actor, with * ? […]
    #[arg(long, value_name = "NAME")]
    pub actor: Option<String>,
    /// Source of the intelligence, as the settings name it
    #[arg(long, value_name = "NAME")]
    pub source: Option<String>,
    /// The newest N records; 0 for all [default: 50; with -f: 10, or all with --since]
    #[arg(long, short = 'n', value_name = "N")]
    pub limit: Option<usize>,
    /// How to print them
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    pub output: Option<Format>,
    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    pub json: bool,
}

pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    when::parse(text, &ZonedDateTime::now())
}

/// A unit variant by the name that serde gives it.
fn parse_name<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    let name = text.trim().to_lowercase().replace('-', "_");
    serde_json::from_value(serde_json::Value::String(name)).map_err(|error| error.to_string())
}

impl Args {
    fn format(&self) -> Format {
        self.output.unwrap_or(if self.json { Format::Json } else { Format::Table })
    }

    fn limit(&self) -> Option<usize> {
        match self.limit {
            Some(0) => None,
            Some(limit) => Some(limit),
            None if self.follow => self.since.is_none().then_some(LIMIT_BEFORE_FOLLOWING),
            None => Some(LIMIT),
        }
    }

    fn query(&self) -> Query {
        Query {
            since: self.since,
            until: self.until,
            verdicts: self.verdict.clone(),
            kinds: self.kind.clone(),
            pid: self.pid,
            exe: self.exe.clone(),
            destination: self.dest.clone(),
            indicator: self.indicator.clone(),
            actor: self.actor.clone(),
            source: self.source.clone(),
            limit: self.limit(),
            order: if self.limit().is_some() { Order::NewestFirst } else { Order::OldestFirst },
        }
    }
}

/// Prints what `args` ask for from the journal in `journal_dir`; needs no running agent.
///
/// # Errors
/// Standard output cannot be written, other than by its reader going away.
pub fn run(args: &Args, journal_dir: &Path) -> anyhow::Result<Exit> {
    let show = Show::new(args.format(), Terminal::stdout(), ZonedDateTime::now());
    let mut out = io::BufWriter::new(io::stdout().lock());
    match print(args, journal_dir, &show, &mut out) {
        Ok(exit) => Ok(exit),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        Err(error) => Err(anyhow::Error::new(error).context("cannot write to standard output")),
    }
}

/// Says why `verb` cannot read the journal; what that means to the caller.
pub(super) fn explain(verb: &str, error: &JournalError) -> Exit {
    eprintln!("cordon {verb}: {error}");
    match error {
        JournalError::NotPermitted { .. } => Exit::NotPossible,
        _ => Exit::Failed,
    }
}

fn print(args: &Args, journal_dir: &Path, show: &Show, out: &mut impl Write) -> io::Result<Exit> {
    let query = args.query();
    // The end is noted before what is there is read, so that nothing falls in between.
    let opened = Reader::open(journal_dir).and_then(|reader| {
        let follow = if args.follow { Some(reader.follow(&query)?) } else { None };
        Ok((reader, follow))
    });
    let (reader, follow) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(explain("log", &error)),
    };
    let mut exit = Exit::Done;
    let mut shown = HashMap::new();
    show.heading(out)?;
    if query.limit.is_none() && !args.follow {
        // Everything that was ever recorded need not fit in memory.
        exit = stream(&reader, &query, show, out)?;
    } else {
        let (findings, has_more) = newest(&reader, &query, &mut exit);
        let losses = losses(&reader, &query, &findings, &mut exit);
        merged(show, out, &findings, &losses)?;
        if has_more && args.limit.is_none() && !args.follow {
            show.note(out, "older records exist: --limit N shows more, --limit 0 all")?;
        }
        shown.extend(findings.into_iter().map(|finding| (finding.id, finding.count)));
    }
    out.flush()?;
    let Some(mut follow) = follow else { return Ok(exit) };
    loop {
        let followed = match follow.poll() {
            Ok(followed) => followed,
            Err(error) => return Ok(explain("log", &error)),
        };
        for item in followed {
            match item {
                // Read twice: once in what was there, once as what came.
                Followed::Record(finding) if shown.get(&finding.id) == Some(&finding.count) => {}
                Followed::Record(finding) => show.record(out, &finding)?,
                Followed::Loss(loss) => show.loss(out, &loss)?,
            }
        }
        out.flush()?;
        std::thread::sleep(POLL);
    }
}

fn stream(reader: &Reader, query: &Query, show: &Show, out: &mut impl Write) -> io::Result<Exit> {
    let mut exit = Exit::Done;
    let mut losses = losses(reader, query, &[], &mut exit).into_iter().peekable();
    for finding in reader.records(query) {
        match finding {
            Ok(finding) => {
                while let Some(loss) = losses.next_if(|loss| loss.from <= finding.time) {
                    show.loss(out, &loss)?;
                }
                show.record(out, &finding)?;
            }
            Err(error) => exit = explain("log", &error),
        }
    }
    losses.try_for_each(|loss| show.loss(out, &loss))?;
    Ok(exit)
}

/// The newest records, oldest first, and whether there are older ones.
fn newest(reader: &Reader, query: &Query, exit: &mut Exit) -> (Vec<Finding>, bool) {
    let one_more = Query { limit: query.limit.map(|limit| limit.saturating_add(1)), ..query.clone() };
    let mut findings = Vec::new();
    for finding in reader.records(&one_more) {
        match finding {
            Ok(finding) => findings.push(finding),
            Err(error) => *exit = explain("log", &error),
        }
    }
    let has_more = query.limit.is_some_and(|limit| findings.len() > limit);
    findings.truncate(query.limit.unwrap_or(usize::MAX));
    if query.order == Order::NewestFirst {
        findings.reverse();
    }
    (findings, has_more)
}

/// The losses of the time that is shown.
fn losses(reader: &Reader, query: &Query, findings: &[Finding], exit: &mut Exit) -> Vec<Loss> {
    let since = query.since.or_else(|| findings.first().map(|finding| finding.time));
    let mut losses = reader.losses(since, query.until).unwrap_or_else(|error| {
        *exit = explain("log", &error);
        Vec::new()
    });
    losses.sort_by_key(|loss| loss.from);
    losses
}

fn merged(show: &Show, out: &mut impl Write, findings: &[Finding], losses: &[Loss]) -> io::Result<()> {
    let mut losses = losses.iter().peekable();
    for finding in findings {
        while let Some(loss) = losses.next_if(|loss| loss.from <= finding.time) {
            show.loss(out, loss)?;
        }
        show.record(out, finding)?;
    }
    losses.try_for_each(|loss| show.loss(out, loss))
}
