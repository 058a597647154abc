//! One boot: QEMU without hardware help, the console on its standard output, the verdict in its exit status.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use crate::tally::{Output, Tally};
use crate::tool;

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";
/// What the guest prints before its first test; must match xtask/src/bin/guest.rs.
const TESTS_BEGIN: &str = "GUEST tests begin";
/// What isa-debug-exit makes of the guest's two verdicts, `value << 1 | 1`. A panic or a power-off gives 0.
const PASS: i32 = 0x10 << 1 | 1;
const FAIL: i32 = 0x11 << 1 | 1;
/// Longest that the console may be silent: libtest writes a test's name before it runs it and the outcome after.
/// Twenty restarts of the agent, each of which has its programs verified, take five minutes on a busy machine.
const SILENCE: Duration = Duration::from_secs(600);
/// Longest that all tests together may take.
const LIMIT: Duration = Duration::from_secs(80 * 60);

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

/// Boots and waits for the verdict: at most [`LIMIT`], and at most [`SILENCE`] for each test.
pub fn boot(kernel: &Path, cpu: &str, archive: &Path, log: &Path) -> Result<Outcome> {
    let mut command = Command::new("setpriv");
    command
        // A machine whose xtask was killed would go on for ever.
        .args(["--pdeathsig", "KILL", PROGRAM])
        // Under QEMU 7.2 the kernel panicked with two processors, where one ran what the other was patching ("Oops: int3"), and with
        // one behind a cmpxchg16b ("double fault"), see `kernels::cpu`.
        .args(["-accel", "tcg", "-cpu", cpu, "-M", "q35", "-m", "2048", "-smp", "1"])
        .args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-no-reboot", "-nic", "none", "-nodefaults"])
        .args(["-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(archive)
        .args(["-append", "console=ttyS0 panic=-1 quiet"]);
    let mut log = File::create(log).with_context(|| format!("cannot write {}", log.display()))?;
    let mut child = tool::start(command.stdin(Stdio::null()).stdout(Stdio::piped()), "QEMU")?;
    let console = listen(child.stdout.take());
    let end = Instant::now() + LIMIT;
    let mut guest = Guest::default();
    let in_time = loop {
        match console.recv_timeout(SILENCE.min(end.saturating_duration_since(Instant::now()))) {
            Ok(bytes) => {
                log.write_all(&bytes).context("cannot write the console's log")?;
                guest.hear(&bytes);
            }
            Err(RecvTimeoutError::Disconnected) => break true,
            Err(RecvTimeoutError::Timeout) => break false,
        }
    };
    if !in_time {
        eprintln!("\n*** HANGS: {}\n", guest.unfinished());
        child.kill().context("cannot end QEMU")?;
    }
    let status = child.wait().context("cannot wait for QEMU")?;
    Ok(guest.outcome(status.code().filter(|_| in_time)))
}

/// The console as it comes, unfinished lines included: they name the test that is running.
fn listen(console: Option<ChildStdout>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut buffer = [0; 4096];
        let Some(mut console) = console else { return };
        while let Ok(length @ 1..) = console.read(&mut buffer) {
            if sender.send(buffer.iter().take(length).copied().collect()).is_err() {
                return;
            }
        }
    });
    receiver
}

#[derive(Debug, Default)]
struct Guest {
    began: bool,
    output: Output,
    /// The line that has not ended yet.
    line: Vec<u8>,
}

impl Guest {
    fn hear(&mut self, bytes: &[u8]) {
        for byte in bytes {
            if *byte == b'\n' {
                let line = std::mem::take(&mut self.line);
                self.line(String::from_utf8_lossy(&line).trim_end_matches('\r'));
            } else {
                self.line.push(*byte);
            }
        }
    }

    fn line(&mut self, line: &str) {
        self.began |= line.contains(TESTS_BEGIN);
        // Emulation is slow: what has passed is shown too, so that whoever waits sees that it goes on.
        if self.began && (self.output.line(line) || line.starts_with("test ")) {
            println!("    {line}");
        }
    }

    /// What was going on when nothing more came.
    fn unfinished(&self) -> String {
        let line = String::from_utf8_lossy(&self.line);
        match line.trim() {
            "" if self.began => "no test, but between two of them".to_owned(),
            "" => "the kernel, before the tests".to_owned(),
            line => line.to_owned(),
        }
    }

    fn outcome(self, code: Option<i32>) -> Outcome {
        let tally = self.output.tally();
        match code {
            Some(PASS) if tally.failed == 0 && tally.passed + tally.skipped > 0 => Outcome::Finished(tally),
            Some(FAIL) if tally.failed > 0 => Outcome::Finished(tally),
            _ if !self.began => Outcome::DiedBeforeTests,
            _ => Outcome::DiedInTests(tally),
        }
    }
}

#[cfg(test)]
mod tests;
