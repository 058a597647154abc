//! `cordon intel check`: parse without loading.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::Timestamp;
use serde::Serialize;

use super::Exit;
use super::table::{Terminal, Tone};
use crate::app::own_files;
use crate::host::{DPKG_INFO, Packages};
use crate::intel::parse::{Column, Columns, Format, ToIds};
use crate::intel::source::{Age, FileError, Load, Source, load_all};
use crate::intel::{Action, Observable, SkipReason, Skipped, Skips};
use crate::policy::{Outcome, RuledValues, Rules, Supply, WarningList, WarningListError, rule};

/// Examples of each reason, unless all are asked for.
const EXAMPLES: usize = 5;

/// Read intelligence without loading it: what would block, what would be reported, what is skipped and why
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Files and directories; a file named here must be readable intelligence, one found in a directory is left out if it is not
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// One JSON document on standard output
    #[arg(long)]
    pub json: bool,
    /// Name everything that is skipped, not only the first five of each reason
    #[arg(long)]
    pub all: bool,
    /// The time at which validity is judged (RFC 3339), so that results repeat; default: now
    #[arg(long, value_name = "TIME")]
    pub at: Option<Timestamp>,
    /// How the files are written; `auto` tells by their content
    #[arg(long, default_value_t = Format::AUTO, value_parser = PossibleValuesParser::new(Format::names()).try_map(|name| name.parse::<Format>()))]
    pub format: Format,
    /// honour or ignore: whether MISP attributes without to_ids are skipped or used
    #[arg(long, default_value = "honour", value_parser = parse_to_ids)]
    pub to_ids: ToIds,
    /// Which column of a CSV file holds what, by its name or its number from 1: value, type, port, name, confidence, malware,
    /// actor, modified, valid_until, reference or tlp; may be given several times
    #[arg(long, value_name = "WHAT=COLUMN", value_parser = parse_column)]
    pub column: Vec<(String, Column)>,
    /// Accept loopback, private, documentation and other reserved addresses
    #[arg(long)]
    pub allow_reserved: bool,
    /// Accept popular sites and the names above them
    #[arg(long)]
    pub allow_popular: bool,
    /// block or report
    #[arg(long, default_value = "block", value_parser = parse_action)]
    pub action: Action,
    /// Skip indicators of a lower confidence, 0 to 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(0..=100))]
    pub min_confidence: Option<u8>,
    /// Skip indicators whose latest version is older: 90d, 12h
    #[arg(long, value_name = "AGE")]
    pub max_age: Option<Age>,
    /// Skip what is on this MISP warning list; may be given several times
    #[arg(long, value_name = "FILE")]
    pub warning_list: Vec<PathBuf>,
}

fn parse_action(text: &str) -> Result<Action, String> {
    match text {
        "block" => Ok(Action::Block),
        "report" => Ok(Action::Report),
        _ => Err("it is block or report".to_owned()),
    }
}

fn parse_column(text: &str) -> Result<(String, Column), String> {
    let (what, column) = text.split_once('=').ok_or("it is WHAT=COLUMN, such as value=ioc or value=3")?;
    let column = column.parse().map_or_else(|_| Column::Name(column.to_owned()), Column::Number);
    // Whether there is such a thing to be said is asked of what reads the settings.
    columns(&[(what.to_owned(), column.clone())]).map_err(|error| error.to_string())?;
    Ok((what.to_owned(), column))
}

/// As `[source.csv]` would say it.
fn columns(said: &[(String, Column)]) -> serde_json::Result<Columns> {
    let said: BTreeMap<&str, &Column> = said.iter().map(|(what, column)| (what.as_str(), column)).collect();
    serde_json::from_value(serde_json::to_value(said)?)
}

fn parse_to_ids(text: &str) -> Result<ToIds, String> {
    match text {
        "honour" => Ok(ToIds::Honour),
        "ignore" => Ok(ToIds::Ignore),
        _ => Err("it is honour or ignore".to_owned()),
    }
}

