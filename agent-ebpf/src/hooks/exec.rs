//! What a task executes: tp_btf/sched_process_exec, lsm/bprm_check_security and its sleepable form.
//!
//! `match-proto: sched_process_exec(struct task_struct *p, pid_t old_pid, struct linux_binprm *bprm)`
//! `match-proto: bprm_check_security(struct linux_binprm *bprm)`

use core::arch::asm;
use core::ffi::c_void;
use core::ptr::read_volatile;

use agent_common::image::{self, Action, Damaged, DigestKind, Hit, Seed, Space};
use agent_common::wire::{Config, Counter, ExecRecord, FileDigests, FoldKey, Header, Hook, RecordKind, Verdict};
use aya_ebpf::bindings::BPF_RB_NO_WAKEUP;
use aya_ebpf::helpers::generated::{bpf_get_current_ancestor_cgroup_id, bpf_ima_file_hash, bpf_loop, bpf_send_signal};
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::{BtfTracePointContext, LsmContext};
use aya_ebpf::{EbpfContext, Global};

use super::exec_record::{self, Arguments};
use super::{count_verdict, header, is, verdict};
use crate::clock::Now;
use crate::emit::{ANY, Slot, count, damaged, fold, not_killed};
use crate::image::Generation;
use crate::kmem::file::{self, Identity};
use crate::kmem::{Address, MISSING, blurred, path, task};
use crate::maps::{EXECS, FILE_DIGESTS};

const SIGKILL: u32 = 9;
/// Levels that cgroup namespaces may hide: containers in containers are a dozen deep.
const DEPTH_MAX: u32 = 32;
/// What an LSM hook returns: 0, or `-EPERM`, which is -1.
// verifier: before 6.14 it wants the whole register in -4095..=0, where a 32-bit -1 is 4294967295; so the programs return
// 64 bits, which the macros of aya do not, and the range comes from two instructions. Seen on 6.12.
#[inline(always)]
pub fn answer(refuse: bool) -> i64 {
    let refused = u64::from(refuse);
    let mut wide = 0u64;
    // SAFETY: two instructions on two registers.
    unsafe {
        asm!(
            "{0} &= 1",
            "{1} -= {0}",
            inout(reg) refused => _,
            inout(reg) wide,
            options(pure, nomem, nostack, preserves_flags)
        )
    };
    wide as i64
}
/// `HASH_ALGO_SHA256` of include/uapi/linux/hash_info.h.
const SHA256: i64 = 4;

/// Largest file, in bytes, that the sleepable hook hashes itself; user space sets it.
#[unsafe(no_mangle)]
pub static IMA_MAX_BYTES: Global<u64> = Global::new(0);

/// What is judged.
pub struct Subject {
    /// `struct file`.
    file: Address,
    /// Which file, which contents.
    pub identity: Identity,
    /// Its digests: an entry of [`FILE_DIGESTS`] that was about these contents, see [`Subject::is_current`]; null where they
    /// are not known.
    pub digests: *const FileDigests,
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
pub fn argument(context: *mut c_void, index: u64) -> Address {
    Address::new(Address::new(context as u64).plus(index * 8).read())
}

/// Whether the current task is in the enforced cgroup or below. In a cgroup namespace user space cannot see how deep its own
/// root lies, so the level that it gives is the least one.
#[inline(always)]
pub fn in_scope(config: &Config) -> bool {
    if config.scope_cgroup_id == 0 {
        return true;
    }
    for below in 0..DEPTH_MAX {
        // SAFETY: the helper takes any level and answers 0 for one that does not exist.
        let ancestor = unsafe { bpf_get_current_ancestor_cgroup_id(config.scope_level.wrapping_add(below) as i32) };
        if ancestor == config.scope_cgroup_id {
            return true;
        }
        if ancestor == 0 {
            return false;
        }
    }
    false
}

#[inline(always)]
fn subject(bprm: Address) -> Option<Subject> {
    subject_of(bprm.follow(&file::OFF_BPRM_FILE))
}

/// A `struct file` with what is known of it.
#[inline(always)]
pub fn subject_of(file: Address) -> Option<Subject> {
    if file.is_nowhere() {
        return None;
    }
    let mut subject = Subject { file, identity: file::identity(file), digests: core::ptr::null() };
    if let Some(digests) = FILE_DIGESTS.get_ptr(subject.identity.key)
        && subject.is_current(digests)
    {
        subject.digests = digests;
    }
    Some(subject)
}

/// What was found, as one number that is set on every path: rank, then entry.
// verifier: of an `Option` or `Result` that is carried along, one branch leaves a register unset, seen on 6.18.
#[derive(Clone, Copy)]
struct Found(u64);

const NOTHING: Found = Found(0);
const REPORT: u64 = 1;
const BLOCK: u64 = 2;
const ALLOW: u64 = 3;
const DAMAGED: u64 = 4;

impl Found {
    #[inline(always)]
    fn new(found: Result<Option<Hit>, Damaged>) -> Self {
        match found {
            Ok(Some(hit)) => {
                let rank = match hit.action {
                    Action::Allow => ALLOW,
                    Action::Report => REPORT,
                    Action::Block => BLOCK,
                };
                Self(rank << 32 | u64::from(hit.entry))
            }
            Ok(None) => NOTHING,
            Err(Damaged) => Self(DAMAGED << 32),
        }
    }

