//! `cordon log stats`: hits by what they have in common, and when they came.

use std::io::{self, Write};
use std::path::Path;

use jiff::{SignedDuration, Timestamp, ZonedDateTime};

use super::filters::Filters;
use super::show::seconds;
use super::{Exit, explain};
use crate::attribute::finding::Verdict;
use crate::cli::table::{Cut, Terminal, Tone, fit, printable, sparkline};
use crate::journal::{Loss, Order, Query, Reader};
use crate::report::summary::{By, Groups, Outcomes, Row, VERDICTS, Window};

/// Parts that the time is cut into: hours of a day.
const BUCKETS: usize = 24;
/// What is counted unless `--since` says otherwise.
const DAY: SignedDuration = SignedDuration::from_hours(24);
/// Rows shown unless `--limit` says otherwise.
const LIMIT: usize = 20;
/// Columns that a name gets at the least, before the trend is left out.
const NAME: usize = 24;

/// Count hits by what they have in common, most first, with their trend.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// What they have in common
    #[arg(long, value_enum, default_value = "indicator")]
    by: By,
    /// Since the last 24 hours unless --since says otherwise
    #[command(flatten)]
    filters: Filters,
    /// The first N rows; 0 for all [default: 20]
    #[arg(long, short = 'n', value_name = "N")]
    limit: Option<usize>,
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// What was counted.
struct Stats {
    by: By,
    window: Window,
    total: Outcomes,
    rows: Vec<Row>,
    losses: Vec<Loss>,
}

/// Prints the counts; needs no running agent.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(args: &Args, journal_dir: &Path) -> io::Result<Exit> {
    let until = args.filters.until.unwrap_or_else(Timestamp::now);
    let since = args.filters.since.unwrap_or_else(|| until.checked_sub(DAY).unwrap_or(Timestamp::MIN));
    let Some(window) = Window::new(since, until, BUCKETS) else {
        eprintln!("cordon log stats: --since {since} is after --until {until}");
        return Ok(Exit::Usage);
    };
    let reader = match Reader::open(journal_dir) {
        Ok(reader) => reader,
        Err(error) => return Ok(explain("log stats", &error)),
    };
    let query = Query { since: Some(since), until: Some(until), ..args.filters.query(None, Order::OldestFirst) };
    let mut exit = Exit::Done;
    let stats = count(&reader, &query, args.by, window, &mut exit);
    let mut out = io::stdout().lock();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&document(&stats))?)?;
    } else {
        let limit = match args.limit {
            Some(0) => usize::MAX,
            limit => limit.unwrap_or(LIMIT),
        };
        print(&stats, limit, &Terminal::stdout(), &ZonedDateTime::now(), &mut out)?;
    }
    out.flush()?;
    Ok(exit)
}

fn count(reader: &Reader, query: &Query, by: By, window: Window, exit: &mut Exit) -> Stats {
    let (mut groups, mut total) = (Groups::new(by), Outcomes::default());
    for finding in reader.records(query) {
        match finding {
            Ok(finding) => {
                groups.add(&finding, &window);
                let hits = window.spread(&finding).map(|(_, hits)| hits).sum();
                total.add(finding.verdict, hits);
            }
            Err(error) => *exit = explain("log stats", &error),
        }
    }
    // What cannot be read was said with the records.
    let losses = reader.losses(query.since, query.until).unwrap_or_default();
    Stats { by, window, total, rows: groups.rows(), losses }
}

/// What `--json` prints; a struct, so that the schema comes first.
#[derive(serde::Serialize)]
struct Document<'a> {
    schema: u32,
    by: By,
    since: Timestamp,
    until: Timestamp,
    /// Length of each bucket of a row.
    bucket_seconds: f64,
    hits: Outcomes,
    rows: &'a [Row],
    losses: &'a [Loss],
}

fn document(stats: &Stats) -> Document<'_> {
    let (since, until) = (stats.window.since(), stats.window.until());
    Document {
        schema: 1,
        by: stats.by,
        since,
        until,
        bucket_seconds: until.duration_since(since).as_secs_f64() / BUCKETS as f64,
        hits: stats.total,
        rows: &stats.rows,
        losses: &stats.losses,
    }
}

