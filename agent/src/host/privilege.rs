//! What this process may do.

use std::fs;

/// Names of the capabilities (capabilities(7)) that this process lacks of those without which nothing can be enforced: BPF
/// programs can be neither loaded (`CAP_BPF`, `CAP_PERFMON`) nor attached to a cgroup (`CAP_NET_ADMIN`).
#[must_use]
pub fn missing_capabilities() -> Vec<&'static str> {
    const SYS_ADMIN: u64 = 1 << 21;
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let effective = line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    let needed = [("CAP_BPF", 39, true), ("CAP_PERFMON", 38, true), ("CAP_NET_ADMIN", 12, false)];
    let lacks = |bit: u32, implied: bool| effective & (1 << bit) == 0 && !(implied && effective & SYS_ADMIN != 0);
    needed.into_iter().filter(|&(_, bit, implied)| lacks(bit, implied)).map(|(name, ..)| name).collect()
}