    #[inline(always)]
    fn rank(self) -> u64 {
        self.0 >> 32
    }

    /// The weightier of two: damage is told, an exception ends the matter, `Block` comes before `Report`.
    #[inline(always)]
    fn or(self, other: Self) -> Self {
        if other.rank() > self.rank() { other } else { self }
    }
}

#[inline(always)]
pub fn holds(generation: &Generation, space: Space) -> bool {
    matches!(image::holds(generation, space), Ok(true))
}

/// Tag of what is not known. Real ones have their top bit clear.
const NO_TAG: u64 = path::NO_KEY;
/// Keys that an exec is looked up by: SHA-256, SHA-1, MD5, path.
const TAGS: usize = 4;
const PATH: usize = 3;

/// One exec's keys in one generation, and what they come to.
struct Search {
    generation: Generation,
    tags: [u64; TAGS],
    now: u64,
    found: Found,
}

/// Looks one key up.
// verifier: four lookups in a row multiply their paths (half a million instructions, seen on 6.18); with bpf_loop it
// follows one.
extern "C" fn look_up(index: u64, search: *mut Search) -> i64 {
    // SAFETY: `find` passes its own `Search`, which outlives the loop.
    let search = unsafe { &mut *search };
    let tag = search.tags[index as usize & (TAGS - 1)];
    if tag != NO_TAG {
        let space = if index == PATH as u64 { Space::Path } else { Space::Digest };
        let found = Found::new(image::by_tag(&search.generation, space, tag, search.now as u32));
        search.found = Found(blurred(search.found.or(found).0));
    }
    0
}

/// `tag` where `known` is not 0.
#[inline(always)]
fn tag_if(known: u32, tag: u64) -> u64 {
    if known == 0 { NO_TAG } else { tag }
}

#[inline(always)]
fn digest_tags(search: &mut Search, seed: Seed, digests: *const FileDigests) {
    // SAFETY: a live map value.
    let digests = unsafe { &*digests };
    search.tags[0] = image::digest_tag(seed, DigestKind::Sha256, &digests.sha256);
    let sha1 = image::digest_tag(seed, DigestKind::Sha1, &digests.sha1);
    search.tags[1] = tag_if(digests.flags & FileDigests::SHA1, sha1);
    let md5 = image::digest_tag(seed, DigestKind::Md5, &digests.md5);
    search.tags[2] = tag_if(digests.flags & FileDigests::MD5, md5);
}

/// What is listed of an exec, by digest and by path.
// verifier: a frame of its own, as [`tell`].
#[inline(never)]
fn find(generation: Generation, subject: &Subject, now: &Now) -> Found {
    let Ok(seed) = image::seed(&generation) else { return Found(DAMAGED << 32) };
    let mut search = Search { generation, tags: [NO_TAG; TAGS], now: u64::from(now.wall_s), found: NOTHING };
    if holds(&generation, Space::Digest) {
        if subject.digests.is_null() {
            count(Counter::DigestUnknown);
        } else {
            digest_tags(&mut search, seed, subject.digests);
            if !subject.is_current(subject.digests) {
                search.tags = [NO_TAG; TAGS];
            }
        }
    }
    if holds(&generation, Space::Path) {
        search.tags[PATH] = path::key(subject.file, seed);
    }
    // SAFETY: the callback has the signature that the helper documents, and its context is `search`.
    unsafe { bpf_loop(TAGS as u32, look_up as *mut c_void, (&raw mut search).cast(), 0) };
    search.found
}

/// What a hook's judgement says; `verdict` is `Passed` when there is nothing to tell.
#[derive(Clone, Copy)]
pub struct Judged {
    pub generation: u32,
    pub entry: u32,
    pub verdict: Verdict,
    pub hook: Hook,
}

impl Judged {
    #[inline(always)]
    fn passed(hook: Hook) -> Self {
        Self { generation: 0, entry: Header::NO_ENTRY, verdict: Verdict::Passed, hook }
    }
}

/// `stop` is what the hook does to a `block` entry.
#[inline(always)]
pub fn judge(subject: &Subject, now: &Now, hook: Hook, stop: Verdict) -> Judged {
    let passed = Judged::passed(hook);
    count(Counter::ExecJudged);
    let Some(generation) = Generation::current() else {
        count(Counter::NoImage);
        return passed;
    };
    let Ok(number) = image::generation(&generation) else {
        damaged();
        return passed;
    };
    let found = find(generation, subject, now);
    let action = match found.rank() {
        REPORT => Action::Report,
        BLOCK => Action::Block,
        DAMAGED => {
            damaged();
            return passed;
        }
        _ => return passed,
    };
    Judged { generation: number, entry: found.0 as u32, verdict: verdict(action, now, stop), hook }
}

/// Kills the current process; whether the kernel took the signal.
#[inline(always)]
fn kill() -> bool {
    // SAFETY: the helper takes a signal number.
    let sent = unsafe { bpf_send_signal(SIGKILL) } == 0;
    if !sent {
        not_killed();
    }
    sent
}

/// The exec has happened and no instruction of the new program has run.
#[btf_tracepoint(function = "sched_process_exec")]
pub fn sched_process_exec(context: BtfTracePointContext) -> i32 {
    executed(context.as_ptr());
    0
}

#[inline(always)]
fn executed(context: *mut c_void) {
    let Some(now) = Now::read() else { return };
    if !in_scope(now.config) {
        return;
    }
    let bprm = argument(context, 2);
    let Some(subject) = subject(bprm) else { return };
    let mut judged = Judged::passed(Hook::SchedProcessExec);
    if now.config.judge_at_exec == 1 {
        judged = judge(&subject, &now, Hook::SchedProcessExec, Verdict::Killed);
    }
    if !is(judged.verdict, Verdict::Passed) {
        // What could not be killed ran: the record says so, and `kill_failed` counts it.
        if is(judged.verdict, Verdict::Killed) && !kill() {
            judged.verdict = Verdict::Reported;
        }
        tell(&now, bprm, &subject, &judged);
    }
    if now.config.send_execs == 1 {
        witness(&now, bprm, &subject);
    }
}

/// Counts a hit, and sends it unless it is a repeat.
// verifier: a frame of its own, so that the record's header does not lie on the stack of the whole program ("combined stack
// size of 2 calls is 624"), seen on 6.12.
#[inline(never)]
fn tell(now: &Now, bprm: Address, subject: &Subject, judged: &Judged) {
    if let Some((slot, header)) = counted(now, judged) {
        let arguments =
            if judged.hook as u8 == Hook::SchedProcessExec as u8 { Arguments::Readable } else { Arguments::NotYet };
        exec_record::send(slot, header, bprm, subject, arguments, 0);
    }
}

/// Counts a hit; the record's place and beginning, unless it is a repeat.
#[inline(always)]
pub fn counted(now: &Now, judged: &Judged) -> Option<(Slot<ExecRecord>, Header)> {
    count_verdict(judged.generation, judged.entry, judged.verdict);
    let (start_boot_ns, pid) = task::key();
    let Judged { generation, entry, verdict, hook } = *judged;
    let key = FoldKey {
        start_boot_ns,
        destination: 0,
        generation,
        entry,
        pid,
        port: 0,
        hook: hook as u8,
        verdict: verdict as u8,
    };
    if fold(key, now.boot_ns) {
        return None;
    }
    let slot = Slot::hit()?;
    let mut header = header(now, RecordKind::Exec, hook);
    header.generation = generation;
    header.entry = entry;
    header.verdict = verdict as u8;
    Some((slot, header))
}

/// Sends an exec for its own sake, whether or not it is listed.
// verifier: a frame of its own, as [`tell`].
#[inline(never)]
fn witness(now: &Now, bprm: Address, subject: &Subject) {
    if let Some(slot) = Slot::of(&EXECS, Counter::ExecRingFull) {
        let header = header(now, RecordKind::Exec, Hook::SchedProcessExec);
        exec_record::send(slot, header, bprm, subject, Arguments::Readable, BPF_RB_NO_WAKEUP);
    }
}

/// Whether the exec is to fail.
#[inline(always)]
fn check(now: &Now, bprm: Address, subject: &Subject, hook: Hook) -> bool {
    let judged = judge(subject, now, hook, Verdict::Blocked);
    if is(judged.verdict, Verdict::Passed) {
        return false;
    }
    tell(now, bprm, subject, &judged);
    is(judged.verdict, Verdict::Blocked)
}

/// Judges by the digests that user space has put into the map, and by path.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/bprm_check_security")]
pub extern "C" fn bprm_check(context: *mut c_void) -> i64 {
    answer(bprm_checked(context))
}

#[inline(always)]
fn bprm_checked(context: *mut c_void) -> bool {
    let Some(now) = Now::read() else { return false };
    if !in_scope(now.config) {
        return false;
    }
    let bprm = argument(context, 0);
    let Some(subject) = subject(bprm) else { return false };
    check(&now, bprm, &subject, Hook::BprmCheck)
}

/// As [`bprm_check`], and takes the digest of a file that nobody has read yet.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm.s/bprm_check_security")]
pub extern "C" fn bprm_check_ima(context: *mut c_void) -> i64 {
    answer(bprm_hashed(context))
}

#[inline(always)]
fn bprm_hashed(context: *mut c_void) -> bool {
    let Some(now) = Now::read() else { return false };
    if !in_scope(now.config) {
        return false;
    }
    let bprm = argument(context, 0);
    let Some(mut subject) = subject(bprm) else { return false };
    let mut hook = Hook::BprmCheck;
    if subject.digests.is_null() && subject.identity.stamp.size <= IMA_MAX_BYTES.load() {
        subject.digests = hash(context, &raw const subject.identity);
        if !subject.digests.is_null() {
            hook = Hook::BprmCheckIma;
        }
    }
    check(&now, bprm, &subject, hook)
}

/// Lets IMA read the file, and keeps the result for the next exec, unless the file has changed meanwhile: Linux 6.11 and
/// 6.12 let a file be written while it is being executed.
// verifier: a frame of its own, so that the digests do not lie on the stack of the whole program ("combined stack size of 2
// calls is 528"), seen on 6.12.
#[inline(never)]
extern "C" fn hash(context: *mut c_void, identity: *const Identity) -> *const FileDigests {
    let offset = file::OFF_BPRM_FILE.load();
    if offset == MISSING {
        return core::ptr::null();
    }
    let bprm: *const u8 = LsmContext::new(context).arg(0);
    // SAFETY: a typed pointer with a constant offset: the verifier checks that this is `linux_binprm.file`.
    let file = unsafe { read_volatile(bprm.add(offset as usize).cast::<*mut c_void>()) };
    taken_by_ima(file, argument(context, 0).follow(&file::OFF_BPRM_FILE), identity)
}

/// What [`hash`] does with a file; `typed` and `again` are the same one, for the helper and to be read.
#[inline(always)]
pub fn taken_by_ima(typed: *mut c_void, again: Address, identity: *const Identity) -> *const FileDigests {
    // SAFETY: the caller's own, which outlives the call.
    let identity = unsafe { &*identity };
    let mut digests = FileDigests { stamp: identity.stamp, sha256: [0; 32], sha1: [0; 20], md5: [0; 16], flags: 0 };
    // SAFETY: the helper writes at most 32 bytes.
    let algorithm = unsafe { bpf_ima_file_hash(typed.cast(), digests.sha256.as_mut_ptr().cast(), 32) };
    if algorithm != SHA256 {
        return core::ptr::null();
    }
    let after = file::identity(again).stamp;
    let before = &identity.stamp;
    if after.size != before.size || after.mtime_ns != before.mtime_ns || after.ctime_ns != before.ctime_ns {
        return core::ptr::null();
    }
    if FILE_DIGESTS.insert(identity.key, digests, ANY).is_err() {
        return core::ptr::null();
    }
    FILE_DIGESTS.get_ptr(identity.key).unwrap_or(core::ptr::null())
}

const _: () = assert!(size_of::<ExecRecord>() < 4096, "a record must fit into a ring page by page");
