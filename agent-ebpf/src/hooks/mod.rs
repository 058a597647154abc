//! One file per hook family: read → look up → decide → count → emit → return.

mod exec;
mod exec_record;
mod network;

use agent_common::image::{Action, Hit};
use agent_common::wire::{Counter, Header, Hook, RecordKind, Verdict};

use crate::clock::Now;
use crate::emit::{count, count_hit};
use crate::kmem::task;

/// What a hit comes to in the current mode; `None` for an exception. `stop` is what this hook does to a `block` entry.
#[inline(always)]
fn verdict(hit: Hit, now: &Now, stop: Verdict) -> Option<Verdict> {
    match hit.action {
        Action::Allow => None,
        Action::Report => Some(Verdict::Reported),
        Action::Block if now.enforces() => Some(stop),
        Action::Block => Some(Verdict::WouldBlock),
    }
}

/// Counts a hit in every place it is counted.
#[inline(always)]
fn count_verdict(generation: u32, hit: Hit, verdict: Verdict) {
    count_hit(generation, hit.entry);
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
