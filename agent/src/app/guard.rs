//! The exec guard's two ends: the daemon that keeps it running, and the judge inside it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::sleep;

use super::shared::{Shared, read};
use crate::attribute::hook_name;
use crate::event::{Hook, decode};
use crate::health::{Fault, Stage};
use crate::host::{DigestCache, ExecJudge, Others};
use crate::journal::{LossReason, Sink};
use crate::kernel::Verdicts;
use crate::kernel::fanotify::{ExecGuard, GuardCommand, GuardOptions, GuardReport, run_guard};
use crate::kernel::probe::{Attempt, ExecPath};

/// What the judge is made of; the daemon sends it to the child.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct JudgeOptions {
    pins: PathBuf,
    /// Path of the enforced cgroup below the cgroup2 mount point.
    scope: Option<String>,
    others: Others,
    max_file_bytes: u64,
}

/// How often the stage says that it lives.
const TICK: Duration = Duration::from_secs(1);
/// Longest wait for a guard that was started.
const PATIENCE: Duration = Duration::from_secs(5);

/// Keeps an exec guard while one is wanted.
pub struct GuardKeeper {
    shared: Arc<Shared>,
    sink: Sink,
    fanotify: Attempt,
    renewed: watch::Receiver<()>,
    guard: Option<ExecGuard>,
}

impl GuardKeeper {
    /// Starts the guard if the first generation wants it.
    ///
    /// # Errors
    /// No thread is to be had.
    pub fn start(shared: Arc<Shared>, sink: Sink, fanotify: Attempt) -> anyhow::Result<Self> {
        let renewed = shared.renewed.subscribe();
        let mut keeper = Self { shared, sink, fanotify, renewed, guard: None };
        keeper.settle()?;
        Ok(keeper)
    }

    /// Whether there is a guard now.
    pub fn has_one(&self) -> bool {
        self.guard.is_some()
    }

    /// Starts and stops it as generations and settings want.
    ///
    /// # Errors
    /// No thread is to be had.
    pub async fn run(mut self, stage: Stage) -> anyhow::Result<()> {
        loop {
            tokio::select! {
                changed = self.renewed.changed() => {
                    changed?;
                    self = tokio::task::spawn_blocking(move || self.settle().map(|()| self)).await??;
                }
                () = sleep(TICK) => {}
            }
            stage.tick();
        }
    }

    /// Where the kernel takes digests itself, it takes SHA-256 alone: the guard is for the others then.
    fn is_wanted(&self) -> bool {
        let kinds = self.shared.live().map(|live| live.digest_kinds).unwrap_or_default();
        let in_kernel = ExecPath::in_force(&read(&self.shared.report), false);
        read(&self.shared.settings).exec.guard && (in_kernel != ExecPath::LsmIma || kinds.sha1 || kinds.md5)
    }

    fn settle(&mut self) -> anyhow::Result<()> {
        let name = hook_name(Hook::FanotifyOpenExec);
        match (self.is_wanted(), &self.fanotify) {
            (true, Ok(())) if self.guard.is_none() => self.guard = Some(launch(&self.shared, &self.sink)?),
            (true, Ok(())) => {}
            (true, Err(refusal)) => self.shared.health.raise(Fault::HookMissing, name, refusal.why.clone()),
            (false, _) => {
                self.guard = None;
                self.shared.health.clear(Fault::HookMissing, name);
                self.shared.health.clear(Fault::ExecGuardStalled, "");
            }
        }
        Ok(())
    }
}

fn launch(shared: &Arc<Shared>, sink: &Sink) -> anyhow::Result<ExecGuard> {
    let settings = Arc::clone(&read(&shared.settings));
    let in_kernel = ExecPath::in_force(&read(&shared.report), false);
    let judge = JudgeOptions {
        pins: shared.places.pins.clone(),
        scope: shared.scope.clone(),
        others: if in_kernel == ExecPath::None { Others::None } else { Others::Hooks },
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
    let _waited = wait.recv_timeout(PATIENCE);
    Ok(guard)
}

fn hear(shared: &Shared, sink: &Sink, report: GuardReport) {
    match report {
        GuardReport::Started { pid } => tracing::info!(pid, "the exec guard was started"),
        GuardReport::Status(status) => {
            shared.guard_works.store(true, Ordering::Relaxed);
            shared.health.clear(Fault::ExecGuardStalled, "");
            for (name, count) in [("asked", status.asked), ("denied", status.denied), ("unjudged", status.unjudged())] {
                shared.health.counter(&format!("exec_guard.{name}")).set(count);
            }
            if status.deadline_missed > 0 {
                let detail = format!("{} execs were let go unjudged", status.deadline_missed);
                shared.health.raise(Fault::ExecDeadlinePassed, "", detail);
            }
        }
        GuardReport::Hit(record) => match decode(zerocopy::IntoBytes::as_bytes(&*record)) {
            Ok(event) => {
                if shared.found.try_send(event).is_err() {
                    sink.lost(LossReason::QueueFull, 1);
                }
            }
            Err(_) => sink.lost(LossReason::Undecodable, 1),
        },
        GuardReport::Fault(why) => shared.health.raise(Fault::ExecGuardStalled, "", why),
        GuardReport::Ended { why, next_in } => {
            shared.guard_works.store(false, Ordering::Relaxed);
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
        let verdicts = Verdicts::open(&options.pins)?;
        let digests = Arc::new(DigestCache::new(super::DIGESTS, options.max_file_bytes));
        Ok(ExecJudge::new(digests, verdicts, options.scope, options.others))
    })?;
    Ok(())
}
