//! What is remembered of a socket: who made it, and which hit has been told already, so that no flow counts twice.

use core::ffi::c_void;

use agent_common::wire::{SocketMemory, Verdict};

use super::destination::{Judged, Target};
use crate::kmem::task;
use crate::maps::SOCKETS;

/// Remembers the current process as the maker of a new socket.
///
/// # Safety
/// `socket` is the context of a running `cgroup/sock_create` program.
#[inline(always)]
pub unsafe fn remember_maker(socket: *mut c_void) {
    let mut memory = SocketMemory {
        process: task::process(),
        high: 0,
        low: 0,
        generation: 0,
        port: 0,
        verdict: Verdict::Passed as u8,
        flags: 0,
        sent: 0,
        received: 0,
        grown_boot_ns: 0,
    };
    // SAFETY: the caller's promise.
    unsafe { SOCKETS.get_or(socket, &mut memory) };
}

/// The memory of a socket, made where there is none; null when there is no room for it.
///
/// # Safety
/// `socket` is one that this program may name.
#[inline(always)]
pub unsafe fn recall(socket: *mut c_void) -> *mut SocketMemory {
    // SAFETY: the caller's promise.
    unsafe { SOCKETS.get(socket) }
}

/// Remembers that a socket asks for names.
///
/// # Safety
/// As [`recall`].
#[inline(always)]
pub unsafe fn remember_question(socket: *mut c_void) {
    // SAFETY: the caller's promise.
    let memory = unsafe { recall(socket) };
    if !memory.is_null() {
        // SAFETY: a live map value. Who asks is not who was connected to, so that no other flag is lost to two at once.
        unsafe { (*memory).flags |= SocketMemory::ASKED };
    }
}

/// Whether this very hit is what was told of last.
///
/// # Safety
/// `memory` is a live map value.
#[inline(always)]
pub unsafe fn is_told(memory: *const SocketMemory, target: &Target, judged: &Judged) -> bool {
    // SAFETY: the caller's promise.
    let (high, low, generation, port, verdict) =
        unsafe { ((*memory).high, (*memory).low, (*memory).generation, (*memory).port, (*memory).verdict) };
    high == target.high
        && low == target.low
        && port == target.port
        && generation == judged.generation
        && verdict == judged.verdict as u8
}

/// Remembers a hit as told.
///
/// # Safety
/// `memory` is a live map value.
#[inline(always)]
pub unsafe fn note(memory: *mut SocketMemory, target: &Target, judged: &Judged) {
    // SAFETY: the caller's promise. Two packets at once may leave a mixture, which no later hit is the same as: that one is
    // told again rather than kept back.
    unsafe {
        (*memory).high = target.high;
        (*memory).low = target.low;
        (*memory).port = target.port;
        (*memory).generation = judged.generation;
        (*memory).verdict = judged.verdict as u8;
    }
}
