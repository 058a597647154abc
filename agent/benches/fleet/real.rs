//! Real hosts: `cordon run` on a cgroup of its own each, and a process in there that tries to connect.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{self, Child, ChildStdin, ChildStdout, Command, Stdio};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use agent::host::cgroup;
use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use tempfile::TempDir;

use crate::command::{CORDON, Stop, cordon};
use crate::hosts::{self, Tell, What, tell_since};
use crate::organisation::Organisation;
use crate::server::Nats;
use crate::usage::Usage;

/// Until all agents have the first policy: each asks the kernel to verify its programs first.
const PATIENCE: Duration = Duration::from_secs(600);
/// Until the cgroup of processes that were killed is empty.
const LEAVING: Duration = Duration::from_secs(5);

/// The hosts; what they made is gone when they are dropped.
pub struct RealHosts(Vec<RealHost>);

impl RealHosts {
    /// Starts them, and waits until each has the policy that is on the bus.
    pub fn start(nats: &Nats, acme: &Organisation, count: usize, tell: &Tell, stop: &Stop) -> Result<Self> {
        let mut started = Vec::new();
        for number in 0..count {
            stop.check()?;
            let host = RealHost::start(nats, acme, number)?;
            started.push(host);
        }
        for host in &mut started {
            stop.wait_for("a real host to take the policy", PATIENCE, || host.has_policy())?;
            // What probes before there is an agent would fill the first round with a start.
            host.probe = Some(Probe::start(&host.cgroup, tell.clone())?);
        }
        Ok(Self(started))
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// Lets all of them try to connect to an address until they are refused.
    pub fn try_until_refused(&self, address: &str) -> Result<()> {
        self.0.iter().filter_map(|host| host.probe.as_ref()).try_for_each(|probe| probe.try_until_refused(address))
    }

    /// What all agents took together.
    pub fn agents(&self) -> Result<Usage> {
        self.0
            .iter()
            .filter_map(|host| host.agent.as_ref())
            .try_fold(Usage::default(), |sum, agent| Ok(sum + Usage::of(agent.id())?))
    }

    /// What all processes that try to connect took together.
    pub fn probes(&self) -> Result<Usage> {
        self.0
            .iter()
            .filter_map(|host| host.probe.as_ref())
            .try_fold(Usage::default(), |sum, probe| Ok(sum + Usage::of(probe.child.id())?))
    }
}

struct RealHost {
    root: TempDir,
    cgroup: PathBuf,
    agent: Option<Child>,
    probe: Option<Probe>,
}

impl RealHost {
    fn start(nats: &Nats, acme: &Organisation, number: usize) -> Result<Self> {
        let root = tempfile::tempdir().context("cannot make a temporary directory")?;
        let etc = root.path().join("etc/cordon");
        fs::create_dir_all(etc.join("intel.d")).with_context(|| etc.display().to_string())?;
        let name = hosts::real(number);
        let enrolment = acme.enrolment();
        let settings = format!(
            "mode = \"monitor\"\n[never_block]\nhost = false\n[exec]\nguard = false\n\
             [policy]\nroot = \"{}\"\ntenant = \"{}\"\ngroup = \"{}\"\nfrom = \"bus\"\n[bus]\nhost = \"{name}\"\n{}",
            acme.root().display(),
            enrolment.tenant,
            enrolment.group,
            nats.keys(&name)
        );
        fs::write(etc.join("cordon.toml"), settings).with_context(|| etc.display().to_string())?;
        let cgroup = cgroup::mount_point()?.join(format!("cordon-fleet-{}-{number}", process::id()));
        fs::create_dir(&cgroup).with_context(|| format!("cannot make the cgroup {}", cgroup.display()))?;
        let mut host = Self { root, cgroup, agent: None, probe: None };
        let log = File::create(host.log()).context("the agent's log")?;
        let mut command = host.cordon(&["run", "--cgroup"]);
        command.arg(&host.cgroup).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        host.agent = Some(command.spawn().with_context(|| format!("cannot start {CORDON}"))?);
        Ok(host)
    }

    fn cordon(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CORDON);
        command.arg("--root").arg(self.root.path()).args(arguments);
        command
    }

    fn log(&self) -> PathBuf {
        self.root.path().join("agent.log")
    }

    fn has_policy(&mut self) -> Result<bool> {
        if let Some(status) = self.agent.as_mut().map(Child::try_wait).transpose()?.flatten() {
            bail!("an agent ended with {status}: {}", fs::read_to_string(self.log()).unwrap_or_default());
        }
        // One that does not listen yet says so by its exit status.
        let Ok(status) = cordon(&mut self.cordon(&["status", "--json"])) else { return Ok(false) };
        let status: Value = serde_json::from_str(&status).context("`cordon status`")?;
        Ok(status["policy"]["serial"].is_u64())
    }
}

impl Drop for RealHost {
    fn drop(&mut self) {
        self.probe = None;
        if let Some(mut agent) = self.agent.take() {
            let _ended = agent.kill().and_then(|()| agent.wait());
        }
        // Without an agent this removes the pins.
        let off = cordon(&mut self.cordon(&["off", "--reason", "the bench is over"]));
        if let Err(error) = off {
            eprintln!("bench fleet: {error:#}");
        }
        let end = Instant::now() + LEAVING;
        while let Err(error) = fs::remove_dir(&self.cgroup) {
            if Instant::now() > end {
                eprintln!("bench fleet: cannot remove {}: {error}", self.cgroup.display());
                break;
            }
            sleep(Duration::from_millis(20));
        }
    }
}

/// This program once more, see [`crate::probe`].
struct Probe {
    child: Child,
    input: ChildStdin,
}

impl Probe {
    fn start(cgroup: &Path, tell: Tell) -> Result<Self> {
        let myself = std::env::current_exe().context("cannot find the bench's own program")?;
        let mut command = Command::new(myself);
        command.arg("--probe").arg(cgroup).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().context("cannot start the bench once more")?;
        let (input, output) = (child.stdin.take().context("no input")?, child.stdout.take().context("no output")?);
        // It ends with the process.
        thread::spawn(move || read(output, &tell));
        Ok(Self { child, input })
    }

    fn try_until_refused(&self, address: &str) -> Result<()> {
        writeln!(&self.input, "{address}").context("a process that tries to connect has ended")
    }
}

impl Drop for Probe {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

/// Passes on what a probe prints.
fn read(output: ChildStdout, tell: &Tell) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        let told = understand(&line).and_then(|(at, what)| tell_since(tell, at, what));
        if let Err(error) = told {
            return eprintln!("bench fleet: a probe said `{line}`: {error:#}");
        }
    }
}

fn understand(line: &str) -> Result<(Timestamp, What)> {
    let words: Vec<&str> = line.split(' ').collect();
    let [what, address, at] = words[..] else { bail!("three words are expected") };
    let what = match what {
        "passed" => What::Passed(address.to_owned()),
        "refused" => What::Refused(address.to_owned()),
        _ => bail!("what is that"),
    };
    Ok((Timestamp::from_nanosecond(at.parse()?)?, what))
}
