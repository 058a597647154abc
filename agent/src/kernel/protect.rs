//! Self-protection: where LSM programs are called, nobody but Cordon's own program takes it out of the kernel, writes its maps
//! or ends its agent, and who tries is told.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use agent_common::image::Seed;
use agent_common::limits::{PROTECTED, REFUSALS};
use agent_common::wire::{self, Attempt, Hook, ObjectKey, ObjectKind, Protection, RefusalKey};
use aya::Btf;

use super::attach::{HookState, Report, remove_stale};
use super::bpf::{self, Table};
use super::load::{Field, NO_LOOPS};
use super::pin::Layout;
use super::{Error, Kernel};
use crate::tables::path_key;

/// What these programs read of the kernel; all of it is needed.
pub(super) const PROTECT_FIELDS: [Field; 14] = [
    ("OFF_MAP_ID", &[("bpf_map", "id", 0)]),
    ("OFF_PROG_AUX", &[("bpf_prog", "aux", 0)]),
    ("OFF_AUX_ID", &[("bpf_prog_aux", "id", 0)]),
    ("OFF_LINK_ID", &[("bpf_link", "id", 0)]),
    ("OFF_TASK_FILES", &[("task_struct", "files", 0)]),
    ("OFF_FILES_TABLE", &[("files_struct", "fdt", 0)]),
    ("OFF_TABLE_SIZE", &[("fdtable", "max_fds", 0)]),
    ("OFF_TABLE_FILES", &[("fdtable", "fd", 0)]),
    ("OFF_FILE_PRIVATE", &[("file", "private_data", 0)]),
    ("OFF_DENTRY_INODE", &[("dentry", "d_inode", 0)]),
    ("OFF_SB_ACTIVE", &[("super_block", "s_active", 0)]),
    ("OFF_MOUNT_NS", &[("mount", "mnt_ns", 0)]),
    ("OFF_NS_COMMON", &[("mnt_namespace", "ns", 0)]),
    ("OFF_NS_NUMBER", &[("ns_common", "inum", 0)]),
];

/// Program, which is also the name of its pin, and LSM hook.
const PROGRAMS: [(&str, &str); 11] = [
    ("protect_bpf", "bpf"),
    ("protect_bpf_map", "bpf_map"),
    ("protect_bpf_prog", "bpf_prog"),
    ("protect_inode_unlink", "inode_unlink"),
    ("protect_inode_rmdir", "inode_rmdir"),
    ("protect_inode_rename", "inode_rename"),
    ("protect_sb_umount", "sb_umount"),
    ("protect_task_kill", "task_kill"),
    ("protect_file_send_sigiotask", "file_send_sigiotask"),
    ("protect_ptrace_access_check", "ptrace_access_check"),
    ("protect_task_setrlimit", "task_setrlimit"),
];

/// The program that may do everything: the one at this path of this file system, whoever runs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnProgram {
    /// Where it is.
    pub path: PathBuf,
    /// `super_block.s_dev` in the kernel's encoding.
    pub device: u64,
    /// Random, so that nobody makes a path with the same key.
    pub seed: Seed,
}

/// What was refused to somebody since it was last asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What was tried.
    pub attempt: Attempt,
    /// How often.
    pub count: u64,
    /// Thread group id.
    pub pid: u32,
    /// Its parent's.
    pub ppid: u32,
    /// Real user id.
    pub uid: u32,
    /// The task's name.
    pub comm: String,
    /// Name of the program's file, without the folders above it.
    pub program: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { count, pid, ppid, uid, comm, program, .. } = self;
        let what = describe(self.attempt);
        write!(f, "process {pid} ({comm}, program {program}, user {uid}, child of {ppid}) tried to {what}")?;
        if *count > 1 { write!(f, ", {count} times") } else { Ok(()) }
    }
}

/// An attempt, in words that go after "tried to".
#[must_use]
pub const fn describe(attempt: Attempt) -> &'static str {
    match attempt {
        Attempt::RemovePin => "remove or replace a pin",
        Attempt::Unmount => "unmount the file system of the pins",
        Attempt::OpenMap => "open a map",
        Attempt::OpenProgram => "open a program",
        Attempt::OpenLink => "open a link",
        Attempt::ChangeLink => "detach or update a link",
        Attempt::Signal => "send the agent a signal",
        Attempt::Trace => "trace the agent",
        Attempt::Limit => "set a limit on the agent",
    }
}

