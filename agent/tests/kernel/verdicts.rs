//! What the exec guard finds through the pins is what the hooks would decide.

use agent::event::Verdict;
use agent::intel::Observable;
use agent::kernel::{DigestKinds, ExecHit, SocketRules, Switches, Verdicts};
use agent::policy::Action;
use agent_common::wire::{FileDigests, FileKey, FileStamp, Mode};
use jiff::Timestamp;

use crate::sandbox::{Rules, Sandbox};

const SHA256: [u8; 32] = [0x5a; 32];
const SHA1: [u8; 20] = [0x1a; 20];
const PATH: &str = "/srv/tools/scanner";

fn digests(sha256: [u8; 32], sha1: Option<[u8; 20]>) -> FileDigests {
    let stamp = FileStamp { size: 1, mtime_ns: 2, ctime_ns: 3 };
    let flags = if sha1.is_some() { FileDigests::SHA1 } else { 0 };
    FileDigests { stamp, sha256, sha1: sha1.unwrap_or_default(), md5: [0; 16], flags }
}

#[test]
fn the_guard_decides_by_the_published_generation_and_the_switches() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.load();
    running.configure(Mode::Enforce);
    let verdicts = Verdicts::open(&sandbox.pins).unwrap();
    let listed = digests(SHA256, None);
    assert_eq!(verdicts.hold().unwrap(), (DigestKinds::default(), false));
    assert_eq!(verdicts.judge(&listed, None).unwrap(), None, "nothing is published yet");

    running.publish(1, Rules::default().block(Observable::Sha256(SHA256)));
    assert_eq!(verdicts.hold().unwrap(), (DigestKinds { sha256: true, ..DigestKinds::default() }, false));
    let Some(ExecHit { generation: 1, entry, verdict: Verdict::Blocked }) =
        verdicts.judge(&listed, Some(PATH)).unwrap()
    else {
        panic!("not denied")
    };
    let tables = running.tables.take().unwrap();
    assert!(tables.provenance.get(entry).unwrap().is_some());
    assert_eq!(verdicts.judge(&digests([0x5b; 32], None), Some(PATH)).unwrap(), None);

    let verdict = |digests: &FileDigests, path| verdicts.judge(digests, path).unwrap().map(|hit| hit.verdict);
    // Monitor mode and break-glass reach the guard through the same map as the hooks.
    running.configure(Mode::Monitor);
    assert_eq!(verdict(&listed, None), Some(Verdict::WouldBlock));
    let off = Switches {
        mode: Mode::Enforce,
        off_until_boot_ns: u64::MAX,
        send_execs: true,
        sockets: SocketRules::default(),
    };
    running.kernel.configure(&off).unwrap();
    assert_eq!(verdict(&listed, None), None);
    running.configure(Mode::Enforce);
    assert_eq!(verdict(&listed, None), Some(Verdict::Blocked));

    // A new generation counts at once: a path that is never blocked, and SHA-1.
    let rules = Rules::default().block(Observable::Sha256(SHA256)).block(Observable::Sha1(SHA1));
    running.publish(2, rules.allow(Observable::Path(PATH.into())));
    assert_eq!(verdict(&listed, Some(PATH)), None);
    assert!(matches!(verdicts.judge(&listed, Some("/tmp/x")).unwrap(), Some(ExecHit { generation: 2, .. })));
    let by_sha1 = digests([0; 32], Some(SHA1));
    assert_eq!(verdict(&by_sha1, None), Some(Verdict::Blocked));
    assert_eq!(verdict(&digests([0; 32], None), None), None);
    assert_eq!(verdict(&listed, Some("relative")), Some(Verdict::Blocked));
}

#[test]
fn reports_are_let_go_on_and_what_has_expired_is_not_known() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.load();
    running.configure(Mode::Enforce);
    let verdicts = Verdicts::open(&sandbox.pins).unwrap();
    let verdict = || verdicts.judge(&digests(SHA256, None), None).unwrap().map(|hit| hit.verdict);
    running.publish(1, Rules::default().add(Observable::Sha256(SHA256), Action::Report, None));
    assert_eq!(verdict(), Some(Verdict::Reported));
    let add = |action, expires| Rules::default().add(Observable::Sha256(SHA256), action, Some(expires));
    let now = Timestamp::now();
    running.publish(2, add(Action::Block, now + jiff::SignedDuration::from_hours(1)));
    assert_eq!(verdict(), Some(Verdict::Blocked));
    running.publish(3, add(Action::Block, now + jiff::SignedDuration::from_secs(1)));
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert_eq!(verdict(), None);
}

#[test]
fn a_digest_that_the_guard_found_is_known_to_the_hooks() {
    let sandbox = Sandbox::new();
    let running = sandbox.load();
    let verdicts = Verdicts::open(&sandbox.pins).unwrap();
    let (key, found) = (FileKey { device: 1, inode: 2 }, digests(SHA256, Some(SHA1)));
    verdicts.set_digest(key, &found).unwrap();
    assert_eq!(running.kernel.digest(&key, &found.stamp).unwrap(), Some(found));
}

#[test]
fn without_pins_the_guard_says_which_is_missing() {
    let sandbox = Sandbox::new();
    let error = Verdicts::open(&sandbox.pins.join("elsewhere")).unwrap_err().to_string();
    assert!(error.contains("CONFIG"), "{error}");
}
