//! What a task executes: tp_btf/sched_process_exec, lsm/bprm_check_security and its sleepable form.
//!
//! `match-proto: sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! `match-proto: bprm_check_security(struct linux_binprm *bprm)`

use core::ffi::c_void;
use core::ptr::read_volatile;

use agent_common::image::{self, Action, Damaged, Hit, Space};
use agent_common::wire::{Config, Counter, ExecRecord, FileDigests, Header, Hook, RecordKind, Verdict};
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_ima_file_hash, bpf_send_signal};
use aya_ebpf::macros::{btf_tracepoint, lsm};
use aya_ebpf::programs::{BtfTracePointContext, LsmContext};
use aya_ebpf::{EbpfContext, Global};

use super::exec_record::{self, Arguments};
use super::{count_verdict, header, verdict};
use crate::clock::Now;
use crate::emit::{ANY, Slot, count, fold, fold_key};
use crate::image::Generation;
use crate::kmem::file::{self, Identity};
use crate::kmem::{Address, MISSING, path};
use crate::maps::{EXECS, FILE_DIGESTS};

const SIGKILL: u32 = 9;
/// `-EPERM`.
const REFUSE: i32 = -1;
/// `HASH_ALGO_SHA256` of include/uapi/linux/hash_info.h.
const SHA256: i64 = 4;

/// Largest file, in bytes, that the sleepable hook hashes itself; user space sets it.
#[unsafe(no_mangle)]
static IMA_MAX_BYTES: Global<u64> = Global::new(0);

/// What is judged.
pub struct Subject {
    /// `struct file`.
    file: Address,
    /// Which file, which contents.
    pub identity: Identity,
    /// Its digests, where they are known of these contents: an entry of [`FILE_DIGESTS`], see [`Subject::is_current`].
    pub digests: Option<*const FileDigests>,
}

impl Subject {
    /// Whether an entry is still about these contents. The kernel may reuse an entry of an LRU map for another file at any
    /// time, and then the stamp is another one too: so this is asked before the digests are read and again after.
    #[inline(always)]
    fn is_current(&self, digests: *const FileDigests) -> bool {
        // SAFETY: a live map value.
        let known = unsafe { read_volatile(&raw const (*digests).stamp) };
        let now = &self.identity.stamp;
        known.size == now.size && known.mtime_ns == now.mtime_ns && known.ctime_ns == now.ctime_ns
    }
}

/// The `index`th argument as a plain number, for reads by helper.
// verifier: a loaded argument is a typed pointer on which arithmetic is restricted; a copy of it is a number.
#[inline(always)]
fn argument(context: *mut c_void, index: u64) -> Address {
    Address::new(Address::new(context as u64).plus(index * 8).read())
}

#[inline(always)]
fn in_scope(config: &Config) -> bool {
    if config.scope_cgroup_id == 0 {
        return true;
    }
    // SAFETY: the helper takes any level and answers 0 for one that does not exist.
    unsafe { bpf_get_current_ancestor_cgroup_id(config.scope_level as i32) == config.scope_cgroup_id }
}

#[inline(always)]
fn subject(bprm: Address) -> Option<Subject> {
    let file = bprm.follow(&file::OFF_BPRM_FILE);
    if file.is_nowhere() {
        return None;
    }
    let mut subject = Subject { file, identity: file::identity(file), digests: None };
    if let Some(digests) = FILE_DIGESTS.get_ptr(subject.identity.key) {
        if subject.is_current(digests) {
            subject.digests = Some(digests);
        }
    }
    Some(subject)
}

/// The weightier of two hits: an exception ends the matter, `Block` comes before `Report`.
#[inline(always)]
fn weigh(best: &mut Option<Hit>, other: Option<Hit>) {
    let Some(other) = other else { return };
    *best = match *best {
        Some(hit) if hit.action == Action::Allow || other.action == Action::Report => Some(hit),
        Some(hit) if hit.action == Action::Block && other.action == Action::Block => Some(hit),
        _ => Some(other),
    };
}

