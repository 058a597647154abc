//! The only reader of `/proc`, cgroupfs, passwd and of files to hash. What it cannot read it says is unknown.

use std::io;
use std::path::PathBuf;

pub mod cgroup;
pub mod device;
pub mod digest;
pub mod holders;
pub mod judge;
pub mod namespaces;
pub mod network;
pub mod packages;
pub mod privilege;
pub mod process;
pub mod users;

pub use crate::kernel::clock;
pub use cgroup::{CgroupPaths, container_of, unit_of};
pub use digest::{Algorithms, DigestCache, DigestError, Digested, Reuse};
pub use holders::{Holder, socket_holders};
pub use judge::{DigestVerdicts, ExecJudge, Others, Wanted};
pub use namespaces::{NetworkNamespace, network_namespaces};
pub use network::{NetworkIdentity, network_identity};
pub use packages::{ContentDigest, DPKG_INFO, Packages};
pub use privilege::missing_capabilities;
pub use process::{ProcessSnapshot, StartTick, running_processes, snapshot};
pub use users::{Users, group_id};

/// What the host calls itself, uname(2).
#[must_use]
pub fn name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// What of the host could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the host could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file of `/proc` does not have the form that proc(5) describes.
    #[error("cannot understand {path}: {source}")]
    Proc {
        /// Which.
        path: PathBuf,
        /// Where and why.
        source: procfs::ProcError,
    },
    /// There is no cgroup2 mount.
    #[error("no cgroup2 is mounted; mount one with `mount -t cgroup2 none /sys/fs/cgroup/unified`")]
    NoCgroup2,
}
