//! Facts → which hooks are used (pure).

use agent_common::wire::Hook;

use super::{Attempt, Facts};
use crate::kernel::{Bprm, Report};

/// How execs are judged, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecPath {
    /// In the kernel, before the exec, which hashes what is not known yet.
    LsmIma,
    /// In the kernel, before the exec, by digests from user space; what is not known yet is asked of the guard.
    LsmWithGuard,
    /// As before, without the guard: a file's first exec passes if nothing has hashed it.
    Lsm,
    /// In the kernel, by killing before the first instruction; the guard hashes and denies before that.
    KillWithGuard,
    /// In the kernel, by killing; a file's first exec passes if nothing has hashed it.
    Kill,
    /// By the guard alone: only while the daemon lives.
    Guard,
    /// Not at all.
    None,
}

impl ExecPath {
    /// What is in force, by what became of the hooks, and whether the guard is at work.
    #[must_use]
    pub fn in_force(report: &Report, guard: bool) -> Self {
        let is_attached = |hook| report.is_attached(hook);
        match (
            is_attached(Hook::BprmCheckIma),
            is_attached(Hook::BprmCheck),
            is_attached(Hook::SchedProcessExec),
            guard,
        ) {
            (true, ..) => Self::LsmIma,
            (_, true, _, true) => Self::LsmWithGuard,
            (_, true, _, false) => Self::Lsm,
            (.., true, true) => Self::KillWithGuard,
            (.., true, false) => Self::Kill,
            (.., true) => Self::Guard,
            _ => Self::None,
        }
    }
}

/// What is to be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Network hooks.
    pub network: Vec<Hook>,
    /// How execs are judged.
    pub exec: ExecPath,
    /// For the loader.
    pub bprm: Bprm,
    /// Run the exec guard.
    pub guard: bool,
}

impl Plan {
    /// Whether anything can be enforced.
    #[must_use]
    pub fn can_enforce(&self) -> bool {
        !self.network.is_empty() || self.exec != ExecPath::None
    }
}

/// The best that these facts allow.
#[must_use]
pub fn plan(facts: &Facts) -> Plan {
    let hooks = [Hook::Connect4, Hook::Connect6, Hook::Sendmsg4, Hook::Sendmsg6];
    // Images are published through these maps and hits told through that one: without them no program has a purpose.
    let basis = all(&[&facts.image_maps, &facts.ring_buffer, &facts.bpffs]);
    let network = basis && facts.cgroup2.is_some();
    let network = hooks.into_iter().zip(&facts.network).filter(|(_, attempt)| network && attempt.is_ok());
    let tracing = basis && facts.exec_tracing.is_ok() && facts.missing_exec_fields.is_empty();
    // Where it cannot be told whether the module is active, a program that would never be called must not be relied on.
    let lsm = tracing && facts.lsm.is_ok() && facts.lsm_is_active == Some(true);
    let ima = lsm && facts.lsm_ima.is_ok() && facts.ima_is_built_in == Some(true);
    let kill = tracing && facts.send_signal.is_ok();
    let guard = basis && facts.fanotify.is_ok();
    let (exec, bprm) = match (lsm, kill, guard) {
        (true, ..) if ima => (ExecPath::LsmIma, Bprm::Ima),
        (true, _, true) => (ExecPath::LsmWithGuard, Bprm::Plain),
        (true, _, false) => (ExecPath::Lsm, Bprm::Plain),
        (false, true, true) => (ExecPath::KillWithGuard, Bprm::None),
        (false, true, false) => (ExecPath::Kill, Bprm::None),
        (false, false, true) => (ExecPath::Guard, Bprm::None),
        (false, false, false) => (ExecPath::None, Bprm::None),
    };
    let guard = guard && exec != ExecPath::LsmIma;
    Plan { network: network.map(|(hook, _)| hook).collect(), exec, bprm, guard }
}

fn all(attempts: &[&Attempt]) -> bool {
    attempts.iter().all(|attempt| attempt.is_ok())
}
