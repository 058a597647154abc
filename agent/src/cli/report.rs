//! `cordon report`: a stretch of the journal as one page that needs nothing else.

use std::fs::{self, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use jiff::{SignedDuration, Timestamp};

use super::Exit;
use super::log::parse_time;
use crate::host;
use crate::journal::{Order, Query, Reader};
use crate::policy::Popular;
use crate::report;
use crate::report::overview::{Overview, Survey};
use crate::report::summary::{Outcomes, Window};

/// Bars of the timeline: two hours each in a week.
const BUCKETS: usize = 84;
/// What is shown unless `--since` says otherwise.
const WEEK: SignedDuration = SignedDuration::from_hours(7 * 24);
/// For whoever made it: a report says what this host runs and whom it talks to.
const MODE: u32 = 0o600;

/// Write what was hit to one HTML file with pictures, which needs no network
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// The file, written whole or not at all, for its owner only; - for standard output
    #[arg(short, long, value_name = "FILE.html")]
    output: PathBuf,
    /// Not before TIME: 2h, today, 2026-11-23, RFC 3339 [default: 7 days before the end]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<Timestamp>,
    /// Not after TIME [default: now]
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
    /// Say on standard output, as one JSON document, what was written
    #[arg(long)]
    json: bool,
}

/// Writes the page; needs no running agent. What of the journal cannot be read is said in the page and makes the exit 1.
///
/// # Errors
/// There is no journal, or the file cannot be written.
pub fn run(args: &Args, journal_dir: &Path) -> anyhow::Result<Exit> {
    let until = args.until.unwrap_or_else(Timestamp::now);
    let since = match args.since {
        Some(since) => since,
        None => until.checked_sub(WEEK)?,
    };
    let Some(window) = Window::new(since, until, BUCKETS) else {
        eprintln!("cordon report: --since {since} is after --until {until}");
        return Ok(Exit::Usage);
    };
    let reader = match Reader::open(journal_dir) {
        Ok(reader) => reader,
        Err(error) => return Ok(super::log::explain("report", &error)),
    };
    let overview = survey(&reader, window);
    let page = report::page(&overview, &host::name());
    if args.output == Path::new("-") {
        io::stdout().lock().write_all(page.as_bytes()).context("cannot write to standard output")?;
    } else {
        write(&args.output, page.as_bytes()).with_context(|| format!("cannot write {}", args.output.display()))?;
        say(args, &overview)?;
    }
    for unread in &overview.unread {
        eprintln!("cordon report: {unread}");
    }
    Ok(if overview.unread.is_empty() { Exit::Done } else { Exit::Failed })
}

fn survey(reader: &Reader, window: Window) -> Overview {
    let query = Query {
        since: Some(window.since()),
        until: Some(window.until()),
        order: Order::OldestFirst,
        ..Query::default()
    };
    let mut survey = Survey::new(window);
    let mut unread = Vec::new();
    for finding in reader.records(&query) {
        match finding {
            Ok(finding) => survey.add(&finding),
            Err(error) => unread.push(error.to_string()),
        }
    }
    // What cannot be read is said once, with the records.
    let losses = reader.losses(query.since, query.until).unwrap_or_default();
    survey.finish(losses, unread, &Popular::new())
}

/// Whole or not at all; into what is there if that is no file, as a pipe.
fn write(path: &Path, page: &[u8]) -> io::Result<()> {
    if fs::metadata(path).is_ok_and(|there| !there.is_file()) {
        return fs::OpenOptions::new().write(true).open(path)?.write_all(page);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().permissions(Permissions::from_mode(MODE)).tempfile_in(folder)?;
    file.write_all(page)?;
    file.persist(path).map_err(|error| error.error)?;
    Ok(())
}

/// What `--json` prints; a struct, so that the schema comes first.
#[derive(serde::Serialize)]
struct Document<'a> {
    schema: u32,
    file: &'a Path,
    since: Timestamp,
    until: Timestamp,
    records: u64,
    hits: Outcomes,
}

fn say(args: &Args, overview: &Overview) -> anyhow::Result<()> {
    let file = &args.output;
    if args.json {
        let (since, until) = (overview.window.since(), overview.window.until());
        let (records, hits) = (overview.records, overview.total);
        println!("{}", serde_json::to_string(&Document { schema: 1, file, since, until, records, hits })?);
    } else {
        println!("{}: {} hits in {} records", file.display(), overview.total.total(), overview.records);
    }
    Ok(())
}
