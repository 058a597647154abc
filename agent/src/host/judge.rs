//! What the exec guard needs of the host: the digest of the file, who asks, and whether that is of interest.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use agent_common::limits::{COMM_LEN, PATH_LEN};
use agent_common::wire::{ExecRecord, FileDigests, FileKey, Header, Hook, Process, RecordKind, Verdict};
use zerocopy::FromZeros;

use super::{Algorithms, DigestCache, DigestError, Digested, Reuse, cgroup, snapshot};
use crate::kernel::fanotify::{Judge, JudgeFailure, Judgement};
use crate::kernel::{ExecHit, Verdicts, clock};

/// Decides by what a file contains.
pub trait DigestVerdicts: Send + Sync + 'static {
    /// What is worth knowing of a file.
    ///
    /// # Errors
    /// Why it cannot be told, in words.
    fn wanted(&self) -> Result<Wanted, String>;
    /// Takes a digest that holds as long as its stamp, for the exec hooks.
    ///
    /// # Errors
    /// Why it is not kept, in words.
    fn keep(&self, file: FileKey, digests: &FileDigests) -> Result<(), String>;
    /// What is listed about the file, if anything.
    ///
    /// # Errors
    /// Why it cannot be told, in words.
    fn hit(&self, digests: &FileDigests, path: Option<&str>) -> Result<Option<ExecHit>, String>;
}

/// What is listed at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Digests; which ones beside SHA-256.
    pub digests: Option<Algorithms>,
    /// Paths.
    pub paths: bool,
}

impl DigestVerdicts for Verdicts {
    fn wanted(&self) -> Result<Wanted, String> {
        let (kinds, paths) = self.hold().map_err(|error| error.to_string())?;
        Ok(Wanted { digests: Algorithms::for_kinds(kinds), paths })
    }

    fn keep(&self, file: FileKey, digests: &FileDigests) -> Result<(), String> {
        self.set_digest(file, digests).map_err(|error| error.to_string())
    }

    fn hit(&self, digests: &FileDigests, path: Option<&str>) -> Result<Option<ExecHit>, String> {
        self.judge(digests, path).map_err(|error| error.to_string())
    }
}

/// What else judges execs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Others {
    /// The hooks in the kernel, after the guard: they judge by path, and report what is not to be denied.
    Hooks,
    /// Nothing.
    None,
}

/// The exec guard's judge.
#[derive(Debug)]
pub struct ExecJudge<V> {
    digests: Arc<DigestCache>,
    verdicts: V,
    /// Path of a cgroup below the mount point, from `/`; `None` for the whole host.
    scope: Option<String>,
    others: Others,
    /// Where cgroup2 is mounted, if it is: what gives a caller's cgroup its id.
    cgroups: Option<PathBuf>,
}

impl<V: DigestVerdicts> ExecJudge<V> {
    /// Judges execs by processes of `scope` (a cgroup's path below the mount point, from `/`) or of the whole host.
    #[must_use]
    pub fn new(digests: Arc<DigestCache>, verdicts: V, scope: Option<String>, others: Others) -> Self {
        let scope = scope.map(|path| path.trim_end_matches('/').to_owned()).filter(|path| !path.is_empty());
        Self { digests, verdicts, scope, others, cgroups: cgroup::mount_point().ok() }
    }

    fn digest(&self, file: &File, wanted: Algorithms, deadline: Instant) -> Result<Digested, JudgeFailure> {
        self.digests.digest_until(file, wanted, Some(deadline)).map_err(|error| {
            let reason = match error {
                DigestError::Io(_) => "unreadable",
                DigestError::TooLarge { .. } => "too_large",
                DigestError::NotRegular => "not_regular",
                DigestError::Changing => "changing",
                DigestError::TimedOut => "slow_to_read",
            };
            JudgeFailure { reason, detail: error.to_string() }
        })
    }

