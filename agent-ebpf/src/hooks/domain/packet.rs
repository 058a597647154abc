//! A packet as a cgroup_skb program sees it: from its network header on, perhaps not in one piece.

use core::arch::asm;
use core::mem::MaybeUninit;
use core::ptr::read_volatile;

use agent_common::canon::mapped;
use agent_common::image::{LABEL_WORDS, Octets};
use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::bpf_skb_load_bytes;

/// `ETH_P_IP` and `ETH_P_IPV6` as the context has them.
const IPV4: u32 = 0x0800_u16.to_be() as u32;
const IPV6: u32 = 0x86dd_u16.to_be() as u32;
pub const AF_INET: u16 = 2;
pub const AF_INET6: u16 = 10;
pub const TCP: u16 = 6;
pub const UDP: u16 = 17;
pub const UDP_LITE: u16 = 136;
/// Extension headers that are looked past (RFC 8200 §4.1 has six).
const EXTENSIONS: u32 = 6;

/// A packet, and where in it offsets count from.
#[derive(Clone, Copy)]
pub struct Packet {
    pub skb: *mut __sk_buff,
    /// Octets in all.
    pub length: u32,
    /// Offset 0 of what is read.
    pub base: u32,
}

/// `count` as a length that the verifier knows to be 1 to `LEAST_MASK` + 1.
// verifier: up to 6.1 it refuses a length whose range includes 0, and a mask that the compiler finds needless it leaves out.
macro_rules! bounded {
    ($count:expr, $mask:literal) => {{
        let mut count = u64::from($count);
        // SAFETY: three instructions on one register.
        unsafe {
            asm!(
                "{0} -= 1",
                concat!("{0} &= ", $mask),
                "{0} += 1",
                inout(reg) count,
                options(pure, nomem, nostack, preserves_flags)
            )
        };
        count as u32
    }};
}

impl Packet {
    #[inline(always)]
    pub fn new(skb: *mut __sk_buff) -> Self {
        // SAFETY: the context of a running program.
        let length = unsafe { read_volatile(&raw const (*skb).len) };
        Self { skb, length, base: 0 }
    }

    /// The same, read from `at` on.
    #[inline(always)]
    pub fn from(self, at: u32) -> Self {
        Self { base: self.base.wrapping_add(at), ..self }
    }

    /// So many octets from `at` on.
    #[inline(always)]
    fn array<const WORDS: usize>(&self, at: u32, bytes: u32) -> Option<[u64; WORDS]> {
        let mut words = [0_u64; WORDS];
        self.load(at, words.as_mut_ptr().cast(), bytes).then_some(words)
    }

    #[inline(always)]
    fn load(&self, at: u32, to: *mut u8, bytes: u32) -> bool {
        // SAFETY: the helper checks the range in the packet; the callers' memory is as long as they say.
        unsafe { bpf_skb_load_bytes(self.skb.cast(), self.base.wrapping_add(at), to.cast(), bytes) == 0 }
    }

    /// A number in network order.
    #[inline(always)]
    pub fn be16(&self, at: u32) -> Option<u16> {
        self.word(at, 2).map(|word| (word as u16).swap_bytes())
    }

    /// Copies 1 to 256 octets from `at` on.
    ///
    /// # Safety
    /// `to` has room for 256.
    #[inline(always)]
    pub unsafe fn copy(&self, at: u32, count: u32, to: *mut MaybeUninit<u8>) -> bool {
        self.load(at, to.cast(), bounded!(count, 255))
    }
}

impl Octets for Packet {
    #[inline(always)]
    fn word(&self, at: u32, count: u32) -> Option<u64> {
        let mut word = 0_u64;
        self.load(at, (&raw mut word).cast(), bounded!(count, 7)).then_some(word)
    }

    #[inline(always)]
    fn label(&self, at: u32, count: u32, words: &mut [u64; LABEL_WORDS]) -> bool {
        self.load(at, words.as_mut_ptr().cast(), bounded!(count, 63))
    }

    #[inline(always)]
    fn blurred(&self, number: u64) -> u64 {
        let mut blurred = number;
        // SAFETY: two instructions on registers. The verifier does not know the packet's length, and what is combined with
        // an unknown number is unknown, even where it is the same again.
        unsafe {
            asm!(
                "{0} ^= {1}",
                "{0} ^= {1}",
                inout(reg) blurred,
                in(reg) u64::from(self.length) << 32 | u64::from(self.length),
                options(pure, nomem, nostack, preserves_flags)
            )
        };
        blurred
    }
}

