use std::path::PathBuf;

use super::cgroup2;

#[test]
fn cgroup2_is_found_on_unified_and_hybrid_hosts() {
    let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
    assert_eq!(cgroup2(unified), Some(PathBuf::from("/sys/fs/cgroup")));
    let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nnone /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
    assert_eq!(cgroup2(hybrid), Some(PathBuf::from("/sys/fs/cgroup/unified")));
    assert_eq!(cgroup2("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
}
