//! The stage that turns what the kernel half says into the journal's records.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use agent_common::wire::{Counter, Fold, FoldKey};
use jiff::Timestamp;
use lru::LruCache;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use super::hindsight;
use super::shared::{Shared, read};
use crate::attribute::{Finding, attribute};
use crate::enrich::{Enricher, HostView, Surroundings};
use crate::event::{Action, Event, Hook, Match, ProcessKey, Task, Verdict};
use crate::health::{Fault, Stage};
use crate::intel::Observable;
use crate::intel::parse::pattern::Program;
use crate::journal::{Entry, LossReason, Met, Offered, Seen, Sink};
use crate::kernel::{Batch, EventRing, clock};

/// Hits whose repeats may still come.
const FOLDABLE: NonZeroUsize = NonZeroUsize::MIN.saturating_add(32_767);
/// Records of one exec that user space compared with more than one indicator.
const TOLD: usize = 16;
/// How often repeats are taken from the kernel.
const FOLD_EVERY: Duration = Duration::from_secs(1);

/// The stage.
pub struct Detect {
    /// What the stages share.
    pub shared: Arc<Shared>,
    /// Who acted.
    pub enricher: Enricher<HostView>,
    /// Where findings go.
    pub sink: Sink,
    /// Where goes what was met, hit or not, if anybody keeps it.
    pub met: Option<mpsc::Sender<Vec<Seen>>>,
    /// Processes whose program nobody has hashed yet.
    pub unhashed: mpsc::Sender<ProcessKey>,
    /// What was executed and is not yet told.
    pub executed: Vec<Seen>,
    /// Says that it lives.
    pub stage: Stage,
}

/// What the stage remembers between events.
struct Memory {
    sent: LruCache<FoldKey, Arc<Finding>>,
    hits_lost: u64,
    execs_lost: u64,
}

