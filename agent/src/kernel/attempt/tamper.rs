//! What takes an agent out of the kernel, or ends it, from outside: what self-protection is tried with.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::ptr;

use agent_common::wire::ObjectKind;

use super::checked;
use crate::kernel::bpf::{self, Attr};

const PROG_GET_FD_BY_ID: libc::c_long = 13;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const LINK_GET_FD_BY_ID: libc::c_long = 30;
const LINK_DETACH: libc::c_long = 34;
/// fcntl(2); the libc crate does not name it.
const F_SETSIG: libc::c_int = 10;

/// A map that is nobody's, with its id.
///
/// # Errors
/// The kernel's.
pub fn new_map() -> io::Result<(OwnedFd, u32)> {
    let map = bpf::create_image(1)?;
    let id = bpf::map_shape(map.as_fd())?.id;
    Ok((map, id))
}

/// The id of a pinned map.
///
/// # Errors
/// The kernel's.
pub fn map_id(pin: &Path) -> io::Result<u32> {
    Ok(bpf::map_shape(bpf::open_pin(pin)?.as_fd())?.id)
}

/// The id of a pinned link and that of its program.
///
/// # Errors
/// The kernel's.
pub fn link_ids(pin: &Path) -> io::Result<(u32, u32)> {
    bpf::link_ids(bpf::open_pin(pin)?.as_fd())
}

/// Opens a pinned map or link (`BPF_OBJ_GET`).
///
/// # Errors
/// The kernel's.
pub fn open_pin(pin: &Path) -> io::Result<OwnedFd> {
    bpf::open_pin(pin)
}

/// Opens whatever has this id.
///
/// # Errors
/// The kernel's.
pub fn open_by_id(kind: ObjectKind, id: u32) -> io::Result<OwnedFd> {
    let command = match kind {
        ObjectKind::Map => MAP_GET_FD_BY_ID,
        ObjectKind::Program => PROG_GET_FD_BY_ID,
        ObjectKind::Link => LINK_GET_FD_BY_ID,
    };
    // SAFETY: the attribute holds an id and no address.
    unsafe { Attr::new().u32(0, id).open(command) }
}

/// Detaches a pinned link (`BPF_LINK_DETACH`).
///
/// # Errors
/// The kernel's.
pub fn detach_link(pin: &Path) -> io::Result<()> {
    let link = bpf::open_pin(pin)?;
    // SAFETY: the attribute holds a descriptor and no address.
    unsafe { Attr::new().fd(0, link.as_fd()).call(LINK_DETACH) }.map(drop)
}

/// Has a pipe send a process a signal: the kernel sends it, and tells nobody whether it did.
///
/// # Errors
/// The kernel's, of preparing it.
pub fn signal_by_descriptor(pid: i32, signal: i32) -> io::Result<()> {
    let (reader, writer) = io::pipe()?;
    let descriptor = reader.as_raw_fd();
    // SAFETY: three fcntl(2) that take integers and touch no memory, on a descriptor that lives.
    unsafe {
        checked(libc::fcntl(descriptor, libc::F_SETOWN, pid))?;
        checked(libc::fcntl(descriptor, F_SETSIG, signal))?;
        checked(libc::fcntl(descriptor, libc::F_SETFL, libc::O_ASYNC))?;
    }
    File::from(OwnedFd::from(writer)).write_all(b"x")
}

/// Traces a process until this one ends, without stopping it (`PTRACE_SEIZE`).
///
/// # Errors
/// The kernel's.
pub fn trace(pid: i32) -> io::Result<()> {
    let nothing = ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_SEIZE takes no address, and options of which none is set.
    checked(unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, nothing, nothing) }).map(drop)
}
