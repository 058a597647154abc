//! A listed destination, or a behaviour that the settings judge: what it comes to, counted and told. Whatever hook sees it
//! ends here.

use agent_common::image::{self, Action, Found};
use agent_common::wire::{Behaviour, FoldKey, Header, Hook, NetworkRecord, Process, RecordKind, Verdict};

use super::{count_verdict, header, is, verdict};
use crate::clock::Now;
use crate::emit::{Slot, damaged, fold};
use crate::image::Generation;
use crate::kmem::task;

/// Where to: the halves of the address in host order (IPv4 in its mapped form) and the port.
#[derive(Clone, Copy)]
pub struct Target {
    pub high: u64,
    pub low: u64,
    pub port: u16,
}

/// The record's fields that are no part of the judgement.
#[derive(Clone, Copy)]
pub struct Socket {
    pub family: u16,
    pub protocol: u16,
    pub socket_type: u16,
}

/// Who acts.
#[derive(Clone, Copy)]
pub enum Actor<'a> {
    /// The current task.
    Current,
    /// Whoever this says; all zero for nobody knows.
    Process(&'a Process),
}

/// What is told of: where, through what, seen by which hook, done by whom.
#[derive(Clone, Copy)]
pub struct Act<'a> {
    pub target: Target,
    /// Where something arrives; 0 for what leaves.
    pub local_port: u16,
    pub socket: Socket,
    pub hook: Hook,
    pub actor: Actor<'a>,
}

/// An entry and what it comes to; `Passed` where it is nothing to tell of.
// verifier: an `Option` of it that is carried along leaves a register unset ("R3 !read_ok"), seen on 6.18.
#[derive(Clone, Copy)]
pub struct Judged {
    pub generation: u32,
    pub entry: u32,
    pub verdict: Verdict,
}

impl Judged {
    /// Nothing to tell of.
    pub const NOTHING: Self = Self { generation: 0, entry: Header::NO_ENTRY, verdict: Verdict::Passed };

    /// Whether there is something to tell of.
    #[inline(always)]
    pub fn is_hit(&self) -> bool {
        !is(self.verdict, Verdict::Passed)
    }

    /// Whether the operation must fail.
    #[inline(always)]
    pub fn blocks(&self) -> bool {
        is(self.verdict, Verdict::Blocked)
    }
}

/// What a listed destination comes to now: nothing if it is an exception, or an entry that has expired.
#[inline(always)]
pub fn judge(generation: &Generation, now: &Now, found: Found) -> Judged {
    match image::resolve(generation, Some(found.entry), now.wall_s) {
        Ok(Some(hit)) => Judged {
            generation: found.generation,
            entry: hit.entry,
            verdict: verdict(hit.action, now, Verdict::Blocked),
        },
        Ok(None) => Judged::NOTHING,
        Err(image::Damaged) => {
            damaged();
            Judged::NOTHING
        }
    }
}

/// What a behaviour comes to, by `policy`, an [`Action`] of the configuration.
#[inline(always)]
pub fn judge_behaviour(now: &Now, behaviour: Behaviour, policy: u32) -> Judged {
    let action = if policy == Action::Block as u32 {
        Action::Block
    } else if policy == Action::Report as u32 {
        Action::Report
    } else {
        return Judged::NOTHING;
    };
    let generation = Generation::current().and_then(|generation| image::generation(&generation).ok()).unwrap_or(0);
    Judged { generation, entry: behaviour as u32, verdict: verdict(action, now, Verdict::Blocked) }
}

/// Counts a hit, and sends its record unless it is a repeat.
#[inline(always)]
pub fn tell(now: &Now, act: &Act<'_>, judged: Judged) {
    let Judged { generation, entry, verdict } = judged;
    count_verdict(generation, entry, verdict);
    // Of a repeat no more is asked than what it is a repeat of.
    let (start_boot_ns, pid) = match act.actor {
        Actor::Current => task::key(),
        Actor::Process(process) => (process.start_boot_ns, process.pid),
    };
    let key = FoldKey {
        start_boot_ns,
        destination: FoldKey::destination((act.target.high, act.target.low)),
        generation,
        entry,
        pid,
        // The other end has another port each time; what it asks for is the same.
        port: if act.local_port == 0 { act.target.port } else { act.local_port },
        hook: act.hook as u8,
        verdict: verdict as u8,
    };
    if fold(key, now.boot_ns) {
        return;
    }
    let Some(slot) = Slot::<NetworkRecord>::hit() else { return };
    let header = Header { generation, entry, verdict: verdict as u8, ..begin(now, act) };
    let mut address = [0u8; 16];
    address[..8].copy_from_slice(&act.target.high.to_be_bytes());
    address[8..].copy_from_slice(&act.target.low.to_be_bytes());
    let record = NetworkRecord {
        header,
        address,
        port: act.target.port,
        family: act.socket.family,
        protocol: act.socket.protocol,
        socket_type: act.socket.socket_type,
        local_port: act.local_port,
        reserved: [0; 6],
    };
    // SAFETY: the slot is as large as the record and 8-byte aligned, as every ring record.
    unsafe { slot.record().write(record) };
    slot.send(0);
}

#[inline(always)]
fn begin(now: &Now, act: &Act<'_>) -> Header {
    match act.actor {
        Actor::Current => header(now, RecordKind::Network, act.hook),
        Actor::Process(process) => Header {
            boot_ns: now.boot_ns,
            generation: 0,
            entry: Header::NO_ENTRY,
            kind: RecordKind::Network as u8,
            verdict: Verdict::Passed as u8,
            hook: act.hook as u8,
            reserved: [0; 5],
            process: *process,
        },
    }
}
