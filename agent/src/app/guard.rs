//! The exec guard's two ends: the daemon that keeps it running, and the judge inside it.

use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use agent_common::image::{self, Space};
use agent_common::limits::{ARGS_LEN, PATH_LEN};
use agent_common::wire::{ExecRecord, FileDigests, FileKey, Header, Hook, Process, RecordKind, Verdict};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use zerocopy::FromZeros;

use super::shared::{Shared, read};
use crate::event::decode;
use crate::health::Fault;
use crate::host::{Algorithms, DigestCache, DigestError, ProcessSnapshot, Reuse, snapshot};
use crate::intel::Observable;
use crate::journal::{LossReason, Sink};
use crate::kernel::fanotify::{
    ExecGuard, GuardCommand, GuardOptions, GuardReport, Judge, JudgeFailure, Judgement, run_guard,
};
use crate::kernel::{PinnedMaps, clock};
use crate::tables::{Bearing, look_up};

/// What the judge is made of; the daemon sends it to the child.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct JudgeOptions {
    pins: PathBuf,
    /// Path of the enforced cgroup below the cgroup2 mount point.
    scope: Option<String>,
    max_file_bytes: u64,
}

/// Starts the guard where no LSM program holds execs, if the settings allow it.
///
/// # Errors
/// No thread is to be had.
pub fn start(shared: &Arc<Shared>, sink: &Sink) -> anyhow::Result<Option<ExecGuard>> {
    let settings = Arc::clone(&read(&shared.settings));
    let report = read(&shared.report);
    let is_held_in_kernel = report.is_attached(Hook::BprmCheckIma);
    drop(report);
    if is_held_in_kernel || !settings.exec.guard {
        return Ok(None);
    }
    let judge = JudgeOptions {
        pins: shared.places.pins.clone(),
        scope: shared.scope.clone(),
        max_file_bytes: settings.exec.max_file_bytes,
    };
    let options = GuardOptions {
        deadline_ms: u64::try_from(settings.exec.deadline.as_millis()).unwrap_or(u64::MAX),
        judge: serde_json::to_value(judge)?,
        ..GuardOptions::default()
    };
    let command = GuardCommand { program: PathBuf::from("/proc/self/exe"), arguments: vec!["exec-guard".into()] };
    let (shared, sink) = (Arc::clone(shared), sink.clone());
    let (ready, wait) = std::sync::mpsc::channel();
    let guard = ExecGuard::start(command, options, move |report| {
        if matches!(report, GuardReport::Status(_) | GuardReport::Ended { .. }) {
            // Only the first is waited for.
            let _heard = ready.send(());
        }
        hear(&shared, &sink, report);
    })?;
    // Ready means that execs are judged from now on; a guard that cannot start has raised its fault by then.
    let _waited = wait.recv_timeout(std::time::Duration::from_secs(5));
    Ok(Some(guard))
}

fn hear(shared: &Shared, sink: &Sink, report: GuardReport) {
    match report {
        GuardReport::Started { pid } => tracing::info!(pid, "the exec guard was started"),
        GuardReport::Status(status) => {
            shared.health.clear(Fault::ExecGuardStalled, "");
            for (name, count) in [("asked", status.asked), ("denied", status.denied), ("unjudged", status.unjudged())] {
                shared.health.counter(&format!("exec_guard.{name}")).set(count);
            }
            if status.deadline_missed > 0 {
                let detail = format!("{} execs were let go unjudged", status.deadline_missed);
                shared.health.raise(Fault::ExecDeadlinePassed, "", detail);
            }
        }
        GuardReport::Denied(record) => match decode(zerocopy::IntoBytes::as_bytes(&*record)) {
            Ok(event) => {
                if shared.found.try_send(event).is_err() {
                    sink.lost(LossReason::QueueFull, 1);
                }
            }
            Err(_) => sink.lost(LossReason::Undecodable, 1),
        },
        GuardReport::Fault(why) => shared.health.raise(Fault::ExecGuardStalled, "", why),
        GuardReport::Ended { why, next_in } => {
            if next_in.is_some() {
                shared.health.raise(Fault::ExecGuardStalled, "", why);
            }
        }
    }
}

/// Runs the guard in this process until the daemon is gone.
///
/// # Errors
/// It was not started by the daemon, or fanotify is refused.
pub fn serve() -> anyhow::Result<()> {
    run_guard(|options| {
        let options: JudgeOptions = serde_json::from_value(options.judge.clone())?;
        let maps = PinnedMaps::open(&options.pins)?;
        let digests = DigestCache::new(super::DIGESTS, options.max_file_bytes);
        Ok(Digests { maps, digests, scope: options.scope })
    })?;
    Ok(())
}

