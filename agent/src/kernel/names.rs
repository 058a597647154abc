//! The hooks that look for names in packets: attached while a domain is listed, and gone while none is, for they run once
//! a packet.

use std::fs::File;
use std::time::Instant;

use agent_common::image::{self, Space};
use agent_common::limits::NAME_PORTS;
use agent_common::wire::{Hook, NameConfig};

use super::attach::remove_stale;
use super::load::NO_LOOPS;
use super::pin::{self, Layout};
use super::{Error, HookState, Kernel, Report};

/// `BPF_CGROUP_INET_INGRESS` and `BPF_CGROUP_INET_EGRESS`.
const INGRESS: u32 = 0;
pub(super) const EGRESS: u32 = 1;

/// All hooks that judge names.
pub const NAME_HOOKS: [Hook; 4] = [Hook::EgressDns, Hook::EgressTls, Hook::EgressHttp, Hook::IngressDns];

/// A program, its attach type, and the hooks whose names it goes by in records.
const PROGRAMS: [(&str, u32, &[Hook]); 2] = [
    ("name_egress", EGRESS, &[Hook::EgressDns, Hook::EgressTls, Hook::EgressHttp]),
    ("name_ingress", INGRESS, &[Hook::IngressDns]),
];

/// Where names are looked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NameSettings {
    /// Ports that DNS questions go to, at most [`NAME_PORTS`].
    pub dns_ports: Vec<u16>,
    /// Ports at which a TLS ClientHello is looked for; none for all.
    pub tls_ports: Vec<u16>,
    /// Ports at which HTTP requests are looked for.
    pub http_ports: Vec<u16>,
}

impl Default for NameSettings {
    fn default() -> Self {
        Self { dns_ports: vec![53], tls_ports: Vec::new(), http_ports: vec![80, 8080] }
    }
}

fn ports(wanted: &[u16]) -> [u16; NAME_PORTS] {
    let mut ports = [0; NAME_PORTS];
    for (to, from) in ports.iter_mut().zip(wanted) {
        *to = *from;
    }
    ports
}

impl Kernel {
    /// Tells the hooks where to look for names.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn configure_names(&self, settings: &NameSettings) -> Result<(), Error> {
        let config = NameConfig {
            dns_ports: ports(&settings.dns_ports),
            tls_ports: ports(&settings.tls_ports),
            http_ports: ports(&settings.http_ports),
        };
        let set = self.name_config.set(&0, &config);
        set.map_err(|source| Error::Bpf { what: "map NAME_CONFIG".to_owned(), source })
    }

    /// Attaches these hooks if the live image lists a domain and removes them if it does not; for after a publication.
    ///
    /// # Errors
    /// When a pin cannot be written or removed. A hook that this kernel refuses is in the report.
    pub fn follow_names(&mut self, report: &mut Report) -> Result<(), Error> {
        let wanted = self.lists_domains()?;
        let is_same = |hook: &Hook| match report.state(*hook) {
            Some(HookState::Attached { .. } | HookState::Unavailable { .. }) => wanted,
            Some(HookState::Unused { .. }) => !wanted,
            None => false,
        };
        if PROGRAMS.iter().flat_map(|(.., hooks)| hooks.iter()).all(is_same) {
            return Ok(());
        }
        let layout = pin::layout(&self.options.pin_dir);
        let cgroup = self.open_cgroup()?;
        self.attach_names(&layout, &cgroup, report)?;
        self.remember_links();
        self.protect_objects(&layout)
    }

    pub(super) fn attach_names(&mut self, layout: &Layout, cgroup: &File, report: &mut Report) -> Result<(), Error> {
        let wanted = self.lists_domains()?;
        for (name, attach_type, hooks) in PROGRAMS {
            let started = Instant::now();
            let state = if wanted && !self.offsets.has_loops {
                HookState::Unavailable { why: NO_LOOPS.to_owned() }
            } else if wanted {
                self.attach_cgroup(&layout.links.join(name), cgroup, name, attach_type)?
            } else {
                remove_stale(&layout.links.join(name))?;
                HookState::Unused { why: "no domain is listed".to_owned() }
            };
            for hook in hooks {
                report.set(*hook, state.clone());
            }
            if let Some(hook) = hooks.first() {
                self.note_cost(name, *hook, started, report);
            }
        }
        Ok(())
    }

    fn lists_domains(&self) -> Result<bool, Error> {
        match self.generations.current()? {
            Some(image) => Ok(image::holds(&**image, Space::Domain).unwrap_or(false)),
            None => Ok(false),
        }
    }
}
