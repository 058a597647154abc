//! `cargo xtask setup`: finds or installs what builds the kernel half. What is installed is preferred to what could be.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::debian;
use crate::tool::{self, progress};
use crate::workspace::Workspace;

/// The linker's version: the newest that links what rustc 1.96 emits with LLVM 22.
const LINKER_VERSION: &str = "0.13.0";
/// The nightly on which the kernel half is known to build where Debian's toolchain is not to be had.
const NIGHTLY: &str = "nightly-2026-05-19";
/// Debian's second Rust toolchain, which alone has a prebuilt `core` for BPF.
const DEBIAN_PACKAGES: [&str; 10] = [
    "rustc-web",
    "cargo-web",
    "libstd-rust-web-dev-bpf",
    "rust-web-src",
    "llvm-22-dev",
    "libclang-22-dev",
    "libpolly-22-dev",
    "zlib1g-dev",
    "libzstd-dev",
    "libxml2-dev",
];
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";

/// A toolchain that builds for `bpfel-unknown-none`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Toolchain {
    /// Debian's cargo and rustc, with `core` prebuilt.
    Debian,
    /// A rustup toolchain with rust-src, which builds `core` itself.
    Rustup {
        /// Its name, as in `cargo +name`.
        name: String,
    },
}

impl Toolchain {
    /// Its cargo, in a clean environment: nothing of the cargo that started xtask may leak into the other toolchain.
    pub fn cargo(&self, workspace: &Workspace) -> Result<Command> {
        let mut command = match self {
            Self::Debian => {
                let mut cargo = Command::new("/usr/bin/cargo");
                cargo.env("RUSTC", "/usr/bin/rustc").env("RUSTDOC", "/usr/bin/rustdoc").env_remove("RUSTUP_TOOLCHAIN");
                cargo
            }
            Self::Rustup { name } => {
                let mut rustup = Command::new("rustup");
                rustup.args(["run", name, "cargo"]).env_remove("RUSTC").env_remove("RUSTDOC");
                rustup
            }
        };
        let leaks = |name: &str| {
            let kept = ["CARGO_HOME", "CARGO_HTTP_", "CARGO_NET_", "CARGO_REGISTRIES_", "CARGO_SOURCE_", "CARGO_TERM_"];
            name.starts_with("CARGO") && !kept.iter().any(|kept| name.starts_with(kept))
        };
        for (name, _) in env::vars_os() {
            if name.to_str().is_some_and(leaks) {
                command.env_remove(&name);
            }
        }
        let path = tool::path_with(&workspace.target("toolchain/bin"))?;
        // aya-ebpf uses `asm_experimental_arch`, which stable compilers refuse without this.
        command.env("PATH", path).env("RUSTC_BOOTSTRAP", "1").env_remove("RUSTFLAGS").env_remove("RUSTC_WRAPPER");
        Ok(command)
    }
}

/// Finds or installs, and says what was found.
pub fn run(workspace: &Workspace) -> Result<()> {
    let toolchain = ensure(workspace)?;
    let words = match &toolchain {
        Toolchain::Debian => "Debian's rustc with core for BPF".to_owned(),
        Toolchain::Rustup { name } => format!("rustup's {name} with rust-src"),
    };
    progress(format_args!("the eBPF toolchain is ready: {words}, bpf-linker {LINKER_VERSION}"));
    Ok(())
}

/// Returns at once when nothing is missing.
pub fn ensure(workspace: &Workspace) -> Result<Toolchain> {
    let toolchain = match installed() {
        Some(toolchain) => toolchain,
        None => install()?,
    };
    ensure_linker(workspace, &toolchain)?;
    Ok(toolchain)
}

fn installed() -> Option<Toolchain> {
    if debian_core().is_some() && Path::new("/usr/bin/cargo").exists() {
        return Some(Toolchain::Debian);
    }
    [NIGHTLY, "nightly"]
        .into_iter()
        .find(|name| has_sources(name))
        .map(|name| Toolchain::Rustup { name: name.to_owned() })
}

