//! `cordon log`: what was hit, as a table for people, as JSON lines, OCSF or ECS for programs.

mod contacts;
mod filters;
pub(super) mod show;
mod stats;
mod verify;
mod when;

#[cfg(test)]
pub(super) mod tests;

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use jiff::ZonedDateTime;

use super::Exit;
use super::pager::Paged;
use super::table::Terminal;
use crate::attribute::Finding;
use crate::journal::{Followed, JournalError, Loss, Order, Query, Reader};
use filters::Filters;
pub(super) use filters::parse_time;
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
    /// One OCSF Network, DNS or Process Activity a line: what was blocked or reported, in the place of the finding.
    OcsfActivity,
    /// One Elastic Common Schema document a line.
    Ecs,
}

/// Show what was blocked, killed or reported, oldest first.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    /// Another look at the records than one by one.
    #[command(subcommand)]
    view: Option<View>,
    #[command(flatten)]
    records: Records,
    /// Compare all records with the hash chain instead: exit 1 if one was changed, removed or added
    #[arg(long, conflicts_with_all = ["follow", "Filters", "limit", "output", "no_pager"])]
    verify: bool,
}

/// Which records, and how they are shown.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Records {
    /// Which records.
    #[command(flatten)]
    pub(super) filters: Filters,
    /// Go on with what comes; a record shows again when repeats were folded into it
    #[arg(short, long, conflicts_with = "until")]
    pub(super) follow: bool,
    /// The newest N records; 0 for all [default: 50; with -f: 10, or all with --since]
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// How to print them
    #[arg(short, long, value_enum, value_name = "FORMAT")]
    output: Option<Format>,
    /// The same as -o json
    #[arg(long, conflicts_with = "output")]
    json: bool,
    /// Not through $PAGER, even if it is longer than the screen
    #[arg(long)]
    no_pager: bool,
}

#[derive(Clone, Debug, clap::Subcommand)]
enum View {
    /// Count hits by what they have in common, most first, with their trend
    Stats(Box<stats::Args>),
    /// What programs of this host reached and executed, listed or not, where `telemetry.contacts` keeps it
    Contacts(contacts::Args),
}

impl Records {
    fn format(&self) -> Format {
        self.output.unwrap_or(if self.json { Format::Json } else { Format::Table })
    }

    fn limit(&self) -> Option<usize> {
        match self.limit {
            Some(0) => None,
            Some(limit) => Some(limit),
            None if self.follow => self.filters.since.is_none().then_some(LIMIT_BEFORE_FOLLOWING),
            None => Some(LIMIT),
        }
    }

    /// Whether somebody may want to page through it.
    fn is_for_a_person(&self) -> bool {
        self.format() == Format::Table && !self.follow && !self.no_pager
    }

    fn query(&self) -> Query {
        let order = if self.limit().is_some() { Order::NewestFirst } else { Order::OldestFirst };
        self.filters.query(self.limit(), order)
    }
}

/// Prints what `args` ask for from the journal in `journal_dir`; needs no running agent.
///
/// # Errors
/// Standard output cannot be written, other than by its reader going away.
pub fn run(args: &Args, journal_dir: &Path) -> anyhow::Result<Exit> {
    written(match &args.view {
        Some(View::Stats(args)) => stats::run(args, journal_dir),
        Some(View::Contacts(args)) => contacts::run(args, journal_dir),
        None if args.verify => {
            verify::run(journal_dir, args.records.json, &mut io::BufWriter::new(io::stdout().lock()))
        }
        None => return show(&args.records, journal_dir),
    })
}

/// Prints records from the journal in `journal_dir`.
///
/// # Errors
/// As [`run`].
pub(super) fn show(records: &Records, journal_dir: &Path) -> anyhow::Result<Exit> {
    let show = Show::new(records.format(), Terminal::stdout(), ZonedDateTime::now());
    written(if records.is_for_a_person() {
        let mut out = Paged::new();
        let done = print(records, journal_dir, &show, &mut out);
        out.finish().and(done)
    } else {
        print(records, journal_dir, &show, &mut io::BufWriter::new(io::stdout().lock()))
    })
}

/// That a reader goes away is no failure.
fn written(done: io::Result<Exit>) -> anyhow::Result<Exit> {
    match done {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Exit::Done),
        done => Ok(done.context("cannot write to standard output")?),
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

fn print(args: &Records, journal_dir: &Path, show: &Show, out: &mut impl Write) -> io::Result<Exit> {
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
