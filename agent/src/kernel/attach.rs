//! Attaching, adopting and pinning each hook for itself; what could not be attached is said, with the reason.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Instant;

use agent_common::wire::Hook;
use aya::Btf;
use aya::programs::{Program, ProgramError};

use super::load::{Bprm, NO_LOOPS};
use super::pin::{self, Layout};
use super::{Error, Kernel, bpf};

/// Program, attach type (`enum bpf_attach_type`), pin, hook.
const CGROUP_HOOKS: [(&str, u32, Hook); 4] = [
    ("connect4", 10, Hook::Connect4),
    ("connect6", 11, Hook::Connect6),
    ("sendmsg4", 14, Hook::Sendmsg4),
    ("sendmsg6", 15, Hook::Sendmsg6),
];
const EXEC_PROGRAM: &str = "sched_process_exec";
const EXEC_LINK: &str = "sched_process_exec";
const BPRM_LINK: &str = "bprm_check";
const MAPPED_LINK: &str = "mmap_file";

/// How a hook fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HookState {
    /// It decides; `adopted` when the link of a former daemon was taken over without a gap.
    Attached {
        /// Taken over.
        adopted: bool,
    },
    /// It could not be loaded or attached, and why.
    Unavailable {
        /// In the kernel's words.
        why: String,
    },
    /// Nothing asks for it, and why.
    Unused {
        /// What stands in its place.
        why: String,
    },
}

/// What became of each hook.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Every hook that this build knows, in a fixed order.
    pub hooks: Vec<(Hook, HookState)>,
    /// `structure.member` of fields that this kernel lacks; records leave out what they would have told.
    pub missing_fields: Vec<String>,
    /// Instructions that the kernel's verifier followed for each program it took (since Linux 5.16; its limit is 1 million),
    /// and the milliseconds that loading it took.
    pub verified: Vec<(Hook, u32, u128)>,
}

impl Report {
    /// How one hook fares.
    #[must_use]
    pub fn state(&self, hook: Hook) -> Option<&HookState> {
        self.hooks.iter().find(|(name, _)| *name == hook).map(|(_, state)| state)
    }

    /// Says how one hook fares now.
    pub(super) fn set(&mut self, hook: Hook, state: HookState) {
        match self.hooks.iter_mut().find(|(name, _)| *name == hook) {
            Some((_, known)) => *known = state,
            None => self.hooks.push((hook, state)),
        }
    }

    /// Whether a hook decides.
    #[must_use]
    pub fn is_attached(&self, hook: Hook) -> bool {
        matches!(self.state(hook), Some(HookState::Attached { .. }))
    }
}

/// The last lines of a verifier log, which is where the reason is, in one line.
fn reason(error: &ProgramError) -> String {
    if let ProgramError::LoadError { io_error, verifier_log } = error {
        let log = verifier_log.to_string();
        let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        let mut tail: Vec<&str> = lines.iter().rev().take(4).copied().collect();
        tail.reverse();
        return format!("the kernel does not load it: {io_error}; {}", tail.join(" | "));
    }
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    for _ in 0..8 {
        let Some(inner) = cause else { break };
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

fn refused(source: &io::Error, cgroup: &Path) -> String {
    match source.raw_os_error() {
        Some(libc::EPERM) => format!(
            "{source}: a program above {} was attached there without BPF_F_ALLOW_MULTI, or CAP_NET_ADMIN is missing; \
             `bpftool cgroup tree` shows it",
            cgroup.display()
        ),
        Some(libc::E2BIG) => format!("{source}: {} already has 64 programs for this hook", cgroup.display()),
        _ => source.to_string(),
    }
}

fn replace_pin(link: BorrowedFd<'_>, path: &Path) -> Result<(), Error> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Path { what, path, source }
    };
    let mut fresh = path.as_os_str().to_owned();
    // bpffs refuses a dot in a name.
    fresh.push("_new");
    let fresh = PathBuf::from(fresh);
    if fresh.exists() {
        fs::remove_file(&fresh).map_err(failed("cannot remove", &fresh))?;
    }
    bpf::pin(link, &fresh).map_err(failed("cannot pin", &fresh))?;
    fs::rename(&fresh, path).map_err(failed("cannot replace the pin", path))
}

pub(super) fn not_asked_for() -> HookState {
    HookState::Unused { why: "not to be had here; `cordon doctor` says why".to_owned() }
}

/// Removes the link that a former daemon left, if there is one.
pub(super) fn remove_stale(link: &Path) -> Result<(), Error> {
    match fs::remove_file(link) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(Error::Path { what: "cannot remove", path: link.to_owned(), source })
        }
        _ => Ok(()),
    }
}

