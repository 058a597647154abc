//! Facts and plan → what people are told (pure).

use serde::Serialize;

use super::{Attempt, CAPABILITIES, ExecPath, Facts, Plan, Refusal};
use crate::kernel::Bprm;

/// How a capability fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// As it should be.
    Available,
    /// Not to be had; something else stands in.
    Fallback,
    /// Not to be had here.
    Impossible,
}

/// One line of `cordon doctor`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Capability {
    /// What; a hook by the name that a record's `enforced_by` has.
    pub capability: &'static str,
    /// How it fares.
    pub state: State,
    /// Why, or what it is good for.
    pub why: String,
    /// What would mend it: a command or a kernel option.
    pub fix: Option<String>,
}

/// What mends a refusal, for something that a kernel has from `since` on with `option`.
fn mend(facts: &Facts, refusal: &Refusal, since: &str, option: &str) -> String {
    let lacks = missing(facts, &["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]);
    match refusal.errno {
        Some(libc::EPERM | libc::EACCES) if !lacks.is_empty() && !has(facts, "CAP_SYS_ADMIN") => {
            format!("run it as root, or with {}", lacks.join(", "))
        }
        Some(libc::EPERM | libc::EACCES) => match facts.lockdown.as_deref() {
            Some("confidentiality") => "boot without lockdown=confidentiality".into(),
            _ => "every capability is held and the kernel refuses still: ask whoever runs the hypervisor or container"
                .into(),
        },
        Some(libc::ENOSYS) => "a kernel with CONFIG_BPF_SYSCALL=y".into(),
        _ => format!("Linux {since} or later with {option}"),
    }
}

fn has(facts: &Facts, name: &str) -> bool {
    CAPABILITIES.iter().any(|(known, bit)| *known == name && facts.capabilities >> bit & 1 == 1)
}

fn missing<'a>(facts: &Facts, names: &[&'a str]) -> Vec<&'a str> {
    names.iter().copied().filter(|name| !has(facts, name)).collect()
}

/// All that `cordon doctor` says, in a fixed order.
#[must_use]
pub fn advise(facts: &Facts, plan: &Plan) -> Vec<Capability> {
    let mut lines = basis(facts);
    lines.extend(network(facts));
    lines.extend(layers(facts, plan));
    lines.push(names(facts));
    lines.push(open_flows(facts));
    lines.push(self_protection(plan));
    lines.extend(exec(facts, plan));
    lines.extend(surroundings(facts));
    lines
}

fn line(name: &'static str, state: State, why: impl Into<String>, fix: Option<String>) -> Capability {
    Capability { capability: name, state, why: why.into(), fix }
}

fn attempt(
    facts: &Facts,
    name: &'static str,
    attempt: &Attempt,
    good_for: &str,
    (since, option): (&str, &str),
    otherwise: State,
) -> Capability {
    match attempt {
        Ok(()) => line(name, State::Available, good_for, None),
        Err(refusal) => line(name, otherwise, refusal.why.clone(), Some(mend(facts, refusal, since, option))),
    }
}

fn basis(facts: &Facts) -> Vec<Capability> {
    let impossible = State::Impossible;
    let mut lines = vec![
        attempt(
            facts,
            "ring_buffer",
            &facts.ring_buffer,
            "hits reach the daemon",
            ("5.8", "CONFIG_BPF_SYSCALL=y"),
            impossible,
        ),
        attempt(
            facts,
            "image_maps",
            &facts.image_maps,
            "indicators are published",
            ("5.10", "CONFIG_BPF_SYSCALL=y"),
            impossible,
        ),
    ];
    lines.push(match &facts.bpffs {
        Ok(()) => line("bpffs", State::Available, "hooks outlive the daemon", None),
        Err(refusal) => {
            let fix = "mount -t bpf bpf /sys/fs/bpf";
            line("bpffs", impossible, refusal.why.clone(), Some(fix.into()))
        }
    });
    lines.push(match &facts.cgroup2 {
        Some(path) => line("cgroup2", State::Available, format!("mounted at {}", path.display()), None),
        None => {
            let fix = "mkdir -p /sys/fs/cgroup/unified && mount -t cgroup2 none /sys/fs/cgroup/unified";
            line("cgroup2", impossible, "not mounted, and network hooks attach there", Some(fix.into()))
        }
    });
    lines.push(match &facts.btf {
        Err(refusal) => {
            let fix = Some("a kernel with CONFIG_DEBUG_INFO_BTF=y".into());
            line("btf", impossible, format!("{}; exec hooks need it", refusal.why), fix)
        }
        Ok(()) if !facts.missing_exec_fields.is_empty() => {
            let why = format!("lacks {}, without which no exec can be judged", facts.missing_exec_fields.join(", "));
            line("btf", impossible, why, Some("report this kernel version: the field was renamed".into()))
        }
        Ok(()) if !facts.missing_fields.is_empty() => {
            let why = format!("lacks {}: records leave out what they tell", facts.missing_fields.join(", "));
            line("btf", State::Fallback, why, Some("report this kernel version: the field was renamed".into()))
        }
        Ok(()) => line("btf", State::Available, "every field that the hooks read is known", None),
    });
    lines
}

