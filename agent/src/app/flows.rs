//! Flows that are open when a generation goes live: whoever speaks with an indicator already is closed or told of, as a new
//! connection would be.

mod judge;
mod owners;

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use agent_common::image::Action as Decision;
use agent_common::wire::SocketMemory;
use jiff::Timestamp;
use rustix::net::getpeername;
use tokio::time::sleep;

use self::judge::Begun;
use self::owners::{Holders, Owners};
use super::examine;
use super::shared::{Shared, lock, read};
use crate::event::{Action, Event, Hook, Match, Verdict};
use crate::health::{Fault, Stage};
use crate::host::{NetworkNamespace, cgroup, network_namespaces};
use crate::kernel::sock_diag::{Flow, SockDiag, Transport};
use crate::kernel::{borrow_socket, clock};
use crate::settings::Mode;

/// A new generation often comes with others right behind it.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the stage says that it lives.
const TICK: Duration = Duration::from_secs(1);
/// Of what went wrong in one search, how much the fault says.
const TROUBLES: usize = 4;

/// Runs until the agent stops.
///
/// # Errors
/// A thread of the runtime died.
pub async fn run(shared: Arc<Shared>, stage: Stage) -> anyhow::Result<()> {
    let mut renewed = shared.renewed.subscribe();
    // The first generation went live before this stage began.
    renewed.mark_changed();
    let mut told = HashSet::new();
    loop {
        tokio::select! {
            changed = renewed.changed() => {
                changed?;
                sleep(SETTLE).await;
                let (shared, stage) = (Arc::clone(&shared), stage.clone());
                told = tokio::task::spawn_blocking(move || Search::new(&shared, &stage, told).run()).await?;
            }
            () = sleep(TICK) => {}
        }
        stage.tick();
    }
}

/// What was told of a flow. By its cookie it is no other, by its indicator and verdict it is news again.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Told {
    /// Inode of the network namespace.
    namespace: u64,
    cookie: u64,
    /// Source and value.
    indicator: String,
    verdict: u8,
}

/// A flow whose other end is listed.
struct Candidate {
    flow: Flow,
    begun: Begun,
}

/// One search through all flows of the host.
struct Search<'a> {
    shared: &'a Shared,
    /// Ticks with each flow that is acted upon: there may be many.
    stage: &'a Stage,
    /// By the searches before, of flows that were open then.
    told: HashSet<Told>,
    /// The same of flows that are open now.
    still_told: HashSet<Told>,
    troubles: Vec<String>,
}

impl<'a> Search<'a> {
    fn new(shared: &'a Shared, stage: &'a Stage, told: HashSet<Told>) -> Self {
        Self { shared, stage, told, still_told: HashSet::new(), troubles: Vec::new() }
    }

    /// Looks at every flow once. What was told of those that are still open.
    fn run(mut self) -> HashSet<Told> {
        if self.shared.deciding().is_some_and(|(image, _)| judge::lists_addresses(&image)) {
            match network_namespaces() {
                Ok(namespaces) => {
                    for namespace in namespaces {
                        self.look_into(&namespace);
                        self.stage.tick();
                    }
                }
                Err(error) => self.troubles.push(error.to_string()),
            }
        }
        if self.troubles.is_empty() {
            self.shared.health.clear(Fault::FlowsNotClosed, "");
        } else {
            let more = self.troubles.len().saturating_sub(TROUBLES);
            self.troubles.truncate(TROUBLES);
            let more = if more == 0 { String::new() } else { format!("; and {more} more") };
            self.shared.health.raise(Fault::FlowsNotClosed, "", self.troubles.join("; ") + &more);
        }
        self.still_told
    }

