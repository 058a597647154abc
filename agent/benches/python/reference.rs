//! The reference libraries at work, in a Python process that stays.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result};
use serde::Deserialize;

/// A Python that reads files.
pub struct Reference {
    child: Child,
    asks: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What became of a file.
#[derive(Debug, Deserialize)]
#[serde(untagged)]
pub enum Answer {
    /// It was read.
    Read {
        /// CPU seconds, those of opening the file included.
        seconds: f64,
        /// Indicators or attributes in it.
        read: u64,
    },
    /// The library refuses it.
    Refused {
        /// In the library's words.
        error: String,
    },
}

impl Reference {
    /// Starts the Python of this environment.
    pub fn start(environment: &Path) -> Result<Self> {
        let mut command = Command::new(environment.join("bin/python"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/benches/python/reference.py"));
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("cannot start Python")?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (asks, answers) = pipes.context("no pipes to Python")?;
        Ok(Self { child, asks, answers: BufReader::new(answers) })
    }

    /// Lets `library` read one file.
    pub fn read(&mut self, library: &str, file: &Path) -> Result<Answer> {
        writeln!(self.asks, "{library}\t{}", file.display()).context("Python has ended")?;
        let mut line = String::new();
        self.answers.read_line(&mut line).context("Python has ended")?;
        serde_json::from_str(&line).with_context(|| format!("Python answers {line:?}"))
    }
}

impl Drop for Reference {
    fn drop(&mut self) {
        // Nobody waits for what it still reads.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
