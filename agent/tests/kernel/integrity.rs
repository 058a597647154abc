//! What somebody else changes in the kernel is seen.

use agent_common::wire::Mode;

use crate::sandbox::{Rules, Running, Sandbox};

/// What a second owner of the maps, as root can be, has changed.
fn changed(change: impl FnOnce(&mut Running)) -> (Sandbox, Vec<String>) {
    let sandbox = Sandbox::new();
    let running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    assert_eq!(running.kernel.changes(), Vec::<String>::new());
    let mut other = sandbox.load();
    change(&mut other);
    let changes = running.kernel.changes();
    (sandbox, changes)
}

#[test]
fn what_nobody_changed_is_ours_whatever_we_publish_and_configure() {
    let sandbox = Sandbox::new();
    let mut running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    running.publish(2, Rules::default());
    running.configure(Mode::Monitor);
    assert_eq!(running.kernel.changes(), Vec::<String>::new());
}

#[test]
fn a_rewritten_configuration_is_seen() {
    let (_sandbox, changes) = changed(|other| other.configure(Mode::Monitor));
    assert_eq!(changes, ["the configuration was rewritten"]);
}

#[test]
fn another_image_is_seen() {
    let (_sandbox, changes) = changed(|other| other.publish(7, Rules::default()));
    assert_eq!(changes, ["the image was replaced"]);
}

#[test]
fn a_link_that_is_gone_is_seen() {
    let sandbox = Sandbox::new();
    let running = sandbox.start(Mode::Enforce, Rules::default().block_ip("127.0.0.9"));
    let links = std::fs::read_dir(&sandbox.pins).unwrap().flatten().next().unwrap().path().join("links");
    std::fs::remove_file(links.join("connect4")).unwrap();
    assert_eq!(running.kernel.changes(), ["the link connect4 was removed"]);
}

#[test]
fn a_link_that_another_agent_took_over_is_seen() {
    let (_sandbox, changes) = changed(Running::attach);
    assert!(changes.contains(&"the link connect4 has another program".to_owned()), "{changes:?}");
}
