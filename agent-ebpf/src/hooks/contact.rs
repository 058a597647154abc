//! Who reached what, for those who look back: counted once per process and destination, and only where the settings ask for it.
//! A destination that is listed is a hit and told of elsewhere.

use agent_common::wire::{Contact, ContactKey, Counter};
use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_NOEXIST;

use super::destination::Target;
use crate::clock::boot_ns;
use crate::emit::{add, count};
use crate::kmem::task;
use crate::maps::CONTACTS;

/// 1 when contacts are kept; user space sets it before the programs load, so that they cost nothing where it is 0.
#[unsafe(no_mangle)]
static KEEP_CONTACTS: Global<u64> = Global::new(0);

/// Counts an operation that passed because nothing lists where it goes.
#[inline(always)]
pub fn note(target: &Target, protocol: u16) {
    if KEEP_CONTACTS.load() == 0 {
        return;
    }
    let (start_boot_ns, pid) = task::key();
    let key = ContactKey { start_boot_ns, high: target.high, low: target.low, pid, port: target.port, protocol };
    let now = boot_ns();
    if let Some(found) = CONTACTS.get_ptr_mut(key) {
        return again(found.cast(), now);
    }
    if CONTACTS.insert(key, [1, now, now], u64::from(BPF_NOEXIST)).is_err() {
        // Another CPU was first, or the map is full.
        match CONTACTS.get_ptr_mut(key) {
            Some(found) => again(found.cast(), now),
            None => count(Counter::ContactsFull),
        }
    }
}

#[inline(always)]
fn again(found: *mut Contact, now: u64) {
    // SAFETY: a live map value; the latest of two simultaneous times is as good as the other.
    unsafe {
        add(&raw mut (*found).count, 1);
        (&raw mut (*found).last_boot_ns).write_volatile(now);
    }
}