impl Detect {
    /// Runs until a ring breaks.
    ///
    /// # Errors
    /// A ring can no longer be read.
    pub async fn run(
        mut self,
        mut hits: EventRing,
        mut execs: EventRing,
        mut found: mpsc::Receiver<Event>,
    ) -> anyhow::Result<()> {
        let mut memory = Memory { sent: LruCache::new(FOLDABLE), hits_lost: 0, execs_lost: 0 };
        let mut every_second = interval(FOLD_EVERY);
        every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                batch = hits.next() => {
                    let batch = batch?;
                    // The execs that came before these hits say who they are.
                    self.learn(execs.drain());
                    self.record(batch, &mut memory);
                }
                batch = execs.next() => { let batch = batch?; self.learn(batch); }
                Some(event) = found.recv() => self.offer(event, None),
                _ = every_second.tick() => {
                    self.learn(execs.drain());
                    // In this order: when the folds are taken, no program is between a hit's record and its repeats.
                    let folds = self.take_folds();
                    let batch = hits.drain();
                    self.record(batch, &mut memory);
                    self.record_repeats(folds, &mut memory);
                    self.tell_met();
                    self.account(&mut memory);
                    self.stage.tick();
                }
            }
        }
    }

    fn learn(&mut self, batch: Batch) {
        self.sink.lost(LossReason::Undecodable, batch.damaged.len() as u64);
        // The kernel hashes by SHA-256 only, and what was hashed for an earlier generation may lack what this one asks for.
        let kinds = self.shared.live().map(|live| live.digest_kinds).unwrap_or_default();
        for event in batch.events {
            self.enricher.learn(&event);
            self.note_exec(&event);
            self.compare(&event);
            if let Action::Exec { sha256, has_sha1, has_md5, .. } = event.action
                && (sha256.is_none() || (kinds.sha1 && !has_sha1) || (kinds.md5 && !has_md5))
            {
                // When the queue is full the next scan finds it.
                let _full = self.unhashed.try_send(event.task.key);
            }
        }
    }

    /// Compares an exec with what no hook looks up: names, command lines, patterns of both. It has happened, so it is reported.
    fn compare(&mut self, event: &Event) {
        let Action::Exec { path, .. } = &event.action else { return };
        let Some(live) = self.shared.live().filter(|live| !live.watch.is_empty()) else { return };
        if event.hook != Hook::SchedProcessExec || event.matched.is_some() {
            return;
        }
        let (exe, _) = self.enricher.program(&event.task, event.boot_ns).unwrap_or_default();
        let line = self.enricher.command_line(event);
        if line.is_none() {
            self.shared.health.counter("execs.command_line_unknown").add(1);
        }
        let paths = [path.as_str(), &exe].into_iter().filter(|path| !path.is_empty()).collect();
        let found = live.watch.find(&Program { paths, command_line: line.as_deref() });
        let now = self.wall_time(event.boot_ns);
        let is_in_force = |entry: &u32| {
            let known = self.shared.known(&live, *entry);
            known.is_some_and(|known| known.primary().expires.is_none_or(|ends| now < ends))
        };
        let mut found: Vec<u32> = found.into_iter().filter(is_in_force).collect();
        if found.len() > TOLD {
            self.shared.health.counter("execs.not_told").add((found.len() - TOLD) as u64);
            found.truncate(TOLD);
        }
        for entry in found {
            let matched = Some(Match { generation: live.generation, entry });
            self.offer(Event { verdict: Verdict::Reported, matched, ..event.clone() }, None);
        }
    }

    /// Keeps what was executed until the next [`Detect::tell_met`].
    fn note_exec(&mut self, event: &Event) {
        let Action::Exec { path, sha256, .. } = &event.action else { return };
        if self.met.is_none() || event.hook != Hook::SchedProcessExec {
            return;
        }
        let known = self.enricher.program(&event.task, event.boot_ns);
        let (path, sha256) = known.unwrap_or_else(|| (path.clone(), *sha256));
        let sha256 = sha256.map(|digest| Observable::Sha256(digest).to_string()).unwrap_or_default();
        let time = self.wall_time(event.boot_ns);
        let met = Met::Executable { sha256, path };
        self.executed.push(Seen { met, pid: event.task.key.pid, first: time, last: time, count: 1 });
    }

    fn wall_time(&mut self, boot_ns: u64) -> Timestamp {
        let wall = i128::from(boot_ns) + i128::from(self.enricher.surroundings().wall_minus_boot_ns());
        Timestamp::from_nanosecond(wall).unwrap_or(Timestamp::MAX)
    }

    /// Hands on whom programs reached and what was executed since the last call.
    fn tell_met(&mut self) {
        let Some(tell) = self.met.clone() else { return };
        let contacts = read(&self.shared.kernel).take_contacts().unwrap_or_else(|error| {
            self.shared.health.raise(Fault::ContactsNotKept, "", error.to_string());
            Vec::new()
        });
        let wall_minus_boot_ns = self.enricher.surroundings().wall_minus_boot_ns();
        let mut met = std::mem::take(&mut self.executed);
        for (key, contact) in contacts {
            let task = Task::known_by(ProcessKey { pid: key.pid, start_boot_ns: key.start_boot_ns });
            let program = self.enricher.program(&task, contact.last_boot_ns);
            let exe = program.map(|(exe, _)| exe).unwrap_or_default();
            met.push(hindsight::contact(&key, &contact, exe, wall_minus_boot_ns));
        }
        let count = met.len() as u64;
        if count > 0 && tell.try_send(met).is_err() {
            self.shared.health.counter("contacts.lost").add(count);
        }
    }

    fn record(&mut self, batch: Batch, memory: &mut Memory) {
        self.sink.lost(LossReason::Undecodable, batch.damaged.len() as u64);
        for event in batch.events {
            self.offer(event, Some(memory));
        }
    }

    fn offer(&mut self, event: Event, memory: Option<&mut Memory>) {
        let observation = self.enricher.observe(event);
        let finding = self.shared.behind(&observation.event, |behind| attribute(&observation, behind, 1));
        let Some(finding) = finding.map(Arc::new) else { return };
        let counted = memory.and_then(|memory| {
            let key = fold_key(&observation.event)?;
            memory.sent.put(key, Arc::clone(&finding));
            Some(key.generation)
        });
        self.hand_on(Entry::Hit(finding), counted, 1);
    }

    /// To the journal; `generation` is of hits that the kernel has counted.
    fn hand_on(&self, entry: Entry, generation: Option<u32>, hits: u64) {
        // What is refused the sink counts as lost.
        if self.sink.offer(entry) == Offered::Taken {
            self.shared.health.counter("findings.recorded").add(hits);
            if let Some(generation) = generation {
                self.shared.count_recorded(generation, hits);
            }
        }
    }

    fn take_folds(&self) -> Vec<(FoldKey, Fold)> {
        let folds = read(&self.shared.kernel).take_folds();
        folds.unwrap_or_else(|error| {
            self.shared.health.raise(Fault::RingLostHits, "folds", error.to_string());
            Vec::new()
        })
    }

    /// Repeats become counts of the record that was sent for the first.
    fn record_repeats(&mut self, folds: Vec<(FoldKey, Fold)>, memory: &mut Memory) {
        for (key, fold) in folds.into_iter().filter(|(_, fold)| fold.repeats > 0) {
            let last_time = self.wall_time(fold.last_boot_ns);
            let entry = match memory.sent.get(&key) {
                Some(of) => Entry::Repeat { of: Arc::clone(of), repeats: fold.repeats, last_time },
                None => match self.reconstruct(&key, &fold, last_time) {
                    Some(finding) => Entry::Hit(Arc::new(finding)),
                    None => continue,
                },
            };
            self.hand_on(entry, Some(key.generation), fold.repeats);
        }
    }

    /// The record of repeats whose first was lost, or sent to a daemon that is gone: what the key says, and no more.
    fn reconstruct(&mut self, key: &FoldKey, fold: &Fold, last_time: Timestamp) -> Option<Finding> {
        let observation = self.enricher.observe(event_of(key, fold)?);
        let finding = self.shared.behind(&observation.event, |behind| attribute(&observation, behind, fold.repeats))?;
        Some(Finding { last_time, ..finding })
    }

    fn account(&mut self, memory: &mut Memory) {
        let Ok(counters) = read(&self.shared.kernel).counters() else { return };
        let hits_lost = counters.get(Counter::HitRingFull);
        if hits_lost > memory.hits_lost {
            self.sink.lost(LossReason::RingFull, hits_lost - memory.hits_lost);
            self.shared.health.raise(Fault::RingLostHits, "", format!("{hits_lost} hit records so far"));
        }
        let execs_lost = counters.get(Counter::ExecRingFull);
        if execs_lost > memory.execs_lost {
            self.enricher.note_lost_execs(clock::boot_ns().unwrap_or(u64::MAX));
        }
        (memory.hits_lost, memory.execs_lost) = (hits_lost, execs_lost);
    }
}

