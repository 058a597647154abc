//! Running the command line, and being stopped by a signal.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use signal_hook::consts::{SIGINT, SIGTERM};

/// The program that is measured.
pub const CORDON: &str = env!("CARGO_BIN_EXE_cordon");
/// Between two looks at something that is waited for.
const LOOK: Duration = Duration::from_millis(50);

/// Whether somebody wants this to end. What it made is removed when it does.
#[derive(Clone)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// On SIGINT and SIGTERM.
    pub fn on_signals() -> Result<Self> {
        let stop = Arc::<AtomicBool>::default();
        for signal in [SIGINT, SIGTERM] {
            signal_hook::flag::register(signal, Arc::clone(&stop)).context("cannot take signals")?;
        }
        Ok(Self(stop))
    }

    /// An error once a signal came.
    pub fn check(&self) -> Result<()> {
        ensure!(!self.0.load(Ordering::Relaxed), "stopped by a signal");
        Ok(())
    }

    /// Lets time pass.
    pub fn pause(&self, time: Duration) -> Result<()> {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.check()?;
            sleep(LOOK.min(end.saturating_duration_since(Instant::now())));
        }
        Ok(())
    }

    /// Looks again and again, for at most `patience`.
    pub fn wait_for(&self, what: &str, patience: Duration, mut is_so: impl FnMut() -> Result<bool>) -> Result<()> {
        let end = Instant::now() + patience;
        while !is_so()? {
            self.check()?;
            if Instant::now() > end {
                bail!("waited {} s for {what}", patience.as_secs());
            }
            sleep(LOOK);
        }
        Ok(())
    }
}

/// Runs `cordon`, which must succeed; what it printed.
pub fn cordon(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("cannot start {CORDON}"))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command:?}: {}: {}", output.status, said.trim());
    String::from_utf8(output.stdout).context("`cordon` printed what is no text")
}
