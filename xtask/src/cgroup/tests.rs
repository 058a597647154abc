use std::path::PathBuf;

use super::{Hierarchies, parse};

#[test]
fn hierarchies_are_found_on_unified_and_hybrid_hosts() {
    let unified = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
    assert_eq!(parse(unified), Hierarchies { unified: Some(PathBuf::from("/sys/fs/cgroup")), systemd: None });
    let hybrid = "cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\nnone /sys/fs/cgroup/unified cgroup2 rw 0 0\n\
                  cgroup /sys/fs/cgroup/systemd cgroup rw,relatime,name=systemd 0 0\n";
    let found = parse(hybrid);
    assert_eq!(found.unified, Some(PathBuf::from("/sys/fs/cgroup/unified")));
    assert_eq!(found.systemd, Some(PathBuf::from("/sys/fs/cgroup/systemd")));
    assert_eq!(parse("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), Hierarchies::default());
}
