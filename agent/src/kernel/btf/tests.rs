use super::Structures;

/// A BTF blob with `types` as 32-bit words and `strings`.
fn blob(types: &[u32], strings: &[u8]) -> Vec<u8> {
    let words = |values: &[u32]| values.iter().flat_map(|value| value.to_ne_bytes()).collect::<Vec<u8>>();
    let length = u32::try_from(types.len() * 4).unwrap();
    let mut bytes = 0xeb9f_u16.to_ne_bytes().to_vec();
    bytes.extend([1, 0]);
    bytes.extend(words(&[24, 0, length, length, u32::try_from(strings.len()).unwrap()]));
    bytes.extend(words(types));
    bytes.extend(strings);
    bytes
}

const STRUCT: u32 = 4 << 24;
const UNION: u32 = 5 << 24;
const FLAGGED: u32 = 1 << 31;

/// `struct outer { int first; union { struct { int deep; }; int other; }; int bits : 3; int last; }`
fn outer() -> Vec<u8> {
    let strings = b"\0int\0outer\0first\0deep\0other\0bits\0last\0";
    let at =
        |name: &str| u32::try_from(strings.windows(name.len()).position(|w| w == name.as_bytes()).unwrap()).unwrap();
    let types = [
        // 1: int
        at("int"),
        1 << 24,
        4,
        32,
        // 2: struct { int deep; }
        0,
        STRUCT | 1,
        4,
        at("deep"),
        1,
        32,
        // 3: union { 2; int other; }
        0,
        UNION | 2,
        4,
        0,
        2,
        0,
        at("other"),
        1,
        0,
        // 4: outer
        at("outer"),
        FLAGGED | STRUCT | 4,
        16,
        at("first"),
        1,
        0,
        0,
        3,
        32,
        at("bits"),
        1,
        3 << 24 | 96,
        at("last"),
        1,
        128,
    ];
    blob(&types, strings)
}

#[test]
fn members_are_found_by_name_also_in_anonymous_ones() {
    let bytes = outer();
    let structures = Structures::parse(&bytes).unwrap();
    assert_eq!(structures.offset("outer", "first"), Some(0));
    assert_eq!(structures.offset("outer", "other"), Some(4));
    assert_eq!(structures.offset("outer", "deep"), Some(8));
    assert_eq!(structures.offset("outer", "last"), Some(16));
}

#[test]
fn what_is_not_there_and_bit_fields_have_no_offset() {
    let bytes = outer();
    let structures = Structures::parse(&bytes).unwrap();
    assert_eq!(structures.offset("outer", "bits"), None);
    assert_eq!(structures.offset("outer", "firs"), None);
    assert_eq!(structures.offset("inner", "first"), None);
}

#[test]
fn a_damaged_blob_is_an_error_and_never_a_panic() {
    let bytes = outer();
    for length in 0..bytes.len() {
        if let Ok(structures) = Structures::parse(&bytes[..length]) {
            structures.offset("outer", "last");
        }
    }
    assert!(Structures::parse(b"\x7fELF").err().unwrap().contains("not BTF"));
    // A type of a kind that does not exist: what follows it cannot be found.
    let unknown = Structures::parse(&blob(&[0, 31 << 24, 0], b"\0")).err().unwrap();
    assert!(unknown.contains("kind 31"), "{unknown}");
    // An anonymous member that is its own structure ends too.
    let endless = blob(&[1, STRUCT | 1, 4, 0, 1, 0], b"\0a\0");
    assert_eq!(Structures::parse(&endless).unwrap().offset("a", "x"), None);
}

#[test]
fn the_running_kernel_has_the_fields_that_the_hooks_read() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        println!("NOT RUN the_running_kernel_has_the_fields_that_the_hooks_read: this kernel has no BTF");
        return;
    };
    let structures = Structures::parse(&bytes).unwrap();
    for (structure, member) in [("task_struct", "tgid"), ("linux_binprm", "file"), ("qstr", "len"), ("mount", "mnt")] {
        assert!(structures.offset(structure, member).is_some(), "{structure}.{member}");
    }
    assert_eq!(structures.offset("qstr", "len"), Some(4));
}
