//! What a task maps as code without executing it: libraries, and whatever a dynamic loader is told to run.
//!
//! `match-proto: mmap_file(struct file *file, unsigned long reqprot, unsigned long prot, unsigned long flags)`

use core::ffi::c_void;

use agent_common::image::Space;
use agent_common::limits::PATH_LEN;
use agent_common::wire::{ExecRecord, FileDigests, Hook, Verdict};
use aya_ebpf::helpers::generated::bpf_d_path;
use aya_ebpf::programs::LsmContext;

use super::exec::{
    IMA_MAX_BYTES, Judged, Subject, answer, argument, counted, holds, in_scope, judge, subject_of, taken_by_ima,
};
use super::{exec_record, is};
use crate::clock::Now;
use crate::image::Generation;
use crate::kmem::file::{self, Identity};
use crate::kmem::path::OFF_FILE_PATH;
use crate::kmem::{MISSING, task};

/// `PROT_EXEC`.
const EXECUTABLE: u64 = 4;

/// A file is mapped as code. Its digest is taken if nobody has; a listed one is refused, whatever maps it.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm.s/mmap_file")]
pub extern "C" fn mmap_file(context: *mut c_void) -> i64 {
    answer(mapped(context))
}

#[inline(always)]
fn mapped(context: *mut c_void) -> bool {
    if argument(context, 2).get() & EXECUTABLE == 0 {
        return false;
    }
    let file = argument(context, 0);
    // The program itself was judged when it was executed.
    if file.is_nowhere() || file::is_same(file, task::executable()) {
        return false;
    }
    let Some(now) = Now::read() else { return false };
    if !in_scope(now.config) {
        return false;
    }
    // Every library of every program comes by here: without digests in the image there is nothing to ask.
    let Some(generation) = Generation::current() else { return false };
    if !holds(&generation, Space::Digest) && !holds(&generation, Space::Path) {
        return false;
    }
    let Some(mut subject) = subject_of(file) else { return false };
    if subject.digests.is_null() && subject.identity.stamp.size <= IMA_MAX_BYTES.load() {
        subject.digests = hash(context, &raw const subject.identity);
    }
    let judged = judge(&subject, &now, Hook::MmapFile, Verdict::Blocked);
    if is(judged.verdict, Verdict::Passed) {
        return false;
    }
    tell(&now, context, &subject, &judged);
    is(judged.verdict, Verdict::Blocked)
}

/// The hook's file as the helpers want it.
// verifier: on kernels that know that it may be null (anonymous memory) the check has to be on this very pointer.
#[inline(always)]
fn typed_file(context: *mut c_void) -> Option<*mut c_void> {
    let file: *mut c_void = LsmContext::new(context).arg(0);
    (!file.is_null()).then_some(file)
}

// verifier: a frame of its own, as `hash` of the exec hook.
#[inline(never)]
extern "C" fn hash(context: *mut c_void, identity: *const Identity) -> *const FileDigests {
    let Some(file) = typed_file(context) else { return core::ptr::null() };
    taken_by_ima(file, argument(context, 0), identity)
}

/// Counts a hit, and sends it with the file's path unless it is a repeat.
// verifier: a frame of its own, as `tell` of the exec hook.
#[inline(never)]
fn tell(now: &Now, context: *mut c_void, subject: &Subject, judged: &Judged) {
    if let Some((slot, header)) = counted(now, judged) {
        let length = path(context, slot.record());
        exec_record::send_mapped(slot, header, subject, length);
    }
}

/// Writes the path of the hook's file into a record; its bytes, without the NUL.
#[inline(always)]
fn path(context: *mut c_void, record: *mut ExecRecord) -> u16 {
    let offset = OFF_FILE_PATH.load();
    let (Some(file), false) = (typed_file(context), offset == MISSING) else { return 0 };
    // SAFETY: a typed pointer with a constant offset: the verifier checks that this is `file.f_path`.
    let path = unsafe { file.cast::<u8>().add(offset as usize) };
    // SAFETY: the buffer is PATH_LEN bytes of the record.
    let taken = unsafe { bpf_d_path(path.cast(), (&raw mut (*record).path).cast(), PATH_LEN as u32) };
    if taken > 0 { (taken - 1) as u16 } else { 0 }
}
