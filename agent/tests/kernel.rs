//! trial
use std::process::Command;
#[test]
fn trial_runs_as_root_with_lsm() {
    let lsm = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap();
    assert!(lsm.contains("bpf"), "{lsm}");
    assert!(std::path::Path::new(env!("CARGO_BIN_EXE_cordon")).exists());
    assert!(Command::new("sh").args(["-c", "true"]).status().unwrap().success());
}
#[test]
fn trial_not_run() {
    println!("NOT RUN trial_not_run: as a trial");
}
