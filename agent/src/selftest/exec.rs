//! Ways to run a file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use rustix::fs::{MemfdFlags, memfd_create};
use rustix::mount::{MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_change, unmount};

use super::program::{self, RAN};
use crate::kernel::attempt::{self, Namespace};

/// Where the dynamic loader may be: glibc and musl, x86-64 and AArch64.
const LOADERS: [&str; 4] = [
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/ld-linux-aarch64.so.1",
    "/lib/ld-musl-x86_64.so.1",
    "/lib/ld-musl-aarch64.so.1",
];

/// What is to run.
#[derive(Clone, Debug)]
pub struct Exec {
    /// The file, listed or not.
    pub file: PathBuf,
    /// A directory for whatever the technique needs; gone afterwards.
    pub dir: PathBuf,
}

impl Exec {
    fn place(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }
}

/// Becomes the program: returns only if that fails.
fn become_file(path: impl AsRef<OsStr>) -> io::Result<()> {
    Err(Command::new(path).exec())
}

/// What a program that was waited for came to.
fn ran(status: ExitStatus) -> io::Result<()> {
    match (status.code(), status.signal()) {
        (Some(0 | RAN), _) => Ok(()),
        // As a shell and the dynamic loader say that they may not.
        (Some(126 | 127), _) | (_, Some(9)) => Err(io::Error::from(io::ErrorKind::PermissionDenied)),
        _ => Err(io::Error::other(format!("it ended with {status}"))),
    }
}

pub(super) fn plain(exec: &Exec) -> io::Result<()> {
    become_file(&exec.file)
}

pub(super) fn spawn(exec: &Exec) -> io::Result<()> {
    ran(Command::new(&exec.file).status()?)
}

pub(super) fn thread(exec: &Exec) -> io::Result<()> {
    let file = exec.file.clone();
    let exec = std::thread::spawn(move || become_file(file));
    exec.join().unwrap_or_else(|_| Err(io::Error::other("the thread panicked")))
}

pub(super) fn other_user(exec: &Exec) -> io::Result<()> {
    const NOBODY: u32 = 65534;
    ran(Command::new(&exec.file).uid(NOBODY).gid(NOBODY).status()?)
}

pub(super) fn copy(exec: &Exec) -> io::Result<()> {
    fs::copy(&exec.file, exec.place("copy"))?;
    become_file(exec.place("copy"))
}

pub(super) fn rename(exec: &Exec) -> io::Result<()> {
    fs::rename(&exec.file, exec.place("renamed"))?;
    become_file(exec.place("renamed"))
}

pub(super) fn hard_link(exec: &Exec) -> io::Result<()> {
    fs::hard_link(&exec.file, exec.place("link"))?;
    become_file(exec.place("link"))
}

pub(super) fn symbolic_link(exec: &Exec) -> io::Result<()> {
    symlink(&exec.file, exec.place("link"))?;
    become_file(exec.place("link"))
}

/// A mount namespace whose mounts nobody else sees.
fn private_mounts() -> io::Result<()> {
    attempt::enter_new(Namespace::Mount).map_err(io::Error::other)?;
    keep_private().map_err(io::Error::other)
}

fn keep_private() -> io::Result<()> {
    Ok(mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?)
}

fn tmpfs(at: &Path) -> io::Result<()> {
    fs::create_dir_all(at)?;
    mount("tmpfs", at, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, None).map_err(io::Error::other)
}

pub(super) fn bind_mount(exec: &Exec) -> io::Result<()> {
    private_mounts()?;
    let at = exec.place("bound");
    File::create(&at)?;
    mount_bind(&exec.file, &at).map_err(io::Error::other)?;
    become_file(at)
}

pub(super) fn chroot(exec: &Exec) -> io::Result<()> {
    fs::copy(&exec.file, exec.place("program"))?;
    std::os::unix::fs::chroot(&exec.dir).map_err(io::Error::other)?;
    std::env::set_current_dir("/")?;
    become_file("/program")
}

/// Copies the file onto a tmpfs that only this process sees, and becomes it there.
fn from_tmpfs(exec: &Exec) -> io::Result<()> {
    let at = exec.place("tmpfs");
    tmpfs(&at)?;
    fs::copy(&exec.file, at.join("program"))?;
    become_file(at.join("program"))
}

