//! The task that acts.

use agent_common::limits::COMM_LEN;
use agent_common::wire::Process;
use aya_ebpf::Global;
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
    OFF_TASK_PID: "`task_struct.pid`",
    OFF_TASK_COMM: "`task_struct.comm`",
    OFF_TASK_CRED: "`task_struct.cred`",
    OFF_CRED_UID: "`cred.uid`",
    OFF_CRED_GID: "`cred.gid`",
    OFF_TASK_CGROUPS: "`task_struct.cgroups`",
    OFF_CSS_SET_DFL: "`css_set.dfl_cgrp`",
    OFF_CGROUP_KN: "`cgroup.kn`",
    OFF_KN_ID: "`kernfs_node.id`",
    OFF_SKB_SK: "`sk_buff.sk`",
    OFF_SOCK_LOCK: "`sock.sk_lock`",
    OFF_LOCK_OWNED: "`socket_lock_t.owned`",
}

/// The current task's `task_struct`.
#[inline(always)]
pub fn current() -> Address {
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

/// As [`key`], of any task.
#[inline(always)]
pub fn key_of(task: Address) -> (u64, u32) {
    (task.follow(&OFF_TASK_LEADER).value(&OFF_TASK_START), task.value(&OFF_TASK_TGID))
}

/// Thread group id of who started a task, or has inherited it.
#[inline(always)]
pub fn parent_of(task: Address) -> u32 {
    task.follow(&OFF_TASK_PARENT).value(&OFF_TASK_TGID)
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
        ppid: parent_of(task),
        uid: users as u32,
        gid: (users >> 32) as u32,
        loginuid,
        comm,
    }
}

/// A process that sends a packet, for a program that may not call the helpers that the others ask, as in cgroup_skb.
#[derive(Clone, Copy)]
pub struct Sender(Address);

impl Sender {
    /// The current task; nobody where that is the kernel's own.
    #[inline(always)]
    pub fn current() -> Self {
        let task = current();
        if task.follow(&OFF_TASK_MM).is_nowhere() { Self::nobody() } else { Self(task) }
    }

    /// Who sends a segment of a stream: the current task if it is in a system call on the packet's socket. While one is
    /// (`lock_sock`), no softirq transmits for that socket (`tcp_v4_rcv`, `tcp_tsq_handler`), so it is who does.
    #[inline(always)]
    pub fn of_stream(skb: u64) -> Self {
        let lock = Address::new(skb).follow(&OFF_SKB_SK).field(&OFF_SOCK_LOCK);
        let is_known = OFF_SKB_SK.load() != MISSING && OFF_SOCK_LOCK.load() != MISSING;
        let owned: u32 = lock.value(&OFF_LOCK_OWNED);
        if is_known && owned != 0 { Self::current() } else { Self::nobody() }
    }

    /// Nobody that is known.
    #[inline(always)]
    pub fn nobody() -> Self {
        Self(Address::new(0))
    }

    /// As [`key`]; zeros for nobody.
    #[inline(always)]
    pub fn key(self) -> (u64, u32) {
        key_of(self.0)
    }

    /// As [`process`], field by field into a record.
    ///
    /// # Safety
    /// `to` is memory for a [`Process`].
    #[inline(always)]
    pub unsafe fn write(self, to: *mut Process) {
        let task = self.0;
        let cred = task.follow(&OFF_TASK_CRED);
        let cgroup = task.follow(&OFF_TASK_CGROUPS).follow(&OFF_CSS_SET_DFL).follow(&OFF_CGROUP_KN);
        let (start_boot_ns, pid) = self.key();
        let is_unknown = |offset: &Global<u64>| task.is_nowhere() || offset.load() == MISSING;
        // SAFETY: the caller's promise; each field is written once.
        unsafe {
            (&raw mut (*to).start_boot_ns).write(start_boot_ns);
            (&raw mut (*to).cgroup_id).write(cgroup.value(&OFF_KN_ID));
            (&raw mut (*to).pid).write(pid);
            (&raw mut (*to).tid).write(task.value(&OFF_TASK_PID));
            (&raw mut (*to).ppid).write(parent_of(task));
            let (uid, gid) = (cred.value(&OFF_CRED_UID), cred.value(&OFF_CRED_GID));
            (&raw mut (*to).uid).write(if is_unknown(&OFF_CRED_UID) { u32::MAX } else { uid });
            (&raw mut (*to).gid).write(if is_unknown(&OFF_CRED_GID) { u32::MAX } else { gid });
            let loginuid = task.value(&OFF_TASK_LOGINUID);
            (&raw mut (*to).loginuid).write(if is_unknown(&OFF_TASK_LOGINUID) { u32::MAX } else { loginuid });
            (&raw mut (*to).comm).write(task.value(&OFF_TASK_COMM));
        }
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
