//! The daemon's end.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::timeout;

use super::{Answer, Failure, MAX_REQUEST, Request};

/// A client that says nothing for this long is hung up on.
const SILENCE: Duration = Duration::from_secs(10);

/// What answers requests.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request; permission has been checked.
    fn handle(&self, request: Request) -> impl Future<Output = Answer> + Send;
}

/// The listening socket. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    /// The agent's own user may do what root may: its unit reloads it.
    own_uid: u32,
}

impl Server {
    /// Listens on `path`, readable and writable by its owner and by `group`.
    ///
    /// # Errors
    /// The directory cannot be made, another agent listens already, or the socket cannot be bound.
    pub fn bind(path: &Path, group: Option<u32>) -> io::Result<Self> {
        if super::is_running(path) {
            return Err(io::Error::new(
                io::ErrorKind::AddrInUse,
                format!("another agent listens on {}; stop it first, or give this one its own --root", path.display()),
            ));
        }
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let own_uid = fs::metadata(path)?.uid();
        let mode = match group {
            Some(group) => {
                chown(path, None, Some(group))?;
                0o660
            }
            None => 0o600,
        };
        fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        Ok(Self { listener, path: path.to_owned(), own_uid })
    }

    /// Serves until the listener breaks; each connection in a task of its own.
    ///
    /// # Errors
    /// `accept(2)` failed for good.
    pub async fn serve(self, handler: Arc<impl Handler>) -> io::Result<()> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            let handler = Arc::clone(&handler);
            let own_uid = self.own_uid;
            tokio::spawn(async move {
                if let Err(error) = converse(stream, own_uid, &*handler).await {
                    tracing::debug!(%error, "a client of the control socket went away");
                }
            });
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_file(&self.path) {
            tracing::debug!(%error, path = %self.path.display(), "could not remove the control socket");
        }
    }
}

async fn converse(mut stream: UnixStream, own_uid: u32, handler: &impl Handler) -> io::Result<()> {
    let peer = stream.peer_cred()?;
    let mut bytes = Vec::new();
    let mut limited = (&mut stream).take(MAX_REQUEST);
    timeout(SILENCE, limited.read_to_end(&mut bytes)).await.map_err(io::Error::from)??;
    let answer = match serde_json::from_slice::<Request>(&bytes) {
        Err(error) => Answer::failed(Failure::Failed, format!("unknown request: {error}")),
        Ok(request) if peer.uid() == 0 || peer.uid() == own_uid || request.is_read_only() => {
            handler.handle(request).await
        }
        Ok(_) => Answer::failed(Failure::NotPossible, "only root may change what the agent does; run it with sudo"),
    };
    stream.write_all(&serde_json::to_vec(&answer)?).await?;
    stream.shutdown().await
}
