use std::os::unix::fs::PermissionsExt;

use super::*;

fn load(files: &[(&str, &str)]) -> Result<Settings, Error> {
    let root = tempfile::tempdir().unwrap();
    let places = Places::new(Some(root.path()));
    fs::create_dir_all(&places.drop_ins).unwrap();
    for (name, text) in files {
        fs::write(root.path().join("etc/cordon").join(name), text).unwrap();
    }
    Settings::load(&places)
}

#[test]
fn nothing_said_is_monitor_mode_without_sources() {
    let settings = load(&[]).unwrap();
    assert_eq!(settings.mode, Mode::Monitor);
    assert!(settings.sources.is_empty());
    assert!(settings.never_block.host);
}

#[test]
fn a_drop_in_overrides_keys_and_adds_sources() {
    let main = "mode = \"monitor\"\n[exec]\ndeadline_ms = 100\n[[source]]\nname = \"a\"\npath = \"/a\"\n";
    let over =
        "mode = \"enforce\"\n[exec]\nguard = false\n[[source]]\nname = \"b\"\npath = \"/etc/cordon/intel.d/b\"\n";
    let settings = load(&[("cordon.toml", main), ("cordon.d/10-b.toml", over), ("cordon.d/ignored.txt", "?")]).unwrap();
    assert_eq!(settings.mode, Mode::Enforce);
    assert_eq!(settings.exec.deadline, Duration::from_millis(100));
    assert!(!settings.exec.guard);
    assert_eq!(settings.sources.len(), 2);
    assert_eq!(settings.sources[0].path, Path::new("/a"), "only what is below /etc/cordon moves with --root");
    assert!(settings.sources[1].path.ends_with("etc/cordon/intel.d/b") && settings.sources[1].path.starts_with("/tmp"));
}

#[test]
fn an_unknown_key_names_its_place_and_the_nearest_known_one() {
    let error = load(&[("cordon.toml", "\n  mood = \"enforce\"\n")]).unwrap_err().to_string();
    assert!(
        error.contains("cordon.toml:2:3: unknown field `mood`") && error.ends_with("did you mean `mode`?"),
        "{error}"
    );
}

#[test]
fn a_source_twice_or_with_a_bad_name_is_refused() {
    let twice = "[[source]]\nname = \"a\"\npath = \"/a\"\n[[source]]\nname = \"a\"\npath = \"/b\"\n";
    assert!(load(&[("cordon.toml", twice)]).unwrap_err().to_string().contains("there twice"));
    let bad = "[[source]]\nname = \"A b\"\npath = \"/a\"\n";
    assert!(load(&[("cordon.toml", bad)]).unwrap_err().to_string().contains("a name is"));
}

#[test]
fn what_others_can_write_is_refused() {
    let root = tempfile::tempdir().unwrap();
    let places = Places::new(Some(root.path()));
    fs::create_dir_all(&places.drop_ins).unwrap();
    fs::write(&places.settings, "").unwrap();
    fs::set_permissions(&places.settings, fs::Permissions::from_mode(0o620)).unwrap();
    assert!(matches!(Settings::load(&places), Err(Error::Untrusted { .. })));
}

#[test]
fn each_root_has_pins_of_its_own() {
    let (host, one, two) = (Places::new(None), Places::new(Some(Path::new("/a"))), Places::new(Some(Path::new("/b"))));
    assert_eq!(host.pins, Path::new("/sys/fs/bpf/cordon"));
    assert_ne!(one.pins, two.pins);
    assert_eq!(one.pins, Places::new(Some(Path::new("/a"))).pins);
}
