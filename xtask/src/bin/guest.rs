//! `/init` of the virtual machine: mounts what a Linux needs, runs the tests listed in `/tests/list` and tells the verdict
//! through QEMU's isa-debug-exit port, since a panicked kernel and a clean power-off look the same from outside.
//!
//! The list's first line is the folder to run in, its second the arguments, each further one a test binary.

use std::ffi::CString;
use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

const PORT: u16 = 0xf4;
const PASS: u8 = 0x10;
const FAIL: u8 = 0x11;

/// What to mount: source, folder, type. Nothing on /tmp: the checkout, and so the tests' own paths, may lie below it.
const MOUNTS: [(&str, &str, &str); 6] = [
    ("proc", "/proc", "proc"),
    ("sysfs", "/sys", "sysfs"),
    ("devtmpfs", "/dev", "devtmpfs"),
    ("cgroup2", "/sys/fs/cgroup", "cgroup2"),
    ("bpf", "/sys/fs/bpf", "bpf"),
    ("securityfs", "/sys/kernel/security", "securityfs"),
];

fn main() {
    for (source, folder, kind) in MOUNTS {
        if let Err(error) = mount(source, folder, kind) {
            println!("GUEST cannot mount {kind} on {folder}: {error}");
        }
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    println!("GUEST kernel {}", release.trim());
    let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    println!("GUEST lsm {}", lsm.trim());
    if let Err(error) = Command::new("/bin/ip").args(["link", "set", "lo", "up"]).status() {
        println!("GUEST cannot bring lo up: {error}");
    }
    load_modules();
    let verdict = match run_tests() {
        Ok(true) => PASS,
        Ok(false) => FAIL,
        Err(error) => {
            println!("TEST FAIL guest: {error}");
            FAIL
        }
    };
    // The console is drained by interrupts; what is still in it would be lost.
    thread::sleep(Duration::from_millis(300));
    tell(verdict);
    println!("GUEST has no debug port");
    loop {
        thread::sleep(Duration::from_secs(3600));
    }
}

/// Loads what is numbered in /modules.
fn load_modules() {
    let modules = fs::read_dir("/modules").into_iter().flatten().flatten();
    let mut modules: Vec<_> = modules.map(|entry| entry.path()).collect();
    modules.sort();
    for module in modules {
        if !Command::new("/bin/insmod").arg(&module).status().is_ok_and(|status| status.success()) {
            println!("GUEST cannot load {}", module.display());
        }
    }
}

fn run_tests() -> io::Result<bool> {
    let list = fs::read_to_string("/tests/list")?;
    let mut lines = list.lines();
    let folder = lines.next().unwrap_or("/").to_owned();
    let arguments: Vec<String> = lines.next().unwrap_or_default().split_whitespace().map(str::to_owned).collect();
    let folder = if Path::new(&folder).is_dir() { folder } else { "/".to_owned() };
    println!("GUEST tests begin");
    let mut all = true;
    for test in lines {
        println!("GUEST running {test}");
        let status = Command::new(test)
            .args(["--test-threads=1", "--show-output"])
            .args(&arguments)
            .current_dir(&folder)
            .env_clear()
            .envs([("PATH", "/bin:/usr/bin"), ("HOME", "/root"), ("TMPDIR", "/tmp"), ("CARGO_MANIFEST_DIR", &folder)])
            // A start takes half a minute here, and this machine itself is asked twenty times.
            .env("CORDON_CYCLES", "5")
            .env("RUST_BACKTRACE", "1")
            .status()?;
        all &= said(test, status);
    }
    Ok(all)
}

/// libtest exits with 101 when tests failed, which its own result line has counted; anything else is one more failure.
fn said(test: &str, status: ExitStatus) -> bool {
    if !status.success() && status.code() != Some(101) {
        println!("TEST FAIL {test}: {status}");
    }
    status.success()
}

fn mount(source: &str, folder: &str, kind: &str) -> io::Result<()> {
    if !Path::new(folder).is_dir() {
        fs::create_dir_all(folder)?;
    }
    let (source, folder, kind) = (CString::new(source)?, CString::new(folder)?, CString::new(kind)?);
    // SAFETY: the three strings live until the call returns and are NUL-terminated; no data is passed.
    let result = unsafe { libc::mount(source.as_ptr(), folder.as_ptr(), kind.as_ptr(), 0, std::ptr::null()) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(target_arch = "x86_64")]
fn tell(verdict: u8) {
    // SAFETY: ioperm only changes which ports this process may use.
    if unsafe { libc::ioperm(PORT.into(), 1, 1) } != 0 {
        println!("GUEST may not use the debug port: {}", io::Error::last_os_error());
        return;
    }
    // SAFETY: the port was granted above; QEMU's device ends the machine, and where there is none nothing answers.
    unsafe { std::arch::asm!("out dx, al", in("dx") PORT, in("al") verdict, options(nomem, nostack)) };
}

#[cfg(not(target_arch = "x86_64"))]
fn tell(verdict: u8) {
    println!("GUEST verdict {verdict}, and only x86_64 has port {PORT:#x}");
}
