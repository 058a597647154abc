//! What a process took of this machine, from `/proc/PID/stat` (proc_pid_stat(5)).

use std::ops::{Add, Sub};

use anyhow::{Context, Result};
use procfs::process::Process;

/// CPU time since the start, and memory now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// Seconds in its own and in the kernel's code, all threads; counted in ticks of 10 ms.
    pub cpu: f64,
    /// Bytes that are in memory.
    pub resident: f64,
}

impl Usage {
    /// Of a process.
    pub fn of(pid: u32) -> Result<Self> {
        let process = i32::try_from(pid).context("a process id").and_then(|pid| Ok(Process::new(pid)?));
        let stat = process.and_then(|process| Ok(process.stat()?)).with_context(|| format!("/proc/{pid}/stat"))?;
        Ok(Self {
            cpu: (stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64,
            resident: (stat.rss * procfs::page_size()) as f64,
        })
    }

    /// Of this process.
    pub fn own() -> Result<Self> {
        Self::of(std::process::id())
    }
}

impl Add for Usage {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { cpu: self.cpu + other.cpu, resident: self.resident + other.resident }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self { cpu: self.cpu - other.cpu, resident: self.resident - other.resident }
    }
}
