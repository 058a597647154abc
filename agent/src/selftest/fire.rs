//! One attempt, in a process of its own: what it came to travels as the exit status.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Output;

use super::exec::Exec;
use super::name::Name;
use super::network::Net;
use super::program::RAN;
use super::technique::{Act, all};

const PASSED: u8 = 0;
const REFUSED: u8 = 10;
const SILENT: u8 = 11;
const IMPOSSIBLE: u8 = 12;

/// What an attempt came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The target was reached, or ran.
    Passed,
    /// `EPERM` or `EACCES`.
    Refused,
    /// Nothing came back.
    Silent,
    /// Killed.
    Killed,
    /// The technique does not work here, and why.
    Impossible(String),
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Refused => "EPERM",
            Self::Silent => "no answer",
            Self::Killed => "SIGKILL",
            Self::Impossible(why) => why,
        })
    }
}

impl Ended {
    /// From the process that [`fire`] ran in, or from the program that it became.
    #[must_use]
    pub fn of(output: &Output) -> Self {
        const PASSED_CODE: i32 = PASSED as i32;
        const REFUSED_CODE: i32 = REFUSED as i32;
        const SILENT_CODE: i32 = SILENT as i32;
        match (output.status.code(), output.status.signal()) {
            (Some(PASSED_CODE | RAN), _) => Self::Passed,
            (Some(REFUSED_CODE), _) => Self::Refused,
            (Some(SILENT_CODE), _) => Self::Silent,
            (_, Some(9)) => Self::Killed,
            _ => {
                let said = String::from_utf8_lossy(&output.stderr);
                Self::Impossible(match said.trim() {
                    "" => output.status.to_string(),
                    said => said.to_owned(),
                })
            }
        }
    }
}

/// Tries one technique and gives the exit status that says what it came to; an exec that succeeds does not return.
#[must_use]
pub fn fire(name: &str, listed: bool, file: &Path, dir: &Path) -> u8 {
    let Some(technique) = all().iter().find(|technique| technique.name == name) else {
        eprintln!("no such technique");
        return IMPOSSIBLE;
    };
    let tried = match technique.act {
        Act::Network { attempt, .. } => match (technique.address(listed), technique.address(false)) {
            (Some(address), Some(elsewhere)) => attempt(&Net { address, elsewhere, listed }),
            _ => Ok(()),
        },
        Act::Name { attempt, .. } => {
            attempt(&Name { name: technique.domain(listed), elsewhere: technique.domain(false) })
        }
        Act::Exec { attempt, .. } => attempt(&Exec { file: file.to_owned(), dir: dir.to_owned() }),
    };
    let Err(error) = tried else { return PASSED };
    match error.kind() {
        ErrorKind::PermissionDenied => REFUSED,
        // It got as far as the network.
        ErrorKind::ConnectionRefused | ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable => PASSED,
        ErrorKind::TimedOut | ErrorKind::WouldBlock => SILENT,
        _ if is_in_progress(&error) => SILENT,
        _ => {
            eprintln!("{error}");
            IMPOSSIBLE
        }
    }
}

/// A connect that `SO_SNDTIMEO` ended.
fn is_in_progress(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error())
}
