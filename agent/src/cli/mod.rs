//! The command line: one file per verb; argv → what was said → what it means.

pub mod log;
pub mod table;

use std::process::ExitCode;

/// What a verb's failure means to whoever called it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Invalid settings, policy or intelligence.
    Invalid = 3,
    /// Not permitted, or not possible on this kernel.
    NotPossible = 4,
    /// No agent is running.
    NotRunning = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    Exit::Usage.into()
}
