//! `cordon fleet findings`: the records of all hosts, with the filters and forms of `cordon log`. They are put into a journal of their own
//! for as long as they are looked at.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::super::log;
use super::super::table::printable;
use super::{Exit, OnBus};
use crate::attribute::Finding;
use crate::fleet::{self, Bus, Error};
use crate::health::Health;
use crate::journal::{Journal, Limits};
use crate::settings::Places;

/// Records that are written at once.
const BATCH: usize = 500;

/// Show the records of all hosts; everything that `cordon log` takes, and from which host
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    on: OnBus,
    /// Only those of this host
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    #[command(flatten)]
    records: log::Records,
}

impl Args {
    /// From when on messages are asked for: a record is told when it is written, and an hour covers any clock.
    fn begin(&self) -> Option<Timestamp> {
        self.records.filters.since.and_then(|since| since.checked_sub(SignedDuration::from_hours(1)).ok())
    }
}

/// # Errors
/// The bus cannot be reached, or there is no room for a while.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    let directory = tempfile::tempdir()?;
    let mut collection = Collection::open(directory.path())?;
    if let Some((runtime, bus)) = collect(args, places, &mut collection)? {
        let (host, since) = (args.host.clone(), args.begin());
        // What comes from now on is written beside the reader, which follows it as it would a host's own.
        std::thread::spawn(move || {
            let each = |finding| collection.add(finding).and_then(|()| collection.flush());
            let received = runtime.block_on(fleet::receive(&bus, host.as_deref(), since, true, each));
            if let Err(error) = received {
                eprintln!("cordon fleet: nothing more comes: {}", printable(&error.to_string()));
            }
        });
    }
    log::show(&args.records, directory.path())
}

/// Collects what is there. With `--follow` also what goes on receiving.
fn collect(
    args: &Args,
    places: &Places,
    collection: &mut Collection,
) -> anyhow::Result<Option<(tokio::runtime::Runtime, Bus)>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let bus = runtime.block_on(async {
        let bus = args.on.connect(places).await?;
        let host = args.host.as_deref();
        fleet::receive(&bus, host, args.begin(), false, |finding| collection.add(finding)).await?;
        anyhow::Ok(bus)
    })?;
    collection.flush()?;
    Ok(args.records.follow.then_some((runtime, bus)))
}

/// A journal of records of many hosts.
struct Collection {
    journal: Journal,
    waiting: Vec<Finding>,
    /// By host and id: the record, to which what is repeated is added.
    known: HashMap<(String, String), Arc<Finding>>,
}

impl Collection {
    fn open(directory: &Path) -> anyhow::Result<Self> {
        let limits = Limits { segment_bytes: 256 << 20, total_bytes: 64 << 30, max_age_hours: u64::MAX / 3600 };
        let journal = Journal::open(directory, limits, &Health::new())?;
        Ok(Self { journal, waiting: Vec::new(), known: HashMap::new() })
    }

    /// Adds a record, or what it grew by since it was added. What is none is said, and holds up nothing.
    fn add(&mut self, received: Result<Finding, String>) -> Result<(), Error> {
        let finding = match received {
            Ok(finding) => finding,
            Err(why) => {
                eprintln!("cordon fleet: not a record that this version reads: {}", printable(&why));
                return Ok(());
            }
        };
        let key = (finding.host.clone().unwrap_or_default(), finding.id.clone());
        match self.known.get(&key).cloned() {
            None => {
                self.known.insert(key, Arc::new(finding.clone()));
                self.waiting.push(finding);
                if self.waiting.len() >= BATCH { self.flush() } else { Ok(()) }
            }
            Some(before) if finding.count > before.count => {
                self.flush()?;
                let repeats = finding.count - before.count;
                self.journal.fold(&before, repeats, finding.last_time).map_err(|error| unwritten(&error))?;
                self.known.insert(key, Arc::new(finding));
                Ok(())
            }
            Some(_) => Ok(()),
        }
    }

    fn flush(&mut self) -> Result<(), Error> {
        let waiting = std::mem::take(&mut self.waiting);
        self.journal.append(&waiting).map_err(|error| unwritten(&error))
    }
}

fn unwritten(error: &impl std::fmt::Display) -> Error {
    Error::File { path: std::env::temp_dir(), why: error.to_string() }
}
