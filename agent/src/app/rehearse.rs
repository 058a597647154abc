//! What a policy would have done to what this host's journal has: nothing of it reaches the kernel.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use agent_common::image::{Action as Decision, Block, Hit};
use jiff::Timestamp;
use serde::Serialize;

use super::intake::Intake;
use super::operator::Operator;
use super::orders::StandingOrders;
use super::own_files::OwnFiles;
use super::shared::{look_up, seed};
use crate::attribute::Finding;
use crate::attribute::finding::{Kind, Verdict};
use crate::health::Health;
use crate::host::DigestCache;
use crate::intel::{Observable, normalise};
use crate::journal::{Contacts, JournalError, Met, Order, Query, Reader};
use crate::policy::{Central, Mode};
use crate::settings::{Places, Settings};
use crate::tables::Provenance;

/// Of what would come out differently, so much is named.
const NAMED: usize = 100;

/// What a policy would have done.
#[derive(Debug, Default, Serialize)]
pub struct Rehearsal {
    /// From when on.
    pub since: Timestamp,
    /// Records in the journal, repeats counted.
    pub records: u64,
    /// Contacts and executables that were kept beside them, repeats counted; null where `telemetry.contacts` is not set.
    pub contacts: Option<u64>,
    /// How many of both would have come out how.
    pub would: BTreeMap<&'static str, u64>,
    /// How many would have come out differently than they did.
    pub changed: u64,
    /// The first hundred of those.
    pub changes: Vec<Change>,
    /// Sources that cannot be read now, and are left out.
    pub unread: Vec<String>,
}

/// Something that would have come out differently.
#[derive(Debug, Serialize)]
pub struct Change {
    /// When it happened.
    pub time: Timestamp,
    /// What was done.
    pub kind: String,
    /// The listed value.
    pub value: String,
    /// The program, as far as it is known.
    pub exe: Option<String>,
    /// How it came out.
    pub was: &'static str,
    /// How it would have.
    pub would: &'static str,
    /// By which rule.
    pub rule: Option<String>,
    /// How many times.
    pub count: u64,
}

/// Judges what the journal has since a time under `central`, the sources as they are now and the local rules.
///
/// # Errors
/// The settings, the journal or the operator's own rules cannot be read.
pub fn rehearse(places: &Places, central: Central, since: Timestamp) -> anyhow::Result<Rehearsal> {
    let settings = Arc::new(Settings::load(places)?);
    let mode = central.document().mode.unwrap_or(settings.mode);
    let (image, provenance, unread) = compile(places, Arc::clone(&settings), central)?;
    let mut judge = Judge { image, provenance, mode, found: Rehearsal { since, unread, ..Rehearsal::default() } };
    let query = Query { since: Some(since), order: Order::OldestFirst, ..Query::default() };
    for record in Reader::open(&places.journal)?.records(&query) {
        judge.record(&record?);
    }
    if let Some(contacts) = Contacts::read(&places.journal)? {
        judge.contacts(&contacts)?;
    }
    Ok(judge.found)
}

/// Compiles what a generation under the policy would be; what cannot be read is named.
fn compile(
    places: &Places,
    settings: Arc<Settings>,
    central: Central,
) -> anyhow::Result<(Vec<Block>, Provenance, Vec<String>)> {
    let now = Timestamp::now();
    let max_bytes = settings.exec.max_file_bytes;
    // Copies of what the sources say go where they disturb no agent.
    let aside = tempfile::tempdir()?;
    let elsewhere = Places { state: aside.path().to_owned(), ..places.clone() };
    let mut intake = Intake::new(settings, elsewhere, Health::new(), Some(Arc::new(central)));
    intake.read(now, |_| true);
    let operator = Operator::open(&places.state)?;
    let orders = StandingOrders::open(&places.state)?;
    let own_files = Mutex::new(OwnFiles::open(places, Arc::new(DigestCache::new(NonZeroUsize::MIN, max_bytes))));
    let compilation = intake.prepare(&operator, &orders, &own_files, now, 1, seed()?)?.compilation;
    let mut image = vec![[0; 8]; compilation.blocks()];
    let (provenance, _) = compilation.write(&mut image)?;
    let unread = intake
        .suppliers()
        .iter()
        .filter_map(|supplier| supplier.error.as_ref().map(|error| format!("{}: {error}", supplier.source.name)));
    Ok((image, provenance, unread.collect()))
}

