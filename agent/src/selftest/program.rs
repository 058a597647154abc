//! Programs that do nothing but say that they ran.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The exit status of a generated program: that it ran.
pub const RAN: i32 = 42;

#[cfg(target_arch = "x86_64")]
mod machine {
    pub(super) const NUMBER: u16 = 62;
    /// `mov edi, 42; mov eax, 60 (exit); syscall`
    pub(super) const EXIT: &[u8] = &[0xbf, 42, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05];
}

#[cfg(target_arch = "aarch64")]
mod machine {
    pub(super) const NUMBER: u16 = 183;
    /// `mov x0, #42; mov x8, #93 (exit); svc #0`
    pub(super) const EXIT: &[u8] = &[0x40, 0x05, 0x80, 0xd2, 0xa8, 0x0b, 0x80, 0xd2, 0x01, 0, 0, 0xd4];
}

/// A static ELF64 program of one segment that exits with [`RAN`]; `tag` makes its digest its own.
pub fn elf(tag: &str) -> Vec<u8> {
    const HEADER: u64 = 64;
    const SEGMENT: u64 = 56;
    const BASE: u64 = 0x40_0000;
    let length = HEADER + SEGMENT + (machine::EXIT.len() + tag.len()) as u64;
    let mut bytes = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0".to_vec();
    let short = |bytes: &mut Vec<u8>, values: &[u16]| {
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    };
    let word = |bytes: &mut Vec<u8>, values: &[u32]| {
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    };
    let long = |bytes: &mut Vec<u8>, values: &[u64]| {
        values.iter().for_each(|value| bytes.extend_from_slice(&value.to_le_bytes()));
    };
    // e_type ET_EXEC, e_machine, e_version, e_entry, e_phoff, e_shoff, e_flags, e_ehsize, e_phentsize, e_phnum, no sections.
    short(&mut bytes, &[2, machine::NUMBER]);
    word(&mut bytes, &[1]);
    long(&mut bytes, &[BASE + HEADER + SEGMENT, HEADER, 0]);
    word(&mut bytes, &[0]);
    short(&mut bytes, &[HEADER as u16, SEGMENT as u16, 1, 0, 0, 0]);
    // PT_LOAD, readable and executable: p_offset, p_vaddr, p_paddr, p_filesz, p_memsz, p_align.
    word(&mut bytes, &[1, 5]);
    long(&mut bytes, &[0, BASE, BASE, length, length, 4096]);
    bytes.extend_from_slice(machine::EXIT);
    bytes.extend_from_slice(tag.as_bytes());
    bytes
}

/// A shell script that exits with [`RAN`].
pub fn script(tag: &str) -> Vec<u8> {
    format!("#!/bin/sh\n# {tag}\nexit {RAN}\n").into_bytes()
}

/// Writes a file that all may execute.
///
/// # Errors
/// It cannot be written.
pub fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn generated_programs_run_and_say_so() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("elf", elf("one")), ("script", script("two"))] {
            let path = dir.path().join(name);
            write(&path, &bytes).unwrap();
            assert_eq!(Command::new(path).status().unwrap().code(), Some(RAN), "{name}");
        }
        assert_ne!(elf("one"), elf("two"));
    }
}
