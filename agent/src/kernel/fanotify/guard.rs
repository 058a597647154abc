//! The child: reads events, has them judged, and never keeps an exec waiting beyond the deadline.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use agent_common::wire::ExecRecord;

use super::frame::Frame;
use super::marks::{Watched, watch};
use super::raw::{Group, RawEvent, die_with_parent, raise_descriptor_limit, wait};
use super::{GuardOptions, GuardStatus, Judge, Judgement};

/// The reader shows that it lives at least this often.
const READER_PAUSE: Duration = Duration::from_millis(200);
/// A reader that was not seen for this long is no longer vouched for.
const READER_STALL: Duration = Duration::from_millis(1000);
/// How often the daemon is told that all is well.
const STATUS_PERIOD: Duration = Duration::from_millis(500);
/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(10);
/// The same fault is told again after this long.
const FAULT_PERIOD: Duration = Duration::from_secs(60);
/// Frames that wait to be sent; while the daemon is stopped nothing else waits for it.
const OUTGOING: usize = 1024;
/// Descriptors beside those of waiting execs.
const SPARE_DESCRIPTORS: u64 = 256;

/// Why the guard cannot work.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It was not started by the daemon.
    #[error("the exec guard is started by `cordon run` and talks to it on standard input: {0}")]
    NoDaemon(io::Error),
    /// fanotify is not to be had.
    #[error("fanotify is refused: {0}; it needs CAP_SYS_ADMIN and a kernel with CONFIG_FANOTIFY_ACCESS_PERMISSIONS")]
    Fanotify(io::Error),
    /// The mount table cannot be read.
    #[error("cannot read /proc/self/mountinfo: {0}")]
    Mounts(io::Error),
    /// No filesystem can be watched.
    #[error("no filesystem can be watched: {0}")]
    NothingWatched(String),
    /// The judge could not be made.
    #[error("{0}")]
    Judge(Box<dyn std::error::Error + Send + Sync>),
    /// The system refused a thread, a limit or a descriptor.
    #[error("{0}")]
    System(io::Error),
}

/// An exec that waits for its answer.
struct Question {
    file: File,
    pid: u32,
    deadline: Instant,
    answered: AtomicBool,
}

#[derive(Default)]
struct Waiting {
    /// For a thread to judge them.
    unjudged: VecDeque<Arc<Question>>,
    /// For an answer, oldest first.
    unanswered: VecDeque<Arc<Question>>,
}

struct Guard<J> {
    judge: J,
    group: Group,
    options: GuardOptions,
    /// Device and inode of the agent's own program.
    own_program: Option<(u64, u64)>,
    waiting: Mutex<Waiting>,
    arrival: Condvar,
    status: Mutex<GuardStatus>,
    reader_seen: AtomicU64,
    started: Instant,
    outgoing: SyncSender<Frame>,
    faults: Mutex<HashMap<String, Instant>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs the guard in this process, which the daemon started with its socket as standard input, until the daemon is gone.
/// `make_judge` gets what the daemon sent.
///
/// # Errors
/// See [`GuardError`]; the daemon is told too. Every exec that waits is then allowed by the kernel.
pub fn run_guard<J: Judge>(
    make_judge: impl FnOnce(&GuardOptions) -> Result<J, Box<dyn std::error::Error + Send + Sync>>,
) -> Result<(), GuardError> {
    die_with_parent().map_err(GuardError::System)?;
    let mut socket = io::stdin().as_fd().try_clone_to_owned().map(UnixStream::from).map_err(GuardError::NoDaemon)?;
    let options = match Frame::read(&mut socket).map_err(GuardError::NoDaemon)? {
        Frame::Options(options) => options,
        _ => return Err(GuardError::NoDaemon(io::Error::other("the first frame is not the options"))),
    };
    // A thread that panics would leave its execs to the deadline; the whole guard ends instead, and the kernel allows.
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        usual(panic);
        std::process::exit(101);
    }));
    let result = work(options, make_judge, &socket);
    if let Err(error) = &result {
        // Whether or not the daemon still listens, the error is also returned.
        let _ = Frame::Fault(error.to_string()).write(&mut socket);
    }
    result
}