fn print(
    stats: &Stats,
    limit: usize,
    terminal: &Terminal,
    now: &ZonedDateTime,
    out: &mut impl Write,
) -> io::Result<()> {
    let (since, until) = (seconds(stats.window.since(), now), seconds(stats.window.until(), now));
    let hits = stats.total.total();
    writeln!(out, "{}", terminal.paint(Tone::Faint, &format!("-- {hits} hits from {since} to {until} --")))?;
    let lost: u64 = stats.losses.iter().map(|loss| loss.count).sum();
    if lost > 0 {
        let text = format!("-- {lost} more hits are not recorded; `cordon log` says when and why --");
        writeln!(out, "{}", terminal.paint(Tone::Warning, &text))?;
    }
    if stats.rows.is_empty() {
        return Ok(());
    }
    // A verdict that was never given needs no column.
    let verdicts: Vec<Verdict> = match stats.by {
        By::Verdict => Vec::new(),
        _ => VERDICTS.into_iter().filter(|verdict| stats.total.of(*verdict) > 0).collect(),
    };
    let heading = heading(stats.by).to_owned();
    let shown = &stats.rows[..limit.min(stats.rows.len())];
    let numbers = numbers(shown, &verdicts);
    let layout = Layout::new(&heading, shown, &numbers, terminal);
    layout.line(out, &heading, numbers.first().map_or(&[], Vec::as_slice), "TREND", Tone::Heading, terminal)?;
    for (row, numbers) in shown.iter().zip(numbers.iter().skip(1)) {
        layout.line(out, name(row), numbers, &sparkline(&row.tally.buckets), Tone::Plain, terminal)?;
    }
    if shown.len() < stats.rows.len() {
        let text = format!("-- {} more rows: --limit N shows more, --limit 0 all --", stats.rows.len() - shown.len());
        writeln!(out, "{}", terminal.paint(Tone::Faint, &text))?;
    }
    Ok(())
}

const fn heading(by: By) -> &'static str {
    match by {
        By::Indicator => "INDICATOR",
        By::Dest => "DESTINATION",
        By::Exe => "PROGRAM",
        By::Actor => "ACTOR",
        By::Source => "SOURCE",
        By::Verdict => "VERDICT",
        By::Malware => "MALWARE",
        By::Technique => "TECHNIQUE",
    }
}

fn name(row: &Row) -> &str {
    row.name.as_deref().unwrap_or("-")
}

/// The columns between name and trend: their heading, then one line a row.
fn numbers(rows: &[Row], verdicts: &[Verdict]) -> Vec<Vec<String>> {
    let heading = ["HITS".to_owned()].into_iter().chain(verdicts.iter().map(|verdict| verdict.name().to_uppercase()));
    let of = |row: &Row| {
        let by_verdict = verdicts.iter().map(|verdict| row.tally.outcomes.of(*verdict).to_string());
        [row.tally.hits().to_string()].into_iter().chain(by_verdict).collect()
    };
    std::iter::once(heading.collect()).chain(rows.iter().map(of)).collect()
}

/// How wide the columns are.
struct Layout {
    name: usize,
    numbers: Vec<usize>,
    has_trend: bool,
}

impl Layout {
    fn new(heading: &str, rows: &[Row], numbers: &[Vec<String>], terminal: &Terminal) -> Self {
        let columns = numbers.first().map_or(0, Vec::len);
        let width_of = |column: usize| numbers.iter().map(|line| line[column].len()).max().unwrap_or(0);
        let mut widths: Vec<usize> = (0..columns).map(width_of).collect();
        let names = rows.iter().map(|row| printable(name(row)).chars().count());
        let longest = names.chain([heading.len()]).max().unwrap_or(0);
        let Some(width) = terminal.width else { return Self { name: longest, numbers: widths, has_trend: true } };
        let needs = |widths: &[usize]| widths.iter().map(|width| width + 2).sum::<usize>();
        // The verdicts go first, from the last; all hits and the trend stay as long as they can.
        while widths.len() > 1 && NAME + needs(&widths) + 2 + BUCKETS > width {
            widths.pop();
        }
        let has_trend = NAME + needs(&widths) + 2 + BUCKETS <= width;
        let taken = needs(&widths) + if has_trend { 2 + BUCKETS } else { 0 };
        Self { name: longest.min(width.saturating_sub(taken)), numbers: widths, has_trend }
    }

    fn line(
        &self,
        out: &mut impl Write,
        name: &str,
        numbers: &[String],
        trend: &str,
        tone: Tone,
        terminal: &Terminal,
    ) -> io::Result<()> {
        let mut line = fit(name, self.name, Cut::Middle);
        for (number, width) in numbers.iter().zip(&self.numbers) {
            line.push_str(&format!("  {number:>width$}"));
        }
        if self.has_trend {
            line.push_str("  ");
            line.push_str(trend);
        }
        writeln!(out, "{}", terminal.paint(tone, line.trim_end()))
    }
}

#[cfg(test)]
mod tests;
