//! Loading the kernel half: offsets from BTF, maps new or adopted, each program for itself.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use agent_common::image::Action;
use agent_common::wire::{
    Config, Contact, ContactKey, Counter, FileDigests, FileKey, FileStamp, Fold, FoldKey, HitKey, Mode, NameConfig,
    ObjectKey, Protection, Refusal, RefusalKey, SocketMemory,
};
use aya::maps::{Map, MapData, PerCpuArray};
use aya::{Ebpf, EbpfLoader};
use aya_log::EbpfLogger;
use tracing::level_filters::LevelFilter;

use super::bpf::{self, Table};
use super::btf::{self, Structures};
use super::folds::Folds;
use super::integrity::Link;
use super::layers::{OPTIONAL_SOCKET_FIELDS, SOCKET_FIELDS};
use super::protect::{OwnProgram, PROTECT_FIELDS};
use super::publish::Generations;
use super::rings::EventRing;
use super::{Counters, Error, Layers, SocketRules, Switches, clock, pin};

/// The eBPF object, built by `cargo xtask ebpf`; empty in a build without one.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/cordon.o"));

/// Inode of the root of cgroup2 (`cgroup_setup_root` makes it first).
const CGROUP2_ROOT: u64 = 1;
/// The kernel's own type information.
pub(super) const VMLINUX: &str = "/sys/kernel/btf/vmlinux";
/// What a field that the kernel does not have is told to the programs as.
const MISSING: u64 = u64::MAX;

/// Maps that outlive the daemon. `AYA_LOGS` and `.rodata` belong to one load.
const PINNED: [&str; 16] = [
    "GENERATIONS",
    "CONFIG",
    "NAME_CONFIG",
    "COUNTERS",
    "HIT_COUNTS",
    "FOLDS",
    "CONTACTS",
    "FILE_DIGESTS",
    "SOCKETS",
    "LEARNED",
    "LEARNED_UNTIL",
    "PROTECTION",
    "PROTECTED",
    "REFUSALS",
    "HITS",
    "EXECS",
];

/// Which form of `lsm/bprm_check_security` to try; the next one down is tried when it does not load or attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bprm {
    /// None: the kernel has no BPF LSM. Execs are judged, and killed, at `sched_process_exec`.
    None,
    /// Judges what user space has hashed, and paths.
    Plain,
    /// Sleepable: hashes with IMA what nobody has hashed yet.
    Ima,
}

/// What to load, and where.
#[derive(Clone, Debug)]
pub struct Options {
    /// Directory of the pins, on a bpf file system; created when absent.
    pub pin_dir: PathBuf,
    /// The cgroup2 directory to enforce in; the root of the hierarchy for the whole host.
    pub cgroup: PathBuf,
    /// The best exec hook to try, from the probe.
    pub bprm: Bprm,
    /// Largest file in bytes that [`Bprm::Ima`] lets the kernel hash within an exec.
    pub ima_max_bytes: u64,
    /// Attach the exec hooks at all.
    pub exec_hooks: bool,
    /// The network hooks behind connect and sendmsg.
    pub layers: Layers,
    /// Count who reaches what, see [`Kernel::take_contacts`].
    pub contacts: bool,
    /// Who may change any of this, when self-protection is asked for.
    pub protection: Option<OwnProgram>,
}

/// The messages of the kernel half that are worth their cost now: aya-log's numbers for `tracing`'s levels.
fn log_level() -> u8 {
    match LevelFilter::current() {
        LevelFilter::OFF => 0,
        LevelFilter::ERROR => 1,
        LevelFilter::WARN => 2,
        LevelFilter::INFO => 3,
        LevelFilter::DEBUG => 4,
        _ => 5,
    }
}

/// A global of the kernel half, then `(structure, member, bytes to add)`: the first member that the kernel has is taken.
pub(super) type Field = (&'static str, &'static [(&'static str, &'static str, u64)]);

