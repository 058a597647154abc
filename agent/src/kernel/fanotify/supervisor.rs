//! The daemon's side: starts the guard, listens to it, replaces it.

use std::ffi::OsString;
use std::io;
use std::net::Shutdown;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use agent_common::wire::ExecRecord;

use super::frame::Frame;
use super::{GuardOptions, GuardStatus};

/// The first pause before a new child, doubled each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// A child that worked this long was well; the pauses begin anew.
const WELL: Duration = Duration::from_secs(60);

/// The program that calls [`super::run_guard`].
#[derive(Clone, Debug)]
pub struct GuardCommand {
    /// Its path.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
}

/// What the guard reports.
#[derive(Debug)]
pub enum GuardReport {
    /// A child was started; it is at work with the first status.
    Started {
        /// Its process id.
        pid: u32,
    },
    /// It works, and this is what it did.
    Status(GuardStatus),
    /// It denied an exec, or let one go on that an indicator matched: a record like those of the exec hooks, with the hook
    /// `FanotifyOpenExec`.
    Hit(Box<ExecRecord>),
    /// Something is wrong that it goes on with.
    Fault(String),
    /// It is gone, and execs are not judged until the next one works.
    Ended {
        /// Why.
        why: String,
        /// When the next is started; `None` when [`ExecGuard::stop`] was called.
        next_in: Option<Duration>,
    },
}

#[derive(Default)]
struct Shared {
    stopping: bool,
    socket: Option<UnixStream>,
}

/// A guard that is kept running. Dropping it stops the guard; execs go on unjudged.
pub struct ExecGuard {
    shared: Arc<(Mutex<Shared>, Condvar)>,
    thread: Option<JoinHandle<()>>,
}

impl std::fmt::Debug for ExecGuard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ExecGuard").finish_non_exhaustive()
    }
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ExecGuard {
    /// Starts the guard and keeps one running. `on_report` is called from a thread of its own; while it does not return
    /// the guard works on, and what it cannot tell it counts.
    ///
    /// # Errors
    /// No thread is to be had. That the child cannot be started is reported, and tried again.
    pub fn start(
        command: GuardCommand,
        options: GuardOptions,
        on_report: impl FnMut(GuardReport) + Send + 'static,
    ) -> io::Result<Self> {
        let shared = Arc::<(Mutex<Shared>, Condvar)>::default();
        let theirs = Arc::clone(&shared);
        // The child is killed when the thread that started it ends (PR_SET_PDEATHSIG), so that thread stays with it.
        let thread = Builder::new().name("exec-guard".into()).spawn(move || {
            Supervisor { command, options, shared: theirs, on_report }.keep_running();
        })?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// Stops the guard and waits until it is gone.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let (state, changed) = &*self.shared;
        let mut state = lock(state);
        state.stopping = true;
        if let Some(socket) = &state.socket {
            // Reading fails on both sides then: the child leaves, the supervisor notices.
            let _ = socket.shutdown(Shutdown::Both);
        }
        drop(state);
        changed.notify_all();
        if let Some(thread) = self.thread.take() {
            // It only fails if the thread panicked, and then the child is dead with it.
            let _ = thread.join();
        }
    }
}

impl Drop for ExecGuard {
    fn drop(&mut self) {
        self.end();
    }
}

struct Supervisor<F> {
    command: GuardCommand,
    options: GuardOptions,
    shared: Arc<(Mutex<Shared>, Condvar)>,
    on_report: F,
}

impl<F: FnMut(GuardReport)> Supervisor<F> {
    fn keep_running(mut self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let started = Instant::now();
            let why = self.run_once().unwrap_or_else(|error| error.to_string());
            if started.elapsed() >= WELL {
                pause = FIRST_PAUSE;
            }
            let stopping = lock(&self.shared.0).stopping;
            (self.on_report)(GuardReport::Ended { why, next_in: (!stopping).then_some(pause) });
            if stopping || self.stopped_within(pause) {
                return;
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn stopped_within(&self, pause: Duration) -> bool {
        let (state, changed) = &*self.shared;
        let waited = changed.wait_timeout_while(lock(state), pause, |state| !state.stopping);
        waited.unwrap_or_else(PoisonError::into_inner).0.stopping
    }

    /// One child from start to end; says why it ended.
    fn run_once(&mut self) -> io::Result<String> {
        let (ours, theirs) = UnixStream::pair()?;
        {
            let mut state = lock(&self.shared.0);
            if state.stopping {
                return Ok("stopped".into());
            }
            state.socket = Some(ours.try_clone()?);
        }
        let mut child = Command::new(&self.command.program)
            .args(&self.command.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .spawn()?;
        (self.on_report)(GuardReport::Started { pid: child.id() });
        let why = self.listen(ours);
        lock(&self.shared.0).socket = None;
        let status = end(&mut child)?;
        Ok(format!("{why} ({status})"))
    }

    fn listen(&mut self, mut socket: UnixStream) -> String {
        let stall = Duration::from_millis(self.options.stall_ms.max(1000));
        let began = socket.set_read_timeout(Some(stall)).and_then(|()| socket.set_write_timeout(Some(stall)));
        if let Err(error) = began.and_then(|()| Frame::Options(self.options.clone()).write(&mut socket)) {
            return format!("the guard does not take its options: {error}");
        }
        loop {
            let report = match Frame::read(&mut socket) {
                Ok(Frame::Status(status)) => GuardReport::Status(status),
                Ok(Frame::Hit(record)) => GuardReport::Hit(record),
                Ok(Frame::Fault(text)) => GuardReport::Fault(text),
                Ok(Frame::Options(_)) => return "the guard sent what only the daemon sends".into(),
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return "the guard ended".into(),
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return format!("the guard made no progress for {} ms and was killed", stall.as_millis());
                }
                Err(error) => return format!("the guard cannot be understood and was killed: {error}"),
            };
            (self.on_report)(report);
        }
    }
}

/// Kills the child if it is still there, which also continues it if it was stopped, and takes its exit status.
fn end(child: &mut Child) -> io::Result<std::process::ExitStatus> {
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    child.kill()?;
    child.wait()
}
