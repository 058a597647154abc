//! What an open flow comes to, and what the hooks are to remember of it (no clock, no system call).

use std::collections::HashSet;
use std::net::SocketAddr;

use agent_common::image::{self, Action, Block, Space};
use agent_common::wire::{SocketMemory, Verdict};
use jiff::Timestamp;
use zerocopy::FromZeros;

use crate::app::detect::halves;
use crate::intel::Observable;
use crate::kernel::sock_diag::Flow;
use crate::tables::{Bearing, look_up};

/// Which end began a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    /// This host.
    Here,
    /// The other end.
    There,
}

impl Begun {
    /// The kernel does not keep who began. What is accepted has the port of its listener, and no connect is given that port, so
    /// a flow at a port that is listened at was begun by the other end. UDP is connected by whoever has the socket.
    pub fn of(flow: &Flow, listening: &HashSet<u16>) -> Self {
        if flow.is_half_open || listening.contains(&flow.local_port()) { Self::There } else { Self::Here }
    }
}

/// The entry that a flow is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Judged {
    /// Of the image.
    pub entry: u32,
    /// What it comes to. `Allow` is for a flow that the other end began and that nothing is to be done about, while this host
    /// might not begin it: so the egress hook is to let it be.
    pub action: Action,
}

/// Whether an image lists any address, prefix or endpoint.
pub fn lists_addresses(image: &[Block]) -> bool {
    let spaces = [Space::Ipv4, Space::Ipv6, Space::Ipv6Prefix, Space::Endpoint];
    spaces.into_iter().any(|space| image::holds(image, space).unwrap_or(false))
}

/// What an image says of a flow to or from `remote`: as the connect and egress hooks would, or as the ingress hook would of
/// its first packet, for which no endpoint counts. `None` where there is nothing to do.
pub fn judge(image: &[Block], remote: SocketAddr, begun: Begun, now: Timestamp) -> Option<Judged> {
    // 2106 is the last year that an expiry can name.
    let now = u32::try_from(now.as_second()).unwrap_or(u32::MAX);
    let port = if begun == Begun::Here { remote.port() } else { 0 };
    let Ok(Bearing::Hit(hit)) = look_up(image, &Observable::Endpoint(remote.ip(), port), now) else { return None };
    let action = if begun == Begun::Here { hit.action } else { hit.inbound };
    (action != Action::Allow || hit.action != Action::Allow).then_some(Judged { entry: hit.entry, action })
}

/// What the hooks remember of a socket that they have not seen.
pub fn nothing_remembered() -> SocketMemory {
    let mut memory = SocketMemory::new_zeroed();
    memory.process.loginuid = u32::MAX;
    memory
}

/// Whether a hook has told of this very thing.
pub fn is_told(memory: &SocketMemory, remote: SocketAddr, verdict: Verdict) -> bool {
    let (high, low) = halves(remote.ip());
    memory.generation != 0
        && (memory.high, memory.low, memory.port, memory.verdict) == (high, low, remote.port(), verdict as u8)
}

/// What the hooks are to remember once this is told of: not to tell it again. Of a flow that passes and that the other end began
/// also that, so that the egress hook does not judge it as one of this host's.
pub fn noted(
    memory: &SocketMemory,
    remote: SocketAddr,
    begun: Begun,
    generation: u32,
    verdict: Verdict,
) -> SocketMemory {
    let (high, low) = halves(remote.ip());
    let passes_inbound = begun == Begun::There && verdict != Verdict::Blocked;
    let flags = memory.flags | if passes_inbound { SocketMemory::INBOUND } else { 0 };
    SocketMemory { high, low, port: remote.port(), generation, verdict: verdict as u8, flags, ..*memory }
}

#[cfg(test)]
mod tests;
