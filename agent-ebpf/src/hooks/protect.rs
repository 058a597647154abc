//! Self-protection: who would take Cordon out of the kernel, write its maps or end its agent is refused, unless it is Cordon's
//! own program. Attached only where the settings ask for it.
//!
//! `match-proto: bpf(int cmd, union bpf_attr *attr, unsigned int size)`
//! `match-proto: bpf_map(struct bpf_map *map, fmode_t fmode)`
//! `match-proto: bpf_prog(struct bpf_prog *prog)`
//! `match-proto: inode_unlink(struct inode *dir, struct dentry *dentry)`, inode_rmdir the same
//! `match-proto: inode_rename(struct inode *old_dir, struct dentry *old_dentry, struct inode *new_dir, struct dentry *new_dentry)`
//! `match-proto: sb_umount(struct vfsmount *mnt, int flags)`
//! `match-proto: task_kill(struct task_struct *p, struct kernel_siginfo *info, int sig, const struct cred *cred)`
//! `match-proto: file_send_sigiotask(struct task_struct *tsk, struct fown_struct *fown, int sig)`
//! `match-proto: ptrace_access_check(struct task_struct *child, unsigned int mode)`
//! `match-proto: task_setrlimit(struct task_struct *p, unsigned int resource, struct rlimit *new_rlim)`

use core::ffi::c_void;

use agent_common::image::Seed;
use agent_common::limits::{COMM_LEN, PROGRAM_LEN};
use agent_common::wire::{Attempt, Counter, ObjectKey, ObjectKind, Protection, Refusal, RefusalKey, TICK_NS};
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_uid_gid, bpf_probe_read_kernel_str,
};

use super::exec::{answer, argument};
use crate::emit::{ANY, add, count};
use crate::kmem::{Address, object, path, task};
use crate::maps::{PROTECTED, PROTECTION, REFUSALS};

/// `enum bpf_cmd`.
const LINK_UPDATE: u32 = 29;
const LINK_GET_FD_BY_ID: u32 = 30;
const LINK_DETACH: u32 = 34;
/// `PTRACE_MODE_ATTACH` of include/linux/ptrace.h: to control or to write, where reading /proc is `PTRACE_MODE_READ`.
const ATTACH: u32 = 2;
/// `SIGURG`, which ends nobody; the agent has it sent to itself when a file that it reads is opened for writing.
const URGENT: u32 = 23;
/// The first process, which stops services and, at a shutdown, everything.
const INIT: u32 = 1;

#[inline(always)]
fn caller() -> u32 {
    // SAFETY: the helper takes nothing.
    (unsafe { bpf_get_current_pid_tgid() } >> 32) as u32
}

/// Whether the current task may do everything: Cordon's own program, process 1, the kernel.
#[inline(always)]
fn is_trusted(protection: &Protection) -> bool {
    let file = task::executable();
    // A thread of the kernel, or a task that has given up its memory and is on its way out.
    if file.is_nowhere() || caller() == INIT {
        return true;
    }
    object::device_of(file) == protection.program_device
        && path::key(file, Seed(protection.seed[0], protection.seed[1])) == protection.program
}

/// Whether to refuse what was found to be aimed at Cordon; a refusal is counted and told.
// verifier: a frame of its own, so that the refusal does not lie on the stack of the walk of a path.
#[inline(never)]
fn refuses(protection: &Protection, attempt: Attempt) -> bool {
    if is_trusted(protection) {
        return false;
    }
    tell(attempt);
    true
}

#[inline(never)]
fn tell(attempt: Attempt) {
    count(Counter::ProtectionRefused);
    let (start_boot_ns, pid) = task::key();
    let key = RefusalKey { start_boot_ns, pid, attempt: attempt as u32 };
    if let Some(known) = REFUSALS.get_ptr_mut(key) {
        // SAFETY: a live map value.
        unsafe { add(&raw mut (*known).count, 1) };
        return;
    }
    let mut refusal = Refusal {
        count: 1,
        // SAFETY: the helper takes nothing.
        uid: unsafe { bpf_get_current_uid_gid() } as u32,
        ppid: task::parent_of(task::current()),
        comm: [0; COMM_LEN],
        program: [0; PROGRAM_LEN],
    };
    let name = object::name_of(task::executable()).get() as *const c_void;
    // SAFETY: the helpers write at most as many bytes as they are told, NUL-terminated; the second checks the address.
    unsafe {
        bpf_get_current_comm(refusal.comm.as_mut_ptr().cast(), COMM_LEN as u32);
        bpf_probe_read_kernel_str(refusal.program.as_mut_ptr().cast(), PROGRAM_LEN as u32, name);
    }
    // A table that is full loses who it was; that it was is counted.
    let _full = REFUSALS.insert(key, refusal, ANY);
}

/// Refuses a BPF object of ours.
#[inline(always)]
fn refuses_object(kind: ObjectKind, id: u32, attempt: Attempt) -> bool {
    let Some(protection) = PROTECTION.get(0) else { return false };
    PROTECTED.get_ptr(ObjectKey { kind: kind as u32, id }).is_some() && refuses(protection, attempt)
}

/// Refuses what is done to a pin, given with the folder that it is in.
#[inline(always)]
fn refuses_pin(folder: Address, pin: Address) -> bool {
    let Some(protection) = PROTECTION.get(0) else { return false };
    object::is_within(pin, folder, protection.pins_device, protection.pins_inode)
        && refuses(protection, Attempt::RemovePin)
}

