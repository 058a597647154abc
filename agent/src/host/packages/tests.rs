use std::num::NonZeroUsize;
use std::os::unix::fs::PermissionsExt;

use md5::{Digest, Md5};
use sha2::Sha256;

use super::*;

/// Records of one package with these files below a directory of its own, given as dpkg gives them: without the slash.
fn host(files: &[(&str, &[u8], u32)]) -> (tempfile::TempDir, Packages) {
    let root = tempfile::tempdir().unwrap();
    let info = root.path().join("info");
    fs::create_dir(&info).unwrap();
    let mut sums = String::from("not a sum\nzz  x\n");
    for (name, contents, mode) in files {
        let path = root.path().join(name);
        fs::write(&path, contents).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(*mode)).unwrap();
        let digest = Md5::digest(contents).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        sums += &format!("{digest}  {}\n", path.strip_prefix("/").unwrap().display());
    }
    fs::write(info.join("lamp.md5sums"), sums).unwrap();
    fs::write(info.join("lamp.list"), "/usr/bin/lamp\n").unwrap();
    let packages = Packages::open(info, root.path().join("own-files"));
    (root, packages)
}

fn cache() -> DigestCache {
    DigestCache::new(NonZeroUsize::MIN, 1 << 20)
}

fn sha256(contents: &[u8]) -> ContentDigest {
    ContentDigest::Sha256(Sha256::digest(contents).into())
}

fn md5_of(contents: &[u8]) -> ContentDigest {
    ContentDigest::Md5(Md5::digest(contents).into())
}

#[test]
fn every_installed_file_is_known_by_its_md5_and_programs_by_more_once_they_are_read() {
    let (root, mut packages) = host(&[("lamp", b"#!/bin/true\n", 0o755), ("lamp.1", b"manual", 0o644)]);
    let wanted = HashSet::from([md5_of(b"manual"), sha256(b"#!/bin/true\n"), md5_of(b"other")]);
    let manual = root.path().join("lamp.1").display().to_string();
    assert_eq!(packages.installed(&wanted).unwrap(), [(md5_of(b"manual"), manual.clone())]);

    let unlearnt = packages.unlearnt().unwrap();
    assert_eq!(unlearnt.iter().map(|file| file.path.clone()).collect::<Vec<_>>(), [root.path().join("lamp")]);
    let learnt: Vec<Learnt> = unlearnt.iter().filter_map(|file| file.read(&cache())).collect();
    assert_eq!((packages.learn(learnt.clone()), packages.learn(learnt)), (1, 0));
    assert_eq!(packages.unlearnt().unwrap(), []);
    let lamp = root.path().join("lamp").display().to_string();
    let installed = packages.installed(&wanted).unwrap();
    assert_eq!(installed, [(sha256(b"#!/bin/true\n"), lamp), (md5_of(b"manual"), manual)]);
}

#[test]
fn a_changed_program_teaches_nothing() {
    let (root, packages) = host(&[("lamp", b"#!/bin/true\n", 0o755)]);
    fs::write(root.path().join("lamp"), "#!/bin/false\n").unwrap();
    let unlearnt = packages.unlearnt().unwrap();
    assert_eq!(unlearnt.len(), 1);
    assert_eq!(unlearnt[0].read(&cache()), None);
}

#[test]
fn what_was_learnt_outlives_a_restart_unless_others_could_have_written_it() {
    let (root, mut packages) = host(&[("lamp", b"x", 0o755)]);
    let learnt = packages.unlearnt().unwrap()[0].read(&cache()).unwrap();
    packages.learn([learnt]);
    packages.save().unwrap();
    let store = root.path().join("own-files");
    let again = || Packages::open(root.path().join("info"), store.clone());
    assert_eq!(again().unlearnt().unwrap(), []);
    fs::set_permissions(&store, fs::Permissions::from_mode(0o666)).unwrap();
    assert_eq!(again().unlearnt().unwrap().len(), 1);
    fs::set_permissions(&store, fs::Permissions::from_mode(0o600)).unwrap();
    for damaged in ["", "something else\n", "cordon-own-files-1\nzz\n"] {
        fs::write(&store, damaged).unwrap();
        assert_eq!(again().unlearnt().unwrap().len(), 1, "{damaged:?}");
    }
}

#[test]
fn a_host_without_dpkg_has_no_packages() {
    let packages = Packages::open("/nonexistent".into(), "/nonexistent".into());
    assert_eq!(packages.changed(), None);
    assert_eq!(packages.installed(&HashSet::from([md5_of(b"x")])).unwrap(), []);
}
