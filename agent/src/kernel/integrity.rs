//! Whether the kernel still has what this agent put there: links with their programs, the configuration, the image.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::PoisonError;

use super::{Kernel, bpf, pin};

/// A pinned link: its id, its program's, and the cgroup that it is attached to (0 for none, or another kind of link).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Link {
    id: u32,
    program: u32,
    cgroup: u64,
}

/// The links below a directory, by name; one that cannot be opened is none.
fn links(directory: &Path) -> BTreeMap<String, Link> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let read = entries.filter_map(|entry| {
        let link = bpf::open_pin(&entry.path()).ok()?;
        let (id, program) = bpf::link_ids(link.as_fd()).ok()?;
        let cgroup = if bpf::is_cgroup_link(link.as_fd()) { bpf::link_cgroup(link.as_fd()).unwrap_or(0) } else { 0 };
        Some((entry.file_name().into_string().ok()?, Link { id, program, cgroup }))
    });
    read.collect()
}

impl Kernel {
    /// Takes the links as they are now for right; to be called whenever this agent has attached or detached one.
    pub(super) fn remember_links(&self) {
        let found = links(&pin::layout(&self.options.pin_dir).links);
        *self.links.lock().unwrap_or_else(PoisonError::into_inner) = found;
    }

    /// What somebody else has changed since this agent last wrote it: a link that is gone, detached, or has another program;
    /// the configuration; the image. Empty when all is as it should be. Ten system calls.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let found = links(&pin::layout(&self.options.pin_dir).links);
        let known = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        let mut changes: Vec<String> = known
            .iter()
            .filter_map(|(name, link)| match found.get(name) {
                None => Some(format!("the link {name} was removed")),
                Some(now) if now.id != link.id => Some(format!("the link {name} was replaced")),
                Some(now) if now.cgroup != link.cgroup => Some(format!("the link {name} was detached")),
                Some(now) if now.program != link.program => Some(format!("the link {name} has another program")),
                Some(_) => None,
            })
            .collect();
        drop(known);
        if !self.config_is_ours() {
            changes.push("the configuration was rewritten".into());
        }
        if !self.generations.is_ours() {
            changes.push("the image was replaced".into());
        }
        changes
    }
}
