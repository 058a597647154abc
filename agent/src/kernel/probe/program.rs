//! Programs of a few instructions, assembled by hand (`Documentation/bpf/standardization/instruction-set.rst`).

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::{Attempt, Refusal};
use crate::kernel::bpf::{Attr, address, address_mut, attach_cgroup};
use crate::kernel::btf::{self, Structures};

const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;

const CGROUP_SKB: u32 = 8;
const CGROUP_SOCK: u32 = 9;
const CGROUP_SOCK_ADDR: u32 = 18;
const CGROUP_SOCKOPT: u32 = 25;
const TRACING: u32 = 26;
const LSM: u32 = 29;

const TRACE_RAW_TP: u32 = 23;
const LSM_MAC: u32 = 27;

/// `BPF_F_SLEEPABLE`.
const SLEEPABLE: u32 = 16;

const GET_CURRENT_TASK: i32 = 35;
const SEND_SIGNAL: i32 = 109;
const IMA_FILE_HASH: i32 = 193;

const R0: u8 = 0;
const R1: u8 = 1;
const R2: u8 = 2;
const R3: u8 = 3;
const R6: u8 = 6;
const R10: u8 = 10;

type Instruction = [u8; 8];

fn encode(opcode: u8, destination: u8, source: u8, offset: i16, immediate: i32) -> Instruction {
    let [low, high] = offset.to_ne_bytes();
    let [a, b, c, d] = immediate.to_ne_bytes();
    let registers = if cfg!(target_endian = "little") { source << 4 | destination } else { destination << 4 | source };
    [opcode, registers, low, high, a, b, c, d]
}

/// `destination = immediate`
fn set(destination: u8, immediate: i32) -> Instruction {
    encode(0xb7, destination, 0, 0, immediate)
}

/// `destination = source`
fn copy(destination: u8, source: u8) -> Instruction {
    encode(0xbf, destination, source, 0, 0)
}

/// `destination += immediate`
fn add(destination: u8, immediate: i32) -> Instruction {
    encode(0x07, destination, 0, 0, immediate)
}

/// `destination = *(u64 *)(source + offset)`
fn load(destination: u8, source: u8, offset: i16) -> Instruction {
    encode(0x79, destination, source, offset, 0)
}

fn call(function: i32) -> Instruction {
    encode(0x85, 0, 0, 0, function)
}

fn exit() -> Instruction {
    encode(0x95, 0, 0, 0, 0)
}

/// What a program is loaded for.
#[derive(Clone, Copy, Default)]
struct Target {
    kind: u32,
    attach_type: u32,
    flags: u32,
    btf_id: u32,
}

fn load_program(target: Target, instructions: &[Instruction]) -> io::Result<OwnedFd> {
    const LICENCE: &[u8] = b"Dual MIT/GPL\0";
    let count = u32::try_from(instructions.len()).map_err(io::Error::other)?;
    let attr = Attr::new()
        .u32(0, target.kind)
        .u32(4, count)
        .u64(8, address(instructions))
        .u64(16, address(LICENCE))
        .u32(44, target.flags)
        .put(48, b"cordon_probe")
        .u32(68, target.attach_type)
        .u32(108, target.btf_id);
    // SAFETY: BPF_PROG_LOAD reads `count` instructions and the NUL-terminated licence, both of which outlive the call, and
    // returns a descriptor; no log buffer is given.
    unsafe { attr.open(PROG_LOAD) }
}

/// Attaches a program for as long as the returned descriptor is open.
fn attach(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the name is null, which a program that names its target by BTF id has to give; nothing else is an address.
    unsafe { Attr::new().fd(8, program).open(RAW_TRACEPOINT_OPEN) }
}

/// A cgroup program that lets everything pass.
fn pass(kind: u32, attach_type: u32) -> io::Result<OwnedFd> {
    let target = Target { kind, attach_type, ..Target::default() };
    load_program(target, &[set(R0, 1), exit()])
}

const EGRESS: u32 = 1;

/// The hooks behind connect and sendmsg, each with such a program; loaded, attached nowhere: `cgroup/setsockopt`,
/// `cgroup/sock_create`, `cgroup_skb/egress`, `cgroup_skb/ingress`.
pub(super) fn layers() -> [Attempt; 4] {
    [(CGROUP_SOCKOPT, 22), (CGROUP_SOCK, 2), (CGROUP_SKB, EGRESS), (CGROUP_SKB, 0)]
        .map(|(kind, attach_type)| pass(kind, attach_type).map(drop).map_err(Refusal::from))
}

/// A program that would read packets and tasks; loaded, attached nowhere.
pub(super) fn names() -> Attempt {
    let target = Target { kind: CGROUP_SKB, attach_type: EGRESS, ..Target::default() };
    let instructions = [call(GET_CURRENT_TASK), set(R0, 1), exit()];
    load_program(target, &instructions).map(drop).map_err(Refusal::from)
}

