use super::{Users, group_in, parse};

#[test]
fn the_first_name_of_an_id_counts_and_odd_lines_name_nobody() {
    let names = parse(
        "root:x:0:0:root:/root:/bin/sh\n# c:x:7:\n+nis:x:8:8::\ntoor:x:0:0\nbad:x:abc:1\nshort:x\nwww-data:x:33:33::/:\n:x:9:9",
    );
    assert_eq!(names.len(), 2);
    assert_eq!(names.get(&0).unwrap().as_ref(), "root");
    assert_eq!(names.get(&33).unwrap().as_ref(), "www-data");
}

#[test]
fn a_changed_file_is_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("passwd");
    let mut users = Users::new(path.clone());
    assert_eq!(users.name(1000), None);
    std::fs::write(&path, "one:x:1000:1000::/:\n").unwrap();
    assert_eq!(users.name(1000).as_deref(), Some("one"));
    std::fs::write(&path, "another:x:1000:1000::/:\n").unwrap();
    assert_eq!(users.name(1000).as_deref(), Some("another"));
    std::fs::remove_file(&path).unwrap();
    assert_eq!(users.name(1000), None);
}

#[test]
fn a_group_is_found_by_its_whole_name() {
    let text = "root:x:0:\ncordons:x:998:\ncordon:x:999:anna,bo\nbroken:x\n";
    assert_eq!(group_in(text, "cordon"), Some(999));
    assert_eq!(group_in(text, "cord"), None);
    assert_eq!(group_in(text, "broken"), None);
}
