//! The demonstration itself, inside the namespaces.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, thread};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::act::FORBIDDEN;
use super::intelligence::{self, Intelligence};
use crate::tool;

#[cfg(test)]
mod tests;

/// An address of nobody, named by no intelligence.
const INNOCENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const PORT: u16 = 443;
const READY_WITHIN: Duration = Duration::from_secs(60);
const ACTED_WITHIN: Duration = Duration::from_secs(10);
const RECORDED_WITHIN: Duration = Duration::from_secs(10);
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Where the sandbox is.
#[derive(clap::Args)]
pub struct Arguments {
    #[arg(long)]
    cordon: PathBuf,
    #[arg(long)]
    root: PathBuf,
    #[arg(long)]
    cgroup: PathBuf,
    #[arg(long)]
    intel: Option<PathBuf>,
}

/// Shows one allowed connect, one blocked connect and one blocked exec, and what Cordon says of them.
pub fn run(arguments: &Arguments) -> Result<()> {
    let program = arguments.root.join("implant");
    let digest = harmless_program(&program)?;
    let intelligence =
        intelligence::prepare(arguments.intel.as_deref(), &arguments.root.join("intelligence"), &digest)?;
    settings(&arguments.root, &intelligence)?;
    network(&intelligence.addresses)?;
    let _listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, PORT)).context("cannot listen inside the sandbox")?;
    let demo = Demo { arguments, intelligence, program, digest };
    let mut agent = demo.start()?;
    let outcome = demo.show(&mut agent);
    let stopped = stop(&mut agent);
    outcome.and(stopped)
}

struct Demo<'a> {
    arguments: &'a Arguments,
    intelligence: Intelligence,
    program: PathBuf,
    digest: String,
}