/// Whether a task is the agent's.
#[inline(always)]
fn is_agent(protection: &Protection, task: Address) -> bool {
    let (start_boot_ns, pid) = task::key_of(task);
    pid == protection.agent_pid && start_boot_ns / TICK_NS == protection.agent_start_ticks
}

/// Refuses what is done to the agent.
#[inline(always)]
fn refuses_agent(task: Address, attempt: Attempt) -> bool {
    let Some(protection) = PROTECTION.get(0) else { return false };
    is_agent(protection, task) && refuses(protection, attempt)
}

#[inline(always)]
fn refuses_command(context: *mut c_void) -> bool {
    let command = argument(context, 0).get() as u32;
    if command != LINK_GET_FD_BY_ID && command != LINK_UPDATE && command != LINK_DETACH {
        return false;
    }
    // `link_id` and `link_fd` are both first in `union bpf_attr`, of which this is the kernel's copy.
    let first: u32 = argument(context, 1).read();
    if command == LINK_GET_FD_BY_ID {
        refuses_object(ObjectKind::Link, first, Attempt::OpenLink)
    } else {
        // The kernel asks nobody who opens a pinned link (`bpf_link_new_fd`), so it is stopped where it would be used.
        refuses_object(ObjectKind::Link, object::link_id(first), Attempt::ChangeLink)
    }
}

/// `bpf(2)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/bpf")]
pub extern "C" fn protect_bpf(context: *mut c_void) -> i64 {
    answer(refuses_command(context))
}

/// A descriptor of a map: by its id, by its pin, or new.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/bpf_map")]
pub extern "C" fn protect_bpf_map(context: *mut c_void) -> i64 {
    let id = object::map_id(argument(context, 0));
    answer(refuses_object(ObjectKind::Map, id, Attempt::OpenMap))
}

/// A descriptor of a program, behind which another can be put part by part (`BPF_PROG_TYPE_EXT`).
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/bpf_prog")]
pub extern "C" fn protect_bpf_prog(context: *mut c_void) -> i64 {
    let id = object::program_id(argument(context, 0));
    answer(refuses_object(ObjectKind::Program, id, Attempt::OpenProgram))
}

/// `unlink(2)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/inode_unlink")]
pub extern "C" fn protect_inode_unlink(context: *mut c_void) -> i64 {
    answer(refuses_pin(argument(context, 0), argument(context, 1)))
}

/// `rmdir(2)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/inode_rmdir")]
pub extern "C" fn protect_inode_rmdir(context: *mut c_void) -> i64 {
    answer(refuses_pin(argument(context, 0), argument(context, 1)))
}

/// `rename(2)`, of a pin and onto a pin.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/inode_rename")]
pub extern "C" fn protect_inode_rename(context: *mut c_void) -> i64 {
    answer(
        refuses_pin(argument(context, 0), argument(context, 1))
            || refuses_pin(argument(context, 2), argument(context, 3)),
    )
}

/// In the host's mount namespace, or the last one anywhere, which ends every pin: services and containers take down mounts
/// of the same file system in namespaces of their own.
#[inline(always)]
fn refuses_unmount(mount: Address) -> bool {
    let Some(protection) = PROTECTION.get(0) else { return false };
    let mounted = object::mounted(mount);
    mounted.device == protection.pins_device
        && (mounted.is_last || (mounted.namespace != 0 && mounted.namespace == protection.host_mounts))
        && refuses(protection, Attempt::Unmount)
}

/// `umount(2)`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/sb_umount")]
pub extern "C" fn protect_sb_umount(context: *mut c_void) -> i64 {
    answer(refuses_unmount(argument(context, 0)))
}

/// Whoever started the agent may stop it, as a supervisor does; signal 0 only asks whether it is there.
#[inline(always)]
fn refuses_signal(task: Address, signal: u32) -> bool {
    signal != 0 && task::parent_of(task) != caller() && refuses_agent(task, Attempt::Signal)
}

/// `kill(2)` and its kin.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/task_kill")]
pub extern "C" fn protect_task_kill(context: *mut c_void) -> i64 {
    answer(refuses_signal(argument(context, 0), argument(context, 2).get() as u32))
}

/// A signal that a descriptor sends (`F_SETOWN`, `F_SETSIG`): any, whatever kill(2) would say.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/file_send_sigiotask")]
pub extern "C" fn protect_file_send_sigiotask(context: *mut c_void) -> i64 {
    let signal = argument(context, 2).get() as u32;
    answer(signal != URGENT && refuses_agent(argument(context, 0), Attempt::Signal))
}

/// `ptrace(2)`, `process_vm_writev(2)`, `pidfd_getfd(2)`, `/proc/PID/mem`.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/ptrace_access_check")]
pub extern "C" fn protect_ptrace_access_check(context: *mut c_void) -> i64 {
    let attaches = argument(context, 1).get() as u32 & ATTACH != 0;
    answer(attaches && refuses_agent(argument(context, 0), Attempt::Trace))
}

/// `prlimit(2)`, whose limit on CPU time is a signal in another guise.
#[unsafe(no_mangle)]
#[unsafe(link_section = "lsm/task_setrlimit")]
pub extern "C" fn protect_task_setrlimit(context: *mut c_void) -> i64 {
    answer(refuses_agent(argument(context, 0), Attempt::Limit))
}
