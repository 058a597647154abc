//! One TOML file and its drop-ins → [`Settings`], validated once.
//!
//! Two steps: [`file::SettingsFile`] is what was said, each key optional, each file by itself so that an error names file, line
//! and column; [`Settings`] is what it means, complete and consistent.

pub mod bus;
pub mod file;
pub mod network;
pub mod places;
mod policy;
pub mod sightings;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

use crate::intel::source::Source;
use crate::policy::document::BUNDLED;
use crate::policy::is_name;
use crate::report::metrics::{Listen, ListenParseError};
use crate::report::sightings::Sightings;
use bus::Connection;
use file::PortsFile;
pub use file::{Mode, SettingsFile};
pub use network::Network;
pub use places::Places;
pub use policy::{From, Policy, WhenOver};

/// Everything that can be set, with defaults filled in.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether a matching `block` indicator blocks.
    pub mode: Mode,
    /// Where intelligence comes from, in the order of the files.
    pub sources: Vec<Source>,
    /// What is never blocked.
    pub never_block: NeverBlock,
    /// Exec by hash.
    pub exec: Exec,
    /// Sockets, besides where they go.
    pub network: Network,
    /// Names in packets.
    pub names: Names,
    /// Whether nobody but Cordon itself may take it out of the kernel or end its agent, where LSM programs are called.
    pub self_protection: bool,
    /// The local log.
    pub journal: Journal,
    /// What is kept besides hits.
    pub telemetry: Telemetry,
    /// Where metrics are served; nowhere unless somebody says so.
    pub metrics: Option<Listen>,
    /// What is told to others; `None` unless somebody is named.
    pub sightings: Option<Sightings>,
    /// The message bus; `None` for none.
    pub bus: Option<Connection>,
    /// Whose policy is taken; `None` for nobody's.
    pub policy: Option<Policy>,
    /// cgroup2 directory that is enforced; `None` for the root of the hierarchy.
    pub cgroup: Option<PathBuf>,
    /// `tracing` filter directives.
    pub log: String,
}

/// What always wins over every indicator.
#[derive(Clone, Debug, Default)]
pub struct NeverBlock {
    /// Addresses, prefixes and domains.
    pub values: Vec<String>,
    /// MISP warning lists: files or directories.
    pub warninglists: Vec<PathBuf>,
    /// Leave the resolvers, gateways and addresses of this host alone.
    pub host: bool,
    /// IPv4 prefixes shorter than this are refused as `too_broad`.
    pub min_prefix_v4: u8,
    /// IPv6 prefixes shorter than this are refused as `too_broad`.
    pub min_prefix_v6: u8,
    /// Leave popular sites alone.
    pub popular_domains: bool,
    /// Leave what this host's packages installed alone.
    pub packages: bool,
}

/// Exec by hash.
#[derive(Clone, Debug)]
pub struct Exec {
    /// Larger files are not hashed, and a fault says so.
    pub max_file_bytes: u64,
    /// After this long an exec that waits for its digest goes on, and a fault says so.
    pub deadline: Duration,
    /// Whether the exec hooks of the kernel half are loaded.
    pub hooks: bool,
    /// Whether the fanotify fallback may be used where the kernel allows no LSM program.
    pub guard: bool,
}

/// The ports at which names are looked for in packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Names {
    /// Ports that DNS questions go to.
    pub dns: Vec<u16>,
    /// Ports at which a TLS ClientHello is looked for; none for all.
    pub tls: Vec<u16>,
    /// Ports at which HTTP requests are looked for.
    pub http: Vec<u16>,
}

/// Bounds of the local log.
#[derive(Clone, Debug)]
pub struct Journal {
    /// All segments together.
    pub total_bytes: u64,
    /// One segment.
    pub segment_bytes: u64,
    /// Older segments are deleted.
    pub max_age: Option<Duration>,
    /// JSON lines for a log shipper.
    pub mirror: Option<PathBuf>,
    /// Whether each hit is handed on to journald.
    pub journald: bool,
}

/// What is kept besides hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telemetry {
    /// Whether whom programs reach and what is executed is kept, to be compared with intelligence that arrives later.
    pub contacts: bool,
    /// Of the file that this is kept in.
    pub max_bytes: u64,
}