impl Kernel {
    /// Attaches every hook and pins it; one that a former daemon left is taken over, so that no operation passes in
    /// between. Call it once the first generation is published.
    ///
    /// # Errors
    /// When the pin directory cannot be written. A hook that this kernel refuses is in the report instead.
    pub fn attach(&mut self) -> Result<Report, Error> {
        let layout = pin::prepare(&self.options.pin_dir)?;
        let mut report = Report { missing_fields: self.offsets.missing.clone(), ..Report::default() };
        let cgroup = self.open_cgroup()?;
        for (name, attach_type, hook) in CGROUP_HOOKS {
            let started = Instant::now();
            let state = self.attach_cgroup(&layout.links.join(name), &cgroup, name, attach_type)?;
            report.hooks.push((hook, state));
            self.note_cost(name, hook, started, &mut report);
        }
        self.attach_layers(&layout, &cgroup, &mut report)?;
        self.attach_names(&layout, &cgroup, &mut report)?;
        self.attach_exec_hooks(&layout, &mut report)?;
        self.attach_protection(&layout, &mut report)?;
        for version in pin::other_versions(&self.options.pin_dir) {
            pin::remove_version(&version)?;
        }
        self.remember_links();
        self.protect_objects(&layout)?;
        Ok(report)
    }

    pub(super) fn open_cgroup(&self) -> Result<File, Error> {
        let path = &self.options.cgroup;
        File::open(path).map_err(|source| Error::Path { what: "cannot open the cgroup", path: path.clone(), source })
    }

    /// Loads a cgroup program, once.
    fn load_cgroup(&mut self, name: &'static str) -> Result<Result<OwnedFd, ProgramError>, Error> {
        let program = match self.ebpf.program_mut(name) {
            Some(Program::CgroupSockAddr(program)) => {
                if program.fd().is_err() { program.load() } else { Ok(()) }.and_then(|()| program.fd())
            }
            Some(Program::CgroupSockopt(program)) => {
                if program.fd().is_err() { program.load() } else { Ok(()) }.and_then(|()| program.fd())
            }
            Some(Program::CgroupSock(program)) => {
                if program.fd().is_err() { program.load() } else { Ok(()) }.and_then(|()| program.fd())
            }
            Some(Program::CgroupSkb(program)) => {
                if program.fd().is_err() { program.load() } else { Ok(()) }.and_then(|()| program.fd())
            }
            _ => return Err(Error::Missing { kind: "program", name }),
        };
        Ok(program.and_then(|program| Ok(program.as_fd().try_clone_to_owned()?)))
    }

    pub(super) fn attach_cgroup(
        &mut self,
        path: &Path,
        cgroup: &File,
        name: &'static str,
        attach_type: u32,
    ) -> Result<HookState, Error> {
        let descriptor = match self.load_cgroup(name)? {
            Ok(descriptor) => descriptor,
            Err(error) => return Ok(HookState::Unavailable { why: reason(&error) }),
        };
        if let Some(link) = self.adoptable(path)
            && bpf::update_link(link.as_fd(), descriptor.as_fd()).is_ok()
        {
            return Ok(HookState::Attached { adopted: true });
        }
        match bpf::attach_cgroup(descriptor.as_fd(), cgroup.as_fd(), attach_type) {
            Ok(link) => {
                replace_pin(link.as_fd(), path)?;
                Ok(HookState::Attached { adopted: false })
            }
            Err(error) => Ok(HookState::Unavailable { why: refused(&error, &self.options.cgroup) }),
        }
    }

    pub(super) fn note_cost(&self, program: &str, hook: Hook, started: Instant, report: &mut Report) {
        let info = match self.ebpf.program(program) {
            Some(Program::CgroupSockAddr(program)) => program.info(),
            Some(Program::CgroupSockopt(program)) => program.info(),
            Some(Program::CgroupSock(program)) => program.info(),
            Some(Program::CgroupSkb(program)) => program.info(),
            Some(Program::BtfTracePoint(program)) => program.info(),
            Some(Program::Lsm(program)) => program.info(),
            _ => return,
        };
        if let Some(instructions) = info.ok().and_then(|info| info.verified_instruction_count()) {
            report.verified.push((hook, instructions, started.elapsed().as_millis()));
        }
    }

    /// A pinned cgroup link, if it is attached to the cgroup that is asked for now.
    fn adoptable(&self, path: &Path) -> Option<OwnedFd> {
        use std::os::unix::fs::MetadataExt;
        let link = bpf::open_pin(path).ok()?;
        let wanted = fs::metadata(&self.options.cgroup).ok()?.ino();
        (bpf::link_cgroup(link.as_fd()).ok()? == wanted).then_some(link)
    }

