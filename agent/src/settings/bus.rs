//! `[bus]`: how the bus is reached, and as whom.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use crate::http::{Access, Credential};
use crate::intel::source::Age;

/// Between two heartbeats, unless said otherwise.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// Heartbeats may not come more often than this.
const SHORTEST: Duration = Duration::from_secs(1);

/// `[bus]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConnectionFile {
    /// `tls://HOST:PORT`; one is enough, more are tried in turn. `nats://` is the same beyond this machine.
    #[serde(default)]
    pub servers: Vec<Url>,
    /// A file with a JWT and its nkey seed, as `nsc` makes it.
    pub credentials: Option<Credential>,
    /// A file with an nkey seed.
    pub nkey: Option<Credential>,
    /// What this host is called there; its hostname unless said otherwise.
    pub host: Option<String>,
    /// 30 seconds unless said otherwise.
    pub heartbeat: Option<Age>,
    /// Whether records are sent there; true unless said otherwise.
    pub findings: Option<bool>,
    /// User and password, token, client certificate, authorities.
    pub access: Option<Access>,
}

/// How the bus is reached, and as whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// At least one.
    pub servers: Vec<Url>,
    /// A JWT with its seed.
    pub credentials: Option<Credential>,
    /// A seed.
    pub nkey: Option<Credential>,
    /// What this host is called there; `None` for its hostname.
    pub host: Option<String>,
    /// Between two heartbeats.
    pub heartbeat: Duration,
    /// Whether records are sent there.
    pub findings: bool,
    /// User and password, token, client certificate, authorities.
    pub access: Access,
}

impl ConnectionFile {
    /// Lays `later` over this: its keys win.
    pub(super) fn merge(&mut self, later: Self) {
        if !later.servers.is_empty() {
            self.servers = later.servers;
        }
        self.credentials = later.credentials.or(self.credentials.take());
        self.nkey = later.nkey.or(self.nkey.take());
        self.host = later.host.or(self.host.take());
        self.heartbeat = later.heartbeat.or(self.heartbeat);
        self.findings = later.findings.or(self.findings);
        self.access = later.access.or(self.access.take());
    }

    /// What it means, with every path as `move_to` says.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub fn meaning(self, move_to: impl Fn(PathBuf) -> PathBuf) -> Result<Connection, String> {
        if cfg!(not(feature = "bus")) {
            return Err("`bus`: this build of Cordon was made without its message bus (feature `bus`)".to_owned());
        }
        let access = self.access.unwrap_or_default();
        if self.servers.is_empty() {
            return Err("`bus` needs `servers`".to_owned());
        }
        for server in &self.servers {
            check(server, &access).map_err(|why| format!("`bus.servers`: `{server}`: {why}"))?;
        }
        if access.header.is_some() {
            return Err("`bus.access.header` is for web servers; a token goes into `token` alone".to_owned());
        }
        let ways = [&self.credentials, &self.nkey, &access.token].into_iter().flatten().count();
        if ways + usize::from(access.username.is_some()) > 1 {
            return Err("`bus`: one of `credentials`, `nkey`, `access.token` and `access.username`".to_owned());
        }
        if let Some(host) = self.host.as_ref().filter(|host| !is_host(host)) {
            return Err(format!("`bus.host`: `{host}` is no name: 1 to 253 of a-z, 0-9, `-`, `_` and `.`"));
        }
        let heartbeat = self.heartbeat.map_or(HEARTBEAT, Age::unsigned).max(SHORTEST);
        Ok(Connection {
            servers: self.servers,
            credentials: self.credentials.map(|credential| credential.relocated(&move_to)),
            nkey: self.nkey.map(|nkey| nkey.relocated(&move_to)),
            host: self.host,
            heartbeat,
            findings: self.findings.unwrap_or(true),
            access: access.relocated(move_to),
        })
    }
}

impl Connection {
    /// Whether what is sent may be read by nobody on the way: it may where there is no way.
    #[must_use]
    pub fn needs_tls(&self) -> bool {
        self.servers.iter().any(|server| server.scheme() == "tls" || !is_here(server))
            && !(self.access.plain_http && self.servers.iter().all(|server| server.scheme() == "nats"))
    }

    /// The servers, for people.
    #[must_use]
    pub fn names(&self) -> String {
        self.servers.iter().map(Url::as_str).collect::<Vec<_>>().join(", ")
    }
}

/// A hostname as the bus has it: part of a subject.
#[must_use]
pub fn is_host(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_".contains(&byte))
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

fn check(server: &Url, access: &Access) -> Result<(), String> {
    if !matches!(server.scheme(), "nats" | "tls") || server.host_str().is_none_or(str::is_empty) {
        return Err("it is no address of a NATS server; write tls://HOST:4222".to_owned());
    }
    if !server.username().is_empty() || server.password().is_some() {
        return Err("a URL holds no credentials; put them into `bus.access`, or use `bus.credentials`".to_owned());
    }
    if !matches!(server.path(), "" | "/") || server.query().is_some() || server.fragment().is_some() {
        return Err("nothing follows the port".to_owned());
    }
    access.check_pairs()
}

/// Whether it is on this machine. The URL's scheme is none that `Url` knows, so it takes addresses for names.
fn is_here(server: &Url) -> bool {
    let host = server.host_str().unwrap_or_default();
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meaning(text: &str) -> Result<Connection, String> {
        toml::from_str::<ConnectionFile>(text).map_err(|error| error.to_string())?.meaning(|path| path)
    }

    #[test]
    fn tls_is_asked_of_whoever_is_not_here() {
        for (servers, expected) in [
            (r#"["nats://127.0.0.1:4222"]"#, false),
            (r#"["nats://localhost:4222", "nats://[::1]:4222"]"#, false),
            (r#"["tls://127.0.0.1:4222"]"#, true),
            (r#"["nats://bus.example:4222"]"#, true),
            (r#"["nats://127.0.0.1:4222", "nats://192.0.2.1:4222"]"#, true),
        ] {
            let connection = meaning(&format!("servers = {servers}")).unwrap();
            assert_eq!(connection.needs_tls(), expected, "{servers}");
        }
        let plain = meaning("servers = [\"nats://bus.example:4222\"]\naccess.plain_http = true").unwrap();
        assert!(!plain.needs_tls(), "the operator said so");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (text, expected) in [
            ("servers = []", "needs `servers`"),
            ("servers = [\"https://bus.example\"]", "no address of a NATS server"),
            ("servers = [\"tls://a:b@bus.example\"]", "holds no credentials"),
            ("servers = [\"tls://bus.example/x\"]", "nothing follows the port"),
            ("servers = [\"tls://bus.example\"]\nhost = \"Web 1\"", "is no name"),
            ("servers = [\"tls://bus.example\"]\nhost = \"a..b\"", "is no name"),
            ("servers = [\"tls://bus.example\"]\nnkey = \"a\"\ncredentials = \"b\"", "one of"),
            ("servers = [\"tls://bus.example\"]\naccess.username = \"a\"", "go together"),
        ] {
            let error = meaning(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}
