//! The way between an agent and a server, which can be cut: what is sent then arrives nowhere, and nobody is told.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// How often it is asked whether it is cut.
const LOOK: Duration = Duration::from_millis(50);

pub struct Cable {
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_cut: AtomicBool,
    /// Connections that were there at a cut never come back.
    cuts: AtomicU64,
    is_over: AtomicBool,
}

impl Cable {
    pub fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let (port, state) = (listener.local_addr().unwrap().port(), Arc::new(State::default()));
        let own = Arc::clone(&state);
        spawn(move || {
            while !own.is_over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((near, _)) => connect(near, server, &own),
                    Err(_) => sleep(LOOK),
                }
            }
        });
        Self { port, state }
    }

    pub fn cut(&self) {
        self.state.cuts.fetch_add(1, Ordering::Relaxed);
        self.state.is_cut.store(true, Ordering::Relaxed);
    }

    pub fn mend(&self) {
        self.state.is_cut.store(false, Ordering::Relaxed);
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.state.is_over.store(true, Ordering::Relaxed);
    }
}

fn connect(near: TcpStream, server: u16, state: &Arc<State>) {
    near.set_nonblocking(false).unwrap();
    let Ok(far) = TcpStream::connect(("127.0.0.1", server)) else { return };
    let born = state.cuts.load(Ordering::Relaxed);
    for (from, to) in [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far, near)] {
        let state = Arc::clone(state);
        spawn(move || carry(from, to, &state, born));
    }
}

fn carry(mut from: TcpStream, mut to: TcpStream, state: &State, born: u64) {
    from.set_read_timeout(Some(LOOK)).unwrap();
    let mut bytes = [0; 4096];
    while !state.is_over.load(Ordering::Relaxed) {
        if state.is_cut.load(Ordering::Relaxed) || state.cuts.load(Ordering::Relaxed) != born {
            sleep(LOOK);
            continue;
        }
        match from.read(&mut bytes) {
            Ok(0) => break,
            Ok(count) if to.write_all(&bytes[..count]).is_ok() => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            _ => break,
        }
    }
    to.shutdown(std::net::Shutdown::Write).ok();
}
