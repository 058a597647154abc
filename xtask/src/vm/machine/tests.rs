use super::{FAIL, Guest, Outcome, PASS};

fn outcome(console: &str, code: Option<i32>) -> Outcome {
    let mut guest = Guest::default();
    guest.hear(console.as_bytes());
    guest.hear(b"\r\n");
    guest.outcome(code)
}

const GOOD: &str = "GUEST tests begin\ntest a ... ok\ntest result: ok. 5 passed; 0 failed; 0 ignored;";

#[test]
fn a_pass_needs_the_verdict_and_a_test_that_ran() {
    assert!(matches!(outcome(GOOD, Some(PASS)), Outcome::Finished(tally) if tally.passed == 5));
    assert!(matches!(outcome("GUEST tests begin", Some(PASS)), Outcome::DiedInTests(_)));
}

#[test]
fn a_panic_exits_with_zero_and_is_no_pass() {
    assert!(matches!(outcome("Kernel panic", Some(0)), Outcome::DiedBeforeTests));
    assert!(matches!(outcome(GOOD, Some(0)), Outcome::DiedInTests(_)));
    assert!(matches!(outcome(GOOD, None), Outcome::DiedInTests(_)));
}

#[test]
fn failed_tests_are_a_verdict_too() {
    let console = "GUEST tests begin\ntest result: FAILED. 4 passed; 1 failed; 0 ignored;";
    assert!(matches!(outcome(console, Some(FAIL)), Outcome::Finished(tally) if tally.failed == 1));
}

#[test]
fn what_the_kernel_prints_before_the_tests_counts_nothing() {
    let console = format!("test result: ok. 99 passed; 0 failed; 0 ignored;\n{GOOD}");
    assert!(matches!(outcome(&console, Some(PASS)), Outcome::Finished(tally) if tally.passed == 5));
}

#[test]
fn a_hang_names_its_test() {
    let mut guest = Guest::default();
    assert!(guest.unfinished().contains("the kernel"));
    guest.hear(b"GUEST tests begin\r\ntest a ... ok\r\n");
    assert!(guest.unfinished().contains("between"));
    guest.hear(b"test exec::b ... ");
    assert_eq!(guest.unfinished(), "test exec::b ...");
}
