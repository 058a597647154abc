//! A directory behind an HTTP server on loopback, with entity tags.

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{JoinHandle, spawn};

pub struct Served {
    address: SocketAddr,
    state: Arc<State>,
    thread: Option<JoinHandle<()>>,
}

struct State {
    directory: PathBuf,
    stop: AtomicBool,
    sent: AtomicU64,
    unchanged: AtomicU64,
}

impl Served {
    pub fn new(directory: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, sent, unchanged) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let state = Arc::new(State { directory, stop, sent, unchanged });
        let thread = spawn({
            let state = Arc::clone(&state);
            move || {
                for stream in listener.incoming() {
                    if state.stop.load(Ordering::Relaxed) {
                        return;
                    }
                    // Whoever asks may go away.
                    let _gone = stream.and_then(|stream| answer(&state, &stream));
                }
            }
        });
        Self { address, state, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// Answers with a body, and answers that said that nothing has changed.
    #[allow(dead_code, reason = "not every test that has this counts")]
    pub fn answers(&self) -> (u64, u64) {
        (self.state.sent.load(Ordering::Relaxed), self.state.unchanged.load(Ordering::Relaxed))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
        drop(TcpStream::connect(self.address));
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

fn answer(state: &State, mut stream: &TcpStream) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let line = lines.next().transpose()?.unwrap_or_default();
    let headers: Vec<String> = lines.map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
    let name = line.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
    let Ok(body) = fs::read(state.directory.join(Path::new(name))) else {
        return stream.write_all(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    };
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    let tag = format!("\"{:016x}\"", hasher.finish());
    let is_known = headers.iter().any(|header| header.to_lowercase() == format!("if-none-match: {tag}"));
    if is_known {
        state.unchanged.fetch_add(1, Ordering::Relaxed);
        return write!(stream, "HTTP/1.1 304 Not Modified\r\netag: {tag}\r\nconnection: close\r\n\r\n");
    }
    state.sent.fetch_add(1, Ordering::Relaxed);
    write!(stream, "HTTP/1.1 200 OK\r\netag: {tag}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len())?;
    stream.write_all(&body)
}