    fn attach_exec_hooks(&mut self, layout: &Layout, report: &mut Report) -> Result<(), Error> {
        let fatal = &self.offsets.fatal_for_exec;
        let unavailable = if !self.options.exec_hooks {
            Some(HookState::Unused { why: "switched off in the settings".to_owned() })
        } else if !self.offsets.has_loops {
            Some(HookState::Unavailable { why: NO_LOOPS.to_owned() })
        } else if fatal.is_empty() {
            None
        } else {
            let why = format!("this kernel's BTF has no {}", fatal.join(", "));
            Some(HookState::Unavailable { why })
        };
        if let Some(state) = unavailable {
            for (level, hook) in [(Bprm::Ima, Hook::BprmCheckIma), (Bprm::Plain, Hook::BprmCheck)] {
                let is_asked_for = self.options.bprm >= level;
                report.hooks.push((hook, if is_asked_for { state.clone() } else { not_asked_for() }));
            }
            report.hooks.push((Hook::SchedProcessExec, state));
            report.hooks.push((Hook::MmapFile, not_asked_for()));
            return [BPRM_LINK, EXEC_LINK, MAPPED_LINK]
                .iter()
                .try_for_each(|link| remove_stale(&layout.links.join(link)));
        }
        let judged_before = self.attach_bprm(layout, report)?;
        // Written before the exec hook is attached or replaced, so that at no moment neither judges.
        self.write_config(|config| config.judge_at_exec = u32::from(!judged_before))?;
        self.attach_mapped(layout, report)?;
        let started = Instant::now();
        let state = match self.attach_tracing(EXEC_PROGRAM, "sched_process_exec")? {
            Ok(link) => Self::keep(&link, &layout.links.join(EXEC_LINK))?,
            Err(why) => HookState::Unavailable { why },
        };
        report.hooks.push((Hook::SchedProcessExec, state));
        self.note_cost(EXEC_PROGRAM, Hook::SchedProcessExec, started, report);
        Ok(())
    }

    fn attach_bprm(&mut self, layout: &Layout, report: &mut Report) -> Result<bool, Error> {
        let mut attached = false;
        for (level, name, hook) in
            [(Bprm::Ima, "bprm_check_ima", Hook::BprmCheckIma), (Bprm::Plain, "bprm_check", Hook::BprmCheck)]
        {
            let started = Instant::now();
            let state = if attached {
                HookState::Unused { why: "the sleepable form does its work".to_owned() }
            } else if self.options.bprm < level {
                not_asked_for()
            } else {
                match self.attach_tracing(name, "bprm_check_security")? {
                    Ok(link) => {
                        attached = true;
                        Self::keep(&link, &layout.links.join(BPRM_LINK))?
                    }
                    Err(why) => HookState::Unavailable { why },
                }
            };
            report.hooks.push((hook, state));
            self.note_cost(name, hook, started, report);
        }
        if !attached {
            remove_stale(&layout.links.join(BPRM_LINK))?;
        }
        Ok(attached)
    }

    /// What is mapped as code is judged where the kernel takes digests itself: nobody else sees it beforehand.
    fn attach_mapped(&mut self, layout: &Layout, report: &mut Report) -> Result<(), Error> {
        let started = Instant::now();
        let state = if !report.is_attached(Hook::BprmCheckIma) {
            not_asked_for()
        } else {
            match self.attach_tracing(MAPPED_LINK, "mmap_file")? {
                Ok(link) => Self::keep(&link, &layout.links.join(MAPPED_LINK))?,
                Err(why) => HookState::Unavailable { why },
            }
        };
        if !matches!(state, HookState::Attached { .. }) {
            remove_stale(&layout.links.join(MAPPED_LINK))?;
        }
        report.hooks.push((Hook::MmapFile, state));
        self.note_cost(MAPPED_LINK, Hook::MmapFile, started, report);
        Ok(())
    }

    pub(super) fn keep(link: &OwnedFd, path: &Path) -> Result<HookState, Error> {
        let adopted = path.exists();
        replace_pin(link.as_fd(), path)?;
        Ok(HookState::Attached { adopted })
    }

    /// Attaches a tracing or LSM program beside a former one: the kernel cannot update such a link.
    pub(super) fn attach_tracing(&mut self, name: &'static str, hook: &str) -> Result<Result<OwnedFd, String>, Error> {
        // Read for each, for kept it would take 11 MiB as long as the agent runs.
        match Btf::from_sys_fs() {
            Ok(btf) => self.attach_tracing_with(&btf, name, hook),
            Err(error) => Ok(Err(format!("the kernel's BTF cannot be read: {error}"))),
        }
    }

    /// As [`Kernel::attach_tracing`], for several in a row.
    pub(super) fn attach_tracing_with(
        &mut self,
        btf: &Btf,
        name: &'static str,
        hook: &str,
    ) -> Result<Result<OwnedFd, String>, Error> {
        let program = match self.ebpf.program_mut(name) {
            Some(Program::BtfTracePoint(program)) => {
                program.load(hook, btf).and_then(|()| Ok(program.fd()?.try_clone()?))
            }
            Some(Program::Lsm(program)) => program.load(hook, btf).and_then(|()| Ok(program.fd()?.try_clone()?)),
            _ => return Err(Error::Missing { kind: "program", name }),
        };
        Ok(program.map_err(|error| reason(&error)).and_then(|program| {
            let attached = bpf::attach_tracing(program.as_fd());
            attached.map_err(|error| format!("loaded, but the kernel does not attach it: {error}"))
        }))
    }
}
