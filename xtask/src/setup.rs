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
pub const NIGHTLY: &str = "nightly-2026-05-19";
/// Debian's second Rust toolchain, which alone has a prebuilt `core` for BPF.
const DEBIAN_RUST: [&str; 4] = ["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf", "rust-web-src"];
/// The LLVM of both toolchains' rustc, which bpf-linker is built with.
const LLVM: &str = "22";
/// Where Debian has it, and what it needs there.
const DEBIAN_LLVM: &str = "/usr/lib/llvm-22";
const DEBIAN_LLVM_PACKAGES: [&str; 6] =
    ["llvm-22-dev", "libclang-22-dev", "libpolly-22-dev", "zlib1g-dev", "libzstd-dev", "libxml2-dev"];

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
        let mut before = vec![workspace.target("toolchain/bin")];
        if *self == Self::Debian {
            // Of two `cargo-clippy`, cargo takes the first on the path, and rustup's knows another compiler's `core`.
            before.push("/usr/bin".into());
        }
        let path = tool::path_with(&before)?;
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
    ensure_linker(workspace)?;
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
    if debian::is_here() && debian::offers_if_refreshed("libstd-rust-web-dev-bpf") {
        debian::ensure_installed(&DEBIAN_RUST, "the eBPF toolchain")?;
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

fn ensure_linker(workspace: &Workspace) -> Result<()> {
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
    let llvm = llvm()?;
    progress(format_args!("building bpf-linker {LINKER_VERSION} (about a minute, once)"));
    let mut install = tool::cargo();
    install.args(["install", "bpf-linker", "--version", LINKER_VERSION, "--locked", "--root"]).arg(&folder);
    install.args(["--no-default-features", "--features", &format!("llvm-{LLVM}")]).env("LLVM_PREFIX", llvm);
    // The toolchain's own target folder, or cargo would build it in the temporary folder and lose it when interrupted.
    install.env("CARGO_TARGET_DIR", folder.join("build")).current_dir(workspace.root());
    tool::run(&mut install, &format!("`cargo install bpf-linker --version {LINKER_VERSION}`"))?;
    fs::remove_dir_all(folder.join("build")).context("cannot remove the linker's build folder")
}

/// Where LLVM is installed, development files and all.
fn llvm() -> Result<PathBuf> {
    if let Some(prefix) = configured_llvm() {
        return Ok(prefix);
    }
    if debian::is_here() && debian::offers_if_refreshed("llvm-22-dev") {
        debian::ensure_installed(&DEBIAN_LLVM_PACKAGES, "bpf-linker")?;
        return Ok(DEBIAN_LLVM.into());
    }
    bail!(
        "bpf-linker is built with LLVM {LLVM}, which is not here: install its development files (`llvm-config` must be on the PATH), or put a ready-made bpf-linker {LINKER_VERSION} there, then run `cargo xtask setup` again"
    )
}

/// The prefix of an LLVM that is not Debian's, whose packages are asked for by name.
fn configured_llvm() -> Option<PathBuf> {
    let program = [format!("llvm-config-{LLVM}"), "llvm-config".to_owned()].iter().find_map(|name| tool::find(name))?;
    let ask = |question| Command::new(&program).arg(question).stderr(Stdio::null()).output().ok();
    let say = |question| Some(String::from_utf8(ask(question)?.stdout).ok()?.trim().to_owned());
    let is_wanted = say("--version")?.split('.').next() == Some(LLVM);
    let prefix = PathBuf::from(say("--prefix")?);
    (is_wanted && !debian::is_here()).then_some(prefix)
}

fn is_wanted_linker(linker: &Path) -> bool {
    let version = Command::new(linker).arg("--version").stderr(Stdio::null()).output();
    version.is_ok_and(|output| {
        String::from_utf8_lossy(&output.stdout).split_whitespace().any(|word| word == LINKER_VERSION)
    })
}
