use super::{Summary, Tally};

fn tally_of(output: &str) -> Tally {
    let mut tally = Tally::default();
    output.lines().for_each(|line| tally.count(line));
    tally
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

#[test]
fn a_test_that_could_not_run_is_counted() {
    assert_eq!(tally_of("NOT RUN lsm_denies: the kernel has no BPF LSM"), Tally { skipped: 1, ..Tally::default() });
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
