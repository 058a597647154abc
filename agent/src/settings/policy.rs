//! `[policy]`: whose policy this host takes, and from where.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use url::Url;

use super::Places;
use crate::http::Access;
use crate::intel::source::Age;
use crate::policy::{Enrolment, is_name};

/// Between two looks, unless said otherwise.
const INTERVAL: Duration = Duration::from_secs(60);
/// The message bus, as `from` names it.
const BUS: &str = "bus";
/// Bytes of a policy and its intelligence, unless said otherwise.
const MAX_BYTES: u64 = 256 << 20;

/// What becomes of what a policy blocks once its lease is over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum WhenOver {
    /// It stays in force.
    #[default]
    Keep,
    /// It is reported, and no longer blocked.
    Report,
}

/// `[policy]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PolicyFile {
    /// The root file that `cordon policy keygen` made.
    pub root: Option<PathBuf>,
    /// The organisation.
    pub tenant: Option<String>,
    /// The group of hosts.
    pub group: Option<String>,
    /// A directory, a URL, or `bus`.
    pub from: Option<String>,
    /// How its server is reached.
    pub access: Option<Access>,
    /// A minute unless said otherwise.
    pub interval: Option<Age>,
    /// Never over unless said otherwise.
    pub lease: Option<Age>,
    /// `keep` unless said otherwise.
    pub after_lease: Option<WhenOver>,
    /// 256 MiB unless said otherwise.
    pub max_bytes: Option<u64>,
}

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum From {
    /// On this machine, or mounted.
    Directory(PathBuf),
    /// On a server; ends in `/`.
    Url(Url),
    /// On the message bus, see `[bus]`.
    Bus,
}

impl std::fmt::Display for From {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Directory(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
            Self::Bus => f.write_str(BUS),
        }
    }
}

/// Whose policy this host takes, and from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The pinned root file.
    pub root: PathBuf,
    /// Whose.
    pub enrolment: Enrolment,
    /// Where from.
    pub from: From,
    /// How its server is reached.
    pub access: Access,
    /// Between two looks.
    pub interval: Duration,
    /// How long after a look that succeeded the policy holds without another one.
    pub lease: Option<Age>,
    /// What then.
    pub after_lease: WhenOver,
    /// Of a policy and its intelligence.
    pub max_bytes: u64,
}

impl PolicyFile {
    /// Lays `later` over this.
    pub(super) fn merge(&mut self, later: Self) {
        self.root = later.root.or(self.root.take());
        self.tenant = later.tenant.or(self.tenant.take());
        self.group = later.group.or(self.group.take());
        self.from = later.from.or(self.from.take());
        self.access = later.access.or(self.access.take());
        self.interval = later.interval.or(self.interval);
        self.lease = later.lease.or(self.lease);
        self.after_lease = later.after_lease.or(self.after_lease);
        self.max_bytes = later.max_bytes.or(self.max_bytes);
    }

    /// What it means.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) fn meaning(self, places: &Places, has_bus: bool) -> Result<Policy, String> {
        let (Some(root), Some(tenant), Some(group), Some(from)) = (self.root, self.tenant, self.group, self.from)
        else {
            return Err("`policy` needs `root`, `tenant`, `group` and `from`".to_owned());
        };
        for (key, name) in [("tenant", &tenant), ("group", &group)] {
            if !is_name(name) {
                return Err(format!("`policy.{key}`: `{name}` is no name: 1 to 64 of a-z, 0-9, `-`, `_` and `.`"));
            }
        }
        let access = self.access.unwrap_or_default();
        let from = match from.as_str() {
            BUS if has_bus => From::Bus,
            BUS => return Err("`policy.from` is `bus`, and there is no `[bus]`".to_owned()),
            url if url.contains("://") => From::Url(base(url, &access)?),
            path => From::Directory(places.path(PathBuf::from(path))),
        };
        Ok(Policy {
            root: places.path(root),
            enrolment: Enrolment { tenant, group },
            from,
            access: access.relocated(|path| places.path(path)),
            interval: self.interval.map_or(INTERVAL, Age::unsigned),
            lease: self.lease,
            after_lease: self.after_lease.unwrap_or_default(),
            max_bytes: self.max_bytes.unwrap_or(MAX_BYTES),
        })
    }
}

/// A URL that names of files can be put behind.
fn base(text: &str, access: &Access) -> Result<Url, String> {
    let mut url: Url = text.parse().map_err(|error| format!("`policy.from`: `{text}`: {error}"))?;
    if !url.path().ends_with('/') {
        let path = format!("{}/", url.path());
        url.set_path(&path);
    }
    access.check(&url).map_err(|why| format!("`policy.from`: {why}"))?;
    Ok(url)
}