impl Demo<'_> {
    fn cordon(&self, verb: &str) -> Command {
        let mut command = Command::new(&self.arguments.cordon);
        command.arg(verb).arg("--root").arg(&self.arguments.root);
        command
    }

    fn start(&self) -> Result<Child> {
        let Intelligence { name, is_example, .. } = &self.intelligence;
        let what =
            if *is_example { "the example that comes with Cordon, a fictional actor" } else { "real intelligence" };
        say(&format!("starting the agent in a sandbox, with {what} (source `{name}`)"));
        let socket = self.arguments.root.join("notify.sock");
        let notify = UnixDatagram::bind(&socket).with_context(|| format!("cannot make {}", socket.display()))?;
        notify.set_read_timeout(Some(Duration::from_millis(100))).context("cannot wait on a socket")?;
        let mut command = Command::new("setpriv");
        // Nothing outlives a demonstration that is killed.
        command.args(["--pdeathsig", "TERM", "--"]).arg(&self.arguments.cordon).arg("run");
        command.arg("--root").arg(&self.arguments.root).arg("--cgroup").arg(&self.arguments.cgroup);
        let mut agent = tool::start(command.env("NOTIFY_SOCKET", &socket).stdin(Stdio::null()), "`cordon run`")?;
        let begin = Instant::now();
        while begin.elapsed() < READY_WITHIN {
            if let Some(status) = agent.try_wait().context("cannot wait for the agent")? {
                bail!("the agent ended before it was ready ({status}); its own words are above");
            }
            let mut bytes = [0; 4096];
            match notify.recv(&mut bytes) {
                Ok(length) if is_ready(&bytes[..length]) => {
                    say(&format!("ready after {:.2} s", begin.elapsed().as_secs_f32()));
                    return Ok(agent);
                }
                Ok(_) => {}
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {
                }
                Err(error) => return Err(error).context("cannot hear from the agent"),
            }
        }
        stop(&mut agent)?;
        bail!("the agent was not ready within {} s", READY_WITHIN.as_secs())
    }

    fn show(&self, agent: &mut Child) -> Result<()> {
        println!();
        self.connect_innocent()?;
        let address = self.connect_listed()?;
        self.execute_listed()?;
        ensure!(agent.try_wait().context("cannot wait for the agent")?.is_none(), "the agent ended meanwhile");
        self.records(address)?;
        say("what the agent says of itself (`cordon status`):");
        tool::run(&mut self.cordon("status"), "`cordon status`")?;
        say("what it recorded (`cordon log`):");
        tool::run(&mut self.cordon("log"), "`cordon log`")?;
        println!("{NEXT}");
        Ok(())
    }

    fn connect_innocent(&self) -> Result<()> {
        let status = self.act(&SocketAddr::from((INNOCENT, PORT)))?;
        ensure!(status.success(), "a connect to {INNOCENT}, which nobody named, did not pass ({status})");
        say(&format!("connect to {INNOCENT}, which nobody named:  passed"));
        Ok(())
    }

    fn connect_listed(&self) -> Result<Ipv4Addr> {
        for address in &self.intelligence.addresses {
            let status = self.act(&SocketAddr::from((*address, PORT)))?;
            if status.code() == Some(FORBIDDEN) {
                say(&format!("connect to {address}, which {} names:  blocked (EPERM)", self.intelligence.name));
                return Ok(*address);
            }
            ensure!(status.success(), "a connect inside the sandbox failed for another reason than Cordon ({status})");
            say(&format!("connect to {address}:  passed (it is in the files, and not a block indicator in force)"));
        }
        bail!("none of the addresses in the intelligence was blocked")
    }

    fn execute_listed(&self) -> Result<()> {
        // The shell would complain of the very refusal that is wanted, so its words are not shown.
        let status = self.within_cgroup(&self.program, &[], Stdio::null())?;
        let words = match (status.signal(), status.code()) {
            (Some(9), _) => "killed before its first instruction",
            (_, Some(126)) => "blocked (EPERM)",
            _ => bail!("a program whose SHA-256 is an indicator ran ({status}): {}", self.digest),
        };
        say(&format!("exec of a program whose SHA-256 was added to the list:  {words}"));
        Ok(())
    }

    fn act(&self, address: &SocketAddr) -> Result<ExitStatus> {
        let myself = env::current_exe().context("cannot find xtask's own program")?;
        self.within_cgroup(&myself, &["sandbox-act", "--connect", &address.to_string()], Stdio::inherit())
    }

    /// A shell moves itself into the enforced cgroup and becomes the program.
    fn within_cgroup(&self, program: &Path, arguments: &[&str], complaints: Stdio) -> Result<ExitStatus> {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ > \"$0/cgroup.procs\" && exec \"$@\""]).arg(&self.arguments.cgroup).arg(program);
        let mut child =
            tool::start(command.args(arguments).stdin(Stdio::null()).stderr(complaints), "a program in the sandbox")?;
        if let Some(status) = tool::wait_within(&mut child, ACTED_WITHIN)? {
            return Ok(status);
        }
        child.kill().context("cannot end a program in the sandbox")?;
        child.wait().context("cannot wait for a program in the sandbox")?;
        bail!("{} hung in the sandbox for {} s", program.display(), ACTED_WITHIN.as_secs())
    }

    /// The journal is written behind the events, so both records are waited for.
    fn records(&self, address: Ipv4Addr) -> Result<()> {
        let end = Instant::now() + RECORDED_WITHIN;
        loop {
            let mut log = self.cordon("log");
            let lines = tool::output(log.args(["-o", "json"]), "`cordon log -o json`")?;
            let records: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            let connect = records.iter().find(|record| is_connect(record, address));
            let exec = records.iter().find(|record| is_exec(record, &self.digest));
            if let (Some(connect), Some(exec)) = (connect, exec) {
                println!();
                say(&format!("recorded: {}", sentence(connect)));
                say(&format!("recorded: {}", sentence(exec)));
                return Ok(());
            }
            if Instant::now() > end {
                bail!(
                    "the journal lacks {}:\n{lines}",
                    if connect.is_none() { "the blocked connect" } else { "the blocked exec" }
                );
            }
            thread::sleep(Duration::from_millis(100));
        }
    }
}

const NEXT: &str = "
What to do next:
  cordon doctor                      what this kernel can enforce, and what would make it more
  cordon intel check FILE…           what Cordon would make of your intelligence
  packaging/                         the service and its settings, in monitor mode until you say otherwise
