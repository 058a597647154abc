//! Options that lead a socket's packets over other hosts than its connect names: cgroup/setsockopt.
//!
//! The first hop is where packets go; what the connect hooks see is only written into the header, so that a program could
//! connect to loopback and talk to anybody. What comes with a single datagram (`IP_RETOPTS`) does not pass here: the egress hook
//! finds it.

use agent_common::canon::mapped;
use agent_common::image;
use agent_common::wire::{Behaviour, Counter, Hook};
use aya_ebpf::bindings::bpf_sockopt;
use aya_ebpf::macros::cgroup_sockopt;
use aya_ebpf::programs::SockoptContext;

use super::destination::{Act, Actor, Judged, Socket, Target, judge, judge_behaviour, tell};
use super::sock_create::NO_TARGET;
use super::{PASS, REFUSE, bit, field};
use crate::clock::{Now, switched_on};
use crate::emit::{count, damaged};
use crate::image::Generation;
use crate::kmem::blurred;

const SOL_IP: i32 = 0;
const IP_OPTIONS: i32 = 4;
const SOL_IPV6: i32 = 41;
/// RFC 2292's way to set several options at once, as control messages.
const IPV6_2292PKTOPTIONS: i32 = 6;
const IPV6_2292RTHDR: i32 = 5;
const IPV6_RTHDR: i32 = 57;

/// RFC 791 §3.1: end of the list, no operation, loose and strict source route.
const IPOPT_END: u8 = 0;
const IPOPT_NOOP: u8 = 1;
const IPOPT_LSRR: u8 = 131;
const IPOPT_SSRR: u8 = 137;
/// IPv4 options that are looked at, no operations among them.
const OPTIONS: u32 = 8;
/// Control messages that are looked at for a route.
const MESSAGES: u64 = 16;
/// Bytes of the value that a program is shown, a page: what is longer cannot be seen whole.
const SHOWN: u32 = 4096;
const AF_INET: u16 = 2;
const AF_INET6: u16 = 10;

/// The option's value: where it starts and ends.
// verifier: kept as the two pointers it knows, because it takes no length for a bound.
#[derive(Clone, Copy)]
struct Value {
    start: *const u8,
    end: *const u8,
}

impl Value {
    /// The number at an offset less than [`SHOWN`]; 0 past the end.
    // verifier: of several `Option`s that are matched together one branch leaves a register unset ("R3 !read_ok"), seen on 6.18.
    #[inline(always)]
    fn read<T: Copy + Default>(self, offset: u64) -> T {
        let at = self.start.wrapping_add((offset & (u64::from(SHOWN) - 1)) as usize);
        if at.wrapping_add(size_of::<T>()) > self.end {
            return T::default();
        }
        // SAFETY: the verifier compared the end of what is read with the end of the value, as above.
        unsafe { at.cast::<T>().read_unaligned() }
    }
}

/// The first hop of a source route: the offset of its address in the value, or [`ELSEWHERE`]; [`NO_ROUTE`] where there is none.
type Route = u64;

const NO_ROUTE: Route = u64::MAX;
/// There is a route whose hops are not looked for.
const ELSEWHERE: Route = u64::MAX - 1;

/// The source route in IPv4 options; one is supposed where they are more than anybody has a use for.
#[inline(always)]
fn route4(value: Value) -> Route {
    let mut at = 0u64;
    for _ in 0..OPTIONS {
        match value.read::<u8>(at) {
            IPOPT_END => return NO_ROUTE,
            IPOPT_NOOP => at += 1,
            // Kind, length, pointer, then the addresses.
            IPOPT_LSRR | IPOPT_SSRR => return at + 3,
            _ => {
                let length = value.read::<u8>(at + 1);
                if length < 2 {
                    return NO_ROUTE;
                }
                at = (at + u64::from(length)) & (u64::from(SHOWN) - 1);
            }
        }
    }
    ELSEWHERE
}

/// The first hop of an IPv6 routing header; an empty one removes it.
#[inline(always)]
fn route6(value: Value, length: i32) -> Route {
    const ADDRESSES: u64 = 8;
    const SEGMENTS: u8 = 4;
    if length < ADDRESSES as i32 {
        return NO_ROUTE;
    }
    // Segments (RFC 8754 §2) lie in reverse order, and the index of the first one travelled before them.
    if value.read::<u8>(2) == SEGMENTS { ADDRESSES + 16 * u64::from(value.read::<u8>(4)) } else { ADDRESSES }
}

