//! What is done to the fleet, how long it takes to reach it, and what it costs.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use jiff::Timestamp;

use crate::command::Stop;
use crate::hosts::{Arrival, Tell, What};
use crate::organisation::Organisation;
use crate::real::RealHosts;
use crate::report::{Report, Target};
use crate::sample::Sample;
use crate::server::{Counted, Nats};
use crate::simulated::Simulated;
use crate::usage::Usage;

/// Until all hosts have something.
const PATIENCE: Duration = Duration::from_secs(300);
/// After all have it: they tell their new state, and what was put off is done.
const SETTLE: Duration = Duration::from_secs(3);
/// For what hosts cost when nothing happens: each sends one heartbeat in it.
const REST: Duration = Duration::from_secs(30);
/// Milliseconds from the command to the kernels of [`PROMISED`] hosts.
const LATENCY: f64 = 1000.0;
/// Hosts for which that is promised.
const PROMISED: usize = 1000;

/// All hosts, and what they tell.
pub struct Fleet<'a> {
    nats: &'a Nats,
    acme: &'a Organisation,
    stop: &'a Stop,
    simulated: usize,
    real: Option<&'a RealHosts>,
    tell: Tell,
    told: Receiver<Arrival>,
}

/// Something that is done to all hosts.
struct Deed<'a> {
    /// What it blocks.
    address: String,
    /// What a simulated host tells then.
    expected: What,
    act: Box<dyn Fn() -> Result<()> + 'a>,
}

/// How it went, in milliseconds since the command was started.
struct Round {
    command: f64,
    simulated: Vec<f64>,
    real: Vec<f64>,
    spent: Spent,
}

impl<'a> Fleet<'a> {
    /// Without a host.
    pub fn new(nats: &'a Nats, acme: &'a Organisation, stop: &'a Stop) -> Self {
        let (tell, told) = channel();
        Self { nats, acme, stop, simulated: 0, real: None, tell, told }
    }

    /// Where hosts tell what reached them.
    pub fn tell(&self) -> Tell {
        self.tell.clone()
    }

    /// Lets simulated hosts connect, all at once, until they have the policy.
    pub fn join(&mut self, simulated: &Simulated, count: usize, report: &mut Report) -> Result<()> {
        eprintln!("bench: {count} simulated hosts join");
        self.simulated = count;
        let (before, began) = (self.spent()?, Timestamp::now());
        simulated.start(count);
        let [connected, have] = self.gather([(What::Connected, count), (What::Policy(1), count)])?;
        self.stop.pause(SETTLE)?;
        let spent = self.spent()? - before;
        let mut rows = Rows::default();
        rows.percentiles("connected", &since(began, &connected));
        rows.percentiles("has the policy", &since(began, &have));
        rows.report(&format!("{count} simulated hosts join at once: milliseconds since the first began"), report);
        let mut rows = Rows::default();
        rows.cost(&spent, count);
        rows.push("nats-server", "KiB of memory a host", spent.server.resident / 1024.0 / count.max(1) as f64);
        rows.push("the simulation", "KiB of memory a host", spent.own.resident / 1024.0 / count.max(1) as f64);
        rows.report(&format!("what the joining of {count} hosts costs"), report);
        Ok(())
    }

    /// Adds real hosts.
    pub fn with(&mut self, real: &'a RealHosts) {
        self.real = Some(real);
    }

    /// What hosts cost when nothing happens.
    pub fn rest(&self, report: &mut Report) -> Result<()> {
        eprintln!("bench: at rest");
        let before = self.spent()?;
        self.stop.pause(REST)?;
        let spent = self.spent()? - before;
        let mut rows = Rows::default();
        rows.cost(&spent, self.hosts());
        rows.report(&format!("{} at rest, {} s", self.title(), REST.as_secs()), report);
        Ok(())
    }

    /// What went wrong at the simulated hosts until now.
    pub fn failures(&self, simulated: &Simulated, report: &mut Report) {
        let mut rows = Rows::default();
        for (what, count) in simulated.failures() {
            rows.push("simulated hosts", what, count as f64);
        }
        rows.report("what went wrong, all rounds together", report);
    }