The sandbox is gone, and so is all that was in it.";

fn say(words: &str) {
    println!("▸ {words}");
}

fn is_ready(message: &[u8]) -> bool {
    message.split(|byte| *byte == b'\n').any(|line| line == b"READY=1")
}

fn is_connect(record: &Value, address: Ipv4Addr) -> bool {
    record["kind"] == "connect" && record["verdict"] == "blocked" && record["destination"]["ip"] == address.to_string()
}

fn is_exec(record: &Value, digest: &str) -> bool {
    let verdict = record["verdict"] == "blocked" || record["verdict"] == "killed";
    record["kind"] == "exec" && verdict && record["indicator"]["value"] == digest
}

/// A record in words: what happened, on whose word, and who is said to be behind it.
fn sentence(record: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or("?").to_owned();
    let list = |value: &Value| {
        let names: Vec<&str> = value.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        names.join(", ")
    };
    let mut words = format!(
        "{} {} by {}; indicator {} of `{}`",
        text(&record["kind"]),
        text(&record["verdict"]),
        text(&record["enforced_by"]),
        text(&record["indicator"]["value"]),
        text(&record["indicator"]["source"]),
    );
    for (name, key) in [("actor", "actors"), ("malware", "malware"), ("from", "references")] {
        let names = list(&record["attribution"][key]);
        if !names.is_empty() {
            words.push_str(&format!("; {name} {names}"));
        }
    }
    words
}

/// Writes a copy of `true` that differs from every other in its last bytes, which the loader ignores; gives its SHA-256.
pub fn harmless_program(path: &Path) -> Result<String> {
    let original = tool::find("true").context("there is no program `true` to copy")?;
    let mut bytes = Vec::new();
    fs::File::open(&original)
        .and_then(|mut file| file.read_to_end(&mut bytes))
        .with_context(|| format!("cannot read {}", original.display()))?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    bytes.extend_from_slice(format!("cordon demonstration {}", now.as_nanos()).as_bytes());
    fs::write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("cannot change {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
}

fn settings(root: &Path, intelligence: &Intelligence) -> Result<()> {
    let folder = root.join("etc/cordon");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let path = folder.join("cordon.toml");
    let mut text = format!(
        "mode = \"enforce\"\n\n[[source]]\nname = {:?}\npath = {:?}\nformat = \"auto\"\naction = \"block\"\n",
        intelligence.name,
        intelligence.place.display().to_string()
    );
    let never_block =
        "\n# In the sandbox the indicators' addresses are this host's own.\n[never_block]\nhost = false\n";
    if intelligence.is_example {
        text.push_str("# The example's addresses are documentation addresses, which are refused otherwise.\nallow_reserved = true\n");
    }
    text.push_str(never_block);
    fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// Only `lo`, so a packet to any of these addresses stays inside; and a BPF file system that ends with the namespace.
fn network(addresses: &[Ipv4Addr]) -> Result<()> {
    let ip = |arguments: &[&str]| tool::run(Command::new("ip").args(arguments), "the sandbox's network");
    ip(&["link", "set", "lo", "up"])?;
    for address in addresses.iter().chain([&INNOCENT]) {
        ip(&["address", "add", &format!("{address}/32"), "dev", "lo"])?;
    }
    let mut mount = Command::new("mount");
    mount.args(["-t", "bpf", "-o", "mode=0700", "cordon-demo", "/sys/fs/bpf"]);
    tool::run(&mut mount, "mounting the sandbox's own BPF file system")
}

fn stop(agent: &mut Child) -> Result<()> {
    if agent.try_wait().context("cannot wait for the agent")?.is_some() {
        return Ok(());
    }
    let mut kill = Command::new("/bin/sh");
    tool::run(kill.args(["-c", "kill -TERM \"$0\"", &agent.id().to_string()]), "asking the agent to stop")?;
    if tool::wait_within(agent, STOPPED_WITHIN)?.is_none() {
        agent.kill().context("cannot end the agent")?;
        agent.wait().context("cannot wait for the agent")?;
        bail!("the agent did not stop within {} s", STOPPED_WITHIN.as_secs());
    }
    Ok(())
}
