//! What a packet says of where it goes: the fixed header, the ports, and the options or headers that lead it elsewhere.
// verifier: what loops find out is blurred, or it follows the lookup anew for each way through them ("BPF program is too
// large"), seen on 6.18. That takes a helper call, so it is only done where there are options or extension headers.

use core::arch::asm;
use core::ptr::{null_mut, read_unaligned};

use agent_common::canon::mapped;
use aya_ebpf::bindings::{__sk_buff, bpf_sock};
use aya_ebpf::helpers::generated::bpf_sk_fullsock;

use super::destination::Target;
use super::field;
use crate::kmem::blurred;

pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
/// Bytes of the fixed headers.
pub const IPV4: usize = 20;
pub const IPV6: usize = 40;
pub const ETH_P_IP: u16 = 0x0800;
pub const ETH_P_IPV6: u16 = 0x86dd;
pub const TCP: u8 = 6;
const UDP: u8 = 17;
const DCCP: u8 = 33;
const SCTP: u8 = 132;
const UDP_LITE: u8 = 136;
/// RFC 8200 §4.1: the headers that may stand before the one of the transport.
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;
/// Extension headers that are followed; behind more of them no port is seen.
const HEADERS: u32 = 3;
/// RFC 791 §3.1. Options that are looked at, no operations among them.
const OPTIONS: u32 = 8;
const IPOPT_END: u8 = 0;
const IPOPT_NOOP: u8 = 1;
const IPOPT_LSRR: u8 = 131;
const IPOPT_SSRR: u8 = 137;
/// Marks of [`Packet::transport6`]: there is a routing header; it is a fragment that is not the first.
const ROUTED: u64 = 1 << 32;
const LATER: u64 = 1 << 33;
/// Offsets that are followed into a packet: more than the headers here can take.
const REACH: u64 = 4095;

/// The socket that a packet is of, whole; null where it is but a request for one, or a closed one's remains, which the
/// kernel alone answers with.
#[inline(always)]
pub fn socket_of(context: *mut __sk_buff) -> *mut bpf_sock {
    let socket = field!(context, __bindgen_anon_2.sk);
    if socket.is_null() {
        return null_mut();
    }
    // SAFETY: the packet's own socket, which is not null.
    unsafe { bpf_sk_fullsock(socket) }
}

/// 1 for 0, and 0 for any other number below 2^63.
// verifier: without a branch, so that it goes one way and not as many as there are protocols; the instructions are written out,
// or the compiler makes branches of them. Seen on 6.1.
#[inline(always)]
fn is_zero(number: u64) -> u64 {
    let mut value = number;
    // SAFETY: two instructions on one register.
    unsafe { asm!("{0} += -1", "{0} >>= 63", inout(reg) value, options(pure, nomem, nostack, preserves_flags)) };
    value
}

/// An offset below [`REACH`] that a loop found.
// verifier: of ways that nothing can go it keeps bounds that contradict each other, and a pointer plus such a number is none to it
// ("invalid mem access 'scalar'"), seen on 6.12. The mask is written out, or the compiler finds it needless.
#[inline(always)]
fn within_reach(offset: u64) -> u64 {
    let mut bounded = offset;
    // SAFETY: one instruction on one register.
    unsafe { asm!("{0} &= 4095", inout(reg) bounded, options(pure, nomem, nostack, preserves_flags)) };
    bounded
}

const _: () = assert!(REACH == 4095, "within_reach is the bound of what loops find");

/// A packet's headers, from the IP header on.
#[derive(Clone, Copy)]
pub struct Packet {
    start: *const u8,
    end: *const u8,
}

/// What is read from them.
#[derive(Clone, Copy)]
pub struct Headers {
    /// Where to. The port is 0 where there is none, as in all fragments but the first.
    pub target: Target,
    pub family: u16,
    /// IP protocol number.
    pub protocol: u8,
    /// A source route (RFC 791 §3.1) or a routing header (RFC 8200 §4.4) leads it.
    pub is_routed: bool,
}

/// A packet as it arrives.
#[derive(Clone, Copy)]
pub struct Arrival {
    /// It begins a connection, or is a datagram.
    pub begins: bool,
    /// Where from.
    pub source: Target,
    pub local_port: u16,
    pub family: u16,
    /// IP protocol number.
    pub protocol: u8,
}

impl Packet {
    #[inline(always)]
    pub fn new(context: *const __sk_buff) -> Self {
        Self {
            start: field!(context, data) as usize as *const u8,
            end: field!(context, data_end) as usize as *const u8,
        }
    }

    /// Whether so many bytes are at hand, as those of a fixed header always are.
    // verifier: asked first, so that what is read of it goes one way; else each half of an address is also followed as 0.
    #[inline(always)]
    pub fn holds(self, bytes: usize) -> bool {
        self.start.wrapping_add(bytes) <= self.end
    }

    /// The number at an offset; 0 past what of the packet is at hand.
    #[inline(always)]
    #[expect(clippy::pointers_in_nomem_asm_block, reason = "the pointer is held, not followed")]
    pub fn read<T: Copy + Default>(self, offset: u64) -> T {
        let mut at = self.start.wrapping_add((offset & REACH) as usize);
        // verifier: what is compared and what is read must be one register; computed twice it takes them for two places ("offset
        // is outside of the packet"), seen on 6.18.
        // SAFETY: one instruction that changes nothing.
        unsafe { asm!("{0} += 0", inout(reg) at, options(pure, nomem, nostack, preserves_flags)) };
        if at.wrapping_add(size_of::<T>()) > self.end {
            return T::default();
        }
        // SAFETY: the verifier compared the end of what is read with the end of the packet, as above.
        unsafe { read_unaligned(at.cast()) }
    }

