use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::intel::SkipReason;
use crate::intel::parse::Fault;

fn now() -> Timestamp {
    "2026-11-01T00:00:00Z".parse().unwrap()
}

fn bundle(objects: &[serde_json::Value]) -> String {
    serde_json::json!({"type": "bundle", "objects": objects}).to_string()
}

fn version(modified: &str, value: &str, revoked: bool) -> serde_json::Value {
    serde_json::json!({
        "type": "indicator", "id": "indicator--a", "modified": modified, "revoked": revoked,
        "pattern": format!("[ipv4-addr:value = '{value}']"),
    })
}

#[test]
fn settings_name_a_source() {
    let source: Source = toml::from_str("name = \"talos\"\npath = \"/etc/cordon/intel.d/talos\"").unwrap();
    assert_eq!(source, Source::new("talos", "/etc/cordon/intel.d/talos"));
    let source: Source = toml::from_str(
        "name = \"x\"\npath = \"x\"\nformat = \"list\"\naction = \"report\"\nallow_reserved = true\nmin_confidence = 50\nmax_age = \"90d\"\ndefault_tlp = \"amber+strict\"",
    )
    .unwrap();
    assert_eq!(
        (source.format, source.action, source.default_tlp),
        ("list".parse().unwrap(), Action::Report, Tlp::AmberStrict)
    );
    assert_eq!(source.max_age.unwrap().duration(), SignedDuration::from_hours(90 * 24));
    for wrong in ["min_confidence = 101", "max_age = \"0d\"", "max_age = \"soon\"", "format = \"xml\"", "colour = 1"] {
        let text = format!("name = \"x\"\npath = \"x\"\n{wrong}");
        assert!(toml::from_str::<Source>(&text).is_err(), "{wrong}");
    }
}

#[test]
fn ages_are_printed_as_they_are_written() {
    for (given, shown) in [("90d", "90d"), ("12h", "12h"), ("2w 1d", "15d"), ("90m", "5400s")] {
        assert_eq!(given.parse::<Age>().unwrap().to_string(), shown);
    }
}

#[test]
fn a_directory_is_read_with_all_below_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path();
    fs::create_dir_all(path.join("2026/05")).unwrap();
    fs::write(path.join("2026/05/b.txt"), "192.0.2.2\nword\n").unwrap();
    fs::write(path.join("a.json"), bundle(&[version("2026-01-01T00:00:00Z", "192.0.2.1", false)])).unwrap();
    fs::write(path.join("broken.json"), "{\"type\": \"bundle\",\n \"objects\": [").unwrap();
    fs::write(path.join("README.md"), "words only\n").unwrap();
    fs::write(path.join(".hidden"), "192.0.2.9\n").unwrap();
    fs::write(path.join("a.json~"), "192.0.2.9\n").unwrap();
    let load = load(&Source::new("x", path), now()).unwrap();
    assert_eq!((load.files.len(), load.read, load.indicators.len(), load.skipped.len()), (2, 3, 2, 1));
    let refused: Vec<String> = load.refused.iter().map(|refused| refused.error.to_string()).collect();
    assert_eq!(refused.len(), 2);
    assert!(refused[0].contains("README.md:1:1: no known format"), "{refused:?}");
    assert!(refused[1].contains("broken.json:2:13: not valid JSON"), "{refused:?}");
    assert_eq!(load.indicators.iter().next().unwrap().tlp, Some((Tlp::Amber, crate::intel::TlpOrigin::SourceDefault)));
}

