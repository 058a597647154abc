use std::path::Path;

use super::{CgroupPaths, container_of, id_of, level_of, unit_of};

const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn units() {
    for (path, unit) in [
        ("/system.slice/nginx.service", Some("nginx.service")),
        ("/system.slice/nginx.service/worker", Some("nginx.service")),
        ("/system.slice/system-getty.slice/getty@tty1.service", Some("getty@tty1.service")),
        ("/user.slice/user-1000.slice/session-3.scope", Some("session-3.scope")),
        ("/user.slice/user-1000.slice/user@1000.service/app.slice/firefox.service", Some("firefox.service")),
        ("/system.slice/_memory.service", Some("memory.service")),
        ("/machine.slice", Some("machine.slice")),
        ("/system.slice/ssh.socket", Some("ssh.socket")),
        ("/init.scope", Some("init.scope")),
        ("/", None),
        ("", None),
        ("/kubepods/burstable", None),
        ("/x/.service", None),
    ] {
        assert_eq!(unit_of(path), unit, "{path}");
    }
}

#[test]
fn containers() {
    for path in [
        format!("/system.slice/docker-{ID}.scope"),
        format!("/docker/{ID}"),
        format!("/docker/{ID}/init.scope"),
        format!("/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice/cri-containerd-{ID}.scope"),
        format!("/kubepods.slice/kubepods-pod1.slice/crio-{ID}.scope/container"),
        format!("/machine.slice/libpod-{ID}.scope"),
        format!("/machine.slice/libpod-{ID}.scope/container"),
        format!("/system.slice/containerd.service/kubepods-pod1.slice:cri-containerd:{ID}"),
        format!("/kubepods/besteffort/pod1/{ID}"),
    ] {
        assert_eq!(container_of(&path), Some(ID), "{path}");
    }
    for path in [
        format!("/machine.slice/libpod-conmon-{ID}.scope"),
        format!("/machine.slice/crio-conmon-{ID}.scope"),
        format!("/docker/{}", &ID[1..]),
        format!("/docker/{}", ID.to_uppercase()),
        format!("/docker/a{ID}"),
        "/system.slice/nginx.service".to_owned(),
        "/é".to_owned() + &"é".repeat(40),
    ] {
        assert_eq!(container_of(&path), None, "{path}");
    }
}

#[test]
fn ids_lead_to_paths_and_a_cgroup_made_later_is_found() {
    let tree = tempfile::tempdir().unwrap();
    let deep = tree.path().join("system.slice/nginx.service");
    std::fs::create_dir_all(&deep).unwrap();
    let mut paths = CgroupPaths::new(tree.path().to_owned());
    assert_eq!(paths.path(id_of(&deep).unwrap()).as_deref(), Some("/system.slice/nginx.service"));
    assert_eq!(paths.path(id_of(tree.path()).unwrap()).as_deref(), Some("/"));
    assert_eq!(level_of(tree.path(), &deep), Some(2));
    assert_eq!(level_of(tree.path(), Path::new("/elsewhere")), None);
    let later = tree.path().join("later.scope");
    std::fs::create_dir(&later).unwrap();
    std::thread::sleep(super::WALK_PAUSE);
    assert_eq!(paths.path(id_of(&later).unwrap()).as_deref(), Some("/later.scope"));
    assert_eq!(paths.path(u64::MAX), None);
}

#[test]
fn the_mount_point_is_a_cgroup2() {
    let mount_point = super::mount_point().unwrap();
    assert!(mount_point.join("cgroup.controllers").exists());
}
