//! Execs: what runs, what is killed, what is told.

use std::fs;
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};

use agent::event::{Action, FileKey, FileStamp, Hook, Verdict};
use agent::intel::Observable;
use agent::kernel::attempt::map_as_code;
use agent::kernel::{Bprm, HookState};
use agent_common::wire::{Counter, FileDigests, Mode};
use sha2::{Digest, Sha256};

use crate::sandbox::{Rules, Running, Sandbox, kernel_version};

/// A program of this test's own: `cp`, which may be busybox's, leaves the file it is told to when it runs.
fn program(sandbox: &Sandbox, name: &str) -> PathBuf {
    let path = sandbox.files.path().join(name);
    fs::copy("/bin/cp", &path).unwrap();
    // Other bytes than /bin/cp's, and a digest of its own; ELF ignores what follows.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(name.as_bytes()).unwrap();
    path
}

fn identity(path: &Path) -> (FileKey, FileStamp) {
    let data = fs::metadata(path).unwrap();
    let device = u64::from(libc::major(data.dev())) << 20 | u64::from(libc::minor(data.dev()));
    let ns = |s: i64, ns: i64| u64::try_from(s).unwrap() * 1_000_000_000 + u64::try_from(ns).unwrap();
    let key = FileKey { device, inode: data.ino() };
    let stamp = FileStamp {
        size: data.size(),
        mtime_ns: ns(data.mtime(), data.mtime_nsec()),
        ctime_ns: ns(data.ctime(), data.ctime_nsec()),
    };
    (key, stamp)
}

fn digests(path: &Path) -> (FileKey, FileDigests) {
    let (key, stamp) = identity(path);
    let bytes = fs::read(path).unwrap();
    let sha1: [u8; 20] = sha1::Sha1::digest(&bytes).into();
    let md5: [u8; 16] = md5::Md5::digest(&bytes).into();
    let flags = FileDigests::SHA1 | FileDigests::MD5;
    (key, FileDigests { stamp, sha256: Sha256::digest(&bytes).into(), sha1, md5, flags })
}

/// Runs it, and says whether it did anything.
fn run(sandbox: &Sandbox, path: &Path) -> (ExitStatus, bool) {
    let trace = sandbox.files.path().join("trace");
    let _ = fs::remove_file(&trace);
    let status = Command::new(path).arg0("cp").arg("/etc/passwd").arg(&trace).status().unwrap();
    (status, trace.exists())
}

/// Whether execs are judged in this kernel: from 5.17 on they must be, before that the report must say why not.
fn judges(test: &str, running: &Running) -> bool {
    if kernel_version() >= (5, 17) {
        assert!(running.report.is_attached(Hook::SchedProcessExec), "{:?}", running.report);
        return true;
    }
    let state = running.report.state(Hook::SchedProcessExec);
    let Some(HookState::Unavailable { why }) = state else { panic!("{state:?}") };
    assert!(why.contains("bpf_loop"), "{why}");
    println!("NOT RUN {test}: {why}");
    false
}

#[test]
fn a_listed_digest_is_killed_before_its_first_instruction() {
    let sandbox = Sandbox::new();
    for kind in 0..3 {
        let path = program(&sandbox, &format!("evil{kind}"));
        let (key, known) = digests(&path);
        let listed = [Observable::Sha256(known.sha256), Observable::Sha1(known.sha1), Observable::Md5(known.md5)];
        let listed = listed.get(kind).unwrap().clone();
        let mut running = sandbox.start(Mode::Enforce, Rules::default().block(listed.clone()));
        if !judges("a_listed_digest_is_killed_before_its_first_instruction", &running) {
            return;
        }
        running.kernel.set_digest(key, &known).unwrap();
        let (status, ran) = run(&sandbox, &path);
        assert_eq!((status.signal(), ran), (Some(9), false));
        let event = running.event();
        assert_eq!((event.hook, event.verdict), (Hook::SchedProcessExec, Verdict::Killed));
        assert_eq!(running.observable(&event), listed);
        let Action::Exec { file, stamp, sha256, has_sha1, has_md5, path: given, args, cut } = event.action else {
            panic!("{event:?}")
        };
        assert!(has_sha1 && has_md5, "it was judged by all three");
        assert_eq!((file, stamp, sha256), (key, known.stamp, Some(known.sha256)));
        assert_eq!((given.as_str(), cut), (path.to_str().unwrap(), false));
        assert_eq!(args.len(), 3);
        assert_eq!(args[1], "/etc/passwd");

        let control = program(&sandbox, "control");
        let (status, ran) = run(&sandbox, &control);
        assert!(status.success() && ran);
        assert!(running.events().is_empty());
        drop(running);
        agent::kernel::unpin_all(&sandbox.pins).unwrap();
    }
}

