//! What an allowed connect costs: nothing attached, an empty program, and Cordon with sets of different sizes.

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};

use agent::kernel::probe::attach_empty_connect4;
use agent_common::wire::Counter;
use anyhow::{Context, Result, ensure};

use crate::intelligence::{listed, ruling, unlisted};
use crate::report::{Report, Target};
use crate::sample::{Sample, thread_time};
use crate::sandbox::{Cordon, Sandbox};

const SIZES: [(&str, usize); 3] = [("1k", 1_000), ("1M", 1_000_000), ("10M", 10_000_000)];
/// The target of the largest set.
const RATIO: f64 = 1.25;

/// One socket to connect, and the time it took in each round.
struct Contestant {
    name: String,
    socket: UdpSocket,
    hot: Sample,
    cold: Sample,
}

impl Contestant {
    fn new(name: &str, socket: UdpSocket) -> Self {
        Self { name: name.to_owned(), socket, hot: Sample::default(), cold: Sample::default() }
    }

    /// CPU nanoseconds per connect.
    fn time(&self, destinations: &[Ipv4Addr], times: usize) -> Result<f64> {
        let before = thread_time();
        for address in destinations.iter().cycle().take(times) {
            let connected = self.socket.connect(SocketAddr::from((*address, 443)));
            connected.with_context(|| format!("{}: connecting to {address}, which is not listed", self.name))?;
        }
        Ok(black_box(thread_time() - before).as_nanos() as f64 / times as f64)
    }
}

/// Adds `added ns per allowed UDP connect`, for one destination over and over and for destinations that no cache holds.
pub fn run(sandbox: &Sandbox, quick: bool, report: &mut Report) -> Result<()> {
    let (rounds, times) = if quick { (3, 2_000) } else { (41, 16_384) };
    let sizes = if quick { &SIZES[..1] } else { &SIZES[..] };
    let sets: Vec<Vec<u32>> = sizes.iter().map(|(_, size)| listed(*size)).collect();
    let sets_here: Vec<&[u32]> = sets.iter().map(Vec::as_slice).collect();
    let cold = unlisted(1 << 20, &sets_here);
    let hot = cold.get(..1).context("there is no unlisted address")?;

    let none = sandbox.cgroup("none")?;
    let empty = sandbox.cgroup("empty")?;
    let _hook = attach_empty_connect4(&empty).context("the empty program")?;
    let mut contestants = vec![
        Contestant::new("no hook", sandbox.socket(&none)?),
        Contestant::new("empty hook", sandbox.socket(&empty)?),
    ];
    let mut cordons: Vec<Cordon> = Vec::new();
    for ((name, _), set) in sizes.iter().zip(&sets) {
        let cordon = sandbox.cordon(&format!("connect-{name}"), ruling(set))?;
        contestants.push(Contestant::new(&format!("{name} indicators"), sandbox.socket(&cordon.cgroup)?));
        cordons.push(cordon);
    }

    let mut pieces = cold.chunks(times).cycle();
    for _ in 0..rounds {
        let piece = pieces.next().context("there are no destinations")?;
        for contestant in &mut contestants {
            let time = contestant.time(hot, times)?;
            contestant.hot.push(time);
            let time = contestant.time(piece, times)?;
            contestant.cold.push(time);
        }
    }

    for cordon in &cordons {
        let counters = cordon.kernel.counters()?;
        let (judged, made) = (counters.get(Counter::NetworkJudged), 2 * (rounds * times) as u64);
        ensure!(judged == made, "of {made} connects the hook judged {judged}: it was not what was measured");
    }
    for (title, temperature) in [
        ("connect, one destination again and again", (|one| &one.hot) as fn(&Contestant) -> &Sample),
        ("connect, random destinations", |one| &one.cold),
    ] {
        table(title, &contestants, temperature, report);
    }
    Ok(())
}

fn table(title: &str, contestants: &[Contestant], sample: fn(&Contestant) -> &Sample, report: &mut Report) {
    let [_, empty, ..] = contestants else { return };
    let empty = sample(empty);
    let largest = SIZES.last().map_or("", |(name, _)| name);
    for contestant in contestants {
        let own = sample(contestant);
        report.measured(title, &contestant.name, "CPU ns per connect", own.spread(), None);
        report.measured(title, &contestant.name, "added to the empty hook, ns", own.minus(empty).spread(), None);
        let target = contestant.name.starts_with(largest).then_some(Target::AtMost(RATIO));
        report.measured(title, &contestant.name, "ratio to the empty hook", own.over(empty).spread(), target);
    }
}
