use super::Part;

#[test]
fn what_passed_is_quiet_and_what_failed_or_could_not_run_is_shown() {
    let output = "\
running 3 tests
test a ... ok
test b ... FAILED

successes:

---- a stdout ----
chatter
NOT RUN a: no LSM

failures:

---- b stdout ----
why it failed
test result: FAILED. 1 passed; 1 failed; 0 ignored;";
    let mut part = Part::default();
    let shown: Vec<&str> = output.lines().filter(|line| part.shows(line)).collect();
    let expected = [
        "running 3 tests",
        "test b ... FAILED",
        "NOT RUN a: no LSM",
        "failures:",
        "---- b stdout ----",
        "why it failed",
        "test result: FAILED. 1 passed; 1 failed; 0 ignored;",
    ];
    assert_eq!(shown, expected);
}
