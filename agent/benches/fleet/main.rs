//! How fast and at what cost policies and orders reach a fleet: `cargo xtask fleet-sim`.
//!
//! A real NATS server, an organisation that uses the command line, and two kinds of hosts. A simulated host does what an agent does on
//! the bus, through the same library and over a connection of its own, but has no kernel: its time ends when it has judged the order, or
//! accepted the policy. A real host is `cordon run` on a cgroup of its own; its time ends when the kernel refuses a connect in there.
//! All of them share this machine's processors, which in a fleet they do not: what each part took of them is in the report.

mod command;
mod hosts;
mod organisation;
mod probe;
mod real;
#[expect(dead_code, reason = "other benches use all of it")]
#[path = "../kernel/report.rs"]
mod report;
mod rounds;
#[expect(dead_code, reason = "other benches use all of it")]
#[path = "../kernel/sample.rs"]
mod sample;
mod server;
mod simulated;
mod usage;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::command::Stop;
use crate::organisation::Organisation;
use crate::real::RealHosts;
use crate::report::Report;
use crate::rounds::Fleet;
use crate::server::Nats;
use crate::simulated::Simulated;

/// Bench of the fleet.
#[derive(Parser)]
struct Arguments {
    /// Simulated hosts
    #[arg(long, default_value_t = 1000)]
    hosts: usize,
    /// Hosts with the whole agent and a kernel's tables, which needs root
    #[arg(long, default_value_t = 20)]
    real: usize,
    /// Orders that are given, and policies that are pushed; at most 250 of each
    #[arg(long, default_value_t = 10)]
    rounds: u8,
    /// nats-server 2.10 or later; `cargo xtask test` puts the one of PyPI there
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/venvs/nats/bin/nats-server"))]
    server: PathBuf,
    /// Folder for fleet.json, and for what the server stores
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../target/bench"))]
    output: PathBuf,
    /// A small fleet: whether it works, not how fast
    #[arg(long)]
    quick: bool,
    /// cargo says this to every bench, and not to one that `cargo test` starts
    #[arg(long, hide = true)]
    bench: bool,
    /// Set by the bench for the processes that try to connect, inside this cgroup
    #[arg(long, hide = true, value_name = "CGROUP")]
    probe: Option<PathBuf>,
}

fn main() -> ExitCode {
    report::outcome("fleet", run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    if let Some(cgroup) = &arguments.probe {
        return probe::run(cgroup);
    }
    if !arguments.bench {
        println!("NOT RUN bench fleet: it measures only when `cargo bench` starts it");
        return Ok(());
    }
    if !arguments.server.exists() {
        let missing = arguments.server.display();
        println!("NOT RUN bench fleet: there is no nats-server at {missing}; name one with --server");
        return Ok(());
    }
    if arguments.real > 0 && !rustix::process::geteuid().is_root() {
        println!("NOT RUN bench fleet: hooking the kernel needs root; `--real 0` does without");
        return Ok(());
    }
    let (hosts, real, rounds) = match arguments.quick {
        true => (50, arguments.real.min(2), 2),
        false => (arguments.hosts, arguments.real, arguments.rounds.min(250)),
    };
    allow_files(hosts + real)?;
    measure(&arguments.server, &arguments.output, hosts, real, rounds)
}

fn measure(server: &Path, output: &Path, hosts: usize, real: usize, rounds: u8) -> Result<()> {
    let stop = Stop::on_signals()?;
    std::fs::create_dir_all(output).with_context(|| format!("cannot make {}", output.display()))?;
    let names = hosts::names(hosts, real);
    // What is made later ends sooner: hosts before the server, the server before its files.
    let nats = Nats::start(server, output, &names, &stop)?;
    let acme = Organisation::new(&nats)?;
    let mut report = Report::new()?;
    let mut fleet = Fleet::new(&nats, &acme, &stop);
    let simulated = Simulated::new(&nats, &acme, fleet.tell())?;
    fleet.join(&simulated, hosts, &mut report)?;
    let real = RealHosts::start(&nats, &acme, real, &fleet.tell(), &stop)?;
    fleet.with(&real);
    fleet.rest(&mut report)?;
    fleet.orders(rounds, &mut report)?;
    fleet.policies(rounds, &mut report)?;
    fleet.failures(&simulated, &mut report);
    report.finish(output, "fleet")
}

/// As many open files as so many connections need, for this process and the server that it starts.
fn allow_files(connections: usize) -> Result<()> {
    let wanted = connections as u64 + 4096;
    let limit = getrlimit(Resource::Nofile);
    if limit.current.is_none_or(|current| current >= wanted) {
        return Ok(());
    }
    let maximum = limit.maximum.map(|maximum| maximum.max(wanted));
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    raised.with_context(|| format!("{connections} hosts need {wanted} open files, of which {limit:?} are allowed"))
}
