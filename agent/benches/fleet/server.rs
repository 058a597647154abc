//! A NATS server on loopback with a user for each host, who may do what docs/fleet.md says and no more.

use std::fs::{self, File};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use agent::http::{Access, Credential};
use agent::settings::bus::Connection;
use anyhow::{Context, Result, bail};
use serde::Deserialize;
use tempfile::TempDir;

use crate::command::Stop;
use crate::usage::Usage;

/// Until the server listens.
const PATIENCE: Duration = Duration::from_secs(30);
/// Between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Who may do everything in the organisation's account.
const ADMIN: &str = "admin";

/// The server, stopped when dropped.
pub struct Nats {
    child: Child,
    directory: TempDir,
    port: u16,
    monitor: u16,
}

/// What a server counted since its start. Bytes are those of subjects, headers and payloads, not those that TCP adds.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub struct Counted {
    /// Messages from clients.
    pub in_msgs: u64,
    /// Messages to clients.
    pub out_msgs: u64,
    /// Bytes from clients.
    pub in_bytes: u64,
    /// Bytes to clients.
    pub out_bytes: u64,
    /// Clients that were cut off because they read too slowly.
    pub slow_consumers: u64,
}

impl std::ops::Sub for Counted {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            in_msgs: self.in_msgs - before.in_msgs,
            out_msgs: self.out_msgs - before.out_msgs,
            in_bytes: self.in_bytes - before.in_bytes,
            out_bytes: self.out_bytes - before.out_bytes,
            slow_consumers: self.slow_consumers - before.slow_consumers,
        }
    }
}

impl Nats {
    /// Starts `program` below `folder`, and waits until it listens. Whatever it stores is on the disk before it says so.
    pub fn start(program: &Path, folder: &Path, hosts: &[String], stop: &Stop) -> Result<Self> {
        let directory = tempfile::tempdir_in(folder).context("cannot make a temporary directory")?;
        let (port, monitor) = (free_port()?, free_port()?);
        let configuration = directory.path().join("nats.conf");
        fs::write(&configuration, configured(port, monitor, directory.path(), hosts)).context("nats.conf")?;
        secret(&directory.path().join("password"))?;
        let log = File::create(directory.path().join("log")).context("the server's log")?;
        let mut command = Command::new(program);
        command.arg("-c").arg(&configuration).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let mut server = Self { child, directory, port, monitor };
        fs::write(server.settings(), server.keys(ADMIN)).context("the settings of whoever looks after the bus")?;
        stop.wait_for("nats-server", PATIENCE, || server.listens())?;
        Ok(server)
    }

    fn listens(&mut self) -> Result<bool> {
        if let Some(status) = self.child.try_wait()? {
            let said = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            bail!("nats-server ended with {status}: {said}");
        }
        Ok([self.port, self.monitor].iter().all(|port| TcpStream::connect(("127.0.0.1", *port)).is_ok()))
    }

    /// The file for `--bus`.
    pub fn settings(&self) -> PathBuf {
        self.directory.path().join("admin.toml")
    }

    /// The keys of `[bus]` that say where the server is and who asks.
    pub fn keys(&self, user: &str) -> String {
        let password = self.directory.path().join("password");
        format!(
            "servers = [\"nats://127.0.0.1:{}\"]\naccess = {{ username = \"{user}\", password = \"{}\" }}\n",
            self.port,
            password.display()
        )
    }

    /// The same as an agent understands it, for a host.
    pub fn connection(&self, host: &str) -> Result<Connection> {
        let password = self.directory.path().join("password").to_string_lossy().into_owned();
        Ok(Connection {
            servers: vec![format!("nats://127.0.0.1:{}", self.port).parse()?],
            credentials: None,
            nkey: None,
            host: Some(host.to_owned()),
            heartbeat: HEARTBEAT,
            findings: true,
            access: Access {
                username: Some(host.to_owned()),
                password: Some(Credential::new(password)),
                ..Access::default()
            },
        })
    }

    /// What it counted.
    pub fn counted(&self) -> Result<Counted> {
        let url = format!("http://127.0.0.1:{}/varz", self.monitor);
        let text = ureq::get(&url).call().and_then(|mut answer| answer.body_mut().read_to_string());
        serde_json::from_str(&text.with_context(|| url.clone())?).context(url)
    }

    /// What it took of this machine.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.child.id())
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        let _ended = self.child.kill().and_then(|()| self.child.wait());
    }
}

fn configured(port: u16, monitor: u16, directory: &Path, hosts: &[String]) -> String {
    let user = |host: &String| {
        format!(
            "      {{ user: {host}, password: {PASSWORD}, permissions {{\n\
             \x20       subscribe: [\"_INBOX.{host}.>\", \"cordon.news.>\"]\n\
             \x20       publish: [\"$JS.API.DIRECT.GET.KV_cordon-policy.>\", \"$JS.API.STREAM.MSG.GET.KV_cordon-policy\",\n\
             \x20                 \"$KV.cordon-hosts.{host}\", \"cordon.findings.{host}\"] }} }}\n"
        )
    };
    format!(
        "listen: \"127.0.0.1:{port}\"\nhttp: \"127.0.0.1:{monitor}\"\n\
         jetstream {{ store_dir: \"{}\", sync_interval: always }}\n\
         accounts {{\n  acme {{\n    jetstream: enabled\n    users: [\n      {{ user: {ADMIN}, password: {PASSWORD} }}\n{}    ]\n  }}\n}}\n",
        directory.join("store").display(),
        hosts.iter().map(user).collect::<String>()
    )
}

/// Of everybody: who connects is told apart by the name, and only this machine reaches the server.
const PASSWORD: &str = "simulated";

fn secret(path: &Path) -> Result<()> {
    use std::io::Write;
    let file = File::options().write(true).create_new(true).mode(0o600).open(path);
    let written = file.and_then(|mut file| file.write_all(PASSWORD.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0").context("no free port")?.local_addr()?.port())
}
