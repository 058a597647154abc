//! Counting, folding and sending. The decision has been made before anything here runs.

use core::mem::MaybeUninit;

use agent_common::wire::{Counter, Fold, FoldKey, HitKey};
use aya_ebpf::bindings::{BPF_ANY, BPF_NOEXIST};
use aya_ebpf::btf_maps::ring_buf::RingBuf;
use aya_ebpf::helpers::bpf_get_current_pid_tgid;
use aya_ebpf::helpers::generated::{bpf_ringbuf_reserve, bpf_ringbuf_submit};

use crate::maps::{COUNTERS, FOLDS, FoldWords, HIT_COUNTS, HITS};

/// `-EEXIST`: another CPU created the key first.
const ALREADY_THERE: i32 = -17;

/// Adds 1 at `target`, whatever other CPUs do.
///
/// # Safety
/// `target` points to a live map value.
#[inline(always)]
pub unsafe fn add(target: *mut u64, amount: u64) {
    // SAFETY: the caller's promise; the result is unused because the BPF instruction before v3 returns none.
    unsafe { core::intrinsics::atomic_xadd::<u64, u64, { core::intrinsics::AtomicOrdering::Relaxed }>(target, amount) };
}

/// Counts on this CPU.
#[inline(always)]
pub fn count(counter: Counter) {
    if let Some(value) = COUNTERS.get_ptr_mut(counter as u32) {
        // SAFETY: a live map value; atomic because a preempted program may come back to the same CPU's value.
        unsafe { add(value, 1) };
    }
}

/// Counts a damaged image, and says so to whoever reads the log. Rare, so the message costs nothing elsewhere; below the
/// level that user space asked for at load it is not even in the program.
#[inline(always)]
pub fn damaged() {
    count(Counter::ImageDamaged);
    aya_log_ebpf::warn!((), "the image is damaged: an operation passed unjudged");
}

/// Counts the current process as one that could not be killed, and says so.
#[inline(always)]
pub fn not_killed() {
    count(Counter::KillFailed);
    aya_log_ebpf::warn!((), "could not kill process {}: its program runs", bpf_get_current_pid_tgid() >> 32);
}

/// Counts a hit of an entry.
#[inline(always)]
pub fn count_hit(generation: u32, entry: u32) {
    let key = HitKey { generation, entry };
    if let Some(value) = HIT_COUNTS.get_ptr_mut(key) {
        // SAFETY: a live map value.
        unsafe { add(value, 1) };
        return;
    }
    match HIT_COUNTS.insert(key, 1, u64::from(BPF_NOEXIST)) {
        Ok(()) => {}
        Err(ALREADY_THERE) => {
            if let Some(value) = HIT_COUNTS.get_ptr_mut(key) {
                // SAFETY: a live map value.
                unsafe { add(value, 1) };
            }
        }
        Err(_) => count(Counter::HitCounterFull),
    }
}

/// Whether a hit is a repeat that only had to be counted. The first of a key returns `false`: its record is to be sent.
#[inline(always)]
pub fn fold(key: FoldKey, boot_ns: u64) -> bool {
    let Some(folds) = FOLDS.get(0) else { return false };
    if let Some(found) = folds.get_ptr_mut(key) {
        repeat(found.cast(), boot_ns);
        return true;
    }
    // A `Fold`: no repeats, first and last time.
    let first: FoldWords = [0, boot_ns, boot_ns];
    match folds.insert(key, first, u64::from(BPF_NOEXIST)) {
        Ok(()) => false,
        Err(ALREADY_THERE) => match folds.get_ptr_mut(key) {
            Some(found) => {
                repeat(found.cast(), boot_ns);
                true
            }
            None => false,
        },
        Err(_) => {
            count(Counter::FoldsFull);
            false
        }
    }
}

#[inline(always)]
fn repeat(found: *mut Fold, boot_ns: u64) {
    // SAFETY: a live map value; the latest of two simultaneous times is as good as the other.
    unsafe {
        add(&raw mut (*found).repeats, 1);
        (&raw mut (*found).last_boot_ns).write_volatile(boot_ns);
    }
}

/// A record that is being filled in a ring. Submitted by [`Slot::send`]; the verifier rejects a program that forgets it.
pub struct Slot<T>(*mut MaybeUninit<T>);

impl<T> Slot<T> {
    /// Room for a record in the hits ring; counts the loss when there is none.
    #[inline(always)]
    pub fn hit() -> Option<Self> {
        Self::reserve((&raw const HITS).cast(), Counter::HitRingFull)
    }

    /// Room for a record in `ring`.
    #[inline(always)]
    pub fn of<const BYTES: usize>(ring: &RingBuf<T, BYTES>, loss: Counter) -> Option<Self> {
        Self::reserve(core::ptr::from_ref(ring).cast(), loss)
    }

    #[inline(always)]
    fn reserve(ring: *const core::ffi::c_void, loss: Counter) -> Option<Self> {
        // SAFETY: the loader replaces the address by the map; the size is a constant.
        let record = unsafe { bpf_ringbuf_reserve(ring.cast_mut(), size_of::<T>() as u64, 0) };
        if record.is_null() {
            count(loss);
            None
        } else {
            Some(Self(record.cast()))
        }
    }

    /// The record's memory, not initialised.
    #[inline(always)]
    pub fn record(&self) -> *mut T {
        self.0.cast()
    }

    /// Hands the record over; `flags` says whether the reader is woken.
    #[inline(always)]
    pub fn send(self, flags: u32) {
        // SAFETY: reserved by `reserve` and submitted once, because `self` is consumed.
        unsafe { bpf_ringbuf_submit(self.0.cast(), u64::from(flags)) };
    }
}

/// Overwrite or create.
pub const ANY: u64 = BPF_ANY as u64;
