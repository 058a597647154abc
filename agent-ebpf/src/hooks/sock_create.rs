//! Sockets whose packets carry addresses of the program's own making: cgroup/sock_create.

use agent_common::wire::{Behaviour, Hook};
use aya_ebpf::macros::cgroup_sock;
use aya_ebpf::programs::SockContext;

use super::destination::{Act, Actor, Socket, Target, judge_behaviour, tell};
use super::memory::remember_maker;
use super::{PASS, REFUSE, bit, field};
use crate::clock::{Now, switched_on};

const SOCK_RAW: u32 = 3;
/// Nowhere yet.
pub const NO_TARGET: Target = Target { high: 0, low: 0, port: 0 };

#[inline(always)]
fn created(context: &SockContext) -> i32 {
    let socket_type = field!(context.sock, type_);
    if socket_type != SOCK_RAW {
        return PASS;
    }
    let socket = Socket {
        family: field!(context.sock, family) as u16,
        protocol: field!(context.sock, protocol) as u16,
        socket_type: socket_type as u16,
    };
    let Some(config) = switched_on() else { return PASS };
    let now = Now::with(config);
    let judged = judge_behaviour(&now, Behaviour::RawSocket, config.raw_sockets);
    if !judged.is_hit() {
        return PASS;
    }
    tell(
        &now,
        &Act { target: NO_TARGET, local_port: 0, socket, hook: Hook::SockCreate, actor: Actor::Current },
        judged,
    );
    if judged.blocks() { REFUSE } else { PASS }
}

/// `socket(2)` for IPv4 and IPv6; the kernel asks no cgroup about other families.
#[cgroup_sock(sock_create)]
pub fn sock_create(context: SockContext) -> i32 {
    bit(created(&context))
}

/// As [`sock_create`], and remembers who made the socket, which the egress hook cannot tell.
#[cgroup_sock(sock_create)]
pub fn sock_create_remembering(context: SockContext) -> i32 {
    // SAFETY: the context of this program.
    unsafe { remember_maker(context.sock.cast()) };
    bit(created(&context))
}