#[inline(always)]
fn find_digest(generation: &Generation, digests: *const FileDigests, now: &Now) -> Result<Option<Hit>, Damaged> {
    // SAFETY: a live map value.
    let digests = unsafe { &*digests };
    let mut best = None;
    weigh(&mut best, image::sha256(generation, &digests.sha256, now.wall_s)?);
    if digests.flags & FileDigests::SHA1 != 0 {
        weigh(&mut best, image::sha1(generation, &digests.sha1, now.wall_s)?);
    }
    if digests.flags & FileDigests::MD5 != 0 {
        weigh(&mut best, image::md5(generation, &digests.md5, now.wall_s)?);
    }
    Ok(best)
}

#[inline(always)]
fn find(generation: &Generation, subject: &Subject, now: &Now) -> Result<Option<Hit>, Damaged> {
    let mut best = None;
    if image::holds(generation, Space::Digest)? {
        match subject.digests {
            Some(digests) => {
                let found = find_digest(generation, digests, now)?;
                if subject.is_current(digests) {
                    best = found;
                }
            }
            None => count(Counter::DigestUnknown),
        }
    }
    if image::holds(generation, Space::Path)? {
        if let Some(key) = path::key(subject.file, image::seed(generation)?) {
            weigh(&mut best, image::path(generation, key, now.wall_s)?);
        }
    }
    Ok(best)
}

#[inline(always)]
fn find_numbered(generation: &Generation, subject: &Subject, now: &Now) -> Result<Option<(u32, Hit)>, Damaged> {
    let number = image::generation(generation)?;
    match find(generation, subject, now)? {
        Some(hit) => Ok(Some((number, hit))),
        None => Ok(None),
    }
}

/// Judges and counts: generation, hit and verdict of what matched.
#[inline(always)]
fn judge(subject: &Subject, now: &Now, stop: Verdict) -> Option<(u32, Hit, Verdict)> {
    count(Counter::ExecJudged);
    let Some(generation) = Generation::current() else {
        count(Counter::NoImage);
        return None;
    };
    let (number, hit) = match find_numbered(&generation, subject, now) {
        Ok(Some(found)) => found,
        Ok(None) => return None,
        Err(Damaged) => {
            count(Counter::ImageDamaged);
            return None;
        }
    };
    Some((number, hit, verdict(hit, now, stop)?))
}

#[inline(always)]
fn matched(mut header: Header, found: (u32, Hit, Verdict)) -> Header {
    let (generation, hit, verdict) = found;
    header.generation = generation;
    header.entry = hit.entry;
    header.verdict = verdict as u8;
    header
}

/// Kills the current process; whether the kernel took the signal.
#[inline(always)]
fn kill() -> bool {
    // SAFETY: the helper takes a signal number.
    let sent = unsafe { bpf_send_signal(SIGKILL) } == 0;
    if !sent {
        count(Counter::KillFailed);
    }
    sent
}

/// The exec has happened and no instruction of the new program has run.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    let _ = executed(context.as_ptr());
    0
}

#[inline(always)]
fn executed(context: *mut c_void) -> Option<()> {
    let now = Now::read()?;
    if !in_scope(now.config) {
        return None;
    }
    let bprm = argument(context, 2);
    let subject = subject(bprm)?;
    let judged = if now.config.judge_at_exec == 1 { judge(&subject, &now, Verdict::Killed) } else { None };
    if judged.is_none() && now.config.send_execs != 1 {
        return None;
    }
    let plain = header(&now, RecordKind::Exec, Hook::SchedProcessExec);
    if let Some((generation, hit, wanted)) = judged {
        let stopped = wanted as u8 == Verdict::Killed as u8 && kill();
        // What could not be killed ran: the record says so, and `kill_failed` counts it.
        let verdict = if wanted as u8 == Verdict::Killed as u8 && !stopped { Verdict::Reported } else { wanted };
        count_verdict(generation, hit, verdict);
        let header = matched(plain, (generation, hit, verdict));
        if !fold(fold_key(&header, 0, 0), now.boot_ns) {
            if let Some(slot) = Slot::hit() {
                exec_record::send(slot, header, bprm, &subject, Arguments::Readable, 0);
            }
        }
    }
    if now.config.send_execs == 1 {
        let slot = Slot::of(&EXECS, Counter::ExecRingFull)?;
        exec_record::send(slot, plain, bprm, &subject, Arguments::Readable, BPF_RB_NO_WAKEUP);
    }
    Some(())
}