    fn look_into(&mut self, namespace: &NetworkNamespace) {
        let name = format!("net:[{}]", namespace.inode);
        let opened = match namespace.is_own {
            true => SockDiag::open(),
            false => SockDiag::open_in(namespace.descriptor.as_fd()),
        };
        let diag = match opened {
            Ok(diag) => diag,
            Err(error) => return self.troubles.push(format!("{name} cannot be looked into: {error}")),
        };
        for transport in Transport::ALL {
            if let Err(error) = self.look_at(&diag, namespace.inode, transport) {
                // Asking on might be answered with the rest of this.
                return self.troubles.push(format!("{name}, {}: {error}", transport.name()));
            }
        }
    }

    fn look_at(&mut self, diag: &SockDiag, namespace: u64, transport: Transport) -> io::Result<()> {
        let Some((image, _)) = self.shared.deciding() else { return Ok(()) };
        let listening = if transport == Transport::Tcp { diag.listening_ports()? } else { HashSet::new() };
        let now = Timestamp::now();
        let mut candidates = Vec::new();
        diag.flows(transport, |flow| {
            let begun = Begun::of(&flow, &listening);
            if judge::judge(&image, flow.remote(), begun, now).is_some() {
                candidates.push(Candidate { flow, begun });
            }
        })?;
        if candidates.is_empty() {
            return Ok(());
        }
        let inodes = candidates.iter().filter_map(|candidate| candidate.flow.inode).collect();
        let holders = Holders::of(&inodes).map_err(io::Error::other)?;
        let scope = Scope::of(self.shared);
        for candidate in &candidates {
            let owners = holders.owners(&candidate.flow);
            if scope.holds(self.shared, &candidate.flow, &owners) {
                self.act(diag, namespace, candidate, &owners);
            }
            self.stage.tick();
        }
        Ok(())
    }

    fn act(&mut self, diag: &SockDiag, namespace: u64, candidate: &Candidate, owners: &Owners<'_>) {
        let Candidate { flow, begun } = candidate;
        // What decides now, not when the flows were listed: an exception may have come meanwhile.
        let Some((image, live)) = self.shared.deciding() else { return };
        let Some(judged) = judge::judge(&image, flow.remote(), *begun, Timestamp::now()) else { return };
        let socket = RememberedSocket::of(self.shared, flow, owners);
        let note = |verdict| socket.note(judge::noted(&socket.memory, flow.remote(), *begun, live.generation, verdict));
        let verdict = match (judged.action, self.shared.mode()) {
            (Decision::Allow, _) => return note(Verdict::Passed),
            (Decision::Report, _) => Verdict::Reported,
            (Decision::Block, Mode::Monitor) => Verdict::WouldBlock,
            (Decision::Block, Mode::Enforce) => Verdict::Blocked,
        };
        // Before it is closed: the egress hook is not to tell of the reset as well.
        note(verdict);
        let verdict = match (verdict == Verdict::Blocked).then(|| self.close(diag, flow, &socket)) {
            None | Some(Closing::Done) => verdict,
            // Nothing was told of it either.
            Some(Closing::Needless) => return socket.note(socket.memory),
            Some(Closing::Failed(error)) => {
                // What it sends is the egress hook's to stop and to tell of.
                socket.note(socket.memory);
                self.troubles.push(format!("{} is not closed: {error}", flow.remote()));
                Verdict::Reported
            }
        };
        // That it was closed is always news; what only passes a hook may have told of.
        let is_known = verdict != Verdict::Blocked && judge::is_told(&socket.memory, flow.remote(), verdict);
        let matched = Match { generation: live.generation, entry: judged.entry };
        let found = self.shared.known(&live, judged.entry);
        let indicator = found.map(|found| format!("{} {}", found.primary().source, found.primary().observable));
        let indicator = indicator.unwrap_or_default();
        let told = Told { namespace, cookie: flow.cookie, indicator, verdict: verdict as u8 };
        if !is_known && !self.told.contains(&told) {
            self.tell(candidate, owners, matched, verdict);
        }
        self.still_told.insert(told);
    }

