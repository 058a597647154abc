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
    /// Counts what one line of test output says: libtest's result line, or a test's own `NOT RUN name: reason`.
    pub fn count(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            self.passed += number_before(counts, " passed");
            self.failed += number_before(counts, " failed");
            self.skipped += number_before(counts, " ignored");
        } else if line.starts_with("NOT RUN ") {
            self.skipped += 1;
        } else if line.starts_with("TEST PASS ") {
            self.passed += 1;
        } else if line.starts_with("TEST FAIL ") {
            self.failed += 1;
        }
    }

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

    fn add(&mut self, other: Self) {
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