fn fold_key(event: &Event) -> Option<FoldKey> {
    let matched = event.matched?;
    let (port, destination) = match &event.action {
        Action::Network { address, port, local_port, .. } => {
            (if *local_port == 0 { *port } else { *local_port }, FoldKey::destination(halves(*address)))
        }
        Action::Name { address, port, .. } => (*port, FoldKey::destination(halves(*address))),
        Action::Socket { .. } | Action::Exec { .. } => (0, 0),
    };
    Some(FoldKey {
        start_boot_ns: event.task.key.start_boot_ns,
        destination,
        generation: matched.generation,
        entry: matched.entry,
        pid: event.task.key.pid,
        port,
        hook: event.hook as u8,
        verdict: event.verdict as u8,
    })
}

/// The halves of an address as the hooks have them, IPv4 in its mapped form.
pub(super) fn halves(address: std::net::IpAddr) -> (u64, u64) {
    let bits = match address {
        std::net::IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        std::net::IpAddr::V6(address) => address.to_bits(),
    };
    ((bits >> 64) as u64, bits as u64)
}

fn event_of(key: &FoldKey, fold: &Fold) -> Option<Event> {
    let hook = Hook::from_u8(key.hook)?;
    let action = match hook {
        Hook::Connect4
        | Hook::Connect6
        | Hook::Sendmsg4
        | Hook::Sendmsg6
        | Hook::Setsockopt
        | Hook::Egress
        | Hook::SocketConnect
        | Hook::SocketSendmsg
        | Hook::Ingress
        | Hook::LiveFlow => Action::Network {
            address: std::net::Ipv6Addr::UNSPECIFIED.into(),
            port: if hook == Hook::Ingress { 0 } else { key.port },
            local_port: if hook == Hook::Ingress { key.port } else { 0 },
            protocol: 0,
            socket_type: 0,
        },
        Hook::EgressDns | Hook::EgressTls | Hook::EgressHttp | Hook::IngressDns => Action::Name {
            name: String::new(),
            query_type: None,
            address: std::net::Ipv6Addr::UNSPECIFIED.into(),
            port: key.port,
            protocol: 0,
        },
        // What it refuses is told by a fault, not by records.
        Hook::SelfProtection => return None,
        Hook::SockCreate | Hook::SocketCreate => Action::Socket { family: 0, protocol: 0, socket_type: 0 },
        Hook::SchedProcessExec
        | Hook::BprmCheck
        | Hook::BprmCheckIma
        | Hook::MmapFile
        | Hook::FanotifyOpenExec
        | Hook::Scan => Action::Exec {
            file: crate::event::FileKey { device: 0, inode: 0 },
            stamp: crate::event::FileStamp { size: 0, mtime_ns: 0, ctime_ns: 0 },
            sha256: None,
            has_sha1: false,
            has_md5: false,
            path: String::new(),
            args: Vec::new(),
            cut: false,
        },
    };
    Some(Event {
        boot_ns: fold.first_boot_ns,
        hook,
        verdict: Verdict::from_u8(key.verdict)?,
        matched: Some(Match { generation: key.generation, entry: key.entry }),
        task: Task::known_by(ProcessKey { pid: key.pid, start_boot_ns: key.start_boot_ns }),
        action,
    })
}