struct Judge {
    image: Vec<Block>,
    provenance: Provenance,
    mode: Mode,
    found: Rehearsal,
}

/// What happened: when, what, by whom, how often, and how it came out.
struct Happened {
    time: Timestamp,
    kind: String,
    exe: Option<String>,
    count: u64,
    was: &'static str,
}

impl Judge {
    fn record(&mut self, record: &Finding) {
        // It was found by looking back at a contact, which is judged itself.
        if record.retro {
            return;
        }
        self.found.records += record.count;
        let happened = Happened {
            time: record.time,
            kind: record.kind.name().to_owned(),
            exe: record.process.as_ref().and_then(|process| process.exe.clone()),
            count: record.count,
            was: match record.verdict {
                // A kill is how a block comes out where the kernel cannot refuse.
                Verdict::Killed => Verdict::Blocked.name(),
                other => other.name(),
            },
        };
        self.judge(happened, &values(record), record.kind == Kind::Accept);
    }

    fn contacts(&mut self, contacts: &Contacts) -> Result<(), JournalError> {
        let since = self.found.since;
        let mut seen_at_all = 0;
        contacts.each(|seen| {
            if seen.last < since {
                return;
            }
            seen_at_all += seen.count.max(1);
            let (kind, exe, values) = match &seen.met {
                Met::Contact { ip, port, exe, .. } => ("contact", exe, vec![Observable::Endpoint(*ip, *port)]),
                Met::Executable { sha256, path } => ("executable", path, digests([sha256])),
            };
            let exe = (!exe.is_empty()).then(|| exe.clone());
            let happened =
                Happened { time: seen.last, kind: kind.to_owned(), exe, count: seen.count.max(1), was: "passed" };
            self.judge(happened, &values, false);
        })?;
        self.found.contacts = Some(seen_at_all);
        Ok(())
    }

    fn judge(&mut self, happened: Happened, values: &[Observable], is_inbound: bool) {
        let hits = values.iter().filter_map(|value| look_up(&self.image, value).map(|hit| (hit, value)));
        let strongest = hits.max_by_key(|(hit, _)| decision(hit, is_inbound));
        let matched = strongest.and_then(|(hit, _)| self.provenance.get(hit.entry).ok().flatten());
        let ruled = matched.as_ref().map(|matched| matched.primary());
        let would = match strongest.map(|(hit, _)| decision(&hit, is_inbound)) {
            None | Some(Decision::Allow) => "passed",
            Some(Decision::Report) if ruled.is_some_and(|ruled| ruled.is_trial) => Verdict::WouldBlock.name(),
            Some(Decision::Report) => Verdict::Reported.name(),
            Some(Decision::Block) if self.mode == Mode::Monitor => Verdict::WouldBlock.name(),
            Some(Decision::Block) => Verdict::Blocked.name(),
        };
        let Happened { time, kind, exe, count, was } = happened;
        *self.found.would.entry(would).or_default() += count;
        if would == was {
            return;
        }
        self.found.changed += count;
        if self.found.changes.len() < NAMED {
            let listed = ruled.map(|ruled| ruled.observable.to_string());
            let value = listed.or_else(|| values.first().map(ToString::to_string)).unwrap_or_default();
            let rule = ruled.map(|ruled| ruled.rule.to_string());
            self.found.changes.push(Change { time, kind, value, exe, was, would, rule, count });
        }
    }
}

const fn decision(hit: &Hit, is_inbound: bool) -> Decision {
    if is_inbound { hit.inbound } else { hit.action }
}

/// What of a record can be listed.
fn values(record: &Finding) -> Vec<Observable> {
    let mut values = Vec::new();
    if let Some(destination) = &record.destination {
        values.extend(destination.domain.as_ref().and_then(|name| normalise::domain(name).ok()));
        // The resolver that a question goes to is not what it is about.
        if !matches!(record.kind, Kind::Dns | Kind::Tls | Kind::Http) {
            values.push(Observable::Endpoint(normalise::ip(destination.ip), destination.port));
        }
    }
    values.extend(digests(record.file.iter().filter_map(|file| file.sha256.as_ref())));
    values
}

fn digests<'a>(digests: impl IntoIterator<Item = &'a String>) -> Vec<Observable> {
    digests.into_iter().filter_map(|digest| normalise::sha256(digest).ok()).collect()
}
