//! The command line's end.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use super::{Answer, Error, Request};

/// A reload may compile millions of indicators before it answers.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks the agent behind `socket`, blocking for at most two minutes.
///
/// # Errors
/// [`Error::NotRunning`], [`Error::NotPermitted`], or a broken connection.
pub fn ask(socket: &Path, request: &Request) -> Result<Answer, Error> {
    let mut stream = UnixStream::connect(socket).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied => Error::NotPermitted(socket.display().to_string()),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => Error::NotRunning(socket.display().to_string()),
        _ => Error::Broken(error),
    })?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut answer = Vec::new();
    let request = serde_json::to_vec(request)?;
    let converse = |stream: &mut UnixStream, answer: &mut Vec<u8>| -> std::io::Result<()> {
        stream.write_all(&request)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(answer).map(drop)
    };
    match converse(&mut stream, &mut answer) {
        // It was killed with our connection waiting to be accepted.
        Err(error)
            if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe | ErrorKind::NotConnected) =>
        {
            return Err(Error::NotRunning(socket.display().to_string()));
        }
        converse => converse?,
    }
    Ok(serde_json::from_slice(&answer)?)
}

/// Whether an agent listens on `socket`.
#[must_use]
pub fn is_running(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}
