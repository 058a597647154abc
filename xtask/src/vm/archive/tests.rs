use super::Archive;

fn field(entry: &[u8], index: usize) -> u32 {
    let start = 6 + index * 8;
    u32::from_str_radix(std::str::from_utf8(&entry[start..start + 8]).unwrap(), 16).unwrap()
}

/// Names, modes and contents, read back by the format's own rules.
fn entries(bytes: &[u8]) -> Vec<(String, u32, Vec<u8>)> {
    let mut rest = bytes;
    let mut found = Vec::new();
    loop {
        assert_eq!(&rest[..6], b"070701");
        let (mode, size, name_size) = (field(rest, 1), field(rest, 6) as usize, field(rest, 11) as usize);
        let name = String::from_utf8(rest[110..110 + name_size - 1].to_vec()).unwrap();
        let start = (110 + name_size).next_multiple_of(4);
        if name == "TRAILER!!!" {
            return found;
        }
        found.push((name, mode, rest[start..start + size].to_vec()));
        rest = &rest[(start + size).next_multiple_of(4)..];
    }
}

#[test]
fn folders_come_before_what_is_in_them_and_once() {
    let mut archive = Archive::default();
    archive.file("/usr/bin/cordon", 0o755, b"elf").unwrap();
    archive.link("/usr/bin/sh", "busybox").unwrap();
    let found = entries(&archive.finish().unwrap());
    assert_eq!(
        found,
        [
            ("usr".to_owned(), 0o040_755, Vec::new()),
            ("usr/bin".to_owned(), 0o040_755, Vec::new()),
            ("usr/bin/cordon".to_owned(), 0o100_755, b"elf".to_vec()),
            ("usr/bin/sh".to_owned(), 0o120_777, b"busybox".to_vec()),
        ]
    );
}

#[test]
fn contents_of_any_length_stay_aligned() {
    for length in 0..9 {
        let mut archive = Archive::default();
        archive.file("a", 0o644, &vec![b'x'; length]).unwrap();
        archive.file("bc", 0o600, b"end").unwrap();
        let found = entries(&archive.finish().unwrap());
        assert_eq!(found[0].2.len(), length);
        assert_eq!(found[1], ("bc".to_owned(), 0o100_600, b"end".to_vec()));
    }
}
