//! The task that acts.

use agent_common::limits::COMM_LEN;
use agent_common::wire::Process;
use aya_ebpf::helpers::generated::{
    bpf_get_current_cgroup_id, bpf_get_current_comm, bpf_get_current_pid_tgid, bpf_get_current_task,
    bpf_get_current_uid_gid,
};

use super::{Address, MISSING, offsets};

offsets! {
    OFF_TASK_LEADER: "`task_struct.group_leader`",
    OFF_TASK_START: "`task_struct.start_boottime`",
    OFF_TASK_PARENT: "`task_struct.real_parent`",
    OFF_TASK_TGID: "`task_struct.tgid`",
    OFF_TASK_LOGINUID: "`task_struct.loginuid`; absent without CONFIG_AUDIT",
    OFF_TASK_MM: "`task_struct.mm`",
    OFF_MM_ARG_START: "`mm_struct.arg_start`",
    OFF_MM_ARG_END: "`mm_struct.arg_end`",
    OFF_MM_EXE_FILE: "`mm_struct.exe_file`",
}

/// The current task's `task_struct`.
#[inline(always)]
fn current() -> Address {
    // SAFETY: the helper takes nothing.
    Address::new(unsafe { bpf_get_current_task() })
}

/// What tells the current process from every other one: when its leader started, in nanoseconds since boot, and its id.
#[inline(always)]
pub fn key() -> (u64, u32) {
    // SAFETY: the helper takes nothing.
    let ids = unsafe { bpf_get_current_pid_tgid() };
    (current().follow(&OFF_TASK_LEADER).value(&OFF_TASK_START), (ids >> 32) as u32)
}

/// The `struct file` of the program that the current task runs; nowhere for a kernel thread.
#[inline(always)]
pub fn executable() -> Address {
    current().follow(&OFF_TASK_MM).follow(&OFF_MM_EXE_FILE)
}

/// The current process, as far as this kernel lets it be seen.
#[inline(always)]
pub fn process() -> Process {
    // SAFETY: the helpers take nothing.
    let (ids, users, cgroup_id) =
        unsafe { (bpf_get_current_pid_tgid(), bpf_get_current_uid_gid(), bpf_get_current_cgroup_id()) };
    let mut comm = [0u8; COMM_LEN];
    // SAFETY: the helper writes at most COMM_LEN bytes, NUL-terminated.
    unsafe { bpf_get_current_comm(comm.as_mut_ptr().cast(), COMM_LEN as u32) };
    let task = current();
    let loginuid = if OFF_TASK_LOGINUID.load() == MISSING { u32::MAX } else { task.value(&OFF_TASK_LOGINUID) };
    Process {
        start_boot_ns: task.follow(&OFF_TASK_LEADER).value(&OFF_TASK_START),
        cgroup_id,
        pid: (ids >> 32) as u32,
        tid: ids as u32,
        ppid: task.follow(&OFF_TASK_PARENT).value(&OFF_TASK_TGID),
        uid: users as u32,
        gid: (users >> 32) as u32,
        loginuid,
        comm,
    }
}

/// Where the current program's arguments are in its own memory: start and length in bytes.
#[inline(always)]
pub fn arguments() -> (u64, u64) {
    let mm = current().follow(&OFF_TASK_MM);
    let start: u64 = mm.value(&OFF_MM_ARG_START);
    let end: u64 = mm.value(&OFF_MM_ARG_END);
    (start, end.saturating_sub(start))
}
