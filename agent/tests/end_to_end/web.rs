//! A web server on loopback that a test turns bad.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{JoinHandle, spawn};
use std::time::Duration;

/// What it does with every request.
#[derive(Clone, Debug)]
pub enum Mood {
    /// Answers with this text.
    Serves(String),
    /// Answers with this status.
    Fails(&'static str),
    /// Takes the request and says nothing for as long as it runs.
    Hangs,
}

pub struct Web {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Web {
    pub fn new(mood: Mood) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mood = Arc::new(Mutex::new(mood));
        let is_over = Arc::new(AtomicBool::new(false));
        let (current, over) = (Arc::clone(&mood), Arc::clone(&is_over));
        let thread = spawn(move || {
            let mut hanging = Vec::new();
            for stream in listener.incoming().map(Result::unwrap) {
                if over.load(Ordering::Relaxed) {
                    return;
                }
                let mood = current.lock().unwrap().clone();
                hanging.extend(answer(stream, &mood));
            }
        });
        Self { address, mood, is_over, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/feed", self.address)
    }

    pub fn turn(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        TcpStream::connect(self.address).ok();
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// Gives the connection back when it is to stay open.
fn answer(mut stream: TcpStream, mood: &Mood) -> Option<TcpStream> {
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let request = BufReader::new(&stream).lines();
    request.map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
    let (status, body) = match mood {
        Mood::Serves(body) => ("200 OK", body.as_str()),
        Mood::Fails(status) => (*status, ""),
        Mood::Hangs => return Some(stream),
    };
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    stream.write_all((head + body).as_bytes()).ok();
    None
}
