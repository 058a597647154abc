use std::fs::File;
use std::os::unix::fs::MetadataExt;

use super::{Devices, kernel_encoding, parse_major_minor};

#[test]
fn encodings() {
    // 254:0, a virtio disk: stat gives 0xfe00.
    assert_eq!(kernel_encoding(0xfe00), 266_338_304);
    // 0:45, anonymous.
    assert_eq!(kernel_encoding(45), 45);
    // 259:300, whose minor does not fit eight bits: glibc splits it.
    assert_eq!(kernel_encoding((300 & 0xff) | (259 << 8) | ((300 & !0xff) << 12)), 259 << 20 | 300);
    // A major beyond twelve bits.
    assert_eq!(kernel_encoding((5000 & 0xfff) << 8 | (5000 & !0xfff) << 32 | 7), 5000 << 20 | 7);
}

#[test]
fn mountinfo_form() {
    assert_eq!(parse_major_minor("254:0"), Some(266_338_304));
    assert_eq!(parse_major_minor("254"), None);
    assert_eq!(parse_major_minor("a:0"), None);
}

#[test]
fn an_anonymous_device_is_the_one_of_its_mount() {
    let file = File::open("/proc/self/stat").unwrap();
    let expected = procfs::process::Process::myself()
        .unwrap()
        .mountinfo()
        .unwrap()
        .iter()
        .find(|mount| mount.mount_point.as_os_str() == "/proc")
        .and_then(|mount| parse_major_minor(&mount.majmin))
        .unwrap();
    let devices = Devices::default();
    assert_eq!(devices.of(&file, file.metadata().unwrap().dev()), expected);
    // A number that no superblock bears, as btrfs gives for a subvolume: the mount decides.
    assert_eq!(devices.of(&file, 0xf_ff00 << 12 | 0xff), expected);
}
