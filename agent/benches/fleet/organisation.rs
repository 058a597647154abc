//! The organisation: its keys, its policies and its orders, by the command line alone.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use agent::policy::Enrolment;
use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::command::{CORDON, cordon};
use crate::server::Nats;

/// Who gives orders.
const OPERATOR: &str = "alice";
/// Mebibytes of records on the bus.
const FINDINGS_MIB: &str = "64";

/// Signs policies and gives orders.
pub struct Organisation {
    directory: TempDir,
    bus: PathBuf,
    /// The lines of the policy that name the operator.
    operator: String,
}

impl Organisation {
    /// Makes its keys and the streams on the bus, and pushes a first policy that blocks nothing yet.
    pub fn new(nats: &Nats) -> Result<Self> {
        let directory = tempfile::tempdir().context("cannot make a temporary directory")?;
        let mut acme = Self { directory, bus: nats.settings(), operator: String::new() };
        acme.cordon(|command| command.args(["policy", "keygen", "-o"]).arg(acme.path("keys")))?;
        acme.operator = acme.cordon(|command| {
            command.args(["policy", "keygen", "--operator", OPERATOR, "-o"]).arg(acme.path("operator.pem"))
        })?;
        acme.cordon(|command| command.args(["fleet", "init", "--findings-mib", FINDINGS_MIB, "--bus"]).arg(&acme.bus))?;
        acme.sign(1, &[])?;
        acme.push()?;
        Ok(acme)
    }

    /// Whose policy hosts take.
    pub fn enrolment(&self) -> Enrolment {
        Enrolment { tenant: "acme".to_owned(), group: "web".to_owned() }
    }

    /// The root file that hosts are enrolled with.
    pub fn root(&self) -> PathBuf {
        self.path("keys/1.root.json")
    }

    /// Signs a policy that blocks these addresses.
    pub fn sign(&self, serial: u64, addresses: &[String]) -> Result<()> {
        let list: String = addresses.iter().map(|address| format!("{address}\n")).collect();
        // A list without a line is refused: nobody reaches this address.
        fs::write(self.path("list.txt"), format!("127.44.0.0\n{list}")).context("list.txt")?;
        let policy = format!(
            "schema = 1\ntenant = \"acme\"\ngroup = \"web\"\nserial = {serial}\nmode = \"enforce\"\n\
             requires = [\"orders\"]\n{}\n\
             [[intelligence]]\nname = \"list\"\nfile = \"list.txt\"\nallow_reserved = true\n",
            self.operator
        );
        fs::write(self.path("web.toml"), policy).context("web.toml")?;
        self.cordon(|command| {
            command.args(["policy", "sign"]).arg(self.path("web.toml")).arg("--keys").arg(self.path("keys"));
            command.arg("-o").arg(self.path("repository"))
        })?;
        Ok(())
    }

    /// Pushes what was signed last.
    pub fn push(&self) -> Result<()> {
        self.cordon(|command| {
            command.args(["policy", "push"]).arg(self.path("repository")).arg("--bus").arg(&self.bus)
        })?;
        Ok(())
    }

    /// Orders all hosts to block an address.
    pub fn block(&self, address: &str) -> Result<()> {
        self.cordon(|command| {
            command.args(["block", address, "--fleet", "--for", "24h", "--reason", "seen on one of them"]);
            command.args(["--tenant", "acme", "--key"]).arg(self.path("operator.pem")).arg("--bus").arg(&self.bus)
        })?;
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// No settings of this machine are looked at.
    fn cordon(&self, arguments: impl Fn(&mut Command) -> &mut Command) -> Result<String> {
        let mut command = Command::new(CORDON);
        cordon(arguments(command.arg("--root").arg(self.directory.path())))
    }
}
