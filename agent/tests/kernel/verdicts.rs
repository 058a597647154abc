//! What the exec guard finds through the pins is what the hooks would decide.

use agent::intel::Observable;
use agent::kernel::{Denial, Switches, Verdicts};
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
    assert!(!verdicts.digest_kinds().unwrap().any());
    assert_eq!(verdicts.denial(&listed, None).unwrap(), None, "nothing is published yet");

    running.publish(1, Rules::default().block(Observable::Sha256(SHA256)));
    assert!(verdicts.digest_kinds().unwrap().any());
    let Some(Denial { generation: 1, entry }) = verdicts.denial(&listed, Some(PATH)).unwrap() else {
        panic!("not denied")
    };
    let tables = running.tables.take().unwrap();
    assert!(tables.provenance.get(entry).is_some());
    assert_eq!(verdicts.denial(&digests([0x5b; 32], None), Some(PATH)).unwrap(), None);

    // Monitor mode and break-glass reach the guard through the same map as the hooks.
    running.configure(Mode::Monitor);
    assert_eq!(verdicts.denial(&listed, None).unwrap(), None);
    let off = Switches { mode: Mode::Enforce, off_until_boot_ns: u64::MAX, send_execs: true };
    running.kernel.configure(&off).unwrap();
    assert_eq!(verdicts.denial(&listed, None).unwrap(), None);
    running.configure(Mode::Enforce);
    assert!(verdicts.denial(&listed, None).unwrap().is_some());

    // A new generation counts at once: a path that is never blocked, and SHA-1.
    let rules = Rules::default().block(Observable::Sha256(SHA256)).block(Observable::Sha1(SHA1));
    running.publish(2, rules.allow(Observable::Path(PATH.into())));
    assert_eq!(verdicts.denial(&listed, Some(PATH)).unwrap(), None);
    assert!(matches!(verdicts.denial(&listed, Some("/tmp/x")).unwrap(), Some(Denial { generation: 2, .. })));
    let by_sha1 = digests([0; 32], Some(SHA1));
    assert!(verdicts.denial(&by_sha1, None).unwrap().is_some());
    assert_eq!(verdicts.denial(&digests([0; 32], None), None).unwrap(), None);
    assert_eq!(verdicts.denial(&listed, Some("relative")).unwrap().map(|denial| denial.generation), Some(2));
}

#[test]
fn reports_and_what_has_expired_are_not_denied() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.load();
    running.configure(Mode::Enforce);
    let verdicts = Verdicts::open(&sandbox.pins).unwrap();
    running.publish(1, Rules::default().add(Observable::Sha256(SHA256), Action::Report, None));
    assert_eq!(verdicts.denial(&digests(SHA256, None), None).unwrap(), None);
    let soon = Timestamp::now() + jiff::SignedDuration::from_secs(2);
    running.publish(2, Rules::default().add(Observable::Sha256(SHA256), Action::Block, Some(soon)));
    assert!(verdicts.denial(&digests(SHA256, None), None).unwrap().is_some());
    std::thread::sleep(std::time::Duration::from_secs(3));
    assert_eq!(verdicts.denial(&digests(SHA256, None), None).unwrap(), None);
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