/// Why settings are refused.
#[derive(Debug, Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Anyone who can write it decides what is blocked.
    #[error("{path}: refused, because {why}; run: chown root:root {path} && chmod go-w {path}")]
    Untrusted {
        /// Which.
        path: PathBuf,
        /// Who could have written it.
        why: String,
    },
    /// Not TOML, an unknown key or a wrong type.
    #[error("{path}:{line}:{column}: {message}")]
    Syntax {
        /// Which.
        path: PathBuf,
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What and what to do.
        message: String,
    },
    /// Valid by itself, but not with the rest.
    #[error("{path}: {message}")]
    Meaning {
        /// Which.
        path: PathBuf,
        /// What and what to do.
        message: String,
    },
}

impl Settings {
    /// Reads `cordon.toml` (missing is fine: defaults) and the drop-ins in lexical order; a later file overrides single keys
    /// and adds sources.
    ///
    /// # Errors
    /// [`enum@Error`], naming the file and, for syntax, line and column.
    pub fn load(places: &Places) -> Result<Self, Error> {
        let mut said = SettingsFile::default();
        let mut origins = Vec::new();
        for path in files(places)? {
            check_trusted(&path)?;
            let text = fs::read_to_string(&path).map_err(|source| Error::Read { path: path.clone(), source })?;
            let one = SettingsFile::parse(&text, &path)?;
            origins.extend(one.source.iter().map(|_| path.clone()));
            said.merge(one);
        }
        Self::from_said(said, &origins, places)
    }

    /// The hosts from which the organisation's policy comes: addresses or names.
    #[must_use]
    pub fn upstreams(&self) -> Vec<String> {
        let bus = self.bus.iter().flat_map(|bus| &bus.servers);
        let policy = self.policy.iter().filter_map(|policy| match &policy.from {
            From::Url(url) => Some(url),
            From::Directory(_) | From::Bus => None,
        });
        let hosts = bus.chain(policy).filter_map(url::Url::host_str);
        hosts.map(|host| host.trim_start_matches('[').trim_end_matches(']').to_owned()).collect()
    }

