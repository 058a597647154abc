//! Filling an [`ExecRecord`] where it lies in a ring: it is far larger than a program's stack.

use core::arch::asm;

use agent_common::limits::{ARGS_LEN, PATH_LEN};
use agent_common::wire::{ExecRecord, Header};
use aya_ebpf::helpers::generated::{bpf_probe_read_kernel_str, bpf_probe_read_user};

use super::exec::Subject;
use crate::emit::Slot;
use crate::kmem::{Address, file, task};

// verifier: LLVM drops a mask that it knows to be redundant, and the range with it.
#[inline(always)]
fn at_most_1023(value: u64) -> u32 {
    let mut masked = value;
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= 1023", inout(reg) masked, options(pure, nomem, nostack, preserves_flags)) };
    masked as u32
}

const _: () = assert!(ARGS_LEN == 1024, "at_most_1023 is the bound of the argument copy");

/// Whether the new program's arguments exist already: after the exec they do, in an LSM hook they do not.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Arguments {
    /// In the current task's memory.
    Readable,
    /// Still with the kernel.
    NotYet,
}

#[inline(always)]
fn path(record: *mut ExecRecord, bprm: Address) -> u32 {
    let filename = bprm.value::<u64>(&file::OFF_BPRM_FILENAME);
    // SAFETY: the buffer is PATH_LEN bytes of the record.
    let taken = unsafe {
        bpf_probe_read_kernel_str(
            (&raw mut (*record).path).cast(),
            PATH_LEN as u32,
            filename as *const core::ffi::c_void,
        )
    };
    let length = if taken > 0 { (taken - 1) as u16 } else { 0 };
    // SAFETY: a field of the record.
    unsafe { (&raw mut (*record).path_len).write(length) };
    if usize::from(length) == PATH_LEN - 1 { ExecRecord::PATH_CUT } else { 0 }
}

#[inline(always)]
fn arguments(record: *mut ExecRecord) -> u32 {
    let (start, length) = task::arguments();
    let most = ARGS_LEN as u64 - 1;
    let taken = at_most_1023(if length > most { most } else { length });
    // SAFETY: the buffer is ARGS_LEN bytes of the record and `taken` is less.
    let failed =
        unsafe { bpf_probe_read_user((&raw mut (*record).args).cast(), taken, start as *const core::ffi::c_void) };
    let kept = if failed == 0 { taken as u16 } else { 0 };
    // SAFETY: a field of the record.
    unsafe { (&raw mut (*record).args_len).write(kept) };
    if u64::from(kept) == length { 0 } else { ExecRecord::ARGS_CUT }
}

/// Fills and sends a record; `wake` is the ring's wakeup flag.
#[inline(always)]
pub fn send(slot: Slot<ExecRecord>, header: Header, bprm: Address, subject: &Subject, args: Arguments, wake: u32) {
    let record = slot.record();
    let mut flags = path(record, bprm);
    if args == Arguments::Readable {
        flags |= arguments(record);
    } else {
        // SAFETY: a field of the record.
        unsafe { (&raw mut (*record).args_len).write(0) };
    }
    fill(record, header, subject, flags);
    slot.send(wake);
}

/// Fills and sends the record of a file that was mapped, whose path of `length` bytes is in it already.
#[inline(always)]
pub fn send_mapped(slot: Slot<ExecRecord>, header: Header, subject: &Subject, length: u16) {
    let record = slot.record();
    // SAFETY: fields of the record.
    unsafe {
        (&raw mut (*record).path_len).write(length);
        (&raw mut (*record).args_len).write(0);
    }
    fill(record, header, subject, 0);
    slot.send(0);
}

#[inline(always)]
fn fill(record: *mut ExecRecord, header: Header, subject: &Subject, mut flags: u32) {
    // SAFETY: fields of the record, which the slot keeps alive, and of a live map value.
    unsafe {
        (&raw mut (*record).header).write(header);
        (&raw mut (*record).file).write(subject.identity.key);
        (&raw mut (*record).stamp).write(subject.identity.stamp);
        if subject.digests.is_null() {
            (&raw mut (*record).sha256).write([0; 32]);
        } else {
            (&raw mut (*record).sha256).write((*subject.digests).sha256);
            flags |= ExecRecord::DIGEST | ((*subject.digests).flags << ExecRecord::DIGEST_SHIFT);
        }
        (&raw mut (*record).flags).write(flags);
    }
}