const FIELDS: [Field; 43] = [
    ("OFF_TASK_LEADER", &[("task_struct", "group_leader", 0)]),
    ("OFF_TASK_START", &[("task_struct", "start_boottime", 0), ("task_struct", "real_start_time", 0)]),
    ("OFF_TASK_PARENT", &[("task_struct", "real_parent", 0)]),
    ("OFF_TASK_TGID", &[("task_struct", "tgid", 0)]),
    ("OFF_TASK_LOGINUID", &[("task_struct", "loginuid", 0)]),
    ("OFF_TASK_MM", &[("task_struct", "mm", 0)]),
    ("OFF_MM_ARG_START", &[("mm_struct", "arg_start", 0)]),
    ("OFF_MM_ARG_END", &[("mm_struct", "arg_end", 0)]),
    ("OFF_MM_EXE_FILE", &[("mm_struct", "exe_file", 0)]),
    ("OFF_TASK_PID", &[("task_struct", "pid", 0)]),
    ("OFF_TASK_COMM", &[("task_struct", "comm", 0)]),
    ("OFF_TASK_CRED", &[("task_struct", "cred", 0)]),
    ("OFF_CRED_UID", &[("cred", "uid", 0)]),
    ("OFF_CRED_GID", &[("cred", "gid", 0)]),
    ("OFF_TASK_CGROUPS", &[("task_struct", "cgroups", 0)]),
    ("OFF_CSS_SET_DFL", &[("css_set", "dfl_cgrp", 0)]),
    ("OFF_CGROUP_KN", &[("cgroup", "kn", 0)]),
    ("OFF_KN_ID", &[("kernfs_node", "id", 0)]),
    ("OFF_SKB_SK", &[("sk_buff", "sk", 0)]),
    ("OFF_SOCK_LOCK", &[("sock", "sk_lock", 0)]),
    ("OFF_LOCK_OWNED", &[("socket_lock_t", "owned", 0)]),
    ("OFF_BPRM_FILE", &[("linux_binprm", "file", 0)]),
    ("OFF_BPRM_FILENAME", &[("linux_binprm", "filename", 0)]),
    ("OFF_FILE_INODE", &[("file", "f_inode", 0)]),
    ("OFF_FILE_PATH", &[("file", "f_path", 0)]),
    ("OFF_INODE_SB", &[("inode", "i_sb", 0)]),
    ("OFF_INODE_INO", &[("inode", "i_ino", 0)]),
    ("OFF_INODE_SIZE", &[("inode", "i_size", 0)]),
    // `timespec64` is two 64-bit numbers, of which the lower half of the second is read.
    ("OFF_MTIME_S", &[("inode", "i_mtime_sec", 0), ("inode", "__i_mtime", 0), ("inode", "i_mtime", 0)]),
    ("OFF_MTIME_NS", &[("inode", "i_mtime_nsec", 0), ("inode", "__i_mtime", 8), ("inode", "i_mtime", 8)]),
    ("OFF_CTIME_S", &[("inode", "i_ctime_sec", 0), ("inode", "__i_ctime", 0), ("inode", "i_ctime", 0)]),
    ("OFF_CTIME_NS", &[("inode", "i_ctime_nsec", 0), ("inode", "__i_ctime", 8), ("inode", "i_ctime", 8)]),
    ("OFF_SB_DEV", &[("super_block", "s_dev", 0)]),
    ("OFF_PATH_MNT", &[("path", "mnt", 0)]),
    ("OFF_PATH_DENTRY", &[("path", "dentry", 0)]),
    ("OFF_DENTRY_PARENT", &[("dentry", "d_parent", 0)]),
    ("OFF_DENTRY_NAME", &[("dentry", "d_name", 0)]),
    ("OFF_QSTR_NAME", &[("qstr", "name", 0)]),
    ("OFF_QSTR_LEN", &[("qstr", "len", 0)]),
    ("OFF_MNT_ROOT", &[("vfsmount", "mnt_root", 0)]),
    ("OFF_MOUNT_MNT", &[("mount", "mnt", 0)]),
    ("OFF_MOUNT_PARENT", &[("mount", "mnt_parent", 0)]),
    ("OFF_MOUNT_POINT", &[("mount", "mnt_mountpoint", 0)]),
];