    /// What `said` means. `origins` names the file of each source.
    fn from_said(said: SettingsFile, origins: &[PathBuf], places: &Places) -> Result<Self, Error> {
        let defaults = file::NeverBlockFile::default();
        for (index, (source, path)) in said.source.iter().zip(origins).enumerate() {
            let invalid = |message: String| Error::Meaning { path: path.clone(), message };
            if source.name.starts_with(BUNDLED) {
                return Err(invalid(format!(
                    "source `{}`: names that begin with `{BUNDLED}` are those of intelligence that comes with a policy",
                    source.name
                )));
            }
            if !is_name(&source.name) {
                return Err(invalid(format!(
                    "source `{}`: a name is 1 to 64 of a-z, 0-9, `-`, `_` and `.`, and does not start with `.`",
                    source.name
                )));
            }
            if said.source[..index].iter().any(|other| other.name == source.name) {
                return Err(invalid(format!("source `{}` is there twice; rename one", source.name)));
            }
            source.check().map_err(|why| invalid(format!("source `{}`: {why}", source.name)))?;
        }
        let sources: Vec<Source> = said.source.into_iter().map(|source| places.relocate(source)).collect();
        let sightings = said.sightings.filter(|said| !said.to.is_empty());
        let wrong = |message: String| Error::Meaning { path: places.settings.clone(), message };
        let sightings = sightings.map(|said| said.meaning(&sources, places)).transpose().map_err(wrong)?;
        let bus = said.bus.map(|said| said.meaning(|path| places.path(path))).transpose().map_err(wrong)?;
        let policy = said.policy.map(|said| said.meaning(places, bus.is_some())).transpose().map_err(wrong)?;
        let names = names(said.dns.unwrap_or_default(), said.tls.unwrap_or_default(), said.http.unwrap_or_default())
            .map_err(wrong)?;
        let listen = said.metrics.unwrap_or_default().listen;
        let metrics = listen.map(|listen| listen.parse()).transpose();
        let metrics = metrics.map_err(|error: ListenParseError| wrong(error.to_string()))?;
        let never = said.never_block.unwrap_or(defaults);
        let exec = said.exec.unwrap_or_default();
        let journal = said.journal.unwrap_or_default();
        let telemetry = said.telemetry.unwrap_or_default();
        let total_bytes = journal.total_bytes.unwrap_or(256 << 20);
        Ok(Self {
            mode: said.mode.unwrap_or(Mode::Monitor),
            sources,
            never_block: NeverBlock {
                values: never.values,
                warninglists: never.warninglists,
                host: never.host.unwrap_or(true),
                min_prefix_v4: never.min_prefix_v4.unwrap_or(8),
                min_prefix_v6: never.min_prefix_v6.unwrap_or(19),
                popular_domains: never.popular_domains.unwrap_or(true),
                packages: never.packages.unwrap_or(true),
            },
            exec: Exec {
                max_file_bytes: exec.max_file_bytes.unwrap_or(256 << 20),
                deadline: Duration::from_millis(exec.deadline_ms.unwrap_or(2_000)),
                hooks: exec.hooks.unwrap_or(true),
                guard: exec.guard.unwrap_or(true),
            },
            network: said.network.unwrap_or_default().into(),
            names,
            self_protection: said.self_protection.and_then(|said| said.enabled).unwrap_or(false),
            journal: Journal {
                total_bytes,
                segment_bytes: journal.segment_bytes.unwrap_or(total_bytes / 8).max(1 << 20),
                max_age: journal.max_age_days.map(|days| Duration::from_secs(u64::from(days) * 86_400)),
                mirror: journal.mirror,
                journald: journal.journald.unwrap_or(false),
            },
            telemetry: Telemetry {
                contacts: telemetry.contacts.unwrap_or(false),
                max_bytes: telemetry.max_bytes.unwrap_or(64 << 20).max(1 << 20),
            },
            metrics,
            sightings,
            bus,
            policy,
            cgroup: said.cgroup,
            log: said.log.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// Ports of one protocol that names are looked for at: the kernel half has room for so many.
const MOST_PORTS: usize = 8;

fn names(dns: PortsFile, tls: PortsFile, http: PortsFile) -> Result<Names, String> {
    Ok(Names {
        dns: checked_ports("dns.ports", dns.ports, &[53])?,
        tls: checked_ports("tls.ports", tls.ports, &[])?,
        http: checked_ports("http.ports", http.ports, &[80, 8080])?,
    })
}

fn checked_ports(key: &str, said: Option<Vec<u16>>, otherwise: &[u16]) -> Result<Vec<u16>, String> {
    let ports = said.unwrap_or_else(|| otherwise.to_vec());
    if ports.len() > MOST_PORTS || ports.contains(&0) {
        return Err(format!("{key}: at most {MOST_PORTS} ports, each from 1 to 65535"));
    }
    Ok(ports)
}

/// The main file, if there is one, and the drop-ins in lexical order.
fn files(places: &Places) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    if places.settings.exists() {
        found.push(places.settings.clone());
    }
    let entries = match fs::read_dir(&places.drop_ins) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(source) => return Err(Error::Read { path: places.drop_ins.clone(), source }),
    };
    let mut drop_ins = Vec::new();
    for entry in entries {
        let path = entry.map_err(|source| Error::Read { path: places.drop_ins.clone(), source })?.path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            drop_ins.push(path);
        }
    }
    drop_ins.sort();
    found.extend(drop_ins);
    Ok(found)
}

/// Whoever can write the settings decides what is blocked, so that must be root alone (or the user of an unprivileged agent).
fn check_trusted(path: &Path) -> Result<(), Error> {
    let metadata = fs::metadata(path).map_err(|source| Error::Read { path: path.to_owned(), source })?;
    let own = fs::metadata("/proc/self").map_or(0, |process| process.uid());
    let untrusted = |why: String| Err(Error::Untrusted { path: path.to_owned(), why });
    if metadata.uid() != 0 && metadata.uid() != own {
        return untrusted(format!("it belongs to user {}", metadata.uid()));
    }
    if metadata.mode() & 0o022 != 0 {
        return untrusted(format!("its mode {:04o} lets others write it", metadata.mode() & 0o7777));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
