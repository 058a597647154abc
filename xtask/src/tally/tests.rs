use super::{Output, Summary, Tally};

fn read(text: &str) -> (Tally, Vec<&str>) {
    let mut output = Output::default();
    let shown = text.lines().filter(|line| output.line(line)).collect();
    (output.tally(), shown)
}

fn tally_of(text: &str) -> Tally {
    read(text).0
}

#[test]
fn libtest_results_are_added_up() {
    let output = "\
running 3 tests
test a ... ok
test result: FAILED. 2 passed; 1 failed; 4 ignored; 0 measured; 0 filtered out; finished in 0.00s
test result: ok. 12 passed; 0 failed; 0 ignored; 0 measured; 3 filtered out; finished in 0.10s
";
    assert_eq!(tally_of(output), Tally { passed: 14, failed: 1, skipped: 4 });
}

const PARTLY: &str = "\
running 3 tests
test a ... ok
test b ... FAILED
test c ... ok

successes:

---- a stdout ----
chatter
NOT RUN a: no LSM
NOT RUN a: nor fanotify

---- c stdout ----
chatter
MEASURED instructions: 7

successes:
    a
    c

failures:

---- b stdout ----
NOT RUN b: half of it
why it failed

failures:
    b

test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
running 1 test
test d ... ok
test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s
";

#[test]
fn a_test_that_could_not_run_is_skipped_once_and_has_not_passed() {
    assert_eq!(tally_of(PARTLY), Tally { passed: 2, failed: 1, skipped: 1 });
}

#[test]
fn what_could_not_run_outside_of_libtest_is_skipped() {
    assert_eq!(tally_of("NOT RUN lsm_denies: the kernel has no BPF LSM"), Tally { skipped: 1, ..Tally::default() });
}

#[test]
fn what_passed_is_quiet_and_what_failed_or_could_not_run_is_shown() {
    let expected = [
        "running 3 tests",
        "test b ... FAILED",
        "NOT RUN a: no LSM",
        "NOT RUN a: nor fanotify",
        "MEASURED instructions: 7",
        "failures:",
        "---- b stdout ----",
        "NOT RUN b: half of it",
        "why it failed",
        "failures:",
        "    b",
        "test result: FAILED. 2 passed; 1 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
        "running 1 test",
        "test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.01s",
    ];
    assert_eq!(read(PARTLY).1, expected);
}

#[test]
fn the_container_driver_is_counted() {
    assert_eq!(tally_of("TEST PASS ready\nTEST FAIL hit: no record"), Tally { passed: 1, failed: 1, skipped: 0 });
}

#[test]
fn other_lines_count_nothing() {
    assert_eq!(tally_of("12 passed, so they say\nwe NOT RUN this"), Tally::default());
}

#[test]
fn the_last_line_of_a_summary_is_the_sum_alone() {
    let mut summary = Summary::default();
    summary.record("unit", Tally { passed: 3, failed: 0, skipped: 0 });
    summary.record("kernel", Tally { passed: 1, failed: 2, skipped: 1 });
    let text = summary.to_string();
    assert_eq!(text.lines().last(), Some("4 passed, 2 failed, 1 skipped"));
    assert!(text.starts_with("  unit    3 passed, 0 failed, 0 skipped\n"));
}