fn network(facts: &Facts) -> Vec<Capability> {
    let names = ["cgroup_connect4", "cgroup_connect6", "cgroup_sendmsg4", "cgroup_sendmsg6"];
    let good_for = ["IPv4 connects", "IPv6 connects", "IPv4 datagrams", "IPv6 datagrams"];
    let lines = names.into_iter().zip(good_for).zip(&facts.network);
    lines
        .map(|((name, good_for), tried)| {
            let good_for = format!("{good_for} are judged");
            let needs = ("5.7", "CONFIG_CGROUP_BPF=y");
            if tried.is_ok() && facts.cgroup2.is_none() {
                let fix = Some("mount cgroup2, as above".into());
                return line(name, State::Impossible, "loads, but there is no cgroup2 to attach it to", fix);
            }
            attempt(facts, name, tried, &good_for, needs, State::Impossible)
        })
        .collect()
}

/// The hooks behind connect and sendmsg.
fn layers(facts: &Facts, plan: &Plan) -> Vec<Capability> {
    let names = ["cgroup_setsockopt", "cgroup_sock_create", "cgroup_egress", "cgroup_ingress"];
    let good_for = [
        "source routes are refused",
        "raw sockets are judged, and who made a socket is known",
        "where each packet goes is looked up",
        "who connects to this host is looked up",
    ];
    let tried = names.into_iter().zip(good_for).zip(&facts.layers);
    let needs = ("5.7", "CONFIG_CGROUP_BPF=y");
    let mut lines: Vec<Capability> = tried
        .map(|((name, good_for), tried)| attempt(facts, name, tried, good_for, needs, State::Impossible))
        .collect();
    let name = "lsm_socket";
    lines.push(if plan.bprm == Bprm::None {
        let why =
            "no LSM program is called: the making of packet sockets is not seen, and what their frames hold neither";
        line(name, State::Impossible, why, Some("see lsm_bprm_check_security".into()))
    } else {
        line(name, State::Available, "packet sockets, and what cgroups are not asked about, are judged", None)
    });
    lines
}

/// Whether it can be; whether it is asked for is for the settings to say.
fn self_protection(plan: &Plan) -> Capability {
    let name = "lsm_self_protection";
    if plan.bprm == Bprm::None {
        let why = "no LSM program is called: who removes the hooks or ends the agent is not refused; a removed hook is put back";
        return line(name, State::Impossible, why, Some("see lsm_bprm_check_security".into()));
    }
    let why =
        "with self_protection.enabled, removing the hooks and ending the agent is refused to all but Cordon itself";
    line(name, State::Available, why, None)
}

fn names(facts: &Facts) -> Capability {
    let needs = ("5.17", "CONFIG_CGROUP_BPF=y and CONFIG_DEBUG_INFO_BTF=y");
    let good_for = "names in packets are judged while a domain is listed";
    attempt(facts, "cgroup_egress_names", &facts.names, good_for, needs, State::Impossible)
}

fn open_flows(facts: &Facts) -> Capability {
    let name = "sock_destroy";
    match &facts.sock_destroy {
        Ok(()) if has(facts, "CAP_SYS_ADMIN") => {
            line(name, State::Available, "flows that are open to a new indicator are closed", None)
        }
        Ok(()) => {
            let why = "flows that are open to a new indicator are closed, but not in other network namespaces";
            line(name, State::Fallback, why, Some("run it as root, or with CAP_SYS_ADMIN".into()))
        }
        Err(refusal) => {
            let why = format!("{}: flows that are open to a new indicator are not closed", refusal.why);
            line(name, State::Fallback, why, Some(mend(facts, refusal, "4.9", "CONFIG_INET_DIAG_DESTROY=y")))
        }
    }
}

fn exec(facts: &Facts, plan: &Plan) -> Vec<Capability> {
    let or_impossible = |stands_in: bool| if stands_in { State::Fallback } else { State::Impossible };
    let beside = |this: ExecPath| or_impossible(plan.exec != ExecPath::None && plan.exec != this);
    let tracing = ("5.17", "CONFIG_DEBUG_INFO_BTF=y and CONFIG_BPF_EVENTS=y");
    let guard_only = or_impossible(plan.guard);
    vec![
        attempt(facts, "sched_process_exec", &facts.exec_tracing, "every exec is seen", tracing, guard_only),
        attempt(
            facts,
            "exec_kill",
            &facts.send_signal,
            "a program is killed before its first instruction",
            tracing,
            beside(ExecPath::Kill),
        ),
        lsm(facts, beside(ExecPath::Lsm)),
        ima(facts, beside(ExecPath::LsmIma)),
        mapped(plan),
        match &facts.fanotify {
            Ok(()) if plan.guard => line(
                "fanotify_open_exec",
                State::Available,
                "unknown files are hashed and judged before they run",
                None,
            ),
            Ok(()) if plan.exec == ExecPath::LsmIma => line(
                "fanotify_open_exec",
                State::Available,
                "used while an MD5 or SHA-1 is listed: the kernel takes SHA-256 itself, and no other",
                None,
            ),
            Ok(()) => line("fanotify_open_exec", State::Available, "not used: nothing can be enforced, as above", None),
            Err(refusal) => {
                let fix = match refusal.errno {
                    Some(libc::EPERM) => "run it as root, or with CAP_SYS_ADMIN".into(),
                    _ => "Linux 5.0 or later with CONFIG_FANOTIFY_ACCESS_PERMISSIONS=y".to_owned(),
                };
                line("fanotify_open_exec", beside(ExecPath::Guard), refusal.why.clone(), Some(fix))
            }
        },
    ]
}