    /// Gives orders, one a round.
    pub fn orders(&self, rounds: u8, report: &mut Report) -> Result<()> {
        let target = (self.simulated <= PROMISED).then_some(Target::AtMost(LATENCY));
        self.rounds("an order", rounds, target, report, |round| {
            let address = format!("127.44.1.{round}");
            let (expected, ordered) = (What::Order(address.clone()), address.clone());
            Ok(Deed { address, expected, act: Box::new(move || self.acme.block(&ordered)) })
        })
    }

    /// Pushes policies, one a round; they are signed before.
    pub fn policies(&self, rounds: u8, report: &mut Report) -> Result<()> {
        let address = |round: u8| format!("127.44.2.{round}");
        self.rounds("a policy", rounds, None, report, |round| {
            let serial = u64::from(round) + 1;
            self.acme.sign(serial, &(1..=round).map(address).collect::<Vec<_>>())?;
            Ok(Deed { address: address(round), expected: What::Policy(serial), act: Box::new(|| self.acme.push()) })
        })
    }

    fn rounds(
        &self,
        name: &str,
        rounds: u8,
        target: Option<Target>,
        report: &mut Report,
        deed: impl Fn(u8) -> Result<Deed<'a>>,
    ) -> Result<()> {
        let (mut times, mut costs, mut simulated, mut real) =
            (Rows::default(), Rows::default(), Vec::new(), Vec::new());
        for number in 1..=rounds {
            let round = self.round(&deed(number)?)?;
            eprintln!(
                "bench: {name}, round {number}: command {:.0} ms, simulated p99 {:.0} ms, real p99 {:.0} ms",
                round.command,
                percentile(&round.simulated, 0.99),
                percentile(&round.real, 0.99)
            );
            times.push("the command itself", "ended", round.command);
            times.percentiles("simulated hosts", &round.simulated);
            times.percentiles("real hosts", &round.real);
            times.percentiles("simulated hosts, after it ended", &less(&round.simulated, round.command));
            times.percentiles("real hosts, after it ended", &less(&round.real, round.command));
            costs.cost(&round.spent, self.hosts());
            simulated.extend(round.simulated);
            real.extend(round.real);
        }
        times.report(&format!("{name}, each round: milliseconds since the command began, {}", self.title()), report);
        let title = format!("{name}, all rounds together");
        for (of, delays) in [("simulated hosts", simulated), ("real hosts", real)] {
            for (what, part) in PERCENTILES {
                let target = target.filter(|_| what == "p99");
                let mut one = Sample::default();
                one.push(percentile(&delays, part));
                report.measured(&title, of, what, one.spread(), target);
            }
        }
        costs.report(&format!("{name}: what a round costs"), report);
        Ok(())
    }

    fn round(&self, deed: &Deed<'_>) -> Result<Round> {
        let refused = What::Refused(deed.address.clone());
        let real = self.real.map_or(0, RealHosts::count);
        if let Some(hosts) = self.real {
            hosts.try_until_refused(&deed.address)?;
            self.gather([(What::Passed(deed.address.clone()), real), (refused.clone(), 0)])?;
        }
        let (before, began) = (self.spent()?, Timestamp::now());
        (deed.act)()?;
        let ended = Timestamp::now();
        let [simulated, real] = self.gather([(deed.expected.clone(), self.simulated), (refused, real)])?;
        self.stop.pause(SETTLE)?;
        Ok(Round {
            command: milliseconds(began, ended),
            simulated: since(began, &simulated),
            real: since(began, &real),
            spent: self.spent()? - before,
        })
    }

