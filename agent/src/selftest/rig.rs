//! The sandbox: an agent of its own, a cgroup, a network namespace, a directory. All gone when it is dropped.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use md5::Md5;
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use rustix::process::{Pid, Signal, kill_process};
use sha1::Sha1;
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::expect::InForce;
use super::fire::Ended;
use super::technique::{Act, Content, Technique, targets};
use super::{Outcome, Row, loopback, program};
use crate::attribute::Finding;
use crate::control::{self, Answer, Request};
use crate::host::cgroup;
use crate::journal::{Query, Reader};
use crate::kernel::attempt::{self, Namespace};
use crate::kernel::unpin_all;
use crate::settings::Places;

/// Under emulation an agent takes long to start.
const READY_WITHIN: Duration = Duration::from_secs(90);
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// An attempt that takes longer hangs.
const FIRED_WITHIN: Duration = Duration::from_secs(20);
/// The journal is written behind the events.
const RECORDED_WITHIN: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(20);

/// A dynamically linked program that is everywhere.
const DYNAMIC: &str = "/bin/true";

/// The agent under test enforces; its indicators are all in one file that is watched.
const SETTINGS: &str = r#"mode = "enforce"

[[source]]
name = "selftest"
path = "/etc/cordon/selftest.txt"
format = "list"
action = "block"
inbound = "block"
allow_reserved = true
"#;

/// Told to stop early.
#[derive(Debug, Default)]
pub struct Stopped(AtomicBool);

impl Stopped {
    /// Ends the run after the technique that is being tried.
    pub fn stop(&self) {
        self.0.store(true, Ordering::Relaxed);
    }

