use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;

use agent_common::wire::{FileDigests, FileKey, FileStamp};

use super::{BOOT_ID_LEN, DigestCache, StoreError, decode, encode};

const THIS_BOOT: [u8; BOOT_ID_LEN] = [b'a'; BOOT_ID_LEN];
const OTHER_BOOT: [u8; BOOT_ID_LEN] = [b'b'; BOOT_ID_LEN];

fn entry(device: u64, inode: u64) -> (FileKey, FileDigests) {
    let stamp = FileStamp { size: inode, mtime_ns: 2, ctime_ns: 3 };
    let digests =
        FileDigests { stamp, sha256: [inode as u8; 32], sha1: [0; 20], md5: [7; 16], flags: FileDigests::MD5 };
    (FileKey { device, inode }, digests)
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digests");
    let cache = DigestCache::new(NonZeroUsize::new(8).unwrap(), 1 << 20);
    assert_eq!(cache.load(&path).unwrap(), 0);
    for inode in 1..=5 {
        let (key, digests) = entry(254 << 20, inode);
        cache.entries().put(key, digests);
    }
    cache.save(&path).unwrap();
    cache.save(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let smaller = DigestCache::new(NonZeroUsize::new(2).unwrap(), 1 << 20);
    assert_eq!(smaller.load(&path).unwrap(), 5);
    // The two used last are kept, in their order.
    assert_eq!(smaller.all(), [entry(254 << 20, 5), entry(254 << 20, 4)]);
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_file_that_others_can_write_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("digests");
    let cache = DigestCache::new(NonZeroUsize::new(8).unwrap(), 1 << 20);
    cache.save(&path).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o660)).unwrap();
    assert!(matches!(cache.load(&path), Err(StoreError::Writable { .. })));
}

#[test]
fn damage_is_seen_at_every_byte() {
    let bytes = encode(&[entry(254 << 20, 1), entry(254 << 20, 2)], &THIS_BOOT);
    assert_eq!(decode(&bytes, &THIS_BOOT).unwrap().len(), 2);
    for index in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[index] ^= 1;
        assert!(decode(&damaged, &THIS_BOOT).is_none(), "byte {index}");
        assert!(decode(&bytes[..index], &THIS_BOOT).is_none(), "cut at {index}");
    }
}

#[test]
fn anonymous_devices_do_not_outlive_the_boot() {
    let bytes = encode(&[entry(45, 1), entry(254 << 20, 2)], &THIS_BOOT);
    assert_eq!(decode(&bytes, &THIS_BOOT).unwrap().len(), 2);
    assert_eq!(decode(&bytes, &OTHER_BOOT).unwrap(), [entry(254 << 20, 2)]);
}
