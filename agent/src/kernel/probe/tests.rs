use agent_common::wire::Hook;

use super::{Attempt, Capability, ExecPath, Facts, Refusal, State, advise, plan, probe};
use crate::kernel::load::NO_LOOPS;
use crate::kernel::{Bprm, HookState, Report};

fn refused(errno: i32) -> Attempt {
    Err(std::io::Error::from_raw_os_error(errno).into())
}

/// A current Debian kernel, as root.
fn best() -> Facts {
    Facts {
        kernel: "6.12.0".into(),
        capabilities: u64::MAX,
        btf: Ok(()),
        missing_fields: Vec::new(),
        missing_exec_fields: Vec::new(),
        cgroup2: Some("/sys/fs/cgroup".into()),
        bpffs: Ok(()),
        ring_buffer: Ok(()),
        image_maps: Ok(()),
        network: [Ok(()), Ok(()), Ok(()), Ok(())],
        layers: [Ok(()), Ok(()), Ok(()), Ok(())],
        names: Ok(()),
        sock_destroy: Ok(()),
        exec_tracing: Ok(()),
        send_signal: Ok(()),
        lsm: Ok(()),
        lsm_is_active: Some(true),
        lsm_list: Some("landlock,apparmor,bpf".into()),
        lsm_ima: Ok(()),
        ima_is_built_in: Some(true),
        fanotify: Ok(()),
        lockdown: Some("none".into()),
        memory_available: Some(4 << 30),
    }
}

fn find<'a>(lines: &'a [Capability], name: &str) -> &'a Capability {
    lines.iter().find(|line| line.capability == name).unwrap()
}

fn line(facts: &Facts, name: &str) -> Capability {
    find(&advise(facts, &plan(facts)), name).clone()
}

#[test]
fn the_best_kernel_is_used_to_the_full() {
    let plan = plan(&best());
    assert_eq!(plan.network, [Hook::Connect4, Hook::Connect6, Hook::Sendmsg4, Hook::Sendmsg6]);
    assert_eq!((plan.exec, plan.bprm, plan.guard), (ExecPath::LsmIma, Bprm::Ima, false));
    assert!(plan.can_enforce());
    for line in advise(&best(), &plan) {
        assert_eq!((line.state, &line.fix), (State::Available, &None), "{line:?}");
    }
}

#[test]
fn each_lack_leads_one_step_down() {
    type Lack = fn(&mut Facts);
    let steps: [(&str, Lack, ExecPath, Bprm, bool); 6] = [
        ("no IMA", |facts| facts.ima_is_built_in = Some(false), ExecPath::LsmWithGuard, Bprm::Plain, true),
        ("no fanotify either", |facts| facts.fanotify = refused(libc::EINVAL), ExecPath::Lsm, Bprm::Plain, false),
        ("LSM not active", |facts| facts.lsm_is_active = Some(false), ExecPath::Kill, Bprm::None, false),
        ("fanotify again", |facts| facts.fanotify = Ok(()), ExecPath::KillWithGuard, Bprm::None, true),
        ("no signals", |facts| facts.send_signal = refused(libc::EINVAL), ExecPath::Guard, Bprm::None, true),
        ("nothing", |facts| facts.fanotify = refused(libc::EPERM), ExecPath::None, Bprm::None, false),
    ];
    let mut facts = best();
    for (name, lack, exec, bprm, guard) in steps {
        lack(&mut facts);
        let plan = plan(&facts);
        assert_eq!((plan.exec, plan.bprm, plan.guard), (exec, bprm, guard), "{name}");
        assert!(plan.can_enforce(), "{name}: the network hooks are still there");
    }
    facts.cgroup2 = None;
    assert!(!plan(&facts).can_enforce());
}

#[test]
fn what_is_in_force_is_told_from_what_is_attached() {
    let all = [Hook::SchedProcessExec, Hook::BprmCheck, Hook::BprmCheckIma];
    let steps = [
        (3, ExecPath::LsmIma, ExecPath::LsmIma),
        (2, ExecPath::LsmWithGuard, ExecPath::Lsm),
        (1, ExecPath::KillWithGuard, ExecPath::Kill),
        (0, ExecPath::Guard, ExecPath::None),
    ];
    for (attached, with_guard, without) in steps {
        let state = |index| match index < attached {
            true => HookState::Attached { adopted: false },
            false => HookState::Unavailable { why: "no".into() },
        };
        let hooks = all.iter().enumerate().map(|(index, hook)| (*hook, state(index))).collect();
        let report = Report { hooks, ..Report::default() };
        assert_eq!((ExecPath::in_force(&report, true), ExecPath::in_force(&report, false)), (with_guard, without));
    }
}

#[test]
fn without_loops_exec_programs_are_missing_and_the_fix_is_a_newer_kernel() {
    let refused = || Err(Refusal::new(NO_LOOPS));
    let facts = Facts {
        exec_tracing: refused(),
        send_signal: refused(),
        lsm: refused(),
        lsm_ima: refused(),
        names: refused(),
        ..best()
    };
    assert_eq!(plan(&facts).exec, ExecPath::Guard);
    for name in ["sched_process_exec", "exec_kill", "lsm_bprm_check_security"] {
        let line = line(&facts, name);
        assert_eq!((line.state, line.why.as_str()), (State::Fallback, NO_LOOPS), "{name}");
        assert!(line.fix.unwrap().contains("Linux 5.17"), "{name}");
    }
    let names = line(&facts, "cgroup_egress_names");
    assert_eq!((names.state, names.why.as_str()), (State::Impossible, NO_LOOPS));
    assert!(names.fix.unwrap().contains("Linux 5.17"));
}