/// Such a program; loaded, attached nowhere.
pub(super) fn network(attach_type: u32) -> Attempt {
    pass(CGROUP_SOCK_ADDR, attach_type).map(drop).map_err(Refusal::from)
}

/// Such a program on `cgroup/connect4` of a cgroup2 directory for as long as the returned descriptor is open: what a hook
/// costs that does nothing, for the benches.
///
/// # Errors
/// It cannot be loaded or attached.
pub fn attach_empty_connect4(cgroup: &Path) -> io::Result<OwnedFd> {
    const CONNECT4: u32 = 10;
    attach_cgroup(pass(CGROUP_SOCK_ADDR, CONNECT4)?.as_fd(), File::open(cgroup)?.as_fd(), CONNECT4)
}

/// As [`attach_empty_connect4`], on `cgroup_skb/egress`.
///
/// # Errors
/// It cannot be loaded or attached.
pub fn attach_empty_egress(cgroup: &Path) -> io::Result<OwnedFd> {
    attach_cgroup(pass(CGROUP_SKB, EGRESS)?.as_fd(), File::open(cgroup)?.as_fd(), EGRESS)
}

fn exec_target(types: &Structures<'_>) -> Result<Target, Refusal> {
    let name = "btf_trace_sched_process_exec";
    let btf_id = types.id(btf::TYPEDEF, name).ok_or_else(|| Refusal::new(format!("the kernel has no {name}")))?;
    Ok(Target { kind: TRACING, attach_type: TRACE_RAW_TP, btf_id, ..Target::default() })
}

fn lsm_target(types: &Structures<'_>, flags: u32) -> Result<Target, Refusal> {
    let name = "bpf_lsm_bprm_check_security";
    let missing = || Refusal::new(format!("the kernel has no {name}: it is built without CONFIG_BPF_LSM"));
    let btf_id = types.id(btf::FUNC, name).ok_or_else(missing)?;
    Ok(Target { kind: LSM, attach_type: LSM_MAC, flags, btf_id })
}

fn load_and_attach(target: Target) -> Attempt {
    let told = |step: &str, error: io::Error| Refusal { errno: error.raw_os_error(), why: format!("{step}: {error}") };
    let program = load_program(target, &[set(R0, 0), exit()]).map_err(|error| told("loading", error))?;
    attach(program.as_fd()).map(drop).map_err(|error| told("attaching", error))
}

/// A program that does nothing, at every exec for a moment.
pub(super) fn exec_tracing(types: &Structures<'_>) -> Attempt {
    load_and_attach(exec_target(types)?)
}

/// A program that would kill; loaded, never attached.
pub(super) fn send_signal(types: &Structures<'_>) -> Attempt {
    let instructions = [set(R1, libc::SIGKILL), call(SEND_SIGNAL), set(R0, 0), exit()];
    load_program(exec_target(types)?, &instructions).map(drop).map_err(Refusal::from)
}

/// A program that allows, at every exec for a moment.
pub(super) fn lsm(types: &Structures<'_>) -> Attempt {
    load_and_attach(lsm_target(types, 0)?)
}

/// A sleepable program that hashes `bprm->file`; loaded, never attached.
pub(super) fn lsm_ima(types: &Structures<'_>) -> Attempt {
    let missing = || Refusal::new("the kernel has no linux_binprm.file");
    let offset = types.offset("linux_binprm", "file").and_then(|at| i16::try_from(at).ok()).ok_or_else(missing)?;
    let instructions = [
        load(R6, R1, 0),
        load(R1, R6, offset),
        copy(R2, R10),
        add(R2, -32),
        set(R3, 32),
        call(IMA_FILE_HASH),
        set(R0, 0),
        exit(),
    ];
    load_program(lsm_target(types, SLEEPABLE)?, &instructions).map(drop).map_err(Refusal::from)
}

/// Whether `bpf` is an active security module, asked by `lsm_list_modules(2)` (Linux 6.8); `None` before.
pub(super) fn lsm_is_listed() -> Option<bool> {
    const LSM_LIST_MODULES: libc::c_long = 461;
    const LSM_ID_BPF: u64 = 112;
    let mut ids = [0_u64; 64];
    let mut bytes = u32::try_from(size_of_val(&ids)).ok()?;
    // SAFETY: the kernel writes at most `bytes` bytes into `ids`, and their number into `bytes`; both are live.
    let count = unsafe { libc::syscall(LSM_LIST_MODULES, address_mut(&mut ids), &raw mut bytes, 0) };
    let count = usize::try_from(count).ok()?;
    Some(ids.iter().take(count).any(|id| *id == LSM_ID_BPF))
}