fn debian_core() -> Option<PathBuf> {
    let output = Command::new("/usr/bin/rustc").args(["--print", "sysroot"]).stderr(Stdio::null()).output().ok()?;
    let sysroot = PathBuf::from(String::from_utf8(output.stdout).ok()?.trim());
    let libraries = fs::read_dir(sysroot.join("lib/rustlib/bpfel-unknown-none/lib")).ok()?;
    libraries.flatten().map(|entry| entry.path()).find(|path| tool::name(path).starts_with("libcore-"))
}

fn has_sources(name: &str) -> bool {
    let sysroot =
        Command::new("rustup").args(["run", name, "rustc", "--print", "sysroot"]).stderr(Stdio::null()).output();
    let Ok(output) = sysroot else { return false };
    let Ok(sysroot) = String::from_utf8(output.stdout) else { return false };
    !sysroot.trim().is_empty() && Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir()
}

fn install() -> Result<Toolchain> {
    if debian::is_here() && (debian::offers("libstd-rust-web-dev-bpf") || refreshed_offers()) {
        debian::ensure_installed(&DEBIAN_PACKAGES, "the eBPF toolchain")?;
        if debian_core().is_some() {
            return Ok(Toolchain::Debian);
        }
        bail!(
            "Debian's packages are installed and /usr/bin/rustc still has no core for bpfel-unknown-none: is another rustc diverted there?"
        );
    }
    if tool::find("rustup").is_none() {
        bail!(
            "the kernel half needs Debian's package libstd-rust-web-dev-bpf or rustup, and neither is here: install rustup, then run `cargo xtask setup` again"
        );
    }
    progress(format_args!("installing {NIGHTLY} with rust-src through rustup"));
    tool::run(
        Command::new("rustup").args([
            "toolchain",
            "install",
            NIGHTLY,
            "--profile",
            "minimal",
            "--component",
            "rust-src",
        ]),
        &format!("`rustup toolchain install {NIGHTLY}`"),
    )?;
    Ok(Toolchain::Rustup { name: NIGHTLY.to_owned() })
}

/// A machine whose package lists were never fetched offers nothing at all, not even `libc6`.
fn refreshed_offers() -> bool {
    if !debian::offers("libc6-dev") {
        // Without root nothing could be installed either, and the caller then says what to do.
        let _ = debian::refresh();
    }
    debian::offers("libstd-rust-web-dev-bpf")
}

fn ensure_linker(workspace: &Workspace, toolchain: &Toolchain) -> Result<()> {
    let folder = workspace.target("toolchain");
    let linker = folder.join("bin/bpf-linker");
    if is_wanted_linker(&linker) {
        return Ok(());
    }
    let installed = tool::find("bpf-linker").or_else(|| {
        let home = env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(env::home_dir()?.join(".cargo")))?;
        Some(home.join("bin/bpf-linker"))
    });
    if let Some(installed) = installed.filter(|installed| is_wanted_linker(installed)) {
        progress(format_args!("taking {} as it is", installed.display()));
        fs::create_dir_all(folder.join("bin")).with_context(|| format!("cannot make {}", folder.display()))?;
        return fs::copy(&installed, &linker)
            .map(drop)
            .with_context(|| format!("cannot copy {} to {}", installed.display(), linker.display()));
    }
    progress(format_args!("building bpf-linker {LINKER_VERSION} (about a minute, once)"));
    let mut install = tool::cargo();
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--root"]).arg(&folder);
    if *toolchain == Toolchain::Debian {
        debian::ensure_installed(&DEBIAN_PACKAGES, "bpf-linker")?;
        install.args(["--no-default-features", "--features", "llvm-22"]).env("LLVM_PREFIX", DEBIAN_LLVM);
    }
    // The toolchain's own target folder, or cargo would build it in the temporary folder and lose it when interrupted.
    install.env("CARGO_TARGET_DIR", folder.join("build")).current_dir(workspace.root());
    tool::run(&mut install, &format!("`cargo install bpf-linker --version {LINKER_VERSION}`"))?;
    fs::remove_dir_all(folder.join("build")).context("cannot remove the linker's build folder")
}

fn is_wanted_linker(linker: &Path) -> bool {
    let version = Command::new(linker).arg("--version").stderr(Stdio::null()).output();
    version.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == LINKER_VERSION)
    })
}
