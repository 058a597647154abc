//! The endpoint: `GET /metrics` over HTTP/1.1, on a Unix socket or on loopback. Whoever can connect can read, so that it gives
//! counts and names of sources and never a record.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// Where metrics are.
const PATH: &str = "/metrics";
/// Connections served at a time; more wait to be accepted.
const CONNECTIONS: usize = 4;
/// For one connection in all, so that none is held by who says nothing. Prometheus gives up after 10 s, too.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where the endpoint listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listen {
    /// A Unix socket.
    Unix(PathBuf),
    /// A port of a loopback address.
    Loopback(SocketAddr),
}

/// Why a text does not say where to listen.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "metrics.listen = \"{0}\": say the absolute path of a Unix socket, or a loopback address and a port, as \
     \"127.0.0.1:9478\"; for others, put a proxy before it that asks who they are"
)]
pub struct ListenParseError(String);

impl std::str::FromStr for Listen {
    type Err = ListenParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with('/') {
            return Ok(Self::Unix(PathBuf::from(text)));
        }
        text.parse::<SocketAddr>()
            .ok()
            .filter(|address| address.ip().is_loopback() && address.port() != 0)
            .map(Self::Loopback)
            .ok_or_else(|| ListenParseError(text.to_owned()))
    }
}

impl std::fmt::Display for Listen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Loopback(address) => address.fmt(f),
        }
    }
}

#[derive(Debug)]
enum Listener {
    Unix(UnixListener, PathBuf),
    Tcp(TcpListener),
}

/// The listening endpoint. Dropping it removes the socket's file.
#[derive(Debug)]
pub struct Endpoint(Listener);

impl Endpoint {
    /// Listens; a Unix socket may be read by its owner and by `group`.
    ///
    /// # Errors
    /// The port is taken, or the socket cannot be made there: its directory is missing, or something else is in its place.
    pub async fn bind(listen: &Listen, group: Option<u32>) -> io::Result<Self> {
        match listen {
            Listen::Loopback(address) => Ok(Self(Listener::Tcp(TcpListener::bind(address).await?))),
            Listen::Unix(path) => {
                make_room(path)?;
                let endpoint = Self(Listener::Unix(UnixListener::bind(path)?, path.clone()));
                chown(path, None, group)?;
                let mode = if group.is_some() { 0o660 } else { 0o600 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                Ok(endpoint)
            }
        }
    }

    /// Answers each request with the metrics as they are then, of `metrics`: the text, or why there is none.
    ///
    /// # Errors
    /// `accept(2)` failed for good.
    pub async fn serve<F, T>(self, metrics: F) -> io::Result<()>
    where
        F: Fn() -> T + Clone + Send + Sync + 'static,
        T: Future<Output = Result<String, String>> + Send + 'static,
    {
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Never closed.
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
            let metrics = metrics.clone();
            match &self.0 {
                Listener::Unix(listener, _) => {
                    let (stream, _) = listener.accept().await?;
                    tokio::spawn(async move { (converse(stream, metrics).await, drop(place)) });
                }
                Listener::Tcp(listener) => {
                    let (stream, _) = listener.accept().await?;
                    tokio::spawn(async move { (converse(stream, metrics).await, drop(place)) });
                }
            }
        }
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        if let Listener::Unix(_, path) = &self.0
            && let Err(error) = fs::remove_file(path)
        {
            tracing::debug!(%error, path = %path.display(), "could not remove the metrics socket");
        }
    }
}

/// Removes a socket that an agent before this one left behind, and nothing else.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(there) if !there.file_type().is_socket() => {
            Err(io::Error::new(io::ErrorKind::AlreadyExists, "something that is no socket is in its place"))
        }
        Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
            Err(io::Error::new(io::ErrorKind::AddrInUse, "somebody listens there"))
        }
        Ok(_) => fs::remove_file(path),
    }
}

async fn converse<F, T>(stream: impl AsyncRead + AsyncWrite + Unpin, metrics: F)
where
    F: Fn() -> T,
    T: Future<Output = Result<String, String>>,
{
    let service = service_fn(|request: Request<Incoming>| {
        let metrics = &metrics;
        async move { Ok::<_, Infallible>(answer(&request, metrics).await) }
    });
    // One answer a connection: an idle one would keep others waiting.
    let mut http = hyper::server::conn::http1::Builder::new();
    let conversation = http.keep_alive(false).serve_connection(TokioIo::new(stream), service);
    match timeout(PATIENCE, conversation).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "a client of the metrics endpoint went away"),
        Err(_) => tracing::debug!("a client of the metrics endpoint was hung up on"),
    }
}

async fn answer<F, T>(request: &Request<Incoming>, metrics: &F) -> Response<Full<Bytes>>
where
    F: Fn() -> T,
    T: Future<Output = Result<String, String>>,
{
    if request.uri().path() != PATH {
        return said(StatusCode::NOT_FOUND, format!("metrics are at {PATH}\n"));
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = said(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return refused;
    }
    match metrics().await {
        Ok(text) => {
            let mut answer = said(StatusCode::OK, text);
            answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(super::CONTENT_TYPE));
            answer
        }
        Err(why) => said(StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

fn said(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}