pub(super) fn private_tmpfs(exec: &Exec) -> io::Result<()> {
    private_mounts()?;
    from_tmpfs(exec)
}

pub(super) fn user_namespace(exec: &Exec) -> io::Result<()> {
    let (user, group) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    attempt::enter_new(Namespace::UserAndMount).map_err(io::Error::other)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1")).map_err(io::Error::other)?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1")).map_err(io::Error::other)?;
    from_tmpfs(exec)
}

pub(super) fn overlayfs(exec: &Exec) -> io::Result<()> {
    private_mounts()?;
    // Its upper layer must not be an overlay itself, as the root of a container is.
    let base = exec.place("layers");
    tmpfs(&base)?;
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| base.join(name));
    for layer in [&lower, &upper, &work, &merged] {
        fs::create_dir(layer)?;
    }
    fs::copy(&exec.file, lower.join("program"))?;
    let options = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let options = std::ffi::CString::new(options)?;
    mount("overlay", &merged, "overlay", MountFlags::empty(), Some(options.as_c_str())).map_err(io::Error::other)?;
    let outcome = become_file(merged.join("program"));
    unmount(&merged, UnmountFlags::DETACH)?;
    outcome
}

pub(super) fn memfd(exec: &Exec) -> io::Result<()> {
    let memory = memfd_create("selftest", MemfdFlags::CLOEXEC)?;
    File::from(memory.try_clone()?).write_all(&fs::read(&exec.file)?)?;
    Err(attempt::become_program(memory.as_fd()))
}

pub(super) fn fexecve(exec: &Exec) -> io::Result<()> {
    Err(attempt::become_program(File::open(&exec.file)?.as_fd()))
}

pub(super) fn deleted(exec: &Exec) -> io::Result<()> {
    let file = File::open(&exec.file)?;
    fs::remove_file(&exec.file)?;
    become_file(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

/// A script that `interpreter` runs.
fn script_for(interpreter: &Path, path: &Path) -> io::Result<()> {
    program::write(path, format!("#!{}\n", interpreter.display()).as_bytes())
}

pub(super) fn interpreter(exec: &Exec) -> io::Result<()> {
    script_for(&exec.file, &exec.place("script"))?;
    become_file(exec.place("script"))
}

pub(super) fn interpreter_twice(exec: &Exec) -> io::Result<()> {
    script_for(&exec.file, &exec.place("inner"))?;
    script_for(&exec.place("inner"), &exec.place("outer"))?;
    become_file(exec.place("outer"))
}

pub(super) fn script_argument(exec: &Exec) -> io::Result<()> {
    ran(Command::new("/bin/sh").arg(&exec.file).status()?)
}

/// A program that nobody listed, as long as the file, that has run once.
fn harmless(exec: &Exec) -> io::Result<PathBuf> {
    let (path, bytes) = (exec.place("changing"), program::elf(""));
    let length = fs::metadata(&exec.file)?.len() as usize;
    let tag = "x".repeat(length.saturating_sub(bytes.len()));
    program::write(&path, &program::elf(&tag))?;
    ran(Command::new(&path).status()?).map_err(io::Error::other)?;
    Ok(path)
}

pub(super) fn written(exec: &Exec) -> io::Result<()> {
    let path = harmless(exec)?;
    File::options().write(true).open(&path)?.write_all(&fs::read(&exec.file)?)?;
    become_file(path)
}

pub(super) fn written_mapped(exec: &Exec) -> io::Result<()> {
    let path = harmless(exec)?;
    let file = File::options().read(true).write(true).open(&path)?;
    attempt::overwrite_mapped(&file, &fs::read(&exec.file)?)?;
    drop(file);
    become_file(path)
}

pub(super) fn loader(exec: &Exec) -> io::Result<()> {
    let loader = LOADERS.iter().find(|path| Path::new(path).exists());
    let loader = loader.ok_or_else(|| io::Error::other("no dynamic loader is installed"))?;
    ran(Command::new(loader).arg(&exec.file).status()?)
}

pub(super) fn mapped_as_code(exec: &Exec) -> io::Result<()> {
    attempt::map_as_code(&File::open(&exec.file)?)
}
