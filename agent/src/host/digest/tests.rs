use std::fs::{self, File, OpenOptions};
use std::io::{Seek, SeekFrom, Write};
use std::num::NonZeroUsize;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use agent_common::wire::FileDigests;

use super::{Algorithms, DigestCache, DigestError, Reuse, Unstable, stamp_of};

/// A folder on a filesystem that stamps writes: beside the test's own executable.
fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in(std::env::current_exe().unwrap().parent().unwrap()).unwrap()
}

fn cache() -> DigestCache {
    DigestCache::new(NonZeroUsize::new(16).unwrap(), 1 << 30)
}

fn written(folder: &tempfile::TempDir, name: &str, contents: &[u8]) -> PathBuf {
    let path = folder.path().join(name);
    fs::write(&path, contents).unwrap();
    path
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn digests_are_those_of_the_standards() {
    let folder = folder();
    // FIPS 180-4's and RFC 1321's example message.
    let path = written(&folder, "abc", b"abc");
    let cache = cache();
    let plain = cache.digest_path(&path, Algorithms::default()).unwrap();
    assert_eq!(hex(&plain.digests.sha256), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    assert_eq!((plain.digests.flags, plain.digests.sha1, plain.digests.md5), (0, [0; 20], [0; 16]));
    let all = cache.digest_path(&path, Algorithms { sha1: true, md5: true }).unwrap();
    assert_eq!(hex(&all.digests.sha1), "a9993e364706816aba3e25717850c26c9cd0d89d");
    assert_eq!(hex(&all.digests.md5), "900150983cd24fb0d6963f7d28e17f72");
    assert_eq!(all.digests.flags, FileDigests::SHA1 | FileDigests::MD5);
    // The first had no SHA-1, so the file was read twice; asking for less is now answered from memory.
    cache.digest_path(&path, Algorithms::default()).unwrap();
    let counters = cache.counters();
    assert_eq!((counters.read, counters.remembered, counters.bytes), (2, 1, 6));
}

#[test]
fn a_large_file_is_read_whole() {
    let folder = folder();
    let contents: Vec<u8> = (0..1_000_003_u32).map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let path = written(&folder, "large", &contents);
    let found = cache().digest_path(&path, Algorithms::default()).unwrap();
    let output = Command::new("sha256sum").arg(&path).output().unwrap();
    assert!(String::from_utf8(output.stdout).unwrap().starts_with(&hex(&found.digests.sha256)));
    assert_eq!(found.digests.stamp.size, 1_000_003);
}

#[test]
fn a_hard_link_is_the_same_file_and_a_copy_is_not() {
    let folder = folder();
    let path = written(&folder, "one", b"contents");
    let link = folder.path().join("link");
    let copy = folder.path().join("copy");
    fs::hard_link(&path, &link).unwrap();
    fs::copy(&path, &copy).unwrap();
    let cache = cache();
    let one = cache.digest_path(&path, Algorithms::default()).unwrap();
    assert_eq!(cache.digest_path(&link, Algorithms::default()).unwrap(), one);
    assert_eq!(cache.counters().read, 1);
    let copied = cache.digest_path(&copy, Algorithms::default()).unwrap();
    assert_ne!(copied.key, one.key);
    assert_eq!(copied.digests.sha256, one.digests.sha256);
}

#[test]
fn each_way_of_writing_makes_it_read_again() {
    let folder = folder();
    let path = written(&folder, "program", b"contents");
    let cache = cache();
    let mut last = cache.digest_path(&path, Algorithms::default()).unwrap();
    type Way = fn(&PathBuf);
    let ways: [(&str, Way); 4] = [
        ("same size", |path| OpenOptions::new().write(true).open(path).unwrap().write_all(b"CONTENTS").unwrap()),
        ("truncate", |path| OpenOptions::new().write(true).open(path).unwrap().set_len(3).unwrap()),
        ("append", |path| OpenOptions::new().append(true).open(path).unwrap().write_all(b"tail").unwrap()),
        ("forged mtime", |path| {
            let mtime = fs::metadata(path).unwrap().modified().unwrap();
            let file = OpenOptions::new().write(true).open(path).unwrap();
            file.write_at(b"X", 0).unwrap();
            file.set_modified(mtime).unwrap();
        }),
    ];
    for (way, write) in ways {
        write(&path);
        let now = cache.digest_path(&path, Algorithms::default()).unwrap();
        assert_ne!(now.digests.sha256, last.digests.sha256, "{way}");
        assert_eq!(cache.known(last.key, last.digests.stamp), None, "{way}");
        assert_eq!(cache.known(now.key, now.digests.stamp), Some(now.digests), "{way}");
        last = now;
    }
    // A write that is followed at once by the question: the file is given time to come to rest first.
    for round in 0..20_u8 {
        OpenOptions::new().write(true).open(&path).unwrap().write_at(&[round], 0).unwrap();
        let now = cache.digest_path(&path, Algorithms::default()).unwrap();
        assert_ne!(now.digests.sha256, last.digests.sha256, "round {round}");
        assert_eq!(now.reuse, Reuse::WhileStampHolds, "round {round}");
        last = now;
    }
}

#[test]
fn a_file_that_is_open_for_writing_is_not_remembered() {
    let folder = folder();
    let path = written(&folder, "program", b"contents");
    let cache = cache();
    let writer = OpenOptions::new().write(true).open(&path).unwrap();
    let found = cache.digest_path(&path, Algorithms::default()).unwrap();
    assert_eq!(found.reuse, Reuse::Once(Unstable::Writer));
    assert_eq!(cache.known(found.key, found.digests.stamp), None);
    drop(writer);
    assert_eq!(cache.digest_path(&path, Algorithms::default()).unwrap().reuse, Reuse::WhileStampHolds);
    assert_eq!(cache.counters().unstable, 1);
}

#[test]
fn a_file_in_memory_is_not_remembered() {
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = written(&folder, "program", b"contents");
    let cache = cache();
    for _ in 0..2 {
        let found = cache.digest_path(&path, Algorithms::default()).unwrap();
        assert_eq!(found.reuse, Reuse::Once(Unstable::Unstamped));
    }
    assert_eq!(cache.counters().read, 2);
}

#[test]
fn a_write_through_a_shared_mapping_changes_the_stamp() {
    let folder = folder();
    let path = written(&folder, "program", &[b'a'; 8192]);
    let cache = cache();
    let before = cache.digest_path(&path, Algorithms::default()).unwrap();
    assert_eq!(before.reuse, Reuse::WhileStampHolds);
    let script = "import mmap,sys\nf=open(sys.argv[1],'r+b')\nm=mmap.mmap(f.fileno(),0)\nm[0]\nm[0]=66\nm.close()";
    assert!(Command::new("python3").arg("-c").arg(script).arg(&path).status().unwrap().success());
    assert_ne!(stamp_of(&fs::metadata(&path).unwrap()), before.digests.stamp);
    assert_ne!(cache.digest_path(&path, Algorithms::default()).unwrap().digests.sha256, before.digests.sha256);
}

#[test]
fn a_change_while_it_is_read_is_not_believed() {
    let folder = folder();
    let path = written(&folder, "program", &vec![1; 24 << 20]);
    let stop = std::sync::atomic::AtomicBool::new(false);
    let cache = cache();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = OpenOptions::new().write(true).open(&path).unwrap();
            for round in 0..100_000_u32 {
                if stop.load(std::sync::atomic::Ordering::Relaxed) {
                    break;
                }
                file.seek(SeekFrom::Start(0)).unwrap();
                file.write_all(&round.to_ne_bytes()).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        std::thread::sleep(Duration::from_millis(20));
        let result = cache.digest_path(&path, Algorithms::default());
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(matches!(result, Err(DigestError::Changing)), "{result:?}");
    });
    assert_eq!((cache.counters().changing, cache.counters().read), (1, 2));
    assert!(cache.all().is_empty());
}

#[test]
fn limits_and_odd_files_are_refused_by_name() {
    let folder = folder();
    let path = written(&folder, "program", &[0; 100]);
    let small = DigestCache::new(NonZeroUsize::new(1).unwrap(), 99);
    let refused = small.digest_path(&path, Algorithms::default());
    assert!(matches!(refused, Err(DigestError::TooLarge { size: 100, limit: 99 })));
    let cache = cache();
    assert!(matches!(cache.digest_path(folder.path(), Algorithms::default()), Err(DigestError::NotRegular)));
    assert!(matches!(cache.digest_path(&folder.path().join("none"), Algorithms::default()), Err(DigestError::Io(_))));
    let late = cache.digest_until(&File::open(&path).unwrap(), Algorithms::default(), Some(Instant::now()));
    assert!(matches!(late, Err(DigestError::TimedOut)));
    let counters = cache.counters();
    assert_eq!((counters.failed, counters.timed_out, small.counters().too_large), (2, 1, 1));
}

#[test]
fn the_least_recently_used_goes_first_and_the_offset_stays() {
    let folder = folder();
    let cache = DigestCache::new(NonZeroUsize::new(2).unwrap(), 1 << 20);
    let paths = ["a", "b", "c"].map(|name| written(&folder, name, name.as_bytes()));
    for path in [&paths[0], &paths[1], &paths[0], &paths[2]] {
        cache.digest_path(path, Algorithms::default()).unwrap();
    }
    let left: Vec<u64> = cache.all().iter().map(|(key, _)| key.inode).collect();
    assert_eq!(left, [&paths[2], &paths[0]].map(|path| fs::metadata(path).unwrap().ino()));
    let mut file = File::open(&paths[1]).unwrap();
    cache.digest(&file, Algorithms::default()).unwrap();
    assert_eq!(file.stream_position().unwrap(), 0);
}