#[test]
fn links_out_of_a_directory_are_refused_and_links_inside_are_read_once() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("feed");
    fs::create_dir_all(path.join("..data")).unwrap();
    fs::write(root.path().join("outside.txt"), "192.0.2.9\n").unwrap();
    fs::write(path.join("..data/real.txt"), "192.0.2.1\n").unwrap();
    fs::write(path.join("plain.txt"), "192.0.2.2\n").unwrap();
    symlink("..data/real.txt", path.join("real.txt")).unwrap();
    symlink("plain.txt", path.join("again.txt")).unwrap();
    symlink("../outside.txt", path.join("out.txt")).unwrap();
    symlink(".", path.join("cycle")).unwrap();
    symlink("/nonexistent", path.join("dangling")).unwrap();
    let load = load(&Source::new("x", &path), now()).unwrap();
    assert_eq!((load.files.len(), load.read), (2, 2));
    assert_eq!(load.refused.len(), 2);
    assert!(load.refused.iter().all(|refused| matches!(refused.error, FileError::LeadsOut(_))));
}

#[test]
fn a_source_of_which_nothing_can_be_used_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.json");
    fs::write(&path, "{").unwrap();
    assert!(matches!(load(&Source::new("x", &path), now()).unwrap_err().error, FileError::Parse(_)));
    let source = Source::new("x", root.path());
    assert!(matches!(load_all(&source, &[root.path().into()], now()).unwrap_err().error, FileError::Parse(_)));
    assert_eq!(load(&source, now()).unwrap().refused.len(), 1);
    assert!(matches!(
        load(&Source::new("x", root.path().join("none")), now()).unwrap_err().error,
        FileError::Io { .. }
    ));
    assert!(matches!(load(&Source::new("x", "/dev/zero"), now()).unwrap_err().error, FileError::Kind(_)));
    fs::remove_file(&path).unwrap();
    assert_eq!(load(&Source::new("x", root.path()), now()).unwrap().read, 0);
}

#[test]
fn the_newest_version_wins_between_files() {
    let root = tempfile::tempdir().unwrap();
    let write = |name: &str, modified: &str, value: &str, revoked| {
        fs::write(root.path().join(name), bundle(&[version(modified, value, revoked)])).unwrap();
    };
    write("1.json", "2026-01-03T00:00:00Z", "192.0.2.3", false);
    write("2.json", "2026-01-01T00:00:00Z", "192.0.2.1", false);
    let loaded = load(&Source::new("x", root.path()), now()).unwrap();
    assert_eq!((loaded.read, loaded.superseded), (1, 1));
    assert_eq!(loaded.indicators.iter().next().unwrap().observables[0].to_string(), "192.0.2.3");
    write("0.json", "2026-01-04T00:00:00Z", "192.0.2.3", true);
    let loaded = load(&Source::new("x", root.path()), now()).unwrap();
    assert_eq!((loaded.indicators.len(), loaded.read, loaded.superseded), (0, 1, 2));
    assert_eq!(loaded.skipped.iter().next().unwrap().reason, SkipReason::Revoked);
}

#[test]
fn a_gigabyte_without_a_line_end_is_refused_at_once() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("huge.txt");
    // A sparse file would hold NUL bytes, so it starts like a list and then has no end.
    fs::write(&path, "192.0.2.1\n".repeat(7000) + &"a".repeat(1 << 20)).unwrap();
    let FileError::Parse(error) = load(&Source::new("x", &path), now()).unwrap_err().error else { panic!() };
    assert_eq!((error.line, error.fault), (7001, Fault::LineTooLong));
}

#[test]
fn a_bundle_larger_than_the_limit_is_not_read() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("huge.json");
    fs::write(&path, "{\"type\": \"bundle\"").unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 34).unwrap();
    let found = read(&path, &path, &"stix".parse::<Format>().unwrap().into()).unwrap_err().to_string();
    assert!(found.contains("binary data"), "{found}");
    let spaces = format!("{{\"type\": \"bundle\"{}", " ".repeat(crate::intel::parse::SNIFF_BYTES));
    fs::write(&path, spaces).unwrap();
    fs::File::options().write(true).open(&path).unwrap().set_len(1 << 34).unwrap();
    let found = read(&path, &path, &Reading::default()).unwrap_err().to_string();
    assert!(found.contains("1:1: the file is larger than"), "{found}");
}
