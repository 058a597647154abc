//! What a test run came to: counted from what the tests print, never assumed.

use std::fmt;

#[cfg(test)]
mod tests;

/// How many tests passed, failed, and could not run here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Ran and held.
    pub passed: u32,
    /// Ran and did not hold, or did not build.
    pub failed: u32,
    /// Could not run on this machine.
    pub skipped: u32,
}

impl Tally {
    /// One that could not run at all, with the reason where nobody can miss it.
    pub fn not_run(kind: &str, reason: &str) -> Self {
        eprintln!("\n*** NOT RUN: {kind}: {reason}\n");
        Self { skipped: 1, ..Self::default() }
    }

    /// One that failed as a whole.
    pub fn failure(kind: &str, reason: &str) -> Self {
        eprintln!("\n*** FAILED: {kind}: {reason}\n");
        Self { failed: 1, ..Self::default() }
    }

    /// Adds what another run came to.
    pub fn add(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Reads what test programs print, line by line: counts it, and tells which lines are worth showing.
///
/// libtest knows no test that could not run: one that says `NOT RUN name: reason` and returns is `ok` to it. So its outputs,
/// which `--show-output` prints test by test, are looked through, and such a test counts as skipped and not as passed. What a
/// test `MEASURED` is shown even if it passed.
#[derive(Debug, Default)]
pub struct Output {
    tally: Tally,
    part: Part,
    /// Tests of the program at hand that libtest says passed, and that say themselves that they did not run.
    not_run: u32,
    /// Whether the test whose output this is has said so already.
    has_said: bool,
}

/// Which part of libtest's output a line is in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Other,
    /// Outputs of tests that passed, which are not shown.
    Successes,
    /// Outputs of tests that failed.
    Failures,
}

impl Output {
    /// Takes the next line; whether it is worth showing.
    pub fn line(&mut self, line: &str) -> bool {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let not_run = std::mem::take(&mut self.not_run);
            self.tally.passed += number_before(counts, " passed").saturating_sub(not_run);
            self.tally.failed += number_before(counts, " failed");
            self.tally.skipped += number_before(counts, " ignored") + not_run;
            self.part = Part::Other;
        } else if line.starts_with("NOT RUN ") {
            return self.not_run();
        } else if line.starts_with("TEST PASS ") {
            self.tally.passed += 1;
        } else if line.starts_with("TEST FAIL ") {
            self.tally.failed += 1;
        } else {
            self.turn(line);
        }
        if line.starts_with("MEASURED ") {
            return true;
        }
        let says_little = line.is_empty() || (line.starts_with("test ") && line.ends_with(" ok"));
        !says_little && self.part != Part::Successes
    }

    fn turn(&mut self, line: &str) {
        match line {
            "successes:" => self.part = Part::Successes,
            "failures:" => self.part = Part::Failures,
            _ if line.starts_with("running ") => self.part = Part::Other,
            _ if line.starts_with("---- ") => self.has_said = false,
            _ => {}
        }
    }

    fn not_run(&mut self) -> bool {
        match self.part {
            Part::Other => self.tally.skipped += 1,
            Part::Successes if !self.has_said => self.not_run += 1,
            // Said twice, or by a test that failed after all.
            Part::Successes | Part::Failures => {}
        }
        self.has_said = true;
        true
    }

    /// What it came to so far.
    pub fn tally(&self) -> Tally {
        self.tally
    }
}

fn number_before(text: &str, word: &str) -> u32 {
    let Some((before, _)) = text.split_once(word) else { return 0 };
    before.rsplit(' ').next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// The tallies of all kinds, in the order in which they ran.
#[derive(Debug, Default)]
pub struct Summary {
    kinds: Vec<(String, Tally)>,
}

impl Summary {
    /// Adds a kind.
    pub fn record(&mut self, kind: impl Into<String>, tally: Tally) {
        self.kinds.push((kind.into(), tally));
    }

    /// All kinds together.
    pub fn total(&self) -> Tally {
        let mut total = Tally::default();
        for (_, tally) in &self.kinds {
            total.add(*tally);
        }
        total
    }
}

/// One line a kind; the last line is the sum alone, in words that CI systems know.
impl fmt::Display for Summary {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.kinds.iter().map(|(kind, _)| kind.len()).max().unwrap_or(0);
        for (kind, tally) in &self.kinds {
            writeln!(formatter, "  {kind:width$}  {tally}")?;
        }
        write!(formatter, "{}", self.total())
    }
}
