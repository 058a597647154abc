//! One file per hook family: read → look up → decide → count → emit → return.

mod domain;
mod exec;
mod exec_record;
mod network;

use core::arch::asm;

use agent_common::image::Action;
use agent_common::wire::{Counter, Header, Hook, RecordKind, Verdict};

use crate::clock::Now;
use crate::emit::{count, count_hit};
use crate::kmem::task;

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

/// What a cgroup program returns: 1 lets the call or packet pass, 0 refuses it with `EPERM`.
// verifier: a return value spilled beside a map key loses its range, seen on 6.18 with -Ctarget-cpu=v3.
#[inline(always)]
fn bit(value: i32) -> i32 {
    let mut wide = value as u64;
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= 1", inout(reg) wide, options(pure, nomem, nostack, preserves_flags)) };
    wide as i32
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
