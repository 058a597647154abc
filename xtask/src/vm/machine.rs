//! One boot: QEMU without hardware help, the console on its standard output, the verdict in its exit status.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tally::Tally;
use crate::tool;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// What the guest prints before its first test; must match xtask/src/bin/guest.rs.
const TESTS_BEGIN: &str = "GUEST tests begin";
/// What isa-debug-exit makes of the guest's two verdicts, `value << 1 | 1`. A panic or a power-off gives 0.
const PASS: i32 = 0x10 << 1 | 1;
const FAIL: i32 = 0x11 << 1 | 1;
const LIMIT: Duration = Duration::from_secs(600);

/// How a boot ended.
#[derive(Debug)]
pub enum Outcome {
    /// All tests ran.
    Finished(Tally),
    /// No test was reached: worth another boot.
    DiedBeforeTests,
    /// The machine ended or hung with tests under way.
    DiedInTests(Tally),
}

/// Boots and waits for the verdict, at most ten minutes.
pub fn boot(kernel: &Path, archive: &Path, log: &Path) -> Result<Outcome> {
    let mut command = Command::new(PROGRAM);
    command
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-M", "q35", "-m", "2048", "-smp", "2"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none", "-nodefaults"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", "console=ttyS0 panic=-1 quiet"]);
    let mut child = tool::start(command.stdin(Stdio::null()).stdout(Stdio::piped()), "QEMU")?;
    let (sender, receiver) = mpsc::channel();
    let console = child.stdout.take();
    let reader = thread::spawn(move || {
        for line in console.into_iter().flat_map(|console| BufReader::new(console).split(b'\n')).map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end_matches('\r').to_owned()).is_err() {
                return;
            }
        }
    });
    let mut file = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let end = Instant::now() + LIMIT;
    let mut guest = Guest::default();
    let mut in_time = true;
    loop {
        match receiver.recv_timeout(end.saturating_duration_since(Instant::now())) {
            Ok(line) => {
                writeln!(file, "{line}").with_context(|| format!("cannot write {}", log.display()))?;
                guest.line(&line);
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                in_time = false;
                eprintln!("xtask: no verdict after {} s", LIMIT.as_secs());
                child.kill().context("cannot end QEMU")?;
                break;
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
    }
    let status = child.wait().context("cannot wait for QEMU")?;
    let _ = reader.join();
    Ok(guest.outcome(status.code().filter(|_| in_time)))
}

#[derive(Debug, Default)]
struct Guest {
    began: bool,
    tally: Tally,
}

impl Guest {
    fn line(&mut self, line: &str) {
        if line.contains(TESTS_BEGIN) {
            self.began = true;
        }
        if !self.began {
            return;
        }
        self.tally.count(line);
        let passed = line.starts_with("test ") && line.ends_with(" ok");
        if !passed && !line.is_empty() {
            println!("    {line}");
        }
    }

    fn outcome(self, code: Option<i32>) -> Outcome {
        match code {
            Some(PASS) if self.tally.failed == 0 && self.tally.passed > 0 => Outcome::Finished(self.tally),
            Some(FAIL) if self.tally.failed > 0 => Outcome::Finished(self.tally),
            _ if !self.began => Outcome::DiedBeforeTests,
            _ => Outcome::DiedInTests(self.tally),
        }
    }
}

#[cfg(test)]
mod tests;