/// Why a check came to no result.
#[derive(Debug, thiserror::Error)]
enum Error {
    #[error(transparent)]
    File(#[from] FileError),
    #[error("{path}: {error}")]
    Unreadable { path: PathBuf, error: io::Error },
    #[error(transparent)]
    WarningList(#[from] WarningListError),
}

#[derive(Serialize)]
struct Example {
    #[serde(rename = "where")]
    place: String,
    value: String,
    why: String,
}

#[derive(Serialize)]
struct Reason {
    reason: SkipReason,
    count: u64,
    examples: Vec<Example>,
}

#[derive(Serialize)]
struct Refusal {
    file: String,
    why: String,
}

/// The document, its fields in the order in which they are printed.
#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    files: u64,
    indicators: u64,
    outcome: Outcome,
    values: Values,
    skipped: Vec<Reason>,
    /// Values left out of indicators of which others are used.
    trimmed: Vec<Reason>,
    superseded: u64,
    refused: Vec<Refusal>,
    /// As what the files were read, and how many as each.
    read_as: &'a BTreeMap<String, u64>,
}

/// Distinct values by type, in the order of [`Observable::TYPE_NAMES`].
struct Values([usize; Observable::TYPE_NAMES.len()]);

impl Values {
    fn of(ruled: &RuledValues) -> Self {
        let mut addresses: Vec<u32> = Vec::new();
        let mut others: [Vec<u128>; Observable::TYPE_NAMES.len()] = Default::default();
        for value in (0..ruled.len()).filter_map(|index| ruled.value(index).ok()) {
            match value {
                Observable::Ipv4(address) => addresses.push(address.to_bits()),
                value => {
                    let slot = Observable::TYPE_NAMES.iter().position(|name| *name == value.type_name());
                    others
                        .iter_mut()
                        .skip(slot.unwrap_or_default())
                        .take(1)
                        .for_each(|of_type| of_type.push(hash(&value)));
                }
            }
        }
        let mut values = Self(others.map(distinct));
        if let Some(count) = values.0.first_mut() {
            *count += distinct(addresses);
        }
        values
    }
}

/// Tells values apart that do not fit into a number themselves: of a million, two share one with a chance of 2⁻⁸⁸.
fn hash(value: &Observable) -> u128 {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        (salt, value).hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

fn distinct<T: Ord>(mut values: Vec<T>) -> usize {
    values.sort_unstable();
    values.dedup();
    values.len()
}

impl Serialize for Values {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // The type that came after the first release is told where there is any.
        let told = |(name, count): &(&&str, usize)| **name != "process" || *count > 0;
        serializer.collect_map(Observable::TYPE_NAMES.iter().zip(self.0).filter(told))
    }
}

fn reasons(skipped: [&Skips; 2], most: usize) -> Vec<Reason> {
    let mut by_reason: BTreeMap<SkipReason, Reason> = BTreeMap::new();
    for (reason, count) in skipped.into_iter().flat_map(Skips::counts) {
        let entry = by_reason.entry(*reason).or_insert(Reason { reason: *reason, count: 0, examples: Vec::new() });
        entry.count += count;
    }
    let mut wanted: u64 = by_reason.values().map(|reason| reason.count.min(most as u64)).sum();
    let mut all = skipped.into_iter().flat_map(Skips::iter);
    while wanted > 0
        && let Some(Skipped { reason, origin, value, why }) = all.next()
    {
        if let Some(entry) = by_reason.get_mut(&reason).filter(|entry| entry.examples.len() < most) {
            entry.examples.push(Example { place: origin.to_string(), value, why });
            wanted -= 1;
        }
    }
    by_reason.into_values().collect()
}

fn warning_list(path: &Path) -> Result<WarningList, Error> {
    let bytes = std::fs::read(path).map_err(|error| Error::Unreadable { path: path.to_owned(), error })?;
    Ok(WarningList::parse(&path.to_string_lossy(), &bytes)?)
}

fn load(args: &Args, packages: &Packages, now: Timestamp) -> Result<(Load, Rules), Error> {
    let warning_lists = args.warning_list.iter().map(|path| warning_list(path)).collect::<Result<_, _>>()?;
    let source = Source {
        format: args.format,
        action: args.action,
        allow_reserved: args.allow_reserved,
        allow_popular: args.allow_popular,
        min_confidence: args.min_confidence,
        max_age: args.max_age,
        to_ids: args.to_ids,
        csv: columns(&args.column).unwrap_or_default(),
        ..Source::new("check", "")
    };
    let load = load_all(&source, &args.paths, now).map_err(|error| error.error)?;
    let own_files = own_files::listed(packages, std::iter::once(&*load.indicators))
        .map_err(|error| Error::Unreadable { path: DPKG_INFO.into(), error })?;
    Ok((load, Rules { warning_lists, own_files, ..Rules::default() }))
}

/// Checks and prints; `now` is used where `--at` does not say otherwise. Intelligence that cannot be used is
/// [`Exit::Invalid`], and nothing is printed but why.
///
/// # Errors
/// The output cannot be written.
pub fn run(
    args: &Args,
    packages: &Packages,
    now: Timestamp,
    output: &mut impl Write,
    errors: &mut impl Write,
) -> io::Result<Exit> {
    let now = args.at.unwrap_or(now);
    let (load, rules) = match load(args, packages, now) {
        Ok(loaded) => loaded,
        Err(error) => {
            writeln!(errors, "cordon: {error}")?;
            return Ok(Exit::Invalid);
        }
    };
    let ruling = rule(&[Supply::new(&load.source, &load.indicators)], &rules, now);
    let values = Values::of(&ruling.ruled);
    let mut outcome = ruling.outcome;
    outcome.skipped += load.skipped.len() as u64;
    let refused: Vec<Refusal> = load
        .refused
        .iter()
        .map(|refused| Refusal { file: refused.file.to_string_lossy().into_owned(), why: refused.error.to_string() })
        .collect();
    for refusal in &refused {
        writeln!(errors, "cordon: left out: {}", refusal.why)?;
    }
    let most = if args.all { usize::MAX } else { EXAMPLES };
    let document = Document {
        schema: 1,
        files: load.files.len() as u64,
        indicators: load.read,
        outcome,
        values,
        skipped: reasons([&load.skipped, &ruling.skipped], most),
        trimmed: reasons([&load.trimmed, &ruling.trimmed], most),
        superseded: load.superseded,
        refused,
        read_as: &load.read_as,
    };
    if args.json {
        serde_json::to_writer(&mut *output, &document).map_err(io::Error::from)?;
        writeln!(output)?;
    } else {
        show(&document, Terminal::stdout(), output)?;
    }
    Ok(Exit::Done)
}

fn show(document: &Document<'_>, terminal: Terminal, output: &mut impl Write) -> io::Result<()> {
    let Outcome { block, report, skipped } = document.outcome;
    let files = if document.files == 1 { "1 file".to_owned() } else { format!("{} files", document.files) };
    let summary =
        format!("{} indicators in {files}: {block} block, {report} report, {skipped} skipped", document.indicators);
    writeln!(output, "{}", terminal.paint(Tone::Heading, &summary))?;
    for (how, files) in document.read_as {
        writeln!(output, "{files} read as {how}")?;
    }
    let rows = Observable::TYPE_NAMES.iter().zip(document.values.0).filter(|(_, count)| *count > 0);
    let rows: Vec<Vec<String>> = rows.map(|(name, count)| vec![(*name).to_owned(), count.to_string()]).collect();
    if !rows.is_empty() {
        writeln!(output, "\n{}", terminal.table(&["type", "distinct values"], rows))?;
    }
    for (title, reasons) in [("skipped", &document.skipped), ("partly used, left out", &document.trimmed)] {
        for reason in reasons {
            let heading = format!("{title}: {} {}", reason.count, name_of(reason.reason));
            writeln!(output, "{}", terminal.paint(Tone::Warning, &heading))?;
            let rows = reason
                .examples
                .iter()
                .map(|example| vec![example.place.clone(), example.value.clone(), example.why.clone()]);
            writeln!(output, "{}", terminal.table(&["where", "value", "why"], rows))?;
        }
    }
    if document.superseded > 0 {
        writeln!(output, "{} older versions of indicators are not counted", document.superseded)?;
    }
    if !document.refused.is_empty() {
        writeln!(output, "{} files are left out (named above)", document.refused.len())?;
    }
    Ok(())
}

/// A reason as JSON has it.
fn name_of(reason: SkipReason) -> String {
    serde_json::to_value(reason).ok().and_then(|name| name.as_str().map(str::to_owned)).unwrap_or_default()
}

#[cfg(test)]
mod tests;