fn work<J: Judge>(
    options: GuardOptions,
    make_judge: impl FnOnce(&GuardOptions) -> Result<J, Box<dyn std::error::Error + Send + Sync>>,
    socket: &UnixStream,
) -> Result<(), GuardError> {
    let options = GuardOptions {
        workers: options.workers.clamp(1, 64),
        backlog: options.backlog.clamp(1, 512),
        deadline_ms: options.deadline_ms.max(1),
        ..options
    };
    let needed = (options.workers + options.backlog) as u64 + SPARE_DESCRIPTORS;
    let allowed = raise_descriptor_limit(needed).map_err(GuardError::System)?;
    if allowed < needed {
        let reason = format!("{allowed} open files are allowed and {needed} needed; raise LimitNOFILE=");
        return Err(GuardError::System(io::Error::other(reason)));
    }
    let judge = make_judge(&options).map_err(GuardError::Judge)?;
    let group = Group::new().map_err(GuardError::Fanotify)?;
    let mounts = File::open("/proc/self/mountinfo").map_err(GuardError::Mounts)?;
    let (outgoing, to_send) = sync_channel(OUTGOING);
    let guard = Arc::new(Guard {
        judge,
        group,
        own_program: File::open("/proc/self/exe").and_then(|file| identity(&file)).ok(),
        waiting: Mutex::default(),
        arrival: Condvar::new(),
        status: Mutex::default(),
        reader_seen: AtomicU64::new(0),
        started: Instant::now(),
        outgoing,
        faults: Mutex::default(),
        options,
    });
    let own = || socket.try_clone().map_err(GuardError::System);
    spawn("guard-send", {
        let socket = own()?;
        move || send(&to_send, socket)
    })?;
    spawn("guard-daemon", {
        let socket = own()?;
        move || leave_with_daemon(socket)
    })?;
    // Those who answer are there before the first question can be asked.
    for _ in 0..guard.options.workers {
        let guard = Arc::clone(&guard);
        spawn("guard-judge", move || guard.work_off())?;
    }
    spawn("guard-clock", {
        let guard = Arc::clone(&guard);
        move || guard.keep_time()
    })?;
    let watched = guard.watch()?;
    if watched.filesystems == 0 {
        return Err(GuardError::NothingWatched(watched.failed.join("; ")));
    }
    guard.read_events(&mounts)
}

fn spawn(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), GuardError> {
    thread::Builder::new().name(name.into()).spawn(body).map(drop).map_err(GuardError::System)
}

fn identity(file: &File) -> io::Result<(u64, u64)> {
    file.metadata().map(|metadata| (metadata.dev(), metadata.ino()))
}

/// Only this thread may wait for the daemon.
fn send(frames: &Receiver<Frame>, mut socket: UnixStream) {
    for frame in frames {
        if frame.write(&mut socket).is_err() {
            std::process::exit(0);
        }
    }
}

/// The daemon says nothing more; that reading ends means that it is gone.
fn leave_with_daemon(mut socket: UnixStream) {
    while Frame::read(&mut socket).is_ok() {}
    std::process::exit(0);
}

impl<J: Judge> Guard<J> {
    fn watch(&self) -> Result<Watched, GuardError> {
        let watched = watch(&self.group, self.options.filesystems.as_deref()).map_err(GuardError::Mounts)?;
        let mut status = lock(&self.status);
        status.filesystems = watched.filesystems;
        status.unwatched.clone_from(&watched.failed);
        Ok(watched)
    }

    fn read_events(&self, mounts: &File) -> Result<(), GuardError> {
        loop {
            self.reader_seen.store(self.started.elapsed().as_millis() as u64, Ordering::Relaxed);
            let ready = wait(&self.group, mounts, READER_PAUSE).map_err(GuardError::System)?;
            if ready.mounts {
                self.watch()?;
            }
            if !ready.events {
                continue;
            }
            match self.group.read() {
                Ok(events) => events.into_iter().for_each(|event| self.take(event)),
                Err(error) => {
                    lock(&self.status).unreadable_events += 1;
                    self.fault(
                        "unreadable_event",
                        &format!("an exec was denied by the kernel, which could not hand it over: {error}"),
                    );
                }
            }
        }
    }

    fn take(&self, event: RawEvent) {
        let RawEvent::Exec { file, pid } = event else {
            lock(&self.status).queue_overflows += 1;
            return self.fault("queue_overflow", "the kernel's queue was full; what did not fit was allowed");
        };
        lock(&self.status).asked += 1;
        let is_own = pid == std::process::id() || identity(&file).is_ok_and(|this| Some(this) == self.own_program);
        let deadline = Instant::now() + Duration::from_millis(self.options.deadline_ms);
        let question = Arc::new(Question { file, pid, deadline, answered: AtomicBool::new(false) });
        if is_own || !self.judge.applies(pid) {
            lock(&self.status).passed_over += 1;
            return self.answer(&question, false, |_| {});
        }
        let mut waiting = lock(&self.waiting);
        if waiting.unjudged.len() >= self.options.backlog {
            drop(waiting);
            self.answer(&question, false, |status| status.overloaded += 1);
            return self.fault("overloaded", "more execs than can be judged; allowed what did not fit");
        }
        waiting.unjudged.push_back(Arc::clone(&question));
        waiting.unanswered.push_back(question);
        self.arrival.notify_one();
    }

