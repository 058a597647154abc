//! The network hooks behind connect and sendmsg: what these cannot see, or what leads around them.

use std::fs::File;
use std::time::Instant;

use agent_common::image::Action;
use agent_common::wire::Hook;

use super::attach::{HookState, Report, not_asked_for, remove_stale};
use super::load::Field;
use super::pin::Layout;
use super::{Error, Kernel};

/// What the settings say of sockets, whatever is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketRules {
    /// Source routes that lead over no listed address.
    pub source_routes: Action,
    /// The making of raw sockets.
    pub raw_sockets: Action,
    /// Questions, hellos and requests whose name cannot be read.
    pub unread_names: Action,
}

impl Default for SocketRules {
    fn default() -> Self {
        Self { source_routes: Action::Block, raw_sockets: Action::Allow, unread_names: Action::Allow }
    }
}

/// Which of these hooks are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Layers {
    /// `cgroup_skb/egress`: where each packet goes is looked up, whatever made it.
    pub egress: bool,
    /// `cgroup_skb/ingress`: who connects to this host is looked up.
    pub ingress: bool,
    /// The making of raw sockets is judged.
    pub raw_sockets: bool,
    /// LSM programs are called here: they judge what cgroups are not asked about.
    pub lsm: bool,
}

impl Default for Layers {
    fn default() -> Self {
        Self { egress: true, ingress: true, raw_sockets: true, lsm: false }
    }
}

const NOT_ASKED_FOR: &str = "nothing in the settings asks for it";

/// What LSM programs read of sockets. Of the last two an older kernel has none; cgroups are not told apart then.
pub(super) const SOCKET_FIELDS: [Field; 10] = [
    ("OFF_SOCKET_SK", &[("socket", "sk", 0)]),
    ("OFF_SOCK_FAMILY", &[("sock_common", "skc_family", 0)]),
    ("OFF_SOCK_TYPE", &[("sock", "sk_type", 0)]),
    ("OFF_SOCK_PROTOCOL", &[("sock", "sk_protocol", 0)]),
    ("OFF_SOCK_CGROUP", &[("sock", "sk_cgrp_data", 0)]),
    ("OFF_CGROUP_NODE", &[("cgroup", "kn", 0)]),
    ("OFF_NODE_ID", &[("kernfs_node", "id", 0)]),
    ("OFF_MSG_NAME", &[("msghdr", "msg_name", 0)]),
    ("OFF_CGROUP_POINTER", &[("sock_cgroup_data", "cgroup", 0)]),
    ("OFF_CGROUP_ANCESTORS", &[("cgroup", "ancestors", 0)]),
];
/// Of [`SOCKET_FIELDS`], those that may be missing.
pub(super) const OPTIONAL_SOCKET_FIELDS: [&str; 2] = ["OFF_CGROUP_POINTER", "OFF_CGROUP_ANCESTORS"];

/// Programs for one hook, best first; attach type (`enum bpf_attach_type`), pin, hook.
struct Layer {
    programs: &'static [&'static str],
    attach_type: u32,
    link: &'static str,
    hook: Hook,
}

/// The hooks of these layers; those that are not asked for have no program.
const fn hooks(layers: Layers) -> [Layer; 4] {
    let makers: &[&str] = match (layers.egress || layers.ingress, layers.raw_sockets) {
        (true, true) => &["sock_create_remembering", "sock_create"],
        (true, false) => &["sock_create_remembering"],
        (false, true) => &["sock_create"],
        (false, false) => &[],
    };
    [
        Layer { programs: &["setsockopt"], attach_type: 22, link: "setsockopt", hook: Hook::Setsockopt },
        Layer { programs: makers, attach_type: 2, link: "sock_create", hook: Hook::SockCreate },
        Layer {
            programs: if layers.egress { &["egress"] } else { &[] },
            attach_type: 1,
            link: "egress",
            hook: Hook::Egress,
        },
        Layer {
            programs: if layers.ingress { &["ingress"] } else { &[] },
            attach_type: 0,
            link: "ingress",
            hook: Hook::Ingress,
        },
    ]
}

impl Kernel {
    /// Attaches those that are asked for, and takes away what a former daemon left of the others.
    pub(super) fn attach_layers(&mut self, layout: &Layout, cgroup: &File, report: &mut Report) -> Result<(), Error> {
        for Layer { programs, attach_type, link, hook } in hooks(self.options.layers) {
            let started = Instant::now();
            let path = layout.links.join(link);
            let mut state = HookState::Unused { why: NOT_ASKED_FOR.to_owned() };
            for program in programs {
                state = self.attach_cgroup(&path, cgroup, program, attach_type)?;
                if matches!(state, HookState::Attached { .. }) {
                    self.note_cost(program, hook, started, report);
                    break;
                }
            }
            if !matches!(state, HookState::Attached { .. }) {
                remove_stale(&path)?;
            }
            report.hooks.push((hook, state));
        }
        self.attach_lsm_layers(layout, report)
    }

    fn attach_lsm_layers(&mut self, layout: &Layout, report: &mut Report) -> Result<(), Error> {
        let Layers { lsm, raw_sockets, .. } = self.options.layers;
        let missing = self.offsets.missing_for_sockets.join(", ");
        for (program, hook, is_asked_for) in [
            ("socket_connect", Hook::SocketConnect, true),
            ("socket_sendmsg", Hook::SocketSendmsg, true),
            ("socket_create", Hook::SocketCreate, raw_sockets),
        ] {
            let started = Instant::now();
            let path = layout.links.join(program);
            let state = if !lsm {
                not_asked_for()
            } else if !is_asked_for {
                HookState::Unused { why: NOT_ASKED_FOR.to_owned() }
            } else if !missing.is_empty() {
                HookState::Unavailable { why: format!("this kernel's BTF has no {missing}") }
            } else {
                match self.attach_tracing(program, program)? {
                    Ok(link) => Self::keep(&link, &path)?,
                    Err(why) => HookState::Unavailable { why },
                }
            };
            if matches!(state, HookState::Attached { .. }) {
                self.note_cost(program, hook, started, report);
            } else {
                remove_stale(&path)?;
            }
            report.hooks.push((hook, state));
        }
        Ok(())
    }
}
