use std::path::PathBuf;

use procfs::process::MountInfo;

use super::one_path_per_filesystem;

#[test]
fn each_filesystem_with_programs_is_watched_once_where_it_can_be_reached() {
    let mounts: Vec<MountInfo> = [
        "21 1 254:0 / / rw - ext4 /dev/vda rw",
        "22 21 0:21 / /proc rw - proc proc rw",
        "23 21 0:30 / /tmp rw - tmpfs tmpfs rw",
        "24 21 254:0 /home /srv/home rw - ext4 /dev/vda rw",
        "25 21 0:31 / /mnt rw - tmpfs covered rw",
        "26 21 0:32 / /mnt rw - tmpfs covering rw",
        "27 21 0:33 / /var/lib/docker/overlay2/x/merged rw - overlay overlay rw",
        "28 21 0:34 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw",
    ]
    .iter()
    .map(|line| MountInfo::from_line(line).unwrap())
    .collect();
    let expected = ["/tmp", "/srv/home", "/mnt", "/var/lib/docker/overlay2/x/merged"].map(PathBuf::from);
    assert_eq!(one_path_per_filesystem(&mounts), expected);
}
