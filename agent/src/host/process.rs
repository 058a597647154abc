//! Processes as `/proc` shows them.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;

use agent_common::limits::ARGS_LEN;
use agent_common::wire::{FileKey, FileStamp};
use procfs::ProcError;
use procfs::process::Process;

use super::digest::stamp_of;
use super::{Error, device};

/// Nanoseconds of a tick of `/proc/<pid>/stat`: `USER_HZ` is 100 on every architecture that eBPF runs on.
const TICK_NS: u64 = 10_000_000;

/// When a process started, in ticks since boot.
///
/// The kernel knows `task_struct.start_boottime` to the nanosecond, `/proc/<pid>/stat` prints it cut down to 10 ms
/// (`nsec_to_clock_t`). Both are compared as ticks, which loses nothing but this: two processes that had the same pid and
/// started within the same 10 ms would be one, and for that the whole pid space would have to be used up in 10 ms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StartTick(pub u64);

impl StartTick {
    /// The tick of a `start_boottime`.
    #[must_use]
    pub const fn from_boot_ns(start_boot_ns: u64) -> Self {
        Self(start_boot_ns / TICK_NS)
    }

    /// The earliest moment of this tick, nanoseconds since boot.
    #[must_use]
    pub const fn earliest_boot_ns(self) -> u64 {
        self.0 * TICK_NS
    }
}

/// A process at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessSnapshot {
    /// Thread group id.
    pub pid: u32,
    /// When it started.
    pub start: StartTick,
    /// Parent; 0 for none.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// Real group id.
    pub gid: u32,
    /// Task name.
    pub comm: String,
    /// Path of the executable in its own mount namespace; `None` for a kernel thread or where we may not look.
    pub exe: Option<String>,
    /// Which file that is and its contents at this moment.
    pub file: Option<(FileKey, FileStamp)>,
    /// Arguments, cut after [`ARGS_LEN`] bytes.
    pub args: Vec<String>,
    /// Path below the cgroup2 mount point, from `/`.
    pub cgroup: Option<String>,
    /// The user that logged in.
    pub loginuid: Option<u32>,
}

/// The process `pid` now; `None` when there is none.
///
/// Everything is read through one descriptor of `/proc/<pid>`, so a reused pid cannot mix two processes.
///
/// # Errors
/// `/proc` is not mounted or does not have the form of proc(5).
pub fn snapshot(pid: u32) -> Result<Option<ProcessSnapshot>, Error> {
    let Ok(number) = i32::try_from(pid) else { return Ok(None) };
    match Process::new(number).and_then(|process| read(&process)) {
        Ok(found) => Ok(Some(found)),
        Err(ProcError::NotFound(_)) => Ok(None),
        // ESRCH: it ended between two reads.
        Err(ProcError::Io(error, _)) if error.raw_os_error() == Some(3) => Ok(None),
        Err(source) => Err(Error::Proc { path: format!("/proc/{pid}").into(), source }),
    }
}

/// All processes that run now. One that ends while it is read is left out.
///
/// # Errors
/// `/proc` is not mounted.
pub fn running_processes() -> Result<impl Iterator<Item = ProcessSnapshot>, Error> {
    let all = procfs::process::all_processes().map_err(|source| Error::Proc { path: "/proc".into(), source })?;
    Ok(all.filter_map(|process| read(&process.ok()?).ok()))
}

/// The executable of a process that is still the one that started at `start`, opened for reading.
#[must_use]
pub fn open_executable(pid: u32, start: StartTick) -> Option<File> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    if StartTick(process.stat().ok()?.starttime) != start {
        return None;
    }
    process.open_relative("exe").ok()
}

/// Path and identity of what `pid` runs now, whoever that is.
#[must_use]
pub fn executable(pid: u32) -> Option<(String, FileKey)> {
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let (path, (key, _)) = executable_of(&process)?;
    Some((path, key))
}

/// All arguments of a process that is still the one that started at `start` and runs `file`, with a space between each two;
/// `None` where they are more than 128 KiB.
#[must_use]
pub fn command_line(pid: u32, start: StartTick, file: FileKey) -> Option<String> {
    const MOST: u64 = 128 << 10;
    let process = Process::new(i32::try_from(pid).ok()?).ok()?;
    let mut bytes = Vec::new();
    process.open_relative("cmdline").ok()?.take(MOST + 1).read_to_end(&mut bytes).ok()?;
    let is_whole = bytes.len() as u64 <= MOST;
    let (_, (key, _)) = executable_of(&process)?;
    let is_same = key == file && StartTick(process.stat().ok()?.starttime) == start;
    let bytes = bytes.strip_suffix(&[0]).unwrap_or(&bytes);
    (is_whole && is_same).then(|| String::from_utf8_lossy(bytes).replace('\0', " "))
}

/// The name of one thread of a process now.
#[must_use]
pub fn thread_name(pid: u32, tid: u32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    Some(String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned())
}

fn read(process: &Process) -> Result<ProcessSnapshot, ProcError> {
    let stat = process.stat()?;
    let status = process.status()?;
    let executable = executable_of(process);
    let (exe, file) = executable.map_or((None, None), |(path, file)| (Some(path), Some(file)));
    Ok(ProcessSnapshot {
        pid: process.pid().unsigned_abs(),
        start: StartTick(stat.starttime),
        ppid: stat.ppid.unsigned_abs(),
        uid: status.ruid,
        gid: status.rgid,
        comm: stat.comm,
        exe,
        file,
        args: cut_arguments(process.cmdline().unwrap_or_default()),
        cgroup: process.cgroups().ok().and_then(unified_path),
        loginuid: process.loginuid().ok().filter(|&uid| uid != u32::MAX),
    })
}

/// The kernel's name for the link may end in ` (deleted)`; that it does is only believed of a file without a name.
fn executable_of(process: &Process) -> Option<(String, (FileKey, FileStamp))> {
    let link = process.exe().ok()?;
    let file = process.open_relative("exe").ok()?;
    let metadata = file.metadata().ok()?;
    let text = link.to_string_lossy();
    let path = if metadata.nlink() == 0 { text.strip_suffix(" (deleted)").unwrap_or(&text) } else { &text };
    let key = FileKey { device: device::shared().of(&file, metadata.dev()), inode: metadata.ino() };
    Some((path.to_owned(), (key, stamp_of(&metadata))))
}

fn unified_path(cgroups: procfs::ProcessCGroups) -> Option<String> {
    cgroups.into_iter().find(|group| group.hierarchy == 0).map(|group| group.pathname)
}

/// Whole arguments as long as they fit; the first that does not is cut at a character.
fn cut_arguments(arguments: Vec<String>) -> Vec<String> {
    let mut left = ARGS_LEN;
    let mut kept = Vec::new();
    for mut argument in arguments {
        if left == 0 {
            break;
        }
        argument.truncate(argument.floor_char_boundary(left));
        left = left.saturating_sub(argument.len() + 1);
        kept.push(argument);
    }
    kept
}

#[cfg(test)]
mod tests;
