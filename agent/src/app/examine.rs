//! Programs that run already, or ran before anybody had hashed them: they are hashed, told to the kernel, and judged.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use agent_common::image::{self, Block};
use agent_common::wire::FileDigests;
use tokio::sync::mpsc;
use tokio::time::sleep;

use super::shared::{Shared, read};
use crate::event::{Action, Event, Hook, Match, ProcessKey, Task, Verdict};
use crate::health::{Fault, Stage};
use crate::host::{Algorithms, ProcessSnapshot, Reuse, StartTick, process, running_processes, snapshot};
use crate::intel::Observable;
use crate::kernel::{self, DigestKinds, clock};
use crate::settings::Mode;

/// A new generation often comes with others right behind it.
const SETTLE: Duration = Duration::from_millis(100);
/// How often the stage says that it lives.
const TICK: Duration = Duration::from_secs(1);

/// Runs until the agent stops.
///
/// # Errors
/// A thread of the runtime died.
pub async fn run(shared: Arc<Shared>, mut unhashed: mpsc::Receiver<ProcessKey>, stage: Stage) -> anyhow::Result<()> {
    let mut renewed = shared.renewed.subscribe();
    // The first generation went live before this stage began.
    renewed.mark_changed();
    loop {
        tokio::select! {
            changed = renewed.changed() => {
                changed?;
                sleep(SETTLE).await;
                let shared = Arc::clone(&shared);
                tokio::task::spawn_blocking(move || scan(&shared)).await?;
            }
            Some(key) = unhashed.recv() => {
                let shared = Arc::clone(&shared);
                tokio::task::spawn_blocking(move || {
                    let start = StartTick::from_boot_ns(key.start_boot_ns);
                    let process = snapshot(key.pid).ok().flatten().filter(|process| process.start == start);
                    if let Some(process) = process {
                        examine(&shared, &process);
                    }
                })
                .await?;
            }
            () = sleep(TICK) => {}
        }
        stage.tick();
    }
}

/// Looks at every running process of the scope.
fn scan(shared: &Shared) {
    let processes = match running_processes() {
        Ok(processes) => processes,
        Err(error) => return tracing::warn!(%error, "cannot look at running processes"),
    };
    let mut seen = HashSet::new();
    for process in processes {
        if seen.insert((process.pid, process.start)) {
            examine(shared, &process);
        }
    }
}

fn examine(shared: &Shared, process: &ProcessSnapshot) {
    if process.pid == std::process::id() || !in_scope(shared, process) {
        return;
    }
    // One image for the whole judgement: what it finds is an entry of its own generation.
    let Ok(image) = read(&shared.kernel).mapped_image() else { return };
    let Ok(generation) = image.generation() else { return };
    let Some(wanted) = DigestKinds::of(&image).ok().and_then(Algorithms::for_kinds) else { return };
    let Some(file) = process::open_executable(process.pid, process.start) else { return };
    let digested = match shared.digests.digest(&file, wanted) {
        Ok(digested) => digested,
        Err(error) => {
            let exe = process.exe.as_deref().unwrap_or("?");
            return shared.health.raise(Fault::DigestTooLarge, exe, error.to_string());
        }
    };
    if digested.reuse == Reuse::WhileStampHolds
        && let Err(error) = read(&shared.kernel).set_digest(digested.key, &digested.digests)
    {
        tracing::warn!(%error, "the kernel does not take a digest");
    }
    let Some(hit) = judge(&image, &digested.digests) else { return };
    let verdict = match (hit.action, shared.mode()) {
        (image::Action::Allow, _) => return,
        (image::Action::Report, _) => Verdict::Reported,
        (image::Action::Block, Mode::Monitor) => Verdict::WouldBlock,
        (image::Action::Block, Mode::Enforce) => Verdict::Killed,
    };
    let still = || snapshot(process.pid).ok().flatten().is_some_and(|now| now.start == process.start);
    let matched = Match { generation, entry: hit.entry };
    let event = event(process, &digested.digests, digested.key, matched, verdict);
    if verdict == Verdict::Killed
        && let Err(error) = kernel::kill(process.pid, still)
    {
        return tracing::info!(%error, pid = process.pid, "a matched process ended before it was killed");
    }
    if shared.found.try_send(event).is_err() {
        shared.health.counter("findings.scan_lost").add(1);
    }
}

/// A process as a record names it; a cgroup id of 0 is for unknown.
pub fn task(process: &ProcessSnapshot, cgroup_id: u64) -> Task {
    Task {
        key: ProcessKey { pid: process.pid, start_boot_ns: process.start.earliest_boot_ns() },
        tid: process.pid,
        ppid: process.ppid,
        uid: process.uid,
        gid: process.gid,
        loginuid: process.loginuid,
        cgroup_id,
        comm: process.comm.clone(),
    }
}

/// Whether a process is the agent's to judge.
pub fn in_scope(shared: &Shared, process: &ProcessSnapshot) -> bool {
    let Some(scope) = &shared.scope else { return true };
    process.cgroup.as_deref().is_some_and(|path| {
        path == scope || path.strip_prefix(scope.as_str()).is_some_and(|rest| rest.starts_with('/'))
    })
}

fn judge(image: &[Block], digests: &FileDigests) -> Option<image::Hit> {
    let sha1 = (digests.flags & FileDigests::SHA1 != 0).then_some(Observable::Sha1(digests.sha1));
    let md5 = (digests.flags & FileDigests::MD5 != 0).then_some(Observable::Md5(digests.md5));
    let known = [Some(Observable::Sha256(digests.sha256)), sha1, md5];
    let hits = known.into_iter().flatten().filter_map(|value| super::shared::look_up(image, &value));
    hits.reduce(kernel::weightier)
}

fn event(
    process: &ProcessSnapshot,
    digests: &FileDigests,
    file: crate::event::FileKey,
    matched: Match,
    verdict: Verdict,
) -> Event {
    Event {
        boot_ns: clock::boot_ns().unwrap_or(0),
        hook: Hook::Scan,
        verdict,
        matched: Some(matched),
        task: task(process, 0),
        action: Action::Exec {
            file,
            stamp: digests.stamp,
            sha256: Some(digests.sha256),
            has_sha1: digests.flags & FileDigests::SHA1 != 0,
            has_md5: digests.flags & FileDigests::MD5 != 0,
            path: process.exe.clone().unwrap_or_default(),
            args: process.args.clone(),
            cut: false,
        },
    }
}