    fn caller(&self, pid: u32) -> Process {
        let mut process = Process::new_zeroed();
        (process.pid, process.tid, process.loginuid) = (pid, pid, u32::MAX);
        // It waits for our answer, so it is there; unless it was killed meanwhile.
        if let Ok(Some(found)) = snapshot(pid) {
            process.start_boot_ns = found.start.earliest_boot_ns();
            (process.ppid, process.uid, process.gid) = (found.ppid, found.uid, found.gid);
            process.loginuid = found.loginuid.unwrap_or(u32::MAX);
            let id =
                self.cgroups.as_ref().zip(found.cgroup).map(|(mount_point, path)| {
                    cgroup::id_of(&mount_point.join(path.trim_start_matches('/'))).unwrap_or(0)
                });
            process.cgroup_id = id.unwrap_or(0);
            copy(&mut process.comm[..COMM_LEN - 1], found.comm.as_bytes());
        }
        process
    }

    fn record(&self, pid: u32, digested: &Digested, path: Option<&str>, hit: ExecHit) -> Box<ExecRecord> {
        let mut record = ExecRecord::new_zeroed();
        record.header = Header {
            boot_ns: clock::boot_ns().unwrap_or(0),
            generation: hit.generation,
            entry: hit.entry,
            kind: RecordKind::Exec as u8,
            verdict: hit.verdict as u8,
            hook: Hook::FanotifyOpenExec as u8,
            reserved: [0; 5],
            process: self.caller(pid),
        };
        record.file = digested.key;
        record.stamp = digested.digests.stamp;
        record.sha256 = digested.digests.sha256;
        record.flags = ExecRecord::DIGEST;
        let path = path.unwrap_or_default().as_bytes();
        record.flags |= if path.len() > PATH_LEN { ExecRecord::PATH_CUT } else { 0 };
        record.path_len = copy(&mut record.path, path) as u16;
        Box::new(record)
    }
}

impl<V: DigestVerdicts> Judge for ExecJudge<V> {
    fn applies(&self, pid: u32) -> bool {
        let Some(scope) = &self.scope else { return true };
        let Ok(text) = std::fs::read_to_string(format!("/proc/{pid}/cgroup")) else { return false };
        text.lines().filter_map(|line| line.strip_prefix("0::")).any(|path| lies_in(path, scope))
    }

    fn judge(&self, pid: u32, file: &File, deadline: Instant) -> Result<Judgement, JudgeFailure> {
        let no_verdict = |detail| JudgeFailure { reason: "no_verdict", detail };
        let listed = self.verdicts.wanted().map_err(no_verdict)?;
        let by_path = listed.paths && self.others == Others::None;
        // A record has a digest in any case.
        let Some(wanted) = listed.digests.or(by_path.then(Algorithms::default)) else { return Ok(Judgement::Allow) };
        let digested = self.digest(file, wanted, deadline)?;
        if digested.reuse == Reuse::WhileStampHolds {
            let kept = self.verdicts.keep(digested.key, &digested.digests);
            kept.map_err(|detail| JudgeFailure { reason: "digest_not_kept", detail })?;
        }
        // The kernel's own name of the open file, whatever the caller called it.
        let path = std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok();
        let path = path.as_deref().and_then(|path| path.to_str());
        let hit = self.verdicts.hit(&digested.digests, path);
        Ok(match hit.map_err(no_verdict)? {
            Some(hit) if hit.verdict == Verdict::Blocked => Judgement::Deny(self.record(pid, &digested, path, hit)),
            Some(hit) if self.others == Others::None => Judgement::Report(self.record(pid, &digested, path, hit)),
            _ => Judgement::Allow,
        })
    }
}

fn lies_in(path: &str, scope: &str) -> bool {
    path.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn copy(to: &mut [u8], from: &[u8]) -> usize {
    to.iter_mut().zip(from).map(|(to, from)| *to = *from).count()
}

#[cfg(test)]
mod tests;