/// Before the exec: it can still fail with `EPERM`.
#[inline(always)]
fn check(now: &Now, bprm: Address, subject: &Subject, hook: Hook) -> i32 {
    let Some((generation, hit, verdict)) = judge(subject, now, Verdict::Blocked) else { return 0 };
    count_verdict(generation, hit, verdict);
    let header = matched(header(now, RecordKind::Exec, hook), (generation, hit, verdict));
    if !fold(fold_key(&header, 0, 0), now.boot_ns) {
        if let Some(slot) = Slot::hit() {
            exec_record::send(slot, header, bprm, subject, Arguments::NotYet, 0);
        }
    }
    if verdict as u8 == Verdict::Blocked as u8 { REFUSE } else { 0 }
}

/// Judges by the digests that user space has put into the map, and by path.
#[lsm(hook = "bprm_check_security")]
pub fn bprm_check(context: LsmContext) -> i32 {
    bprm_checked(context.as_ptr()).unwrap_or(0)
}

#[inline(always)]
fn bprm_checked(context: *mut c_void) -> Option<i32> {
    let now = Now::read()?;
    if !in_scope(now.config) {
        return None;
    }
    let bprm = argument(context, 0);
    let subject = subject(bprm)?;
    Some(check(&now, bprm, &subject, Hook::BprmCheck))
}

/// As [`bprm_check`], and takes the digest of a file that nobody has read yet.
#[lsm(hook = "bprm_check_security", sleepable)]
pub fn bprm_check_ima(context: LsmContext) -> i32 {
    bprm_hashed(&context).unwrap_or(0)
}

#[inline(always)]
fn bprm_hashed(context: &LsmContext) -> Option<i32> {
    let now = Now::read()?;
    if !in_scope(now.config) {
        return None;
    }
    let bprm = argument(context.as_ptr(), 0);
    let mut subject = subject(bprm)?;
    let mut hook = Hook::BprmCheck;
    if subject.digests.is_none() && subject.identity.stamp.size <= IMA_MAX_BYTES.load() {
        subject.digests = hash(context, &subject.identity);
        if subject.digests.is_some() {
            hook = Hook::BprmCheckIma;
        }
    }
    Some(check(&now, bprm, &subject, hook))
}

/// Lets IMA read the file, and keeps the result for the next exec. While a program is being executed nobody can open it
/// for writing (`ETXTBSY`), so the stamp taken before is the stamp of what is read.
#[inline(always)]
fn hash(context: &LsmContext, identity: &Identity) -> Option<*const FileDigests> {
    let offset = file::OFF_BPRM_FILE.load();
    if offset == MISSING {
        return None;
    }
    let bprm: *const u8 = context.arg(0);
    // SAFETY: a typed pointer with a constant offset: the verifier checks that this is `linux_binprm.file`.
    let file = unsafe { read_volatile(bprm.add(offset as usize).cast::<*mut c_void>()) };
    let mut digests =
        FileDigests { stamp: identity.stamp, sha256: [0; 32], sha1: [0; 20], md5: [0; 16], flags: 0 };
    // SAFETY: the helper writes at most 32 bytes.
    let algorithm = unsafe { bpf_ima_file_hash(file.cast(), digests.sha256.as_mut_ptr().cast(), 32) };
    if algorithm != SHA256 {
        return None;
    }
    FILE_DIGESTS.insert(identity.key, digests, ANY).ok()?;
    FILE_DIGESTS.get_ptr(identity.key)
}

const _: () = assert!(size_of::<ExecRecord>() < 4096, "a record must fit into a ring page by page");
