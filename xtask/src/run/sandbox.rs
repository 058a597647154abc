//! Making the sandbox, and leaving the machine as it was.

use std::path::Path;
use std::process::Command;
use std::time::Duration;
use std::{env, process};

use anyhow::{Context, Result, bail};
use tempfile::TempDir;

use crate::cgroup::Cgroup;
use crate::tool;

const LIMIT: Duration = Duration::from_secs(120);

/// A cgroup and a temporary root; the namespaces come into being with [`Sandbox::run`] and end with it.
pub struct Sandbox {
    cgroup: Cgroup,
    root: TempDir,
}

impl Sandbox {
    /// Makes both, under names of their own.
    pub fn make() -> Result<Self> {
        let cgroup = Cgroup::make(&format!("cordon-demo-{}", process::id()))?;
        let root =
            tempfile::Builder::new().prefix("cordon-demo-").tempdir().context("cannot make a temporary folder")?;
        Ok(Self { cgroup, root })
    }

    /// Runs the demonstration inside; bounded in time. An interrupt reaches the processes inside through the terminal,
    /// and here only keeps the sandbox from being left behind.
    pub fn run(&self, cordon: &Path, intelligence: Option<&Path>) -> Result<()> {
        ctrlc::set_handler(|| eprintln!("xtask: stopping")).context("cannot handle interrupts")?;
        let myself = env::current_exe().context("cannot find xtask's own program")?;
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "--"]).arg(myself).arg("sandbox-demo");
        command.arg("--cordon").arg(cordon).arg("--root").arg(self.root.path()).arg("--cgroup").arg(self.cgroup.path());
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
        self.cgroup.remove()?;
        let place = self.root.path().to_path_buf();
        self.root.close().with_context(|| format!("cannot remove {}", place.display()))
    }
}