#[test]
fn a_hook_that_may_never_be_called_is_not_relied_on() {
    for active in [None, Some(false)] {
        let facts = Facts { lsm_is_active: active, ..best() };
        assert_eq!(plan(&facts).exec, ExecPath::KillWithGuard, "{active:?}");
        assert_eq!(line(&facts, "lsm_bprm_check_security").state, State::Fallback);
    }
    assert_eq!(plan(&Facts { ima_is_built_in: None, ..best() }).exec, ExecPath::LsmWithGuard);
}

#[test]
fn a_kernel_whose_fields_are_unknown_judges_no_exec_in_the_kernel() {
    let facts = Facts { missing_exec_fields: vec!["linux_binprm.file".into()], ..best() };
    let plan = plan(&facts);
    assert_eq!(plan.exec, ExecPath::Guard);
    let btf = line(&facts, "btf");
    assert_eq!(btf.state, State::Impossible);
    assert!(btf.why.contains("linux_binprm.file"));
}

#[test]
fn without_maps_nothing_is_possible() {
    let lacks: [fn(&mut Facts); 3] = [
        |facts| facts.ring_buffer = refused(libc::EINVAL),
        |facts| facts.image_maps = refused(libc::EINVAL),
        |facts| facts.bpffs = Err(Refusal::new("not mounted")),
    ];
    for lack in lacks {
        let mut facts = best();
        lack(&mut facts);
        assert!(!plan(&facts).can_enforce());
    }
}

#[test]
fn fixes_are_what_to_do() {
    let facts = Facts { lsm_is_active: Some(false), lsm_list: Some("capability,yama".into()), ..best() };
    assert_eq!(line(&facts, "lsm_bprm_check_security").fix.unwrap(), "boot with lsm=capability,yama,bpf");
    let facts = Facts { bpffs: Err(Refusal::new("nothing is mounted")), ..best() };
    assert_eq!(line(&facts, "bpffs").fix.unwrap(), "mount -t bpf bpf /sys/fs/bpf");
    let facts = Facts { cgroup2: None, ..best() };
    assert_eq!(line(&facts, "cgroup_connect4").state, State::Impossible);
    // Without privileges the fix is to be root; with all of them it is not.
    let facts = Facts { lsm: refused(libc::EPERM), capabilities: 0, ..best() };
    assert!(line(&facts, "lsm_bprm_check_security").fix.unwrap().contains("root"));
    let facts = Facts { lsm: refused(libc::EPERM), ..best() };
    assert!(!line(&facts, "lsm_bprm_check_security").fix.unwrap().contains("root"));
    let facts = Facts { lockdown: Some("confidentiality".into()), exec_tracing: refused(libc::EPERM), ..best() };
    assert!(line(&facts, "sched_process_exec").fix.unwrap().contains("lockdown"));
    let facts = Facts { fanotify: refused(libc::EINVAL), ..best() };
    assert!(line(&facts, "fanotify_open_exec").fix.unwrap().contains("CONFIG_FANOTIFY_ACCESS_PERMISSIONS"));
}

#[test]
fn whatever_is_not_available_has_a_reason() {
    let mut facts = Facts { memory_available: Some(1 << 20), ..best() };
    facts.network = std::array::from_fn(|_| refused(libc::EINVAL));
    for attempt in
        [&mut facts.exec_tracing, &mut facts.send_signal, &mut facts.lsm, &mut facts.lsm_ima, &mut facts.fanotify]
    {
        *attempt = refused(libc::EINVAL);
    }
    let lines = advise(&facts, &plan(&facts));
    for line in &lines {
        assert!(!line.why.is_empty());
        assert!(line.state == State::Available || line.fix.is_some(), "{line:?}");
    }
    assert_eq!(lines.iter().filter(|line| line.state == State::Impossible).count(), 12);
}

#[test]
fn this_kernel_answers_and_nothing_stays_behind() {
    let steady = |facts: Facts| Facts { memory_available: None, ..facts };
    let facts = steady(probe());
    assert_eq!(facts.kernel, std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim());
    assert!(facts.btf.is_ok(), "{:?}", facts.btf);
    let is_root = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata("/proc/self").unwrap()) == 0;
    if is_root {
        assert!(facts.ring_buffer.is_ok() && facts.image_maps.is_ok(), "{facts:?}");
        assert!(facts.network.iter().all(Result::is_ok), "{facts:?}");
    } else {
        assert!(facts.network.iter().all(Result::is_err), "{facts:?}");
    }
    let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let before = descriptors();
    assert_eq!(steady(probe()), facts);
    // Other tests open files meanwhile; a leak of one probe would be some ten.
    assert!(descriptors() < before + 10);
}

#[test]
fn without_lsm_programs_packet_sockets_are_said_to_go_unseen() {
    let mut facts = best();
    facts.lsm_is_active = Some(false);
    let told = line(&facts, "lsm_socket");
    assert_eq!(told.state, State::Impossible);
    assert!(told.why.contains("packet sockets"), "{}", told.why);
    facts.layers[2] = refused(libc::EINVAL);
    assert_eq!(line(&facts, "cgroup_egress").state, State::Impossible);
}

#[test]
fn what_keeps_open_flows_from_being_closed_is_said() {
    let without = Facts { sock_destroy: refused(libc::EOPNOTSUPP), ..best() };
    let said = line(&without, "sock_destroy");
    assert_eq!(said.state, State::Fallback);
    assert!(said.why.contains("are not closed"), "{said:?}");
    assert!(said.fix.unwrap().contains("CONFIG_INET_DIAG_DESTROY=y"));
    let not_admin = Facts { capabilities: !(1 << 21), ..best() };
    let said = line(&not_admin, "sock_destroy");
    assert_eq!(said.state, State::Fallback);
    assert!(said.why.contains("not in other network namespaces"), "{said:?}");
    assert!(plan(&without).can_enforce());
}
