//! What a packet that is let go costs at egress: nothing attached, an empty program, and Cordon with sets of different sizes.

use std::hint::black_box;
use std::net::{SocketAddr, UdpSocket};

use agent::kernel::probe::attach_empty_egress;
use anyhow::{Context, Result};

use crate::intelligence::{listed, ruling, unlisted};
use crate::report::{Report, Target};
use crate::sample::{Sample, thread_time};
use crate::sandbox::{Cordon, Sandbox};

const SIZES: [(&str, usize); 2] = [("1k", 1_000), ("1M", 1_000_000)];
/// The target of the largest set.
const RATIO: f64 = 1.10;

/// CPU nanoseconds per datagram of a connected socket, its way to the receiving socket included.
fn time(socket: &UdpSocket, times: usize) -> Result<f64> {
    let before = thread_time();
    for _ in 0..times {
        socket.send(black_box(b"datagram")).context("a datagram to what is not listed")?;
    }
    Ok((thread_time() - before).as_nanos() as f64 / times as f64)
}

/// Adds `CPU ns per datagram` of established flows: connect and sendmsg are not asked about them.
pub fn run(sandbox: &Sandbox, quick: bool, report: &mut Report) -> Result<()> {
    let (rounds, times) = if quick { (3, 2_000) } else { (41, 8_192) };
    let sizes = if quick { &SIZES[..1] } else { &SIZES[..] };
    let sets: Vec<Vec<u32>> = sizes.iter().map(|(_, size)| listed(*size)).collect();
    let sets_here: Vec<&[u32]> = sets.iter().map(Vec::as_slice).collect();
    let address = *unlisted(1, &sets_here).first().context("there is no unlisted address")?;

    let none = sandbox.cgroup("packet-none")?;
    let empty = sandbox.cgroup("packet-empty")?;
    let _hook = attach_empty_egress(&empty).context("the empty program")?;
    // Takes what is sent and is never read: what does not fit is dropped behind the hook.
    let receiver = sandbox.socket(&none)?;
    let to = SocketAddr::from((address, receiver.local_addr()?.port()));
    let mut contestants = vec![("no hook".to_owned(), sandbox.socket(&none)?, Sample::default())];
    contestants.push(("empty hook".to_owned(), sandbox.socket(&empty)?, Sample::default()));
    let mut cordons: Vec<Cordon> = Vec::new();
    for ((name, _), set) in sizes.iter().zip(&sets) {
        let cordon = sandbox.cordon(&format!("packet-{name}"), ruling(set))?;
        contestants.push((format!("{name} indicators"), sandbox.socket(&cordon.cgroup)?, Sample::default()));
        cordons.push(cordon);
    }
    for (_, socket, _) in &contestants {
        socket.connect(to)?;
    }
    for _ in 0..rounds {
        for (_, socket, sample) in &mut contestants {
            sample.push(time(socket, times)?);
        }
    }
    let title = "send, one destination again and again";
    let [_, (_, _, empty), ..] = contestants.as_slice() else { return Ok(()) };
    let largest = SIZES.last().map_or("", |(name, _)| name);
    for (name, _, own) in &contestants {
        report.measured(title, name, "CPU ns per datagram", own.spread(), None);
        report.measured(title, name, "added to the empty hook, ns", own.minus(empty).spread(), None);
        let target = name.starts_with(largest).then_some(Target::AtMost(RATIO));
        report.measured(title, name, "ratio to the empty hook", own.over(empty).spread(), target);
    }
    Ok(())
}
