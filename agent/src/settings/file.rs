//! What a settings file says, key by key.

use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Error;
use super::bus::ConnectionFile;
use super::network::NetworkFile;
use super::policy::PolicyFile;
use super::sightings::SightingsFile;
use crate::intel::source::Source;
pub use crate::policy::Mode;

/// One settings file or drop-in. A key that is absent leaves what an earlier file said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SettingsFile {
    /// See [`Mode`].
    pub mode: Option<Mode>,
    /// `[[source]]`.
    #[serde(default)]
    pub source: Vec<Source>,
    /// `[never_block]`.
    pub never_block: Option<NeverBlockFile>,
    /// `[exec]`.
    pub exec: Option<ExecFile>,
    /// `[network]`.
    pub network: Option<NetworkFile>,
    /// `[dns]`.
    pub dns: Option<PortsFile>,
    /// `[tls]`.
    pub tls: Option<PortsFile>,
    /// `[http]`.
    pub http: Option<PortsFile>,
    /// `[self_protection]`.
    pub self_protection: Option<SelfProtectionFile>,
    /// `[journal]`.
    pub journal: Option<JournalFile>,
    /// `[telemetry]`.
    pub telemetry: Option<TelemetryFile>,
    /// `[metrics]`.
    pub metrics: Option<MetricsFile>,
    /// `[sightings]`.
    pub sightings: Option<SightingsFile>,
    /// `[policy]`.
    pub policy: Option<PolicyFile>,
    /// `[bus]`.
    pub bus: Option<ConnectionFile>,
    /// cgroup2 directory to enforce.
    pub cgroup: Option<PathBuf>,
    /// `tracing` filter directives, as in `info,agent::kernel=debug`.
    pub log: Option<String>,
}

/// `[never_block]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NeverBlockFile {
    /// Addresses, prefixes and domains.
    pub values: Vec<String>,
    /// MISP warning lists: files or directories.
    pub warninglists: Vec<PathBuf>,
    /// Leave this host's resolvers, gateways, own addresses and the servers of its policy alone; true unless said otherwise.
    pub host: Option<bool>,
    /// 0..=32; 8 unless said otherwise.
    pub min_prefix_v4: Option<u8>,
    /// 0..=128; 19 unless said otherwise.
    pub min_prefix_v6: Option<u8>,
    /// Leave popular sites alone; true unless said otherwise.
    pub popular_domains: Option<bool>,
    /// Leave what this host's packages installed alone; true unless said otherwise.
    pub packages: Option<bool>,
}

/// `[exec]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExecFile {
    /// Bytes; 256 MiB unless said otherwise.
    pub max_file_bytes: Option<u64>,
    /// Milliseconds; 2000 unless said otherwise.
    pub deadline_ms: Option<u64>,
    /// Load the exec hooks of the kernel half; true unless said otherwise.
    pub hooks: Option<bool>,
    /// Allow the fanotify fallback; true unless said otherwise.
    pub guard: Option<bool>,
}

/// `[dns]`, `[tls]` and `[http]`: where names are looked for in packets.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PortsFile {
    /// At most 8. Unless said otherwise 53 for DNS, all for TLS, and 80 and 8080 for HTTP.
    pub ports: Option<Vec<u16>>,
}

/// `[self_protection]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SelfProtectionFile {
    /// Let nobody but Cordon itself take it out of the kernel or end its agent; false unless said otherwise.
    pub enabled: Option<bool>,
}

/// `[journal]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalFile {
    /// Bytes of all segments together; 256 MiB unless said otherwise.
    pub total_bytes: Option<u64>,
    /// Bytes of one segment; an eighth of the total unless said otherwise.
    pub segment_bytes: Option<u64>,
    /// Days; no bound unless said otherwise.
    pub max_age_days: Option<u32>,
    /// File for JSON lines.
    pub mirror: Option<PathBuf>,
    /// Hand each hit on to journald; false unless said otherwise.
    pub journald: Option<bool>,
}

/// `[telemetry]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryFile {
    /// Keep whom programs reach and what is executed; false unless said otherwise. Taken at the start of the agent.
    pub contacts: Option<bool>,
    /// Bytes of the file that this is kept in, at least 1 MiB; 64 MiB unless said otherwise.
    pub max_bytes: Option<u64>,
}

