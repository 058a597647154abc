//! Memory that is no longer used goes back to the kernel: between two generations the agent needs next to none of what it
//! needs to make one.

use std::ffi::c_int;

/// Allocations from this size on are mappings of their own, which end with them. glibc's own limit starts there too, but
/// grows to 32 MiB with the first large one that is freed.
const MAPPED: c_int = 128 << 10;

/// Makes large allocations go back as soon as they are freed. To be called before any is made.
pub fn give_back_large() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt(3) takes two integers; a refusal changes nothing.
    let _is_set = unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, MAPPED) };
}

/// Gives back what small allocations left behind.
pub fn give_back_small() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes an integer and touches free memory only.
    let _is_given = unsafe { libc::malloc_trim(0) };
}