    /// The first answer counts; `count` is applied to the status only then.
    fn answer(&self, question: &Question, deny: bool, count: impl FnOnce(&mut GuardStatus)) {
        if question.answered.swap(true, Ordering::AcqRel) {
            return;
        }
        match self.group.answer(&question.file, deny) {
            Ok(()) => count(&mut lock(&self.status)),
            // ENOENT: whoever asked was killed and the kernel took the question back.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => self.fault("unanswered", &format!("the kernel does not take an answer: {error}")),
        }
    }

    fn work_off(&self) {
        loop {
            let mut waiting = lock(&self.waiting);
            let question = loop {
                match waiting.unjudged.pop_front() {
                    Some(question) => break question,
                    None => waiting = self.arrival.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                }
            };
            drop(waiting);
            if !question.answered.load(Ordering::Acquire) {
                self.decide(&question);
            }
            lock(&self.waiting).unanswered.retain(|other| !Arc::ptr_eq(other, &question));
        }
    }

    fn decide(&self, question: &Question) {
        match self.judge.judge(question.pid, &question.file, question.deadline) {
            Ok(Judgement::Allow) => self.answer(question, false, |status| status.allowed += 1),
            Ok(Judgement::Report(record)) => {
                self.answer(question, false, |status| status.allowed += 1);
                self.tell(record);
            }
            Ok(Judgement::Deny(record)) => {
                let mut denied = false;
                self.answer(question, true, |status| {
                    status.denied += 1;
                    denied = true;
                });
                if denied {
                    self.tell(record);
                }
            }
            Err(failure) => {
                self.answer(question, false, |status| *status.failures.entry(failure.reason.into()).or_default() += 1);
                self.fault(failure.reason, &format!("an exec was allowed unjudged: {failure}"));
            }
        }
    }

    fn tell(&self, record: Box<ExecRecord>) {
        if self.outgoing.try_send(Frame::Hit(record)).is_err() {
            lock(&self.status).records_lost += 1;
        }
    }

    fn keep_time(&self) {
        let mut last_status = None::<Instant>;
        loop {
            self.answer_overdue();
            let reader_seen = Duration::from_millis(self.reader_seen.load(Ordering::Relaxed));
            let reads = self.started.elapsed().saturating_sub(reader_seen) < READER_STALL;
            if reads && last_status.is_none_or(|at| at.elapsed() >= STATUS_PERIOD) {
                let status = lock(&self.status).clone();
                // The first status says that execs are judged from now on.
                if status.filesystems > 0 {
                    last_status = Some(Instant::now());
                    // A full queue means that the daemon does not read; the next status says the same and more.
                    let _ = self.outgoing.try_send(Frame::Status(status));
                }
            }
            thread::sleep(TICK);
        }
    }

    fn answer_overdue(&self) {
        let now = Instant::now();
        let mut overdue = Vec::new();
        let mut waiting = lock(&self.waiting);
        while let Some(question) = waiting.unanswered.pop_front_if(|question| question.deadline <= now) {
            overdue.push(question);
        }
        if overdue.is_empty() {
            return;
        }
        drop(waiting);
        for question in &overdue {
            let mut missed = false;
            self.answer(question, false, |status| {
                status.deadline_missed += 1;
                missed = true;
            });
            if missed {
                self.fault("deadline_missed", "an exec was allowed because it was not judged in time");
            }
        }
        // Those that no thread has begun with give their descriptors back now.
        lock(&self.waiting).unjudged.retain(|question| !question.answered.load(Ordering::Acquire));
    }

    /// Tells a fault, the same one at most once in [`FAULT_PERIOD`]; the counters tell how often.
    fn fault(&self, name: &str, text: &str) {
        let mut faults = lock(&self.faults);
        if faults.get(name).is_some_and(|at| at.elapsed() < FAULT_PERIOD) {
            return;
        }
        faults.insert(name.to_owned(), Instant::now());
        drop(faults);
        // Lost only while the daemon does not read, and then the counters are there.
        let _ = self.outgoing.try_send(Frame::Fault(text.to_owned()));
    }
}