#[test]
fn a_listed_path_is_killed_through_links_and_mounts() {
    let sandbox = Sandbox::new();
    let path = program(&sandbox, "listed");
    let nested = sandbox.files.path().join("a-directory-with-a-long-name/b/c");
    fs::create_dir_all(&nested).unwrap();
    let deep = nested.join("exactly8");
    fs::copy(&path, &deep).unwrap();
    let listed = |path: &Path| Observable::Path(path.to_str().unwrap().into());
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block(listed(&path)).block(listed(&deep)));
    if !judges("a_listed_path_is_killed_through_links_and_mounts", &running) {
        return;
    }
    let link = sandbox.files.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for given in [&path, &link, &deep] {
        let (status, ran) = run(&sandbox, given);
        assert_eq!((status.signal(), ran), (Some(9), false), "{}", given.display());
        let event = running.event();
        let expected = if *given == deep { &deep } else { &path };
        assert_eq!(running.observable(&event), listed(expected));
        running.kernel.take_folds().unwrap();
    }
    let (status, ran) = run(&sandbox, &program(&sandbox, "listed2"));
    assert!(status.success() && ran);
}

#[test]
fn a_changed_file_is_not_judged_by_its_old_digest() {
    let sandbox = Sandbox::new();
    let path = program(&sandbox, "evil");
    let (key, known) = digests(&path);
    let running = sandbox.start(Mode::Enforce, Rules::default().block(Observable::Sha256(known.sha256)));
    if !judges("a_changed_file_is_not_judged_by_its_old_digest", &running) {
        return;
    }
    running.kernel.set_digest(key, &known).unwrap();
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"more").unwrap();
    let before = running.kernel.counters().unwrap().get(Counter::DigestUnknown);
    let (status, ran) = run(&sandbox, &path);
    assert!(status.success() && ran);
    assert_eq!(running.kernel.counters().unwrap().get(Counter::DigestUnknown), before + 1);
    assert_eq!(running.kernel.digest(&key, &identity(&path).1).unwrap(), None);
    assert!(running.kernel.forget_digest(&key).unwrap());
}

#[test]
fn monitor_mode_lets_run_and_tells() {
    let sandbox = Sandbox::new();
    let path = program(&sandbox, "evil");
    let (key, known) = digests(&path);
    let mut running = sandbox.start(Mode::Monitor, Rules::default().block(Observable::Sha256(known.sha256)));
    if !judges("monitor_mode_lets_run_and_tells", &running) {
        return;
    }
    running.kernel.set_digest(key, &known).unwrap();
    let (status, ran) = run(&sandbox, &path);
    assert!(status.success() && ran);
    assert_eq!(running.event().verdict, Verdict::WouldBlock);
}

#[test]
fn every_exec_in_the_scope_is_told_and_none_outside() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default());
    if !judges("every_exec_in_the_scope_is_told_and_none_outside", &running) {
        return;
    }
    let path = program(&sandbox, "harmless");
    let mut child = Command::new(&path).arg0("cp").args(["/etc/passwd", "/dev/null"]).spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    let batch = running.execs.drain();
    assert!(batch.damaged.is_empty(), "{:?}", batch.damaged);
    let told: Vec<_> = batch.events.iter().filter(|event| event.task.key.pid == pid).collect();
    let [event] = told.as_slice() else { panic!("{:?}", batch.events) };
    assert_eq!((event.verdict, event.matched), (Verdict::Passed, None));
    let Action::Exec { file, stamp, sha256, path: given, args, .. } = &event.action else { panic!("{event:?}") };
    assert_eq!((*file, *stamp), identity(&path));
    assert_eq!((given.as_str(), *sha256), (path.to_str().unwrap(), None));
    assert_eq!(args.as_slice(), ["cp", "/etc/passwd", "/dev/null"]);
    assert_eq!(event.task.comm, "harmless");
    assert_eq!(event.task.ppid, std::process::id());
    assert!(running.kernel.scope_cgroup_id() != 0);
    let outside = batch.events.iter().filter(|event| event.task.cgroup_id != running.kernel.scope_cgroup_id());
    assert_eq!(outside.count(), 0);
}

/// Whether the kernel calls LSM programs; without that it refuses to load or to attach them.
fn lsm_is_active() -> bool {
    fs::read_to_string("/sys/kernel/security/lsm").is_ok_and(|list| list.split(',').any(|name| name.trim() == "bpf"))
}

