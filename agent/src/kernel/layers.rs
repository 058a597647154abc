//! The network hooks behind connect and sendmsg: what these cannot see, or what leads around them.

use std::fs::File;
use std::time::Instant;

use agent_common::image::Action;
use agent_common::wire::Hook;

use super::attach::{HookState, Report, remove_stale};
use super::pin::Layout;
use super::{Error, Kernel};

/// What the settings say of sockets, whatever is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRules {
    /// Source routes that lead over no listed address.
    pub source_routes: Action,
    /// The making of raw sockets.
    pub raw_sockets: Action,
}

impl Default for SocketRules {
    fn default() -> Self {
        Self { source_routes: Action::Block, raw_sockets: Action::Allow }
    }
}

/// Which of these hooks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// `cgroup/sock_create`: raw sockets are judged.
    pub sock_create: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Self { sock_create: true }
    }
}

const OFF: &str = "switched off in the settings";

/// Program, attach type (`enum bpf_attach_type`), hook, and whether it is asked for.
const fn hooks(layers: Layers) -> [(&'static str, u32, Hook, bool); 2] {
    [("setsockopt", 22, Hook::Setsockopt, true), ("sock_create", 2, Hook::SockCreate, layers.sock_create)]
}

impl Kernel {
    /// Attaches those that are asked for, and takes away what a former daemon left of the others.
    pub(super) fn attach_layers(&mut self, layout: &Layout, cgroup: &File, report: &mut Report) -> Result<(), Error> {
        for (name, attach_type, hook, is_asked_for) in hooks(self.options.layers) {
            let started = Instant::now();
            let state = if is_asked_for {
                self.attach_cgroup(layout, cgroup, name, attach_type)?
            } else {
                remove_stale(&layout.links.join(name))?;
                HookState::Unused { why: OFF.to_owned() }
            };
            report.hooks.push((hook, state));
            self.note_cost(name, hook, started, report);
        }
        Ok(())
    }
}
