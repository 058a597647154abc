//! The boot clock: what the kernel stamps its records with, and how it relates to the wall clock.

use std::io;

/// Nanoseconds since boot, suspend included: `CLOCK_BOOTTIME`, the clock of `bpf_ktime_get_boot_ns` and of
/// `task_struct.start_boottime`.
///
/// # Errors
/// The kernel has no `CLOCK_BOOTTIME` (before Linux 2.6.39).
pub fn boot_ns() -> io::Result<u64> {
    read(libc::CLOCK_BOOTTIME)
}

/// Wall clock minus boot clock, nanoseconds: what turns a record's time into a time of day.
///
/// The wall clock may be stepped at any moment, so the caller reads this again from time to time.
///
/// # Errors
/// As [`boot_ns`]; also when the wall clock stands before the moment of boot in 1970 terms, that is, is not set.
pub fn wall_minus_boot_ns() -> io::Result<u64> {
    let before = boot_ns()?;
    let wall = read(libc::CLOCK_REALTIME)?;
    let after = boot_ns()?;
    wall.checked_sub(before.midpoint(after))
        .ok_or_else(|| io::Error::other("the wall clock is not set: it is before the time since boot"))
}

fn read(clock: libc::clockid_t) -> io::Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a live, writable timespec for the whole call, and the kernel writes nothing else.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let out_of_range = || io::Error::other("the clock is out of range");
    let seconds = u64::try_from(time.tv_sec).map_err(|_| out_of_range())?;
    let nanoseconds = u64::try_from(time.tv_nsec).map_err(|_| out_of_range())?;
    seconds.checked_mul(1_000_000_000).and_then(|whole| whole.checked_add(nanoseconds)).ok_or_else(out_of_range)
}
