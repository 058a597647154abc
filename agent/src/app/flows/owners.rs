//! Whose flows are.

use std::collections::{HashMap, HashSet};

use super::in_cgroupfs;
use crate::app::examine::task;
use crate::event::{ProcessKey, Task};
use crate::host::{Error, Holder, ProcessSnapshot, cgroup, snapshot, socket_holders};
use crate::kernel::sock_diag::Flow;

/// A process that holds sockets.
pub struct Owner {
    /// As it was when the flows were listed.
    pub process: ProcessSnapshot,
    /// Its cgroup2 id; 0 for unknown.
    cgroup_id: u64,
}

/// Who holds the sockets of some flows. Each process is read once, however many flows it has.
pub struct Holders {
    by_inode: HashMap<u64, Vec<Holder>>,
    processes: HashMap<u32, Owner>,
}

impl Holders {
    /// Of the sockets with these inodes.
    ///
    /// # Errors
    /// `/proc` cannot be read.
    pub fn of(inodes: &HashSet<u64>) -> Result<Self, Error> {
        let by_inode = socket_holders(inodes)?;
        let mut processes = HashMap::new();
        for holder in by_inode.values().flatten() {
            if !processes.contains_key(&holder.pid)
                && let Ok(Some(process)) = snapshot(holder.pid)
            {
                let directory = process.cgroup.as_deref().and_then(in_cgroupfs);
                let cgroup_id = directory.and_then(|directory| cgroup::id_of(&directory).ok()).unwrap_or(0);
                processes.insert(holder.pid, Owner { process, cgroup_id });
            }
        }
        Ok(Self { by_inode, processes })
    }

    /// Those of one flow, the process that started first before the others.
    pub fn owners(&self, flow: &Flow) -> Owners<'_> {
        let holders = flow.inode.and_then(|inode| self.by_inode.get(&inode));
        let known =
            holders.into_iter().flatten().filter_map(|holder| Some((*holder, self.processes.get(&holder.pid)?)));
        let mut owners: Vec<_> = known.collect();
        owners.sort_by_key(|(holder, owner)| (owner.process.start, *holder));
        Owners(owners)
    }
}

/// The processes that hold one socket.
pub struct Owners<'a>(Vec<(Holder, &'a Owner)>);

impl Owners<'_> {
    /// Each with a descriptor of the socket.
    pub fn iter(&self) -> impl Iterator<Item = (Holder, &Owner)> {
        self.0.iter().map(|(holder, owner)| (*holder, *owner))
    }

    /// Who a record names; nobody has pid 0.
    pub fn task(&self) -> Task {
        match self.0.first() {
            Some((_, owner)) => task(&owner.process, owner.cgroup_id),
            None => Task::known_by(ProcessKey { pid: 0, start_boot_ns: 0 }),
        }
    }
}
