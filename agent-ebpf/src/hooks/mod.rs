//! One file per hook family: read → look up → decide → count → emit → return.

mod contact;
mod destination;
mod domain;
mod egress;
mod exec;
mod exec_record;
mod ingress;
mod learned;
mod mapped;
mod memory;
mod network;
mod packet;
mod protect;
mod setsockopt;
mod sock_create;
mod socket;

use core::arch::asm;

use agent_common::image::Action;
use agent_common::wire::{Counter, Header, Hook, RecordKind, Verdict};

use crate::clock::Now;
use crate::emit::{count, count_hit};
use crate::kmem::task;

/// What a cgroup hook returns to let a call pass.
const PASS: i32 = 1;
/// What a cgroup hook returns to fail a call with `EPERM`.
const REFUSE: i32 = 0;

// verifier: a return value spilled beside a map key loses its range, seen on 6.18 with -Ctarget-cpu=v3.
#[inline(always)]
fn bit(value: i32) -> i32 {
    let mut wide = value as u64;
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= 1", inout(reg) wide, options(pure, nomem, nostack, preserves_flags)) };
    wide as i32
}

/// Reads a field of the context: each exactly once and as wide as it is, as the verifier wants it.
macro_rules! field {
    ($context:expr, $($field:tt)+) => {
        // SAFETY: the context of a running program; the verifier checks the offset and width of this load.
        unsafe { core::ptr::read_volatile(&raw const (*$context).$($field)+) }
    };
}
pub(crate) use field;

/// What a match comes to in the current mode; an exception passes. `stop` is what this hook does to a `block` entry.
#[inline(always)]
fn verdict(action: Action, now: &Now, stop: Verdict) -> Verdict {
    match action {
        Action::Allow => Verdict::Passed,
        Action::Report => Verdict::Reported,
        Action::Block if now.enforces() => stop,
        Action::Block => Verdict::WouldBlock,
    }
}

/// Whether two verdicts are the same.
#[inline(always)]
fn is(verdict: Verdict, other: Verdict) -> bool {
    verdict as u8 == other as u8
}

/// Counts a hit in every place it is counted.
#[inline(always)]
fn count_verdict(generation: u32, entry: u32, verdict: Verdict) {
    count_hit(generation, entry);
    count(match verdict {
        Verdict::Blocked | Verdict::Killed => Counter::Blocked,
        _ => Counter::Reported,
    });
}

/// The common part of a record about the current task.
#[inline(always)]
fn header(now: &Now, kind: RecordKind, hook: Hook) -> Header {
    Header {
        boot_ns: now.boot_ns,
        generation: 0,
        entry: Header::NO_ENTRY,
        kind: kind as u8,
        verdict: Verdict::Passed as u8,
        hook: hook as u8,
        reserved: [0; 5],
        process: task::process(),
    }
}
