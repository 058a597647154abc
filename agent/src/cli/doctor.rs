//! `cordon doctor`: what this kernel allows, found out by trying: the real programs are loaded and attached in an empty cgroup
//! of their own, and taken away again.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use super::Exit;
use super::table::{Terminal, Tone};
use crate::attribute::hook_name;
use crate::event::Hook;
use crate::host::{cgroup, missing_capabilities};
use crate::kernel::{self, Bprm, HookState, Kernel, Options, Report};

/// `cordon doctor`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// One capability of this host.
struct Finding {
    capability: String,
    state: State,
    why: String,
    fix: &'static str,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Available,
    Fallback,
    Impossible,
}

impl State {
    const fn name(self) -> &'static str {
        match self {
            Self::Available => "available",
            Self::Fallback => "fallback",
            Self::Impossible => "impossible",
        }
    }
}

/// A cgroup and pins of the doctor's own, gone with it.
struct Ward {
    cgroup: PathBuf,
    pins: PathBuf,
}

impl Drop for Ward {
    fn drop(&mut self) {
        if let Err(error) = kernel::unpin_all(&self.pins) {
            eprintln!("cordon: {error}");
        }
        if let Err(error) = fs::remove_dir(&self.cgroup) {
            eprintln!("cordon: cannot remove {}: {error}", self.cgroup.display());
        }
    }
}

/// Says for each capability whether it is available, replaced by a fallback, or impossible here, why, and what would fix it.
///
/// # Errors
/// Standard output is closed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let findings = examine();
    let can_enforce =
        findings.iter().any(|finding| finding.state == State::Available && finding.capability.starts_with("cgroup_"));
    if args.json {
        let capabilities: Vec<Value> = findings
            .iter()
            .map(|finding| {
                json!({ "capability": finding.capability, "state": finding.state.name(), "why": finding.why, "fix": finding.fix })
            })
            .collect();
        println!("{}", json!({ "schema": 1, "can_enforce": can_enforce, "capabilities": capabilities }));
    } else {
        let terminal = Terminal::stdout();
        let rows = findings.iter().map(|finding| {
            vec![
                finding.capability.clone(),
                finding.state.name().to_owned(),
                finding.why.clone(),
                finding.fix.to_owned(),
            ]
        });
        println!("{}", terminal.table(&["capability", "state", "why", "fix"], rows));
        let verdict = if can_enforce { "this host can be protected" } else { "nothing can be enforced here" };
        println!("{}", terminal.paint(if can_enforce { Tone::Good } else { Tone::Bad }, verdict));
    }
    Ok(if can_enforce { Exit::Done } else { Exit::NotPossible })
}

fn examine() -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut add = |capability: &str, works: bool, why: String, fix: &'static str| {
        let state = if works { State::Available } else { State::Impossible };
        findings.push(Finding { capability: capability.to_owned(), state, why, fix: if works { "" } else { fix } });
        works
    };
    let missing = missing_capabilities();
    let why = if missing.is_empty() { "held".to_owned() } else { format!("lacks {}", missing.join(", ")) };
    let permitted = add("capabilities", missing.is_empty(), why, "run it as root");
    let btf = Path::new("/sys/kernel/btf/vmlinux");
    let why = if btf.exists() {
        "the kernel describes its types".to_owned()
    } else {
        format!("{} is missing", btf.display())
    };
    add("btf", btf.exists(), why, "a kernel with CONFIG_DEBUG_INFO_BTF=y");
    let mount = cgroup::mount_point();
    let why = mount.as_ref().map_or_else(ToString::to_string, |mount| format!("mounted at {}", mount.display()));
    add("cgroup2", mount.is_ok(), why, "mount -t cgroup2 none /sys/fs/cgroup/unified");
    if let (true, Ok(mount)) = (permitted, mount) {
        match try_hooks(&mount) {
            Ok(report) => findings.extend(hooks(&report)),
            Err(error) => findings.push(Finding {
                capability: "hooks".to_owned(),
                state: State::Impossible,
                why: format!("{error:#}"),
                fix: "what the reason says",
            }),
        }
    }
    findings
}

/// Loads and attaches everything where it can meet nobody.
fn try_hooks(mount: &Path) -> anyhow::Result<Report> {
    let name = format!("cordon-doctor-{}", std::process::id());
    let ward = Ward { cgroup: mount.join(&name), pins: Path::new("/sys/fs/bpf").join(&name) };
    fs::create_dir(&ward.cgroup)?;
    let mut kernel = Kernel::load(Options {
        pin_dir: ward.pins.clone(),
        cgroup: ward.cgroup.clone(),
        bprm: Bprm::Ima,
        ima_max_bytes: 0,
        exec_hooks: true,
    })?;
    Ok(kernel.attach()?)
}

fn hooks(report: &Report) -> Vec<Finding> {
    let is_held_in_kernel = report.is_attached(Hook::BprmCheckIma);
    let mut findings: Vec<Finding> = report
        .hooks
        .iter()
        .map(|(hook, state)| {
            let (state, why, fix) = match state {
                HookState::Attached { .. } => (State::Available, "loads and attaches".to_owned(), ""),
                HookState::Unused { why } => (State::Fallback, why.clone(), ""),
                HookState::Unavailable { why } => (State::Impossible, why.clone(), fix_for(*hook)),
            };
            Finding { capability: hook_name(*hook).to_owned(), state, why, fix }
        })
        .collect();
    let (state, why) = if is_held_in_kernel {
        (State::Available, "the kernel itself takes digests (IMA) before an exec")
    } else {
        (
            State::Fallback,
            "the exec guard (fanotify) takes digests before an exec; known files are stopped by the kernel alone",
        )
    };
    findings.push(Finding { capability: "exec_by_digest".to_owned(), state, why: why.to_owned(), fix: "" });
    findings
}

const fn fix_for(hook: Hook) -> &'static str {
    match hook {
        Hook::BprmCheck | Hook::BprmCheckIma => "a kernel with CONFIG_BPF_LSM=y and `bpf` in its lsm= line",
        Hook::SchedProcessExec => "a kernel with CONFIG_DEBUG_INFO_BTF=y and BPF tracing",
        _ => "a kernel with CONFIG_CGROUP_BPF=y, and no program above that forbids others",
    }
}
