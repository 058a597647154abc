//! How many connects a second are blocked when two processes do nothing else.

use std::env;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::str::FromStr;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::intelligence::{listed, ruling};
use crate::report::{Report, Target};
use crate::sample::{Sample, thread_time};
use crate::sandbox::{Cordon, GENERATION, Sandbox, enter};

const PROCESSES: usize = 2;
/// Blocked connects per second.
const RATE: f64 = 700_000.0;
/// Connects between two looks at the clock.
const BATCH: u32 = 1_000;

/// What a process is told: `SECONDS@ADDRESS@CGROUP`.
#[derive(Clone, Debug)]
pub struct Flood {
    time: Duration,
    address: Ipv4Addr,
    cgroup: PathBuf,
}

impl FromStr for Flood {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.splitn(3, '@');
        let mut next = || parts.next().ok_or("SECONDS@ADDRESS@CGROUP is wanted");
        let time = next()?.parse().map(Duration::from_secs_f64).map_err(|error| error.to_string())?;
        let address = next()?.parse().map_err(|error: std::net::AddrParseError| error.to_string())?;
        Ok(Self { time, address, cgroup: next()?.into() })
    }
}

impl Flood {
    fn start(&self) -> Result<Child> {
        let Self { time, address, cgroup } = self;
        let told = format!("{}@{address}@{}", time.as_secs_f64(), cgroup.display());
        let myself = env::current_exe().context("cannot find the bench's own program")?;
        let child = Command::new(myself).arg("--flood").arg(told).stdout(Stdio::piped()).spawn();
        child.context("cannot start a process to be blocked")
    }

    /// Connects until the time is up; prints how often, in how many seconds, and on how much CPU time.
    pub fn run(&self) -> Result<()> {
        enter(&self.cgroup)?;
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).context("cannot make a socket")?;
        let to = SocketAddr::new(IpAddr::V4(self.address), 443);
        let (start, cpu) = (Instant::now(), thread_time());
        let mut made = 0_u64;
        while start.elapsed() < self.time {
            for _ in 0..BATCH {
                match socket.connect(to) {
                    Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                    other => bail!("connecting to {to}, which is listed: {other:?}"),
                }
            }
            made += u64::from(BATCH);
        }
        println!("{made} {} {}", start.elapsed().as_secs_f64(), (thread_time() - cpu).as_secs_f64());
        Ok(())
    }
}

/// What one process did.
struct Done {
    made: u64,
    wall: f64,
    cpu: f64,
}

fn wait(child: Child) -> Result<Done> {
    let output = child.wait_with_output().context("cannot wait for a blocked process")?;
    ensure!(output.status.success(), "a process that was to be blocked ended with {}", output.status);
    let text = String::from_utf8_lossy(&output.stdout);
    let mut words = text.split_whitespace();
    let mut next = || words.next().context("a blocked process said too little");
    Ok(Done { made: next()?.parse()?, wall: next()?.parse()?, cpu: next()?.parse()? })
}

/// What has been counted and told so far, taken as the daemon takes it.
#[derive(Default)]
struct Told {
    records: u64,
    repeats: u64,
}

impl Told {
    fn take(&mut self, cordon: &mut Cordon) -> Result<()> {
        self.records += cordon.hits.drain().events.len() as u64;
        self.repeats += cordon.kernel.take_folds()?.iter().map(|(_, fold)| fold.repeats).sum::<u64>();
        Ok(())
    }
}

/// Adds `blocked connects per second`: two processes at two addresses, and at one.
pub fn run(sandbox: &Sandbox, quick: bool, report: &mut Report) -> Result<()> {
    let (rounds, time, size) = if quick { (2, 0.2, 1_000) } else { (11, 2.0, 1_000_000) };
    let set = listed(size);
    let mut cordon = sandbox.cordon("blocked", ruling(&set))?;
    let [one, .., other] = set.as_slice() else { bail!("two addresses are needed") };
    let mut told = Told::default();
    let mut made = 0;
    let cases = [("two addresses", [*one, *other]), ("the same address", [*one, *one])];
    let mut rates: [(Sample, Sample, Sample); 2] = Default::default();
    for _ in 0..rounds {
        for ((_, addresses), (rate, per_core, share)) in cases.iter().zip(&mut rates) {
            let floods = addresses.map(|address| Flood {
                time: Duration::from_secs_f64(time),
                address: address.into(),
                cgroup: cordon.cgroup.clone(),
            });
            let children = floods.iter().map(Flood::start).collect::<Result<Vec<Child>>>()?;
            let end = Instant::now() + Duration::from_secs_f64(time);
            while Instant::now() < end {
                thread::sleep(Duration::from_secs_f64(time.min(1.0)));
                told.take(&mut cordon)?;
            }
            let done = children.into_iter().map(wait).collect::<Result<Vec<Done>>>()?;
            made += done.iter().map(|done| done.made).sum::<u64>();
            rate.push(done.iter().map(|done| done.made as f64 / done.wall).sum());
            let cpu: f64 = done.iter().map(|done| done.cpu).sum();
            per_core.push(done.iter().map(|done| done.made as f64).sum::<f64>() / cpu);
            share.push(cpu / done.iter().map(|done| done.wall).sum::<f64>());
        }
    }
    told.take(&mut cordon)?;
    let counted: u64 = cordon.kernel.hits(GENERATION)?.iter().map(|(_, count)| count).sum();
    ensure!(counted == made, "of {made} blocked connects the hit counters have {counted}");
    ensure!(told.records + told.repeats == made, "of {made}, {} were told and {} folded", told.records, told.repeats);

    let title = "blocked connects, two processes";
    for ((name, _), (rate, per_core, share)) in cases.iter().zip(rates) {
        let target = (PROCESSES == cases.len() && *name == "two addresses").then_some(Target::AtLeast(RATE));
        report.measured(title, name, "per second, both together", rate.spread(), target);
        report.measured(title, name, "per second of CPU time", per_core.spread(), None);
        report.measured(title, name, "share of a CPU that each had", share.spread(), None);
    }
    Ok(())
}
