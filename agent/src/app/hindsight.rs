//! What this host met before anybody listed it: contacts and executables are kept, and each new generation is compared with
//! them. What is listed now and was met then is recorded once, with the times of then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use agent_common::image::{Action as Decision, Block};
use agent_common::wire::{Contact, ContactKey};
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::sleep;
use uuid::Uuid;

use super::shared::{Live, Shared, look_up};
use crate::attribute::{Finding, attribute};
use crate::enrich::{Observation, ProcessDetails};
use crate::event::{Action, Event, FileKey, FileStamp, Hook, Match, ProcessKey, Task, Verdict};
use crate::health::{Fault, Stage};
use crate::intel::{Observable, normalise};
use crate::journal::{Contacts, Entry, JournalError, Met, Offered, Seen, Sink};

/// Batches that may wait.
pub const QUEUE: usize = 64;
/// `enforced_by` of a record from looking back: nothing was enforced then.
const HINDSIGHT: &str = "hindsight";
/// A new generation often comes with others right behind it.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the stage says that it lives.
const TICK: Duration = Duration::from_secs(1);

/// A contact as user space keeps it. `exe` is empty where nobody knows it.
pub fn contact(key: &ContactKey, contact: &Contact, exe: String, wall_minus_boot_ns: u64) -> Seen {
    let address = std::net::Ipv6Addr::from_bits(u128::from(key.high) << 64 | u128::from(key.low));
    let wall = |boot_ns: u64| {
        Timestamp::from_nanosecond(i128::from(boot_ns) + i128::from(wall_minus_boot_ns)).unwrap_or(Timestamp::MAX)
    };
    Seen {
        met: Met::Contact { ip: normalise::ip(address.into()), port: key.port, protocol: key.protocol, exe },
        pid: key.pid,
        first: wall(contact.first_boot_ns),
        last: wall(contact.last_boot_ns),
        count: contact.count,
    }
}

/// The stage.
pub struct Hindsight {
    /// What the stages share.
    pub shared: Arc<Shared>,
    /// What is kept.
    pub contacts: Contacts,
    /// Where findings go.
    pub sink: Sink,
    /// What is to be kept.
    pub met: mpsc::Receiver<Vec<Seen>>,
}

impl Hindsight {
    /// Runs until the agent stops.
    ///
    /// # Errors
    /// A thread of the runtime died.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        let mut renewed = self.shared.renewed.subscribe();
        // The first generation went live before this stage began.
        renewed.mark_changed();
        loop {
            tokio::select! {
                changed = renewed.changed() => {
                    changed?;
                    sleep(SETTLE).await;
                    self = tokio::task::spawn_blocking(move || { self.look_back(); self }).await?;
                }
                Some(met) = self.met.recv() => {
                    self = tokio::task::spawn_blocking(move || { self.keep(&met); self }).await?;
                }
                () = sleep(TICK) => {}
            }
            stage.tick();
        }
    }

    fn keep(&mut self, met: &[Seen]) {
        match self.contacts.add(met) {
            Ok(forgotten) => {
                self.shared.health.counter("contacts.forgotten").add(forgotten);
                self.shared.health.clear(Fault::ContactsNotKept, "");
            }
            Err(error) => {
                self.shared.health.counter("contacts.lost").add(met.len() as u64);
                self.shared.health.raise(Fault::ContactsNotKept, "", error.to_string());
            }
        }
    }

    /// Compares all that is kept with what decides now.
    fn look_back(&self) {
        let Some((image, live)) = self.shared.deciding() else { return };
        let mut listed = Vec::new();
        let mut judged = HashMap::new();
        let looked = self.contacts.each(|seen| {
            // The same address is often met by several programs.
            let values = values(&seen.met);
            let entry = match judged.get(&values) {
                Some(entry) => *entry,
                None => {
                    let entry = judge(&image, &values);
                    judged.insert(values, entry);
                    entry
                }
            };
            listed.extend(entry.map(|entry| (seen, entry)));
        });
        let told = looked.and_then(|()| listed.iter().try_for_each(|(seen, entry)| self.tell(&live, seen, *entry)));
        if let Err(error) = told {
            self.shared.health.raise(Fault::ContactsNotKept, "", error.to_string());
        }
    }

    fn tell(&self, live: &Live, seen: &Seen, entry: u32) -> Result<(), JournalError> {
        let Some(found) = self.shared.known(live, entry) else { return Ok(()) };
        let ruled = found.primary();
        let indicator = format!("{} {}", ruled.source, ruled.observable);
        if self.contacts.is_told(&indicator, &seen.met)? {
            return Ok(());
        }
        let observation = observation(seen, Match { generation: live.generation, entry });
        let finding =
            self.shared.behind(&observation.event, |behind| attribute(&observation, behind, seen.count.max(1)));
        let Some(finding) = finding else { return Ok(()) };
        let finding = Finding {
            id: Uuid::now_v7().to_string(),
            enforced_by: HINDSIGHT.to_owned(),
            last_time: seen.last.max(seen.first),
            retro: true,
            ..finding
        };
        // What is refused is counted as lost, and told with the next generation.
        if self.sink.offer(Entry::Hit(Arc::new(finding))) == Offered::Taken {
            self.shared.health.counter("findings.recorded").add(seen.count.max(1));
            self.contacts.note_told(&indicator, &seen.met, Timestamp::now())?;
        }
        Ok(())
    }
}

/// What of it can be listed.
fn values(met: &Met) -> Vec<Observable> {
    match met {
        Met::Contact { ip, port, .. } => vec![Observable::Endpoint(*ip, *port)],
        Met::Executable { sha256, path } => {
            [normalise::sha256(sha256), normalise::path(path)].into_iter().flatten().collect()
        }
    }
}

/// The entry that is blocked or reported.
fn judge(image: &[Block], values: &[Observable]) -> Option<u32> {
    let mut hits = values.iter().filter_map(|value| look_up(image, value));
    hits.find(|hit| hit.action != Decision::Allow).map(|hit| hit.entry)
}

/// What was met as if it was seen now; who did it is as far known as it is kept.
fn observation(seen: &Seen, matched: Match) -> Observation {
    let (hook, exe, action) = match &seen.met {
        Met::Contact { ip, port, protocol, exe } => (
            Hook::LiveFlow,
            exe,
            Action::Network { address: *ip, port: *port, local_port: 0, protocol: *protocol, socket_type: 0 },
        ),
        Met::Executable { sha256, path } => (
            Hook::Scan,
            path,
            Action::Exec {
                file: FileKey { device: 0, inode: 0 },
                stamp: FileStamp { size: 0, mtime_ns: 0, ctime_ns: 0 },
                sha256: match normalise::sha256(sha256) {
                    Ok(Observable::Sha256(digest)) => Some(digest),
                    _ => None,
                },
                has_sha1: false,
                has_md5: false,
                path: path.clone(),
                args: Vec::new(),
                cut: false,
            },
        ),
    };
    let task = Task::known_by(ProcessKey { pid: seen.pid, start_boot_ns: 0 });
    let process = ProcessDetails {
        pid: seen.pid,
        uid: u32::MAX,
        exe: (!exe.is_empty()).then(|| exe.clone()),
        ..ProcessDetails::default()
    };
    let event = Event { boot_ns: 0, hook, verdict: Verdict::Reported, matched: Some(matched), task, action };
    Observation { event, time: seen.first, process }
}