/// Fields whose absence costs information, not judgement.
const OPTIONAL: [&str; 20] = [
    "OFF_TASK_LEADER",
    "OFF_TASK_START",
    "OFF_TASK_PARENT",
    "OFF_TASK_TGID",
    "OFF_TASK_LOGINUID",
    "OFF_TASK_MM",
    "OFF_MM_ARG_START",
    "OFF_MM_ARG_END",
    "OFF_TASK_PID",
    "OFF_TASK_COMM",
    "OFF_TASK_CRED",
    "OFF_CRED_UID",
    "OFF_CRED_GID",
    "OFF_TASK_CGROUPS",
    "OFF_CSS_SET_DFL",
    "OFF_CGROUP_KN",
    "OFF_KN_ID",
    "OFF_SKB_SK",
    "OFF_SOCK_LOCK",
    "OFF_LOCK_OWNED",
];

/// Offsets of this kernel's fields.
#[derive(Debug)]
pub(super) struct Offsets {
    values: Vec<(&'static str, u64)>,
    /// `structure.member` of fields that this kernel lacks.
    pub(super) missing: Vec<String>,
    /// Of those, the ones without which an exec cannot be judged.
    pub(super) fatal_for_exec: Vec<String>,
    /// Those without which LSM programs cannot tell what a socket does.
    pub(super) missing_for_sockets: Vec<String>,
    /// Those without which nothing can be protected.
    pub(super) missing_for_protection: Vec<String>,
    /// Whether the kernel has the loops that the programs for execs and names are written with.
    pub(super) has_loops: bool,
}

/// Why programs that go through paths or names do not load where there are no loops.
pub(super) const NO_LOOPS: &str =
    "this kernel has no bpf_loop, without which neither paths nor names are read and which Linux has since 5.17";

impl Offsets {
    pub(super) fn read(structures: &Structures<'_>) -> Self {
        let has_loops = structures.id(btf::FUNC, "bpf_loop").is_some();
        let mut found = Self {
            values: Vec::new(),
            missing: Vec::new(),
            fatal_for_exec: Vec::new(),
            missing_for_sockets: Vec::new(),
            missing_for_protection: Vec::new(),
            has_loops,
        };
        let find = |members: &[(&str, &str, u64)]| {
            members.iter().find_map(|(structure, member, plus)| Some(structures.offset(structure, member)? + plus))
        };
        for (global, members) in SOCKET_FIELDS {
            let offset = find(members);
            if let (None, Some((structure, member, _))) = (offset, members.first())
                && !OPTIONAL_SOCKET_FIELDS.contains(&global)
            {
                found.missing_for_sockets.push(format!("{structure}.{member}"));
            }
            found.values.push((global, offset.unwrap_or(MISSING)));
        }
        for (global, members) in PROTECT_FIELDS {
            let offset = find(members);
            if let (None, Some((structure, member, _))) = (offset, members.first()) {
                found.missing_for_protection.push(format!("{structure}.{member}"));
            }
            found.values.push((global, offset.unwrap_or(MISSING)));
        }
        for (global, members) in FIELDS {
            let offset = find(members);
            if let (None, Some((structure, member, _))) = (offset, members.first()) {
                let name = format!("{structure}.{member}");
                if !OPTIONAL.contains(&global) {
                    found.fatal_for_exec.push(name.clone());
                }
                found.missing.push(name);
            }
            found.values.push((global, offset.unwrap_or(MISSING)));
        }
        found
    }
}

/// The kernel half, loaded. Dropping it detaches nothing that [`Kernel::attach`] has pinned.
pub struct Kernel {
    log: Option<Mutex<EbpfLogger<&'static dyn tracing_log::log::Log>>>,
    pub(super) ebpf: Ebpf,
    pub(super) options: Options,
    pub(super) offsets: Offsets,
    /// cgroup2 id and level of the scope.
    pub(super) scope: (u64, u32),
    pub(super) config: Table<u32, Config>,
    /// What this agent last wrote there.
    written: Mutex<Option<Config>>,
    /// The links as this agent last left them.
    pub(super) links: Mutex<BTreeMap<String, Link>>,
    pub(super) name_config: Table<u32, NameConfig>,
    pub(super) generations: Generations,
    folds: Folds,
    pub(super) contacts: Table<ContactKey, Contact>,
    pub(super) hit_counts: Table<HitKey, u64>,
    pub(super) file_digests: Table<FileKey, FileDigests>,
    /// By a descriptor of the socket.
    pub(super) sockets: Table<i32, SocketMemory>,
    pub(super) protection: Table<u32, Protection>,
    pub(super) protected: Table<ObjectKey, u32>,
    pub(super) refusals: Table<RefusalKey, Refusal>,
}

pub(super) fn descriptor(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, Error> {
    let data = match ebpf.map(name) {
        Some(
            Map::Array(data)
            | Map::HashMap(data)
            | Map::LruHashMap(data)
            | Map::ArrayOfMaps(data)
            | Map::RingBuf(data)
            | Map::SkStorage(data),
        ) => data,
        _ => return Err(Error::Missing { kind: "map", name }),
    };
    data.fd().as_fd().try_clone_to_owned().map_err(|source| Error::Bpf { what: format!("map {name}"), source })
}

fn table<K, V>(ebpf: &Ebpf, name: &'static str) -> Result<Table<K, V>, Error>
where
    K: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout + Copy,
    V: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout,
{
    Table::open(descriptor(ebpf, name)?, name)
}

/// The id of a cgroup2 directory and its depth below the highest one that can be seen from here, which in a cgroup namespace
/// is not the root of the hierarchy; `(0, 0)` for the root.
pub(super) fn scope(cgroup: &Path) -> Result<(u64, u32), Error> {
    use std::os::unix::fs::MetadataExt;
    let refused = || Error::NotCgroup2 { path: cgroup.to_owned() };
    let inspect = |path: &Path| {
        let on_cgroup2 = bpf::file_system(path).is_ok_and(|kind| kind == pin::CGROUP2_MAGIC);
        fs::metadata(path).ok().filter(|data| on_cgroup2 && data.is_dir())
    };
    let path = fs::canonicalize(cgroup).map_err(|_| refused())?;
    let own = inspect(&path).ok_or_else(refused)?;
    let above =
        path.ancestors().skip(1).take_while(|parent| inspect(parent).is_some_and(|data| data.dev() == own.dev()));
    let level = u32::try_from(above.count()).map_err(|_| refused())?;
    Ok(if own.ino() == CGROUP2_ROOT { (0, 0) } else { (own.ino(), level) })
}

impl Kernel {
    /// Loads the kernel half. Maps that a former daemon has pinned are adopted with all that is in them, so the hooks it
    /// left attached go on deciding as before; nothing is attached or replaced yet.
    ///
    /// # Errors
    /// When nothing can be loaded at all. Programs that this kernel refuses are a matter of [`Kernel::attach`]'s report.
    pub fn load(options: Options) -> Result<Self, Error> {
        if OBJECT.is_empty() {
            return Err(Error::NoObject);
        }
        let scope = scope(&options.cgroup)?;
        let maps = pin::prepare(&options.pin_dir)?.maps;
        let vmlinux = fs::read(VMLINUX).map_err(|error| Error::Btf(error.to_string()))?;
        let offsets = Offsets::read(&Structures::parse(&vmlinux).map_err(Error::Btf)?);
        let mut loader = EbpfLoader::new();
        for (name, value) in &offsets.values {
            loader.override_global(name, value, true);
        }
        let level = log_level();
        loader.override_global(aya_log::LEVEL, &level, false);
        let egress = u64::from(options.layers.egress);
        loader.override_global("EGRESS", &egress, true);
        let keep_contacts = u64::from(options.contacts);
        loader.override_global("KEEP_CONTACTS", &keep_contacts, true);
        loader.override_global("IMA_MAX_BYTES", &options.ima_max_bytes, true);
        for name in PINNED {
            loader.map_pin_path(name, maps.join(name));
        }
        let mut ebpf = loader.load(OBJECT).map_err(|error| Error::Object(Box::new(error)))?;
        let log = match EbpfLogger::init(&mut ebpf) {
            Ok(log) => Some(Mutex::new(log)),
            Err(error) => {
                tracing::warn!(%error, "the kernel half's messages cannot be read");
                None
            }
        };
        Ok(Self {
            log,
            config: table(&ebpf, "CONFIG")?,
            written: Mutex::default(),
            links: Mutex::default(),
            name_config: table(&ebpf, "NAME_CONFIG")?,
            generations: Generations::new(table(&ebpf, "GENERATIONS")?, &maps),
            folds: Folds::open(table(&ebpf, "FOLDS")?, &maps)?,
            contacts: table(&ebpf, "CONTACTS")?,
            hit_counts: table(&ebpf, "HIT_COUNTS")?,
            file_digests: table(&ebpf, "FILE_DIGESTS")?,
            sockets: table(&ebpf, "SOCKETS")?,
            protection: table(&ebpf, "PROTECTION")?,
            protected: table(&ebpf, "PROTECTED")?,
            refusals: table(&ebpf, "REFUSALS")?,
            ebpf,
            options,
            offsets,
            scope,
        })
    }

    fn current_config(&self) -> Result<Config, Error> {
        let read = self.config.get(&0).map_err(|source| Error::Bpf { what: "map CONFIG".to_owned(), source })?;
        Ok(read.unwrap_or_default())
    }

    pub(super) fn write_config(&self, change: impl FnOnce(&mut Config)) -> Result<(), Error> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        let mut config = self.current_config()?;
        change(&mut config);
        *written = Some(config);
        self.config.set(&0, &config).map_err(|source| Error::Bpf { what: "map CONFIG".to_owned(), source })
    }

    /// Whether the configuration is what this agent last wrote, if it has written any.
    pub(super) fn config_is_ours(&self) -> bool {
        let written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        written.is_none_or(|written| self.current_config().is_ok_and(|config| config == written))
    }

    /// Tells the hooks the mode and the switches, together with the scope and the wall clock. To be called at the start,
    /// on every change, and about once a minute so that a stepped clock reaches the expiries.
    ///
    /// # Errors
    /// When the map cannot be written or a clock not be read.
    pub fn configure(&self, switches: &Switches) -> Result<(), Error> {
        let wall_minus_boot_ns = clock::wall_minus_boot_ns()
            .map_err(|source| Error::Bpf { what: "cannot read the clocks".to_owned(), source })?;
        self.write_config(|config| {
            config.wall_minus_boot_ns = wall_minus_boot_ns;
            (config.scope_cgroup_id, config.scope_level) = self.scope;
            config.mode = switches.mode as u32;
            config.off_until_boot_ns = switches.off_until_boot_ns;
            config.send_execs = u32::from(switches.send_execs);
            config.source_routes = switches.sockets.source_routes as u32;
            config.raw_sockets = switches.sockets.raw_sockets as u32;
            config.unread_names = switches.sockets.unread_names as u32;
        })
    }

    /// What the hooks are told at present; a daemon that adopts reads the break-glass time from here.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn switches(&self) -> Result<Switches, Error> {
        let config = self.current_config()?;
        let mode = if config.mode == Mode::Enforce as u32 { Mode::Enforce } else { Mode::Monitor };
        let action = |number| match number {
            2 => Action::Block,
            1 => Action::Report,
            _ => Action::Allow,
        };
        Ok(Switches {
            mode,
            off_until_boot_ns: config.off_until_boot_ns,
            send_execs: config.send_execs == 1,
            sockets: SocketRules {
                source_routes: action(config.source_routes),
                raw_sockets: action(config.raw_sockets),
                unread_names: action(config.unread_names),
            },
        })
    }

    /// The cgroup2 id that hooks are narrowed to; 0 for the whole host.
    #[must_use]
    pub fn scope_cgroup_id(&self) -> u64 {
        self.scope.0
    }

    /// The kernel's own counts.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Counters, Error> {
        let name = "COUNTERS";
        let map = self.ebpf.map(name).ok_or(Error::Missing { kind: "map", name })?;
        let failed = |error: aya::maps::MapError| Error::Bpf {
            what: format!("map {name}"),
            source: std::io::Error::other(error),
        };
        let array: PerCpuArray<&MapData, u64> = PerCpuArray::try_from(map).map_err(failed)?;
        let mut counters = Counters::default();
        for (index, sum) in (0..Counter::COUNT).zip(&mut counters.0) {
            *sum = array.get(&index, 0).map_err(failed)?.iter().sum();
        }
        Ok(counters)
    }

