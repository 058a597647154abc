//! Making the sandbox, and leaving the machine as it was.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, process, thread};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::tool;

#[cfg(test)]
mod tests;

const LIMIT: Duration = Duration::from_secs(120);

/// A cgroup and a temporary root; the namespaces come into being with [`Sandbox::run`] and end with it.
pub struct Sandbox {
    cgroup: PathBuf,
    root: TempDir,
}

impl Sandbox {
    /// Makes both, under names of their own.
    pub fn make() -> Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        let Some(cgroups) = cgroup2(&mounts) else {
            bail!(
                "no cgroup2 file system is mounted, and Cordon enforces by cgroup: mount one at /sys/fs/cgroup/unified"
            );
        };
        let cgroup = cgroups.join(format!("cordon-demo-{}", process::id()));
        let root =
            tempfile::Builder::new().prefix("cordon-demo-").tempdir().context("cannot make a temporary folder")?;
        fs::create_dir(&cgroup).with_context(|| format!("cannot make the cgroup {}", cgroup.display()))?;
        Ok(Self { cgroup, root })
    }

    /// Runs the demonstration inside; bounded in time. An interrupt reaches the processes inside through the terminal,
    /// and here only keeps the sandbox from being left behind.
    pub fn run(&self, cordon: &Path, intelligence: Option<&Path>) -> Result<()> {
        ctrlc::set_handler(|| eprintln!("xtask: stopping")).context("cannot handle interrupts")?;
        let myself = env::current_exe().context("cannot find xtask's own program")?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "--"]).arg(myself).arg("sandbox-demo");
        command.arg("--cordon").arg(cordon).arg("--root").arg(self.root.path()).arg("--cgroup").arg(&self.cgroup);
        if let Some(intelligence) = intelligence {
            let whole =
                intelligence.canonicalize().with_context(|| format!("cannot read {}", intelligence.display()))?;
            command.arg("--intel").arg(whole);
        }
        let mut child = tool::start(&mut command, "the sandbox")?;
        let Some(status) = tool::wait_within(&mut child, LIMIT)? else {
            child.kill().context("cannot end the sandbox")?;
            child.wait().context("cannot wait for the sandbox")?;
            bail!("the demonstration did not end within {} s and was stopped", LIMIT.as_secs());
        };
        if !status.success() {
            bail!("the demonstration failed; what went wrong is said above");
        }
        Ok(())
    }

    /// Ends what still runs in the cgroup and removes it; the temporary root goes with `self`.
    pub fn remove(self) -> Result<()> {
        let end = Instant::now() + Duration::from_secs(5);
        // cgroup.kill is of Linux 5.14; before that there is nothing left to kill unless the demonstration failed.
        let _ = fs::write(self.cgroup.join("cgroup.kill"), "1");
        while let Err(error) = fs::remove_dir(&self.cgroup) {
            if Instant::now() > end {
                return Err(error).with_context(|| format!("cannot remove the cgroup {}", self.cgroup.display()));
            }
            thread::sleep(Duration::from_millis(20));
        }
        let place = self.root.path().to_path_buf();
        self.root.close().with_context(|| format!("cannot remove {}", place.display()))
    }
}

/// Where cgroup2 is mounted, in the words of /proc/self/mounts.
fn cgroup2(mounts: &str) -> Option<PathBuf> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ');
        let (_, folder, kind) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "cgroup2").then(|| PathBuf::from(folder))
    })
}