/// The agent's thread group id and start, as the kernel half compares them.
fn agent() -> Result<(u32, u64), Error> {
    let failed = |error: procfs::ProcError| Error::Bpf {
        what: "cannot read /proc/self/stat".to_owned(),
        source: io::Error::other(error),
    };
    let stat = procfs::process::Process::myself().and_then(|process| process.stat()).map_err(failed)?;
    Ok((stat.pid.cast_unsigned(), stat.starttime))
}

/// Number of the mount namespace of process 1; 0 when this process may not ask.
fn host_mounts() -> u32 {
    match fs::metadata("/proc/1/ns/mnt") {
        Ok(namespace) => u32::try_from(namespace.ino()).unwrap_or(0),
        Err(error) => {
            tracing::warn!(%error, "/proc/1/ns/mnt: only the last mount of the pins' file system is protected");
            0
        }
    }
}

/// The kernel's encoding of a bpf file system's device, whose major number is 0.
const fn anonymous_device(stat_device: u64) -> u64 {
    ((stat_device >> 12) & 0xffff_ff00) | (stat_device & 0xff)
}

impl Kernel {
    /// Attaches all of these programs, or none. Called when every other hook is attached.
    pub(super) fn attach_protection(&mut self, layout: &Layout, report: &mut Report) -> Result<(), Error> {
        let state = match self.protection_unavailable() {
            Some(state) => state,
            None => {
                self.describe_protection()?;
                self.attach_protectors(layout, report)?
            }
        };
        if !matches!(state, HookState::Attached { .. }) {
            self.write_protection(&Protection::default())?;
            for (program, _) in PROGRAMS {
                remove_stale(&layout.links.join(program))?;
            }
        }
        report.hooks.push((Hook::SelfProtection, state));
        Ok(())
    }

    fn protection_unavailable(&self) -> Option<HookState> {
        let unavailable = |why: String| Some(HookState::Unavailable { why });
        let missing = &self.offsets.missing_for_protection;
        if self.options.protection.is_none() {
            Some(HookState::Unused { why: "self_protection.enabled is false in the settings".to_owned() })
        } else if !self.options.layers.lsm {
            unavailable("this kernel calls no LSM program; `cordon doctor` says why".to_owned())
        } else if !self.offsets.has_loops {
            unavailable(NO_LOOPS.to_owned())
        } else if !missing.is_empty() {
            unavailable(format!("this kernel's BTF has no {}", missing.join(", ")))
        } else {
            None
        }
    }

    /// Says what is protected and from whom, before anything is refused.
    fn describe_protection(&self) -> Result<(), Error> {
        let Some(own) = &self.options.protection else { return Ok(()) };
        let pin_dir = &self.options.pin_dir;
        let pins = fs::metadata(pin_dir).map_err(|source| Error::Path {
            what: "cannot look at",
            path: pin_dir.clone(),
            source,
        })?;
        let (agent_pid, agent_start_ticks) = agent()?;
        self.write_protection(&Protection {
            program: path_key(own.path.as_os_str().as_bytes(), own.seed),
            seed: [own.seed.0, own.seed.1],
            program_device: own.device,
            pins_device: anonymous_device(pins.dev()),
            pins_inode: pins.ino(),
            agent_start_ticks,
            agent_pid,
            host_mounts: host_mounts(),
        })
    }

    fn write_protection(&self, protection: &Protection) -> Result<(), Error> {
        let set = self.protection.set(&0, protection);
        set.map_err(|source| Error::Bpf { what: "map PROTECTION".to_owned(), source })
    }

    fn attach_protectors(&mut self, layout: &Layout, report: &mut Report) -> Result<HookState, Error> {
        let btf = match Btf::from_sys_fs() {
            Ok(btf) => btf,
            Err(error) => {
                return Ok(HookState::Unavailable { why: format!("the kernel's BTF cannot be read: {error}") });
            }
        };
        let mut costs = Report::default();
        let mut is_adopted = true;
        for (program, hook) in PROGRAMS {
            let started = Instant::now();
            match self.attach_tracing_with(&btf, program, hook)? {
                Ok(link) => {
                    let state = Self::keep(&link, &layout.links.join(program))?;
                    is_adopted &= state == HookState::Attached { adopted: true };
                }
                Err(why) => return Ok(HookState::Unavailable { why: format!("lsm/{hook}: {why}") }),
            }
            self.note_cost(program, Hook::SelfProtection, started, &mut costs);
        }
        // They are small and much alike; one line says what the largest takes.
        report.verified.extend(costs.verified.into_iter().max_by_key(|(_, instructions, _)| *instructions));
        Ok(HookState::Attached { adopted: is_adopted })
    }