/// Whether control messages hold a routing header.
#[inline(always)]
fn messages_route(value: Value) -> bool {
    let mut at = 0u64;
    for _ in 0..MESSAGES {
        let (length, level, kind) = (value.read::<u64>(at), value.read::<i32>(at + 8), value.read::<i32>(at + 12));
        if level == SOL_IPV6 && (kind == IPV6_RTHDR || kind == IPV6_2292RTHDR) {
            return true;
        }
        if !(16..=u64::from(SHOWN)).contains(&length) {
            return false;
        }
        at = (at + ((length + 7) & !7)) & (u64::from(SHOWN) - 1);
    }
    // More than anybody has a use for.
    true
}

/// The source route that an option sets.
#[inline(always)]
fn route(level: i32, name: i32, length: i32, value: Value) -> Route {
    if level == SOL_IP {
        return route4(value);
    }
    if name == IPV6_RTHDR {
        return route6(value, length);
    }
    if length as u32 > SHOWN || messages_route(value) { ELSEWHERE } else { NO_ROUTE }
}

/// The address of the first hop; nowhere if the value ends before it.
#[inline(always)]
fn first_hop(level: i32, value: Value, at: u64) -> Target {
    if level == SOL_IP {
        return Target { high: 0, low: mapped(u32::from_be(value.read(at))), port: 0 };
    }
    Target { high: u64::from_be(value.read(at)), low: u64::from_be(value.read(at + 8)), port: 0 }
}

/// What the first hop comes to if it is listed, or else what the settings say of source routes.
#[inline(always)]
fn judge_route(hop: Target, now: &Now) -> Judged {
    if let Some(generation) = Generation::current() {
        match image::find_destination(&generation, hop.high, hop.low, 0) {
            Ok(None) => {}
            Ok(Some(found)) => {
                let judged = judge(&generation, now, found);
                if judged.is_hit() {
                    return judged;
                }
            }
            Err(image::Damaged) => damaged(),
        }
    }
    judge_behaviour(now, Behaviour::SourceRoute, now.config.source_routes)
}

#[inline(always)]
fn set(context: *mut bpf_sockopt) -> i32 {
    let (level, name) = (field!(context, level), field!(context, optname));
    let is_judged = (level == SOL_IP && name == IP_OPTIONS)
        || (level == SOL_IPV6 && (name == IPV6_RTHDR || name == IPV6_2292PKTOPTIONS));
    if !is_judged {
        // The kernel takes the value from user space as ever. Without this it fails whatever is longer than a page.
        // SAFETY: the field that programs may write, at its own width.
        unsafe { (&raw mut (*context).optlen).write_volatile(0) };
        return PASS;
    }
    let Some(config) = switched_on() else { return PASS };
    count(Counter::NetworkJudged);
    let value = Value {
        start: field!(context, __bindgen_anon_2.optval).cast(),
        end: field!(context, __bindgen_anon_3.optval_end).cast(),
    };
    // What is judged here is what the kernel then uses: it keeps its copy, so that nobody can change it in between.
    let route = route(level, name, field!(context, optlen), value);
    if route == NO_ROUTE {
        return PASS;
    }
    // verifier: from every place that a route can be at it would follow the lookup anew, seen on 6.18.
    let target = if route == ELSEWHERE { NO_TARGET } else { first_hop(level, value, blurred(route)) };
    let now = Now::with(config);
    let judged = judge_route(target, &now);
    if !judged.is_hit() {
        return PASS;
    }
    let socket = field!(context, __bindgen_anon_1.sk);
    let socket = Socket {
        family: if level == SOL_IP { AF_INET } else { AF_INET6 },
        protocol: field!(socket, protocol) as u16,
        socket_type: field!(socket, type_) as u16,
    };
    tell(&now, &Act { target, local_port: 0, socket, hook: Hook::Setsockopt, actor: Actor::Current }, judged);
    if judged.blocks() { REFUSE } else { PASS }
}

/// `setsockopt(2)` on any socket of the cgroup.
#[cgroup_sockopt(setsockopt)]
pub fn setsockopt(context: SockoptContext) -> i32 {
    bit(set(context.sockopt))
}
