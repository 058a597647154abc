use std::os::unix::fs::MetadataExt;
use std::process::Command;

use super::{StartTick, cut_arguments, executable, open_executable, running_processes, snapshot};

#[test]
fn the_start_of_the_kernel_and_of_proc_meet_in_ticks() {
    assert_eq!(StartTick::from_boot_ns(1_234_567_890), StartTick(123));
    assert_eq!(StartTick::from_boot_ns(1_239_999_999), StartTick(123));
    assert_eq!(StartTick::from_boot_ns(1_240_000_000), StartTick(124));
    assert_eq!(StartTick(123).earliest_boot_ns(), 1_230_000_000);
}

#[test]
fn a_child_is_described_as_it_was_started() {
    let before = StartTick::from_boot_ns(crate::kernel::clock::boot_ns().unwrap());
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    let after = StartTick::from_boot_ns(crate::kernel::clock::boot_ns().unwrap());
    let found = snapshot(child.id()).unwrap().unwrap();
    assert_eq!(found.pid, child.id());
    assert_eq!(found.ppid, std::process::id());
    assert!(before <= found.start && found.start <= after);
    let (path, key) = executable(child.id()).unwrap();
    assert_eq!(Some(&path), found.exe.as_ref());
    assert_eq!(key, found.file.unwrap().0);
    let opened = open_executable(child.id(), found.start).unwrap();
    assert_eq!(opened.metadata().unwrap().ino(), key.inode);
    assert!(open_executable(child.id(), StartTick(found.start.0 + 1)).is_none());
    assert!(running_processes().unwrap().any(|process| process.pid == child.id() && process.start == found.start));
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(snapshot(child.id()).unwrap(), None);
}

#[test]
fn this_process_is_itself() {
    let found = snapshot(std::process::id()).unwrap().unwrap();
    assert_eq!(found.exe.as_deref(), std::env::current_exe().unwrap().to_str());
    assert_eq!(found.args.first(), std::env::args().next().as_ref());
}

#[test]
fn a_deleted_program_keeps_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program (deleted)");
    std::fs::copy("/bin/sleep", &path).unwrap();
    let mut child = Command::new(&path).arg("60").spawn().unwrap();
    assert_eq!(snapshot(child.id()).unwrap().unwrap().exe.as_deref(), path.to_str());
    std::fs::remove_file(&path).unwrap();
    assert_eq!(snapshot(child.id()).unwrap().unwrap().exe.as_deref(), path.to_str());
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn long_arguments_are_cut_at_a_character() {
    let cut = cut_arguments(vec!["a".into(), "é".repeat(1000), "never".into()]);
    assert_eq!(cut.len(), 2);
    assert_eq!(cut[1].len(), 1022);
    assert_eq!(cut_arguments(vec![String::new(), "b".into()]), ["", "b"]);
}