    /// Hits of a generation by entry: the truth that records are compared with.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn hits(&self, generation: u32) -> Result<Vec<(u32, u64)>, Error> {
        let failed = |source| Error::Bpf { what: "map HIT_COUNTS".to_owned(), source };
        let mut hits = Vec::new();
        for key in self.hit_counts.keys(agent_common::limits::HIT_COUNTERS).map_err(failed)? {
            if key.generation == generation
                && let Some(count) = self.hit_counts.get(&key).map_err(failed)?
            {
                hits.push((key.entry, count));
            }
        }
        Ok(hits)
    }

    /// Removes the hit counts of every generation before `oldest`; how many.
    ///
    /// # Errors
    /// When the map cannot be read or written.
    pub fn forget_hits_before(&self, oldest: u32) -> Result<usize, Error> {
        let failed = |source| Error::Bpf { what: "map HIT_COUNTS".to_owned(), source };
        let mut removed = 0;
        for key in self.hit_counts.keys(agent_common::limits::HIT_COUNTERS).map_err(failed)? {
            if key.generation < oldest && self.hit_counts.remove(&key).map_err(failed)? {
                removed += 1;
            }
        }
        Ok(removed)
    }

    /// Hands the messages of the kernel half to the log.
    fn forward_messages(&self) {
        if let Some(Ok(mut log)) = self.log.as_ref().map(Mutex::lock) {
            log.flush();
        }
    }

    /// Takes the repeats that the hooks have folded since the last call. A key whose `repeats` is 0 had none. What was
    /// counted here and what came through the ring add up to [`Kernel::hits`]: the table is swapped for an empty one and
    /// read when no program can add to it any more.
    ///
    /// # Errors
    /// When the maps cannot be used; nothing is lost then.
    pub fn take_folds(&self) -> Result<Vec<(FoldKey, Fold)>, Error> {
        self.forward_messages();
        self.folds.take()
    }

    /// Tells the hooks a file's digests.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn set_digest(&self, file: FileKey, digests: &FileDigests) -> Result<(), Error> {
        let set = self.file_digests.set(&file, digests);
        set.map_err(|source| Error::Bpf { what: "map FILE_DIGESTS".to_owned(), source })
    }

    /// Makes the hooks forget a file; whether they knew it.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub fn forget_digest(&self, file: &FileKey) -> Result<bool, Error> {
        let removed = self.file_digests.remove(file);
        removed.map_err(|source| Error::Bpf { what: "map FILE_DIGESTS".to_owned(), source })
    }

    /// What the hooks know of a file, if it is about the contents `stamp`.
    ///
    /// # Errors
    /// When the map cannot be read.
    pub fn digest(&self, file: &FileKey, stamp: &FileStamp) -> Result<Option<FileDigests>, Error> {
        let read = self.file_digests.get(file);
        let found = read.map_err(|source| Error::Bpf { what: "map FILE_DIGESTS".to_owned(), source })?;
        Ok(found.filter(|digests| digests.stamp == *stamp))
    }

    /// The ring of hits; one reader, one call. `None` when it has been taken.
    ///
    /// # Errors
    /// When the ring cannot be mapped, or outside a tokio runtime.
    pub fn take_hits(&mut self) -> Result<Option<EventRing>, Error> {
        self.ebpf.take_map("HITS").map(EventRing::hits).transpose()
    }

    /// The ring of every exec; one reader, one call. `None` when it has been taken.
    ///
    /// # Errors
    /// When the ring cannot be mapped, or outside a tokio runtime.
    pub fn take_execs(&mut self) -> Result<Option<EventRing>, Error> {
        self.ebpf.take_map("EXECS").map(EventRing::execs).transpose()
    }
}