    fn is_told(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The sandbox with its agent.
pub struct Rig {
    root: TempDir,
    places: Places,
    program: PathBuf,
    cgroup: PathBuf,
    home: PathBuf,
    agent: Option<Child>,
    inherited: OwnedFd,
    in_force: InForce,
    techniques: Vec<&'static Technique>,
    /// What intelligence says of each one's target.
    values: Vec<String>,
}

impl Rig {
    /// Puts the calling thread into a network namespace of its own, this process into a cgroup of its own, and starts an agent
    /// that enforces the targets of `techniques` there.
    ///
    /// # Errors
    /// No permission, no cgroup2, or the agent does not come up; it says why.
    pub fn set_up(techniques: Vec<&'static Technique>) -> anyhow::Result<Self> {
        attempt::enter_new(Namespace::Network).context("a network namespace for the self-test")?;
        loopback::set_up(&targets()).context("the loopback of the self-test")?;
        let program = std::env::current_exe()?;
        let root = tempfile::Builder::new().prefix("cordon-selftest-").tempdir()?;
        // Another user has to get to the programs.
        fs::set_permissions(root.path(), fs::Permissions::from_mode(0o711))?;
        let places = Places::new(Some(root.path()));
        let mount = cgroup::mount_point()?;
        let home = mount.join(own_cgroup()?);
        let cgroup = mount.join(format!("cordon-selftest-{}", std::process::id()));
        fs::create_dir(&cgroup).with_context(|| cgroup.display().to_string())?;
        let inherited = enter(&cgroup).and_then(|()| {
            let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None);
            enter(&home)?;
            Ok(socket?)
        });
        let inherited = inherited.inspect_err(|_| {
            let _removed = fs::remove_dir(&cgroup);
        })?;
        let mut rig = Self {
            program,
            root,
            places,
            cgroup,
            home,
            agent: None,
            inherited,
            in_force: InForce::default(),
            techniques,
            values: Vec::new(),
        };
        rig.list()?;
        rig.start()?;
        enter(&rig.cgroup)?;
        Ok(rig)
    }

    fn list(&mut self) -> anyhow::Result<()> {
        let mut lines = String::new();
        for technique in &self.techniques {
            let value = self.value(technique)?;
            lines.push_str(&format!("{value}\t{}\n", technique.name));
            self.values.push(value);
        }
        let settings = self.places.settings.parent().context("settings without a directory")?;
        fs::create_dir_all(settings)?;
        fs::write(settings.join("selftest.txt"), lines)?;
        fs::write(&self.places.settings, SETTINGS)?;
        Ok(())
    }

    fn value(&self, technique: &Technique) -> io::Result<String> {
        let hex = |digest: &[u8]| digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        Ok(match (technique.act, technique.listed_value()) {
            (_, Some(value)) => value,
            (Act::Exec { lists, .. }, None) => {
                let bytes = self.content(technique, lists, true)?;
                match lists {
                    Content::Md5 => hex(&Md5::digest(&bytes)),
                    Content::Sha1 => hex(&Sha1::digest(&bytes)),
                    Content::Sha256 | Content::Script | Content::Dynamic => hex(&Sha256::digest(&bytes)),
                }
            }
            (Act::Network { .. } | Act::Name { .. }, None) => String::new(),
        })
    }

    /// What is in the file that a technique runs: no other file has it.
    fn content(&self, technique: &Technique, lists: Content, listed: bool) -> io::Result<Vec<u8>> {
        let tag = format!("{} {listed} {}", technique.name, self.root.path().display());
        Ok(match lists {
            Content::Sha256 | Content::Sha1 | Content::Md5 => program::elf(&tag),
            Content::Script => program::script(&tag),
            Content::Dynamic => {
                let mut bytes = fs::read(DYNAMIC)?;
                bytes.extend_from_slice(tag.as_bytes());
                bytes
            }
        })
    }

    fn start(&mut self) -> anyhow::Result<()> {
        let log = self.root.path().join("agent.log");
        let mut agent = Command::new(&self.program);
        agent.args(["selftest", "--agent", "--root"]).arg(self.root.path()).arg("--cgroup").arg(&self.cgroup);
        agent.env_remove("NOTIFY_SOCKET").env_remove("WATCHDOG_USEC").env_remove("JOURNAL_STREAM");
        let agent = agent.stdin(Stdio::null()).stdout(Stdio::null()).stderr(fs::File::create(&log)?).spawn();
        let agent = self.agent.insert(agent.context("starting an agent to test")?);
        let end = Instant::now() + READY_WITHIN;
        loop {
            let ended = agent.try_wait()?;
            if ended.is_some() || Instant::now() > end {
                let how = ended.map_or_else(|| "was not ready in time".to_owned(), |how| format!("ended ({how})"));
                bail!("the agent under test {how}; it said:\n{}", fs::read_to_string(&log)?.trim_end());
            }
            if let Ok(Answer::Done(status)) = control::ask(&self.places.socket, &Request::Status) {
                self.in_force = InForce::of_status(&status).context("the agent's status has another form")?;
                return Ok(());
            }
            sleep(POLL);
        }
    }

    /// Tries all, calls `tried` after each, and looks their records up.
    ///
    /// # Errors
    /// An attempt cannot be started, or the journal cannot be read.
    pub fn run(&self, stopped: &Stopped, mut tried: impl FnMut(&Row)) -> anyhow::Result<Vec<Row>> {
        let mut rows = Vec::with_capacity(self.techniques.len());
        for technique in &self.techniques {
            if stopped.is_told() {
                break;
            }
            let control = self.fire(technique, false)?;
            let listed = (control == Ended::Passed).then(|| self.fire(technique, true)).transpose()?;
            let row = Row::new(technique, self.in_force.expect(technique), &control, listed.as_ref());
            tried(&row);
            rows.push(row);
        }
        self.look_up(&mut rows)?;
        Ok(rows)
    }

    fn fire(&self, technique: &Technique, listed: bool) -> anyhow::Result<Ended> {
        // A directory for each attempt: what one leaves behind must not help or hinder another.
        let place = self.root.path().join("files").join(technique.name).join(if listed { "listed" } else { "control" });
        let (file, dir) = (place.join("program"), place.join("work"));
        fs::create_dir_all(&dir)?;
        if let Act::Exec { lists, .. } = technique.act {
            program::write(&file, &self.content(technique, lists, listed)?)?;
        }
        let mut attempt = Command::new(&self.program);
        attempt.args(["selftest", "--fire", technique.name, "--file"]).arg(&file).arg("--dir").arg(&dir);
        if listed {
            attempt.arg("--listed");
        }
        attempt.stdin(Stdio::from(self.inherited.try_clone()?)).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut attempt = attempt.spawn().with_context(|| technique.name)?;
        let end = Instant::now() + FIRED_WITHIN;
        while attempt.try_wait()?.is_none() {
            if Instant::now() > end {
                attempt.kill()?;
                attempt.wait()?;
                return Ok(Ended::Silent);
            }
            sleep(Duration::from_millis(2));
        }
        let output: Output = attempt.wait_with_output()?;
        Ok(Ended::of(&output))
    }

    fn look_up(&self, rows: &mut [Row]) -> anyhow::Result<()> {
        let end = Instant::now() + RECORDED_WITHIN;
        loop {
            let records = Reader::open(&self.places.journal)?.records(&Query::default());
            let records: Vec<Finding> = records.collect::<Result<_, _>>()?;
            let of = |value: &str| records.iter().find(|record| record.indicator.value == value);
            let found: Vec<Option<&Finding>> = self.values.iter().map(|value| of(value)).collect();
            let is_awaited = |row: &Row| matches!(row.outcome, Outcome::Blocked | Outcome::Missed);
            let is_whole = rows.iter().zip(&found).all(|(row, found)| found.is_some() || !is_awaited(row));
            if is_whole || Instant::now() > end {
                for (row, found) in rows.iter_mut().zip(found) {
                    row.judge(found.map(|record| record.enforced_by.clone()));
                }
                return Ok(());
            }
            sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Rig {
    fn drop(&mut self) {
        // Each step is for itself: what cannot be undone must not keep the rest.
        let _home = enter(&self.home);
        if let Some(mut agent) = self.agent.take() {
            let _told = stop(&mut agent);
        }
        let _removed = unpin_all(&self.places.pins);
        let end = Instant::now() + STOPPED_WITHIN;
        // Attempts that were killed leave the cgroup a moment later.
        while fs::remove_dir(&self.cgroup).is_err() && Instant::now() < end {
            sleep(POLL);
        }
    }
}

fn stop(agent: &mut Child) -> io::Result<()> {
    if let Some(pid) = i32::try_from(agent.id()).ok().and_then(Pid::from_raw) {
        kill_process(pid, Signal::TERM)?;
    }
    let end = Instant::now() + STOPPED_WITHIN;
    while Instant::now() < end {
        if agent.try_wait()?.is_some() {
            return Ok(());
        }
        sleep(POLL);
    }
    agent.kill()?;
    agent.wait().map(drop)
}

/// This process's cgroup, below the mount point.
fn own_cgroup() -> io::Result<PathBuf> {
    let own = fs::read_to_string("/proc/self/cgroup")?;
    let own = own.lines().find_map(|line| line.strip_prefix("0::/"));
    own.map(PathBuf::from).ok_or_else(|| io::Error::other("this process is in no cgroup2"))
}

fn enter(cgroup: &Path) -> io::Result<()> {
    fs::write(cgroup.join("cgroup.procs"), std::process::id().to_string())
}