    #[inline(always)]
    fn address4(self, offset: u64) -> Target {
        Target { high: 0, low: mapped(u32::from_be(self.read(offset))), port: 0 }
    }

    #[inline(always)]
    fn address6(self, offset: u64) -> Target {
        Target { high: u64::from_be(self.read(offset)), low: u64::from_be(self.read(offset + 8)), port: 0 }
    }

    /// The port at an offset, or 0 for a protocol without ports and for all fragments but the first.
    #[inline(always)]
    fn port(self, protocol: u8, fragment: u64, offset: u64) -> u16 {
        const LOW: u64 = 1 << TCP | 1 << UDP | 1 << DCCP;
        const HIGH: u64 = 1 << (SCTP - 128) | 1 << (UDP_LITE - 128);
        let (quarter, bit) = (u64::from(protocol >> 6), u64::from(protocol & 63));
        let has_ports = ((LOW >> bit) & is_zero(quarter)) | ((HIGH >> bit) & is_zero(quarter ^ 2));
        let mask = (has_ports & is_zero(fragment) & 1).wrapping_neg();
        u16::from_be(self.read(offset)) & mask as u16
    }

    /// The headers of an IPv4 packet (RFC 791 §3.1).
    #[inline(always)]
    pub fn headers4(self) -> Headers {
        const OFFSET: u16 = 0x1fff;
        let length = u64::from(self.read::<u8>(0) & 15) * 4;
        let protocol = self.read::<u8>(9);
        let port = self.port(protocol, u64::from(u16::from_be(self.read(6)) & OFFSET), length + 2);
        let mut is_routed = false;
        if length > 20 {
            is_routed = blurred(u64::from(self.has_route(length))) & 1 != 0;
        }
        Headers { target: Target { port, ..self.address4(16) }, family: AF_INET, protocol, is_routed }
    }

    /// Whether the IPv4 options hold a source route, or are more than anybody has a use for.
    #[inline(always)]
    fn has_route(self, length: u64) -> bool {
        let mut at = 20;
        for _ in 0..OPTIONS {
            let kind = if at < length { self.read::<u8>(within_reach(at)) } else { IPOPT_END };
            match kind {
                IPOPT_END => return false,
                IPOPT_LSRR | IPOPT_SSRR => return true,
                IPOPT_NOOP => at += 1,
                _ => {
                    let bytes = self.read::<u8>(within_reach(at + 1));
                    if bytes < 2 {
                        return false;
                    }
                    at = within_reach(at + u64::from(bytes));
                }
            }
        }
        true
    }

    /// The headers of an IPv6 packet (RFC 8200 §3).
    #[inline(always)]
    pub fn headers6(self) -> Headers {
        let transport = self.transport6();
        let protocol = transport as u8;
        let port = self.port(protocol, transport & LATER, (transport >> 16) + 2);
        Headers {
            target: Target { port, ..self.address6(24) },
            family: AF_INET6,
            protocol,
            is_routed: transport & ROUTED != 0,
        }
    }

    /// Where the transport's header of an IPv6 packet is: the protocol, the offset 16 bits higher, [`ROUTED`] and [`LATER`].
    #[inline(always)]
    fn transport6(self) -> u64 {
        let next = self.read::<u8>(6);
        if matches!(next, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS) {
            return blurred(self.extensions(next));
        }
        u64::from(next) | 40 << 16
    }

    /// What is behind extension headers, in the form of [`Packet::transport6`].
    #[inline(always)]
    fn extensions(self, first: u8) -> u64 {
        let (mut next, mut at, mut marks) = (first, 40, 0);
        for _ in 0..HEADERS {
            let mut bytes = 8;
            match next {
                HOP_BY_HOP | DESTINATION_OPTIONS => bytes += u64::from(self.read::<u8>(within_reach(at + 1))) * 8,
                ROUTING => {
                    marks |= ROUTED;
                    bytes += u64::from(self.read::<u8>(within_reach(at + 1))) * 8;
                }
                FRAGMENT if u16::from_be(self.read(within_reach(at + 2))) >> 3 != 0 => marks |= LATER,
                FRAGMENT => {}
                _ => break,
            }
            next = self.read(within_reach(at));
            at = within_reach(at + bytes);
        }
        u64::from(next) | at << 16 | marks
    }

    /// An IPv4 packet as it arrives, put together from its fragments.
    #[inline(always)]
    pub fn arrival4(self) -> Arrival {
        let length = u64::from(self.read::<u8>(0) & 15) * 4;
        self.arrival(self.address4(12), AF_INET, self.read(9), length)
    }

    /// An IPv6 packet as it arrives, put together from its fragments.
    #[inline(always)]
    pub fn arrival6(self) -> Arrival {
        let transport = self.transport6();
        self.arrival(self.address6(8), AF_INET6, transport as u8, (transport >> 16) & REACH)
    }

    #[inline(always)]
    fn arrival(self, source: Target, family: u16, protocol: u8, transport: u64) -> Arrival {
        // RFC 9293 §3.1: of the flags only SYN is set when a connection begins.
        const FLAGS: u64 = 13;
        const SYN: u8 = 2;
        const ACK: u8 = 16;
        let begins = match protocol {
            TCP => self.read::<u8>(transport + FLAGS) & (SYN | ACK) == SYN,
            UDP | UDP_LITE => true,
            _ => false,
        };
        let source = Target { port: u16::from_be(self.read(transport)), ..source };
        Arrival { begins, source, local_port: u16::from_be(self.read(transport + 2)), family, protocol }
    }
}
