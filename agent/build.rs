//! Embeds the eBPF half. It is built by another toolchain (`cargo xtask ebpf`), which leaves the object where this script
//! looks for it; without one the crate still builds, so that `cargo check` and the unit tests need no eBPF toolchain, and
//! loading it fails with a sentence that says what to do.
use std::path::{Path, PathBuf};
use std::{env, fs};

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-env-changed=CORDON_EBPF_OBJECT");
    // Asked for when the script runs: a script compiled in another checkout would look for that one's object.
    let manifest =
        env::var_os("CARGO_MANIFEST_DIR").ok_or_else(|| std::io::Error::other("CARGO_MANIFEST_DIR is not set"))?;
    let root = Path::new(&manifest).join("..");
    let object = env::var_os("CORDON_EBPF_OBJECT").map_or_else(|| root.join("target/ebpf/cordon.o"), PathBuf::from);
    println!("cargo::rerun-if-changed={}", object.display());
    let bytes = if object.exists() { fs::read(&object)? } else { Vec::new() };
    let out = PathBuf::from(env::var_os("OUT_DIR").ok_or_else(|| std::io::Error::other("OUT_DIR is not set"))?);
    fs::write(out.join("cordon.o"), bytes)
}