/// One end of a packet's way.
#[derive(Clone, Copy, Default)]
pub struct Flow {
    /// Halves of the address, IPv4 in its mapped form.
    pub high: u64,
    pub low: u64,
    pub port: u16,
    pub family: u16,
    pub protocol: u16,
    /// Sequence number of a segment.
    pub sequence: u32,
    /// Offset of the transport header.
    pub transport: u32,
}

/// Which end of a flow is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Where the packet goes.
    Destination,
    /// Where it comes from.
    Source,
}

/// Reads where a packet goes that has its transport header, with ports, in it; whether it is such a one.
#[inline(never)]
pub fn read_flow(packet: &Packet, flow: &mut Flow) -> bool {
    read(packet, flow, End::Destination)
}

/// As [`read_flow`], where it comes from.
#[inline(never)]
pub fn read_origin(packet: &Packet, flow: &mut Flow) -> bool {
    read(packet, flow, End::Source)
}

#[inline(always)]
fn read(packet: &Packet, flow: &mut Flow, end: End) -> bool {
    match Flow::read(packet, end) {
        Some(read) => {
            *flow = read;
            // IPv4 and IPv6 look alike from here on.
            flow.high = packet.blurred(read.high);
            flow.low = packet.blurred(read.low);
            flow.family = packet.blurred(read.family.into()) as u16;
            flow.protocol = packet.blurred(read.protocol.into()) as u16;
            flow.transport = packet.blurred(read.transport.into()) as u32;
            true
        }
        None => false,
    }
}

impl Flow {
    #[inline(always)]
    fn read(packet: &Packet, end: End) -> Option<Self> {
        // SAFETY: the context of a running program.
        let mut flow = match unsafe { read_volatile(&raw const (*packet.skb).protocol) } {
            IPV4 => Self::ipv4(packet, end)?,
            IPV6 => Self::ipv6(packet, end)?,
            _ => return None,
        };
        flow.port = packet.be16(flow.transport.wrapping_add(if end == End::Source { 0 } else { 2 }))?;
        Some(flow)
    }

    /// RFC 791 §3.1.
    #[inline(always)]
    fn ipv4(packet: &Packet, end: End) -> Option<Self> {
        let [first, second, third] = packet.array(0, 20)?;
        let is_later_fragment = ((first >> 48) as u16).swap_bytes() & 0x1fff != 0;
        if is_later_fragment {
            return None;
        }
        let address = if end == End::Source { second >> 32 } else { third };
        Some(Self {
            high: 0,
            low: mapped((address as u32).swap_bytes()),
            port: 0,
            sequence: 0,
            family: AF_INET,
            protocol: (second >> 8 & 0xff) as u16,
            transport: (first as u32 & 0xf) << 2,
        })
    }

    /// RFC 8200 §3 and §4.
    #[inline(always)]
    fn ipv6(packet: &Packet, end: End) -> Option<Self> {
        let [first, source_high, source_low, high, low] = packet.array(0, 40)?;
        let (high, low) = if end == End::Source { (source_high, source_low) } else { (high, low) };
        let mut next = first >> 48 & 0xff;
        let mut at = 40_u64;
        for _ in 0..EXTENSIONS {
            let header = match next {
                // Hop-by-hop options, routing, fragment, authentication, destination options.
                0 | 43 | 44 | 51 | 60 => packet.word(at as u32, 4)?,
                _ => break,
            };
            let length = header >> 8 & 0xff;
            at += match next {
                44 if ((header >> 16) as u16).swap_bytes() & 0xfff8 != 0 => return None,
                44 => 8,
                51 => (length + 2) << 2,
                _ => (length + 1) << 3,
            };
            next = packet.blurred(header & 0xff) & 0xff;
            at = packet.blurred(at) & 0xffff;
        }
        Some(Self {
            high: high.swap_bytes(),
            low: low.swap_bytes(),
            port: 0,
            sequence: 0,
            family: AF_INET6,
            protocol: next as u16,
            transport: at as u32,
        })
    }
}