/// With the hook that is asked for, a listed program does not start: `execve` fails with `EPERM`.
fn refused_by(test: &str, bprm: Bprm, hook: Hook) {
    let sandbox = Sandbox::new();
    let path = program(&sandbox, "evil");
    let (key, known) = digests(&path);
    let mut running = sandbox.load_with(|options| {
        options.bprm = bprm;
        options.ima_max_bytes = 16 << 20;
    });
    running.configure(Mode::Enforce);
    running.publish(1, Rules::default().block(Observable::Sha256(known.sha256)));
    running.attach();
    if !judges(test, &running) {
        return;
    }
    if !lsm_is_active() {
        let Some(HookState::Unavailable { why }) = running.report.state(hook) else { panic!("{:?}", running.report) };
        println!("NOT RUN {test}: bpf is not among this kernel's security modules ({why})");
        return;
    }
    assert!(running.report.is_attached(hook), "{:?}", running.report);
    // Only the kernel's own reading of the file can tell IMA; the other hook has to be told.
    if bprm == Bprm::Plain {
        running.kernel.set_digest(key, &known).unwrap();
    }
    let trace = sandbox.files.path().join("trace");
    let refused = Command::new(&path).arg0("cp").arg("/etc/passwd").arg(&trace).status().unwrap_err();
    assert_eq!((refused.kind(), trace.exists()), (std::io::ErrorKind::PermissionDenied, false));
    let event = running.event();
    assert_eq!((event.hook, event.verdict), (hook, Verdict::Blocked));
    let Action::Exec { file, sha256, .. } = event.action else { panic!("{event:?}") };
    assert_eq!((file, sha256), (key, Some(known.sha256)));
    let (status, ran) = run(&sandbox, &program(&sandbox, "control"));
    assert!(status.success() && ran);
}

#[test]
fn an_lsm_program_refuses_by_the_digest_it_was_told() {
    refused_by("an_lsm_program_refuses_by_the_digest_it_was_told", Bprm::Plain, Hook::BprmCheck);
}

#[test]
fn an_lsm_program_refuses_by_the_digest_that_ima_takes() {
    refused_by("an_lsm_program_refuses_by_the_digest_that_ima_takes", Bprm::Ima, Hook::BprmCheckIma);
}

#[test]
fn where_no_lsm_program_can_be_the_exec_is_still_killed() {
    const NAME: &str = "where_no_lsm_program_can_be_the_exec_is_still_killed";
    if lsm_is_active() {
        println!("NOT RUN {NAME}: this kernel has LSM programs");
        return;
    }
    let sandbox = Sandbox::new();
    let path = program(&sandbox, "evil");
    let (key, known) = digests(&path);
    let mut running = sandbox.load_with(|options| options.bprm = Bprm::Ima);
    running.configure(Mode::Enforce);
    running.publish(1, Rules::default().block(Observable::Sha256(known.sha256)));
    running.attach();
    if !judges(NAME, &running) {
        return;
    }
    running.kernel.set_digest(key, &known).unwrap();
    assert_eq!(run(&sandbox, &path).0.signal(), Some(9));
    assert_eq!(running.event().hook, Hook::SchedProcessExec);
}

#[test]
fn a_listed_file_cannot_be_mapped_as_code_without_an_exec() {
    const NAME: &str = "a_listed_file_cannot_be_mapped_as_code_without_an_exec";
    if !lsm_is_active() {
        println!("NOT RUN {NAME}: this kernel has no LSM programs, and nothing else sees it");
        return;
    }
    let sandbox = Sandbox::new();
    let (library, control) = (program(&sandbox, "library"), program(&sandbox, "control"));
    let (key, known) = digests(&library);
    let mut running = sandbox.load_with(|options| {
        options.bprm = Bprm::Ima;
        options.ima_max_bytes = 64 << 20;
    });
    running.configure(Mode::Enforce);
    running.publish(1, Rules::default().block(Observable::Sha256(known.sha256)));
    running.attach();
    if !running.report.is_attached(Hook::BprmCheckIma) {
        println!("NOT RUN {NAME}: this kernel takes no digests itself");
        return;
    }
    assert!(running.report.is_attached(Hook::MmapFile), "{:?}", running.report);
    let map = |path: &Path| map_as_code(&fs::File::open(path).unwrap()).map_err(|error| error.kind());
    assert_eq!(map(&control), Ok(()));
    assert_eq!(map(&library), Err(std::io::ErrorKind::PermissionDenied));
    let event = running.event();
    assert_eq!((event.hook, event.verdict), (Hook::MmapFile, Verdict::Blocked));
    let Action::Exec { file, sha256, path, .. } = event.action else { panic!("{event:?}") };
    assert_eq!((file, sha256, Path::new(&path)), (key, Some(known.sha256), library.as_path()));
    assert_eq!(event.task.key.pid, std::process::id());
}