/// What to put on the kernel's command line.
fn lsm_parameter(facts: &Facts) -> String {
    match &facts.lsm_list {
        Some(active) => format!("boot with lsm={active},bpf"),
        None => "boot with lsm=, the modules of /sys/kernel/security/lsm, and bpf after them".into(),
    }
}

fn lsm(facts: &Facts, otherwise: State) -> Capability {
    let name = "lsm_bprm_check_security";
    let needs = ("5.17", "CONFIG_BPF_LSM=y and bpf among CONFIG_LSM");
    match (&facts.lsm, facts.lsm_is_active) {
        (Ok(()), Some(true)) => line(name, State::Available, "an exec fails with EPERM before anything runs", None),
        (Ok(()), Some(false)) => {
            let why = "loads and attaches, but bpf is not an active security module, so it is never called";
            line(name, otherwise, why, Some(lsm_parameter(facts)))
        }
        (Ok(()), None) => {
            let why = "attaches, but whether it is called cannot be told";
            let fix = "mount -t securityfs securityfs /sys/kernel/security";
            line(name, otherwise, why, Some(fix.into()))
        }
        (Err(refusal), Some(false)) => {
            let why = format!("{}; and bpf is not an active security module", refusal.why);
            line(
                name,
                otherwise,
                why,
                Some(format!("{}; then {}", mend(facts, refusal, needs.0, needs.1), lsm_parameter(facts))),
            )
        }
        (Err(_), _) => attempt(facts, name, &facts.lsm, "", needs, otherwise),
    }
}

fn ima(facts: &Facts, otherwise: State) -> Capability {
    let name = "lsm_bprm_check_security_ima";
    let needs = ("5.18", "CONFIG_IMA=y and CONFIG_BPF_LSM=y");
    match (&facts.lsm_ima, facts.ima_is_built_in) {
        (Ok(()), Some(true)) if facts.lsm.is_err() || facts.lsm_is_active != Some(true) => line(
            name,
            otherwise,
            "loads, but needs lsm_bprm_check_security",
            Some("see lsm_bprm_check_security".into()),
        ),
        (Ok(()), Some(true)) => line(name, State::Available, "the kernel hashes unknown files itself", None),
        (Ok(()), _) => line(
            name,
            otherwise,
            "the kernel has no IMA, so it has no digests",
            Some("a kernel with CONFIG_IMA=y".into()),
        ),
        (Err(_), _) => attempt(facts, name, &facts.lsm_ima, "", needs, otherwise),
    }
}

fn mapped(plan: &Plan) -> Capability {
    let name = "lsm_mmap_file";
    if plan.exec == ExecPath::LsmIma {
        return line(name, State::Available, "what is mapped as code is judged too: libraries, and `ld.so FILE`", None);
    }
    let why = "only a kernel that hashes files itself can judge what is mapped as code: libraries, and `ld.so FILE`";
    line(name, State::Impossible, why, Some("see lsm_bprm_check_security_ima".into()))
}

fn surroundings(facts: &Facts) -> Vec<Capability> {
    let needed = ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN", "CAP_DAC_READ_SEARCH", "CAP_SYS_PTRACE", "CAP_LEASE"];
    let lacking = missing(facts, &needed);
    let capabilities = if lacking.is_empty() {
        line("capabilities", State::Available, "every capability that hooks and attribution need is held", None)
    } else {
        let why = format!("without {}", lacking.join(", "));
        line("capabilities", State::Fallback, why, Some("run it as root: sudo cordon doctor".into()))
    };
    let lockdown = match facts.lockdown.as_deref() {
        Some("confidentiality") => {
            let why = "confidentiality: exec programs may not read kernel memory";
            line("lockdown", State::Fallback, why, Some("boot without lockdown=confidentiality".into()))
        }
        Some(mode) => line("lockdown", State::Available, mode, None),
        None => line("lockdown", State::Available, "not in this kernel, or securityfs is not mounted", None),
    };
    // Ten million IPv4 indicators take 53 MiB, and two generations are there while one replaces the other.
    const COMFORTABLE: u64 = 256 << 20;
    let memory = match facts.memory_available {
        Some(bytes) if bytes < COMFORTABLE => {
            let why = format!("{} MiB available: large sets may not fit twice while they are replaced", bytes >> 20);
            line("memory", State::Fallback, why, Some("free or add memory, or load fewer indicators".into()))
        }
        Some(bytes) => line("memory", State::Available, format!("{} MiB available", bytes >> 20), None),
        None => line("memory", State::Fallback, "cannot be told", None),
    };
    vec![capabilities, lockdown, memory]
}
