//! Simulated hosts: all that an agent does on the bus (`agent/src/app/bus`, `agent/src/app/central`), without a kernel.
//!
//! One thing is other than in an agent: a look that fails is tried again after [`AGAIN`], not after the interval of the settings.

mod host;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use agent::kernel::probe::kernel_release;
use agent::policy::Enrolment;
use agent::settings::bus::Connection;
use anyhow::{Context, Result};
use tempfile::TempDir;
use tokio::runtime::Runtime;

use crate::hosts::{self, Tell};
use crate::organisation::Organisation;
use crate::server::Nats;
use host::Host;

/// After a look that failed.
const AGAIN: Duration = Duration::from_secs(5);
/// Where files are kept in memory: ten thousand hosts have ten thousand disks, and this machine has one.
const MEMORY: &str = "/dev/shm";

/// The hosts, gone when dropped.
pub struct Simulated {
    runtime: Runtime,
    fleet: Arc<Fleet>,
    /// How a host connects, but for its name.
    connection: Connection,
    _directory: TempDir,
}

/// What hosts have in common.
struct Fleet {
    enrolment: Enrolment,
    root: Vec<u8>,
    kernel: String,
    /// Of their state directories.
    directory: PathBuf,
    tell: Tell,
    failures: Failures,
}

/// What did not go as it should.
#[derive(Default)]
struct Failures {
    looks: AtomicU64,
    beats: AtomicU64,
    lost: AtomicU64,
    latest: Mutex<Option<String>>,
}

impl Failures {
    fn add(&self, count: impl Fn(&Self) -> &AtomicU64, why: impl Into<String>) {
        count(self).fetch_add(1, Ordering::Relaxed);
        *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.into());
    }
}

impl Simulated {
    /// None yet.
    pub fn new(nats: &Nats, acme: &Organisation, tell: Tell) -> Result<Self> {
        let place = if Path::new(MEMORY).is_dir() { PathBuf::from(MEMORY) } else { std::env::temp_dir() };
        let directory = tempfile::tempdir_in(place).context("cannot make a temporary directory")?;
        let root = fs::read(acme.root()).context("the root file")?;
        let fleet = Fleet {
            enrolment: acme.enrolment(),
            root,
            kernel: kernel_release(),
            directory: directory.path().to_owned(),
            tell,
            failures: Failures::default(),
        };
        Ok(Self {
            runtime: tokio::runtime::Builder::new_multi_thread().enable_all().build()?,
            fleet: Arc::new(fleet),
            connection: nats.connection("")?,
            _directory: directory,
        })
    }

    /// Starts this many at once, as after a failure of everything.
    pub fn start(&self, count: usize) {
        for number in 0..count {
            let name = hosts::simulated(number);
            let mut connection = Connection { host: Some(name.clone()), ..self.connection.clone() };
            connection.access.username = Some(name.clone());
            let fleet = Arc::clone(&self.fleet);
            self.runtime.spawn(async move {
                let failures = Arc::clone(&fleet);
                if let Err(error) = Host::run(fleet, &name, &connection).await {
                    failures.failures.add(|failures| &failures.lost, format!("{name}: {error:#}"));
                }
            });
        }
    }

    /// How often something did not go as it should; of the latest it is said why.
    pub fn failures(&self) -> [(&'static str, u64); 3] {
        let failures = &self.fleet.failures;
        if let Some(latest) = &*failures.latest.lock().unwrap_or_else(PoisonError::into_inner) {
            eprintln!("bench: the latest that went wrong at a simulated host: {latest}");
        }
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        [
            ("looks that failed", count(&failures.looks)),
            ("heartbeats that failed", count(&failures.beats)),
            ("connections lost or refused", count(&failures.lost)),
        ]
    }
}
