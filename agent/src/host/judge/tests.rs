use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use agent_common::wire::{ExecRecord, FileDigests, FileKey, Hook, Verdict};

use super::{Algorithms, DigestCache, DigestVerdicts, ExecHit, ExecJudge, Others, Wanted, lies_in};
use crate::kernel::fanotify::{Judge, Judgement};

/// Says the same of whatever has this first digest byte.
#[derive(Debug, Default)]
struct Fixed {
    listed: Option<(u8, Verdict)>,
    holds_digests: bool,
    kept: Arc<Mutex<Vec<FileKey>>>,
    fails: bool,
}

impl DigestVerdicts for Fixed {
    fn wanted(&self) -> Result<Wanted, String> {
        Ok(Wanted { digests: self.holds_digests.then(Algorithms::default), paths: true })
    }
    fn keep(&self, file: FileKey, _: &FileDigests) -> Result<(), String> {
        self.kept.lock().unwrap().push(file);
        Ok(())
    }
    fn hit(&self, digests: &FileDigests, _: Option<&str>) -> Result<Option<ExecHit>, String> {
        if self.fails {
            return Err("no map".into());
        }
        let listed = self.listed.filter(|(byte, _)| *byte == digests.sha256[0]);
        Ok(listed.map(|(_, verdict)| ExecHit { generation: 3, entry: 4, verdict }))
    }
}

fn judge(verdicts: Fixed, scope: Option<&str>) -> ExecJudge<Fixed> {
    judge_beside(Others::Hooks, verdicts, scope)
}

fn judge_beside(others: Others, verdicts: Fixed, scope: Option<&str>) -> ExecJudge<Fixed> {
    let digests = Arc::new(DigestCache::new(NonZeroUsize::new(4).unwrap(), 1 << 20));
    ExecJudge::new(digests, verdicts, scope.map(str::to_owned), others)
}

/// The first byte of the SHA-256 of `abc`.
const ABC: u8 = 0xba;

fn listed(verdict: Verdict) -> Fixed {
    Fixed { listed: Some((ABC, verdict)), holds_digests: true, ..Fixed::default() }
}

fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(10)
}

#[test]
fn a_denial_names_file_digest_entry_and_caller() {
    let folder = tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, b"abc").unwrap();
    let kept = Arc::default();
    let judge = judge(Fixed { kept: Arc::clone(&kept), ..listed(Verdict::Blocked) }, None);
    let pid = std::process::id();
    let judged = judge.judge(pid, &File::open(&path).unwrap(), deadline()).unwrap();
    let Judgement::Deny(record) = judged else { panic!("{judged:?}") };
    let header = &record.header;
    assert_eq!((header.generation, header.entry), (3, 4));
    assert_eq!((header.hook, header.verdict), (Hook::FanotifyOpenExec as u8, Verdict::Blocked as u8));
    assert_eq!((header.process.pid, header.process.ppid), (pid, std::os::unix::process::parent_id()));
    assert_ne!((header.boot_ns, header.process.start_boot_ns), (0, 0));
    assert_eq!(record.flags, ExecRecord::DIGEST);
    assert_eq!((record.sha256[0], record.stamp.size), (ABC, 3));
    let found = &record.path[..usize::from(record.path_len)];
    assert_eq!(found, path.canonicalize().unwrap().as_os_str().as_encoded_bytes());
    assert_eq!(*kept.lock().unwrap(), [record.file]);
    // The record is one that the event room understands.
    let event = crate::event::decode(zerocopy::IntoBytes::as_bytes(&*record)).unwrap();
    assert_eq!((event.hook, event.task.key.pid), (Hook::FanotifyOpenExec, pid));
}

#[test]
fn what_is_not_denied_is_allowed_and_failures_have_a_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, b"abc").unwrap();
    let file = File::open(&path).unwrap();
    let nothing = || Fixed { holds_digests: true, ..Fixed::default() };
    assert!(matches!(judge(nothing(), None).judge(1, &file, deadline()), Ok(Judgement::Allow)));
    let failure = judge(Fixed { fails: true, ..nothing() }, None).judge(1, &file, deadline()).unwrap_err();
    assert_eq!((failure.reason, failure.detail.as_str()), ("no_verdict", "no map"));
    std::fs::write(&path, vec![0; (1 << 20) + 1]).unwrap();
    assert_eq!(judge(nothing(), None).judge(1, &file, deadline()).unwrap_err().reason, "too_large");
}

#[test]
fn a_match_that_is_let_go_on_is_told_only_where_no_hook_tells_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, b"abc").unwrap();
    let file = File::open(&path).unwrap();
    for verdict in [Verdict::Reported, Verdict::WouldBlock] {
        let judged = judge(listed(verdict), None).judge(1, &file, deadline());
        assert!(matches!(judged, Ok(Judgement::Allow)), "{judged:?}");
        let judged = judge_beside(Others::None, listed(verdict), None).judge(1, &file, deadline());
        let Ok(Judgement::Report(record)) = judged else { panic!("{judged:?}") };
        assert_eq!(record.header.verdict, verdict as u8);
    }
}

#[test]
fn where_only_paths_are_listed_files_are_looked_at_unless_a_hook_does_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, b"abc").unwrap();
    let file = File::open(&path).unwrap();
    let paths = || Fixed { holds_digests: false, ..listed(Verdict::Blocked) };
    assert!(matches!(judge(paths(), None).judge(1, &file, deadline()), Ok(Judgement::Allow)));
    let judged = judge_beside(Others::None, paths(), None).judge(1, &file, deadline());
    assert!(matches!(judged, Ok(Judgement::Deny(_))), "{judged:?}");
}

#[test]
fn only_processes_of_the_scope_are_of_interest() {
    assert!(lies_in("/a/b", "/a") && lies_in("/a", "/a"));
    assert!(!lies_in("/ab", "/a") && !lies_in("/", "/a"));
    let pid = std::process::id();
    let own = super::snapshot(pid).unwrap().unwrap().cgroup.unwrap();
    assert!(judge(Fixed::default(), None).applies(pid));
    assert!(judge(Fixed::default(), Some("/")).applies(pid));
    assert!(judge(Fixed::default(), Some(&own)).applies(pid));
    assert!(!judge(Fixed::default(), Some("/no/such/cgroup")).applies(pid));
}
