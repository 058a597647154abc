use std::fs::{File, OpenOptions};

use super::{WriteVisibility, has_writer, write_visibility};

#[test]
fn a_writer_is_seen_while_it_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, b"contents").unwrap();
    let reader = File::open(&path).unwrap();
    assert!(!has_writer(&reader).unwrap());
    let writer = OpenOptions::new().append(true).open(&path).unwrap();
    assert!(has_writer(&reader).unwrap());
    drop(writer);
    assert!(!has_writer(&reader).unwrap());
}

#[test]
fn no_lease_is_left_behind() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, b"contents").unwrap();
    let reader = File::open(&path).unwrap();
    assert!(!has_writer(&reader).unwrap());
    // With the lease still there this open would wait for /proc/sys/fs/lease-break-time, 45 s.
    let before = std::time::Instant::now();
    drop(OpenOptions::new().write(true).open(&path).unwrap());
    assert!(before.elapsed().as_secs() < 5);
}

#[test]
fn memory_filesystems_are_told_apart() {
    assert_eq!(write_visibility(&File::open("/dev/shm").unwrap()).unwrap(), WriteVisibility::Unstamped);
    assert_eq!(write_visibility(&File::open("/proc/self/stat").unwrap()).unwrap(), WriteVisibility::Stamped);
}
