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
    stream.write_all(&serde_json::to_vec(request)?)?;
    stream.shutdown(Shutdown::Write)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Whether an agent listens on `socket`.
#[must_use]
pub fn is_running(socket: &Path) -> bool {
    UnixStream::connect(socket).is_ok()
}