    /// When each of so many hosts told this, and each of so many that.
    fn gather(&self, wanted: [(What, usize); 2]) -> Result<[Vec<Timestamp>; 2]> {
        let end = Instant::now() + PATIENCE;
        let mut found = [Vec::new(), Vec::new()];
        let lacks = |found: &[Vec<Timestamp>; 2]| found.iter().zip(&wanted).any(|(has, (_, count))| has.len() < *count);
        while lacks(&found) {
            self.stop.check()?;
            if let Ok(arrival) = self.told.recv_timeout(Duration::from_millis(100)) {
                let places = found.iter_mut().zip(&wanted);
                places.filter(|(_, (what, _))| *what == arrival.what).for_each(|(place, _)| place.push(arrival.at));
            }
            let counts = [found[0].len(), found[1].len()];
            ensure!(Instant::now() < end, "after {} s {counts:?} hosts told of {wanted:?}", PATIENCE.as_secs());
        }
        Ok(found)
    }

    fn hosts(&self) -> usize {
        self.simulated + self.real.map_or(0, RealHosts::count)
    }

    fn title(&self) -> String {
        format!("{} simulated and {} real hosts", self.simulated, self.real.map_or(0, RealHosts::count))
    }

    fn spent(&self) -> Result<Spent> {
        Ok(Spent {
            counted: self.nats.counted()?,
            server: self.nats.usage()?,
            own: Usage::own()?,
            agents: self.real.map_or(Ok(Usage::default()), RealHosts::agents)?,
            probes: self.real.map_or(Ok(Usage::default()), RealHosts::probes)?,
        })
    }
}

/// What everything took until now.
#[derive(Clone, Copy)]
struct Spent {
    counted: Counted,
    server: Usage,
    own: Usage,
    agents: Usage,
    probes: Usage,
}

impl std::ops::Sub for Spent {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            counted: self.counted - before.counted,
            server: self.server - before.server,
            own: self.own - before.own,
            agents: self.agents - before.agents,
            probes: self.probes - before.probes,
        }
    }
}

const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("max", 1.0)];

/// Rows of a table, each with a number a round.
#[derive(Default)]
struct Rows(Vec<(&'static str, &'static str, Sample)>);

impl Rows {
    fn push(&mut self, of: &'static str, what: &'static str, value: f64) {
        match self.0.iter_mut().find(|row| (row.0, row.1) == (of, what)) {
            Some((_, _, sample)) => sample.push(value),
            None => {
                let mut sample = Sample::default();
                sample.push(value);
                self.0.push((of, what, sample));
            }
        }
    }

    fn percentiles(&mut self, of: &'static str, values: &[f64]) {
        for (what, part) in PERCENTILES {
            self.push(of, what, percentile(values, part));
        }
    }

    fn cost(&mut self, spent: &Spent, hosts: usize) {
        let a_host = |count: u64| count as f64 / hosts.max(1) as f64;
        self.push("nats-server", "bytes to a host", a_host(spent.counted.out_bytes));
        self.push("nats-server", "bytes from a host", a_host(spent.counted.in_bytes));
        self.push("nats-server", "messages to a host", a_host(spent.counted.out_msgs));
        self.push("nats-server", "messages from a host", a_host(spent.counted.in_msgs));
        self.push("nats-server", "slow consumers", spent.counted.slow_consumers as f64);
        self.push("nats-server", "seconds of CPU", spent.server.cpu);
        self.push("the simulation", "seconds of CPU", spent.own.cpu);
        self.push("all real agents", "seconds of CPU", spent.agents.cpu);
        self.push("what tries to connect", "seconds of CPU", spent.probes.cpu);
    }

    fn report(&self, title: &str, report: &mut Report) {
        for (of, what, sample) in &self.0 {
            report.measured(title, of, what, sample.spread(), None);
        }
    }
}

/// The smallest value that so many are not above; 0 of none.
fn percentile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (part * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
}

fn since(began: Timestamp, moments: &[Timestamp]) -> Vec<f64> {
    moments.iter().map(|moment| milliseconds(began, *moment)).collect()
}

fn less(values: &[f64], by: f64) -> Vec<f64> {
    values.iter().map(|value| value - by).collect()
}

fn milliseconds(from: Timestamp, to: Timestamp) -> f64 {
    to.duration_since(from).as_secs_f64() * 1e3
}