    /// Break-glass wins: while this asks and acts, nobody switches off.
    fn close(&self, diag: &SockDiag, flow: &Flow, socket: &RememberedSocket<'_>) -> Closing {
        let operator = lock(&self.shared.operator);
        if operator.off(Timestamp::now()).is_some() {
            return Closing::Needless;
        }
        match diag.destroy(flow) {
            Ok(()) => Closing::Done,
            // The kernel looks for it by its addresses: of two UDP sockets with the same it finds one.
            Err(error) if error.kind() == io::ErrorKind::NotFound && !socket.is_connected() => Closing::Needless,
            Err(error) => Closing::Failed(error),
        }
    }

    fn tell(&self, Candidate { flow, begun }: &Candidate, owners: &Owners<'_>, matched: Match, verdict: Verdict) {
        let event = Event {
            boot_ns: clock::boot_ns().unwrap_or(0),
            hook: Hook::LiveFlow,
            verdict,
            matched: Some(matched),
            task: owners.task(),
            action: Action::Network {
                address: flow.remote().ip(),
                port: flow.remote().port(),
                local_port: if *begun == Begun::There { flow.local_port() } else { 0 },
                protocol: flow.transport.protocol().into(),
                socket_type: flow.transport.socket_type(),
            },
        };
        // Waits while the queue is full; that nobody takes from it any more means that the agent stops.
        if self.shared.found.blocking_send(event).is_err() {
            self.shared.health.counter("findings.scan_lost").add(1);
        }
    }
}

/// How the closing of a flow went.
enum Closing {
    Done,
    /// It is gone already, or the agent is switched off.
    Needless,
    Failed(io::Error),
}

/// Which sockets are the agent's to judge.
struct Scope {
    /// cgroup2 ids; `None` for the whole host.
    cgroups: Option<HashSet<u64>>,
}

impl Scope {
    fn of(shared: &Shared) -> Self {
        let directory = shared.scope.as_ref().and_then(|path| in_cgroupfs(path));
        Self { cgroups: directory.map(|directory| cgroup::ids_below(&directory)) }
    }

    /// Whether the hooks would be called for the socket, or one of its processes is in the scope.
    fn holds(&self, shared: &Shared, flow: &Flow, owners: &Owners<'_>) -> bool {
        let by_socket = |cgroups: &HashSet<u64>| flow.cgroup.is_some_and(|id| cgroups.contains(&id));
        shared.scope.is_none()
            || self.cgroups.as_ref().is_some_and(by_socket)
            || owners.iter().any(|(_, owner)| examine::in_scope(shared, &owner.process))
    }
}

/// The directory of a cgroup by its path below the mount point.
fn in_cgroupfs(path: &str) -> Option<PathBuf> {
    Some(cgroup::mount_point().ok()?.join(path.trim_start_matches('/')))
}

/// A socket with what the hooks remember of it.
struct RememberedSocket<'a> {
    shared: &'a Shared,
    /// `None` where no process holds it, or it may not be borrowed: then nothing is known and nothing can be told to the hooks.
    socket: Option<OwnedFd>,
    memory: SocketMemory,
}

impl<'a> RememberedSocket<'a> {
    fn of(shared: &'a Shared, flow: &Flow, owners: &Owners<'_>) -> Self {
        let socket = owners.iter().find_map(|(holder, _)| {
            let borrowed = borrow_socket(holder.pid, holder.descriptor, flow.cookie);
            borrowed.inspect_err(|error| tracing::debug!(%error, pid = holder.pid, "a socket cannot be borrowed")).ok()
        });
        let memory = socket.as_ref().and_then(|socket| read(&shared.kernel).recall(socket.as_fd()).ok().flatten());
        Self { shared, socket, memory: memory.unwrap_or_else(judge::nothing_remembered) }
    }

    fn is_connected(&self) -> bool {
        self.socket.as_ref().is_some_and(|socket| getpeername(socket).is_ok())
    }

    fn note(&self, memory: SocketMemory) {
        let Some(socket) = &self.socket else { return };
        if let Err(error) = read(&self.shared.kernel).remember(socket.as_fd(), &memory) {
            tracing::debug!(%error, "the hooks cannot be told of a flow");
        }
    }
}
