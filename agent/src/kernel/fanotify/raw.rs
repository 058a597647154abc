//! The fanotify system calls.

use std::ffi::CString;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

/// `struct fanotify_event_metadata`, fanotify(7).
const METADATA_LEN: usize = 24;
/// Events taken at a time, each of which opens a descriptor.
const BATCH: usize = 32;

/// An event as the kernel hands it over.
#[derive(Debug)]
pub(super) enum RawEvent {
    /// A program is about to be executed and waits for the answer.
    Exec {
        /// The file; its number is also the name of the question.
        file: File,
        /// Who, 0 when in another pid namespace.
        pid: u32,
    },
    /// The queue was full.
    Overflow,
}

/// A fanotify group that is asked before programs are executed.
#[derive(Debug)]
pub(super) struct Group {
    file: File,
}

impl Group {
    /// Opens a group.
    pub(super) fn new() -> io::Result<Self> {
        let flags = libc::FAN_CLASS_CONTENT | libc::FAN_CLOEXEC | libc::FAN_NONBLOCK;
        let event_flags = libc::O_RDONLY | libc::O_CLOEXEC | libc::O_LARGEFILE | libc::O_NOATIME;
        // SAFETY: fanotify_init takes two integers and touches no memory.
        let descriptor = unsafe { libc::fanotify_init(flags, event_flags.unsigned_abs()) };
        if descriptor < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just opened this descriptor for us; nobody else owns it.
        Ok(Self { file: File::from(unsafe { OwnedFd::from_raw_fd(descriptor) }) })
    }

    /// Asks about all programs of the filesystem that `path` lies on.
    pub(super) fn watch_filesystem(&self, path: &Path) -> io::Result<()> {
        self.mark(path, libc::FAN_MARK_FILESYSTEM)
    }

    fn mark(&self, path: &Path, kind: libc::c_uint) -> io::Result<()> {
        let path = CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)?;
        let (group, flags) = (self.file.as_raw_fd(), libc::FAN_MARK_ADD | kind);
        // SAFETY: the path is a NUL-terminated string that lives throughout the call; the rest are integers.
        let result =
            unsafe { libc::fanotify_mark(group, flags, libc::FAN_OPEN_EXEC_PERM, libc::AT_FDCWD, path.as_ptr()) };
        if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// The events that wait, at most [`BATCH`]; none when there are none.
    pub(super) fn read(&self) -> io::Result<Vec<RawEvent>> {
        let mut buffer = [0_u8; METADATA_LEN * BATCH];
        let length = match (&self.file).read(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => 0,
            Err(error) => return Err(error),
        };
        let mut rest = buffer.get(..length).unwrap_or_default();
        let mut events = Vec::new();
        while let Some(metadata) = rest.first_chunk::<METADATA_LEN>() {
            events.extend(decode(metadata));
            let [a, b, c, d, ..] = *metadata;
            // Always METADATA_LEN for this class of group, but it is the kernel's to say.
            let event_len = (u32::from_ne_bytes([a, b, c, d]) as usize).max(METADATA_LEN);
            rest = rest.get(event_len..).unwrap_or_default();
        }
        Ok(events)
    }

    /// Answers the question that `file` stands for. The kernel forgets a question once it is answered.
    pub(super) fn answer(&self, file: &File, deny: bool) -> io::Result<()> {
        let response = if deny { libc::FAN_DENY } else { libc::FAN_ALLOW };
        let mut bytes = [0; 8];
        let (name, answer) = bytes.split_at_mut(4);
        name.copy_from_slice(&file.as_raw_fd().to_ne_bytes());
        answer.copy_from_slice(&response.to_ne_bytes());
        (&self.file).write_all(&bytes)
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.file)
    }
}

/// One event; `None` for one that is no question of ours, whose descriptor is closed.
fn decode(metadata: &[u8; METADATA_LEN]) -> Option<RawEvent> {
    let word = |at: usize| metadata.get(at..at + 4)?.try_into().ok().map(i32::from_ne_bytes);
    let mask = u64::from_ne_bytes(metadata.get(8..16)?.try_into().ok()?);
    let (descriptor, pid) = (word(16)?, word(20)?);
    if mask & libc::FAN_Q_OVERFLOW != 0 {
        return Some(RawEvent::Overflow);
    }
    if descriptor < 0 {
        return None;
    }
    // SAFETY: the kernel opened this descriptor for the event that was just read; nobody else owns it.
    let file = File::from(unsafe { OwnedFd::from_raw_fd(descriptor) });
    (mask & libc::FAN_OPEN_EXEC_PERM != 0).then(|| RawEvent::Exec { file, pid: pid.unsigned_abs() })
}

/// What [`wait`] saw.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    pub(super) events: bool,
    pub(super) mounts: bool,
}

/// Waits for events or for a change of the mount table, at most `timeout`.
pub(super) fn wait(group: &Group, mounts: &File, timeout: Duration) -> io::Result<Ready> {
    let mut polled = [
        libc::pollfd { fd: group.descriptor().as_raw_fd(), events: libc::POLLIN, revents: 0 },
        libc::pollfd { fd: mounts.as_raw_fd(), events: libc::POLLPRI, revents: 0 },
    ];
    let timeout = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    // SAFETY: the array is live and writable and has the length that is given; both descriptors are open.
    let result = unsafe { libc::poll(polled.as_mut_ptr(), polled.len() as libc::nfds_t, timeout) };
    if result < 0 {
        let error = io::Error::last_os_error();
        return if error.kind() == io::ErrorKind::Interrupted { Ok(Ready::default()) } else { Err(error) };
    }
    let [events, mounts] = polled;
    Ok(Ready { events: events.revents & libc::POLLIN != 0, mounts: mounts.revents & libc::POLLPRI != 0 })
}

/// Has the kernel kill this process when the thread that started it ends.
pub(super) fn die_with_parent() -> io::Result<()> {
    // SAFETY: PR_SET_PDEATHSIG takes an integer and touches no memory.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Raises the limit of open descriptors to `wanted` as far as allowed, and returns it. Without a descriptor to spare the
/// kernel cannot hand over an event, and then denies the exec.
pub(super) fn raise_descriptor_limit(wanted: u64) -> io::Result<u64> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is live and writable.
    if unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } != 0 {
        return Err(io::Error::last_os_error());
    }
    if limit.rlim_cur < wanted {
        limit.rlim_cur = wanted.min(limit.rlim_max);
        // SAFETY: `limit` is live and initialised.
        if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(limit.rlim_cur)
}

/// Whether exec permission events are to be had here, found out on the null device, which nobody executes.
pub(in crate::kernel) fn probe() -> io::Result<()> {
    Group::new()?.mark(Path::new("/dev/null"), libc::FAN_MARK_INODE)
}