    /// Tells the kernel half which BPF objects are this agent's, now that its links are as it wants them.
    pub(super) fn protect_objects(&self, layout: &Layout) -> Result<(), Error> {
        let failed = |source| Error::Bpf { what: "map PROTECTED".to_owned(), source };
        let wanted = if self.options.protection.is_some() { self.objects(layout) } else { BTreeSet::new() };
        for stale in self.protected.keys(PROTECTED).map_err(failed)?.iter().filter(|key| !wanted.contains(key)) {
            self.protected.remove(stale).map_err(failed)?;
        }
        for key in &wanted {
            self.protected.set(key, &1).map_err(failed)?;
        }
        Ok(())
    }

    /// Pinned maps, pinned links and the programs behind these, and what is in the kernel only as long as one of them is.
    fn objects(&self, layout: &Layout) -> BTreeSet<ObjectKey> {
        let key = |kind, id| ObjectKey { kind: kind as u32, id };
        let maps = pinned(&layout.maps).filter_map(|path| bpf::open_pin(&path).ok());
        let maps = maps.filter_map(|map| Some(key(ObjectKind::Map, bpf::map_shape(map.as_fd()).ok()?.id)));
        let links = pinned(&layout.links).filter_map(|path| {
            let (link, program) = bpf::link_ids(bpf::open_pin(&path).ok()?.as_fd()).ok()?;
            Some([key(ObjectKind::Link, link), key(ObjectKind::Program, program)])
        });
        maps.chain(links.flatten()).collect()
    }

    /// Takes what self-protection refused since the last call, at most [`REFUSALS`].
    ///
    /// # Errors
    /// The map cannot be read or written.
    pub fn take_refusals(&self) -> Result<Vec<Refusal>, Error> {
        let failed = |source| Error::Bpf { what: "map REFUSALS".to_owned(), source };
        let mut refusals = Vec::new();
        for key in self.refusals.keys(REFUSALS).map_err(failed)? {
            let Some(value) = self.refusals.get(&key).map_err(failed)? else { continue };
            self.refusals.remove(&key).map_err(failed)?;
            refusals.extend(refusal(&key, &value));
        }
        Ok(refusals)
    }
}

/// Ends what the pins below `maps` protect at once, where this process may: the kernel takes seconds to end a program whose
/// last pin is gone, and whoever unpins is done then. Where nothing is protected there is nothing to end.
pub(super) fn end(maps: &Path) {
    const MAP: &str = "PROTECTION";
    let Ok(map) = bpf::open_pin(&maps.join(MAP)) else { return };
    let ended = Table::<u32, Protection>::open(map, MAP).map_err(io::Error::other);
    if let Err(error) = ended.and_then(|map| map.set(&0, &Protection::default())) {
        tracing::warn!(%error, "self-protection ends a moment after its pins");
    }
}

fn refusal(key: &RefusalKey, value: &wire::Refusal) -> Option<Refusal> {
    Some(Refusal {
        attempt: Attempt::from_u32(key.attempt)?,
        count: value.count,
        pid: key.pid,
        ppid: value.ppid,
        uid: value.uid,
        comm: text(&value.comm),
        program: text(&value.program),
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

fn pinned(directory: &Path) -> impl Iterator<Item = PathBuf> {
    fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_who_tried_what_and_how_often() {
        let key = RefusalKey { start_boot_ns: 7, pid: 4711, attempt: Attempt::Signal as u32 };
        let mut value = wire::Refusal { count: 1, uid: 0, ppid: 12, comm: [0; 16], program: [0; 32] };
        value.comm[..4].copy_from_slice(b"kill");
        value.program[..7].copy_from_slice(b"busybox");
        let told = refusal(&key, &value).unwrap();
        assert_eq!(
            told.to_string(),
            "process 4711 (kill, program busybox, user 0, child of 12) tried to send the agent a signal"
        );
        value.count = 3;
        assert!(refusal(&key, &value).unwrap().to_string().ends_with("a signal, 3 times"));
        assert_eq!(refusal(&RefusalKey { attempt: 0, ..key }, &value), None);
    }

    #[test]
    fn every_attempt_has_a_number_and_words() {
        for number in 1..=9 {
            let attempt = Attempt::from_u32(number).unwrap();
            assert_eq!(attempt as u32, number);
            assert!(!describe(attempt).is_empty());
        }
        assert_eq!(Attempt::from_u32(10), None);
    }

    #[test]
    fn an_anonymous_device_is_its_minor_number() {
        // gnu_dev_makedev(0, 0x12345)
        assert_eq!(anonymous_device(0x1230_0045), 0x1_2345);
        assert_eq!(anonymous_device(0x2d), 0x2d);
    }
}
