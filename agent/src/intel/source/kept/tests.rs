use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::intel::source::load;

struct Lab {
    root: tempfile::TempDir,
    source: Source,
    kept: Kept,
}

impl Lab {
    fn new(path: &str) -> Self {
        let root = tempfile::tempdir().unwrap();
        let source = Source::new("lab", root.path().join(path));
        let kept = Kept::new(root.path().join("state/sources"));
        Self { root, source, kept }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn keep(&self) {
        // Later than any file written before, although file times are coarser than the clock.
        self.kept.keep(&load(&self.source, Timestamp::now()).unwrap()).unwrap();
    }

    fn values(&self) -> Vec<String> {
        let load = self.kept.load(&self.source).unwrap();
        let indicators = load.iter().flat_map(|load| load.indicators.iter());
        indicators.map(|item| format!("{} {}", item.origin, item.observables[0])).collect()
    }

    fn said(&self, path: &str, value: &str) -> String {
        format!("{}:1 {value}", self.root.path().join(path).display())
    }
}

#[test]
fn what_a_file_said_is_read_again_under_its_own_path() {
    let lab = Lab::new("feed.txt");
    lab.write("feed.txt", "192.0.2.1\n");
    assert!(lab.kept.load(&lab.source).unwrap().is_none());
    lab.keep();
    fs::remove_file(lab.root.path().join("feed.txt")).unwrap();
    assert_eq!(lab.values(), [lab.said("feed.txt", "192.0.2.1")]);
    let copy = lab.kept.place(&lab.source);
    assert_eq!(fs::metadata(copy).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_refused_file_keeps_its_copy_and_a_removed_one_loses_it() {
    let lab = Lab::new("feeds");
    lab.write("feeds/a.json", "{\"type\": \"bundle\", \"objects\": []}");
    lab.write("feeds/b/c.txt", "192.0.2.2\n");
    lab.write("feeds/d.txt", "192.0.2.3\n");
    lab.keep();
    lab.write("feeds/b/c.txt", "\0");
    fs::remove_file(lab.root.path().join("feeds/d.txt")).unwrap();
    lab.keep();
    assert_eq!(lab.values(), [lab.said("feeds/b/c.txt", "192.0.2.2")]);
}

#[test]
fn a_source_that_moved_does_not_inherit_and_one_that_is_gone_leaves_nothing() {
    let mut lab = Lab::new("feed.txt");
    lab.write("feed.txt", "192.0.2.1\n");
    lab.write("other/feed.txt", "192.0.2.9\n");
    lab.keep();
    lab.source.path = lab.root.path().join("other/feed.txt");
    assert!(lab.values().is_empty());
    lab.keep();
    assert_eq!(lab.values(), [lab.said("other/feed.txt", "192.0.2.9")]);
    lab.kept.keep_only([&lab.source].into_iter()).unwrap();
    assert_eq!(lab.values().len(), 1);
    lab.kept.keep_only(std::iter::empty()).unwrap();
    assert!(!lab.root.path().join("state/sources").exists());
}

#[test]
fn a_file_may_become_a_directory_and_a_directory_a_file() {
    let lab = Lab::new("feed");
    lab.write("feed", "192.0.2.1\n");
    lab.keep();
    fs::remove_file(lab.root.path().join("feed")).unwrap();
    lab.write("feed/a.txt", "192.0.2.2\n");
    lab.kept.keep(&load(&lab.source, Timestamp::now()).unwrap()).unwrap();
    assert_eq!(lab.values(), [lab.said("feed/a.txt", "192.0.2.2")]);
    fs::remove_dir_all(lab.root.path().join("feed")).unwrap();
    lab.write("feed", "192.0.2.3\n");
    lab.keep();
    assert_eq!(lab.values(), [lab.said("feed", "192.0.2.3")]);
}

#[test]
fn a_file_written_after_it_was_read_is_not_taken_for_what_was_read() {
    let lab = Lab::new("feed.txt");
    lab.write("feed.txt", "192.0.2.1\n");
    let before = Timestamp::now() - jiff::SignedDuration::from_secs(5);
    lab.kept.keep(&load(&lab.source, before).unwrap()).unwrap();
    assert!(lab.values().is_empty());
    lab.keep();
    assert_eq!(lab.values().len(), 1);
}

#[test]
fn what_cannot_be_kept_is_named() {
    let lab = Lab::new("feed.txt");
    lab.write("feed.txt", "192.0.2.1\n");
    lab.write("state", "a file where a directory is to be");
    let error = lab.kept.keep(&load(&lab.source, Timestamp::now()).unwrap()).unwrap_err().to_string();
    assert!(error.contains("state/sources/lab"), "{error}");
}