/// `[metrics]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetricsFile {
    /// Path of a Unix socket, or loopback address and port; nowhere unless said otherwise.
    pub listen: Option<String>,
}

impl SettingsFile {
    /// Parses one file.
    ///
    /// # Errors
    /// [`Error::Syntax`] with line, column and, for an unknown key, the nearest known one.
    pub fn parse(text: &str, path: &Path) -> Result<Self, Error> {
        toml::from_str(text).map_err(|error| {
            let offset = error.span().map_or(0, |span| span.start).min(text.len());
            let before = &text.as_bytes()[..offset];
            let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
            Error::Syntax {
                path: path.to_owned(),
                line: before.iter().filter(|&&byte| byte == b'\n').count() + 1,
                column: offset - line_start + 1,
                message: with_suggestion(error.message()),
            }
        })
    }

    /// Lays `later` over this: its keys win, its sources and never-block values are added.
    pub fn merge(&mut self, later: Self) {
        fn lay<T>(under: &mut Option<T>, over: Option<T>) {
            if over.is_some() {
                *under = over;
            }
        }
        lay(&mut self.mode, later.mode);
        self.source.extend(later.source);
        lay(&mut self.cgroup, later.cgroup);
        lay(&mut self.log, later.log);
        if let Some(over) = later.never_block {
            let under = self.never_block.get_or_insert_default();
            under.values.extend(over.values);
            under.warninglists.extend(over.warninglists);
            lay(&mut under.host, over.host);
            lay(&mut under.min_prefix_v4, over.min_prefix_v4);
            lay(&mut under.min_prefix_v6, over.min_prefix_v6);
            lay(&mut under.popular_domains, over.popular_domains);
            lay(&mut under.packages, over.packages);
        }
        if let Some(over) = later.exec {
            let under = self.exec.get_or_insert_default();
            lay(&mut under.max_file_bytes, over.max_file_bytes);
            lay(&mut under.deadline_ms, over.deadline_ms);
            lay(&mut under.guard, over.guard);
            lay(&mut under.hooks, over.hooks);
        }
        if let Some(over) = later.network {
            self.network.get_or_insert_default().merge(over);
        }
        for (under, over) in [(&mut self.dns, later.dns), (&mut self.tls, later.tls), (&mut self.http, later.http)] {
            if let Some(over) = over {
                lay(&mut under.get_or_insert_default().ports, over.ports);
            }
        }
        if let Some(over) = later.self_protection {
            lay(&mut self.self_protection.get_or_insert_default().enabled, over.enabled);
        }
        if let Some(over) = later.sightings {
            self.sightings.get_or_insert_default().merge(over);
        }
        if let Some(over) = later.bus {
            self.bus.get_or_insert_default().merge(over);
        }
        if let Some(over) = later.policy {
            self.policy.get_or_insert_default().merge(over);
        }
        if let Some(over) = later.telemetry {
            let under = self.telemetry.get_or_insert_default();
            lay(&mut under.contacts, over.contacts);
            lay(&mut under.max_bytes, over.max_bytes);
        }
        if let Some(over) = later.metrics {
            lay(&mut self.metrics.get_or_insert_default().listen, over.listen);
        }
        if let Some(over) = later.journal {
            let under = self.journal.get_or_insert_default();
            lay(&mut under.total_bytes, over.total_bytes);
            lay(&mut under.segment_bytes, over.segment_bytes);
            lay(&mut under.max_age_days, over.max_age_days);
            lay(&mut under.mirror, over.mirror);
            lay(&mut under.journald, over.journald);
        }
    }
}

/// serde lists the known keys in backticks after the unknown one; the nearest is what was probably meant.
fn with_suggestion(message: &str) -> String {
    let mut names = message.split('`').skip(1).step_by(2);
    if !message.starts_with("unknown ") {
        return message.to_owned();
    }
    let Some(unknown) = names.next() else { return message.to_owned() };
    let nearest = names
        .map(|known| (strsim::jaro_winkler(unknown, known), known))
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .filter(|&(likeness, _)| likeness > 0.7);
    match nearest {
        Some((_, known)) => format!("{message}; did you mean `{known}`?"),
        None => message.to_owned(),
    }
}