/// Judges by digest, with what the daemon pinned: it needs no daemon to answer.
struct Digests {
    maps: PinnedMaps,
    digests: DigestCache,
    scope: Option<String>,
}

impl Judge for Digests {
    fn applies(&self, pid: u32) -> bool {
        let Some(scope) = &self.scope else { return true };
        let process = snapshot(pid).ok().flatten();
        process.and_then(|process| process.cgroup).is_some_and(|path| {
            path == *scope || path.strip_prefix(scope.as_str()).is_some_and(|rest| rest.starts_with('/'))
        })
    }

    fn judge(&self, pid: u32, file: &File, deadline: Instant) -> Result<Judgement, JudgeFailure> {
        let failed = |reason, detail: String| JudgeFailure { reason, detail };
        let image = self.maps.mapped_image().map_err(|error| failed("no_image", error.to_string()))?;
        if !image::holds(&*image, Space::Digest).unwrap_or(false) {
            return Ok(Judgement::Allow);
        }
        let wanted = Algorithms { sha1: true, md5: true };
        let digested = self.digests.digest_until(file, wanted, Some(deadline)).map_err(|error| {
            let reason = if matches!(error, DigestError::TooLarge { .. }) { "too_large" } else { "unreadable" };
            failed(reason, error.to_string())
        })?;
        let digests = digested.digests;
        if digested.reuse == Reuse::WhileStampHolds {
            self.maps.set_digest(digested.key, &digests).map_err(|error| failed("no_map", error.to_string()))?;
        }
        let now = u32::try_from(Timestamp::now().as_second()).unwrap_or(u32::MAX);
        let values = [Observable::Sha256(digests.sha256), Observable::Sha1(digests.sha1), Observable::Md5(digests.md5)];
        let hit = values.iter().find_map(|value| match look_up(&*image, value, now) {
            Ok(Bearing::Hit(hit)) => Some(hit),
            _ => None,
        });
        let enforces = self.maps.enforces().map_err(|error| failed("no_map", error.to_string()))?;
        match hit {
            Some(hit) if hit.action == image::Action::Block && enforces => {
                let generation = image.generation().unwrap_or(0);
                let process = snapshot(pid).ok().flatten();
                let path = crate::host::process::path_of(file).unwrap_or_default();
                Ok(Judgement::Deny(Box::new(record(
                    pid,
                    process.as_ref(),
                    digested.key,
                    &digests,
                    &path,
                    (generation, hit.entry),
                ))))
            }
            _ => Ok(Judgement::Allow),
        }
    }
}

/// The record that an exec hook would have written.
fn record(
    pid: u32,
    process: Option<&ProcessSnapshot>,
    file: FileKey,
    digests: &FileDigests,
    path: &str,
    (generation, entry): (u32, u32),
) -> ExecRecord {
    let mut record = ExecRecord::new_zeroed();
    let mut comm = [0; 16];
    let name = process.map(|process| process.comm.as_bytes()).unwrap_or_default();
    let used = name.len().min(comm.len() - 1);
    comm[..used].copy_from_slice(&name[..used]);
    record.header = Header {
        boot_ns: clock::boot_ns().unwrap_or(0),
        generation,
        entry,
        kind: RecordKind::Exec as u8,
        verdict: Verdict::Blocked as u8,
        hook: Hook::FanotifyOpenExec as u8,
        reserved: [0; 5],
        process: Process {
            start_boot_ns: process.map_or(0, |process| process.start.earliest_boot_ns()),
            cgroup_id: 0,
            pid,
            tid: pid,
            ppid: process.map_or(0, |process| process.ppid),
            uid: process.map_or(0, |process| process.uid),
            gid: process.map_or(0, |process| process.gid),
            loginuid: process.and_then(|process| process.loginuid).unwrap_or(u32::MAX),
            comm,
        },
    };
    (record.file, record.stamp, record.sha256) = (file, digests.stamp, digests.sha256);
    record.flags = ExecRecord::DIGEST;
    let used = path.len().min(PATH_LEN);
    record.path[..used].copy_from_slice(&path.as_bytes()[..used]);
    record.path_len = used as u16;
    if used < path.len() {
        record.flags |= ExecRecord::PATH_CUT;
    }
    let mut length = 0;
    for argument in process.map(|process| process.args.as_slice()).unwrap_or_default() {
        if length + argument.len() + 1 > ARGS_LEN {
            record.flags |= ExecRecord::ARGS_CUT;
            break;
        }
        record.args[length..length + argument.len()].copy_from_slice(argument.as_bytes());
        length += argument.len() + 1;
    }
    record.args_len = length as u16;
    record
}
