//! `cargo xtask vm`: boots Debian kernels of other series under QEMU and runs the kernel and end-to-end tests in them. No
//! hardware virtualisation is asked for, so it runs wherever a program runs.

mod archive;
mod kernels;
mod machine;
mod payload;

pub use self::kernels::NAMES as SERIES;
pub use self::payload::cordon as static_cordon;

use anyhow::{Result, bail};

use self::machine::Outcome;
use crate::tally::{Summary, Tally};
use crate::test::KERNEL_TESTS;
use crate::tool::progress;
use crate::workspace::Workspace;
use crate::{debian, ebpf, tool};

/// The series that is tried unless others are named: Debian's long-term kernel with BPF LSM on.
pub const DEFAULT_SERIES: &str = "6.12";

/// Which kernels, which tests.
#[derive(Default, clap::Args)]
pub struct Arguments {
    /// Kernel series: 5.10, 6.1, 6.12, 6.18, 7.3
    #[arg(default_value = DEFAULT_SERIES)]
    pub series: Vec<String>,
    /// Only this test binary: kernel, exec_guard or end_to_end; may be given several times
    #[arg(long, value_name = "NAME", value_parser = KERNEL_TESTS)]
    pub test: Vec<String>,
    /// Arguments for the test binaries, such as a part of a test's name
    #[arg(last = true)]
    pub rest: Vec<String>,
}

/// Boots each series and fails when a test failed in any.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    ebpf::run(workspace)?;
    let mut summary = Summary::default();
    test(workspace, arguments, &mut summary);
    println!("\n{summary}");
    if summary.total().failed > 0 {
        bail!("tests failed; the consoles are in target/vm/*/console.log");
    }
    Ok(())
}

/// Adds one tally a series to `summary`.
pub fn test(workspace: &Workspace, arguments: &Arguments, summary: &mut Summary) {
    let tests: Vec<&str> = KERNEL_TESTS
        .into_iter()
        .filter(|name| arguments.test.is_empty() || arguments.test.iter().any(|test| test == name))
        .collect();
    let prepared = prepare(workspace).and_then(|()| payload::build(workspace, &tests, &arguments.rest));
    for series in &arguments.series {
        let kind = format!("vm {series}");
        let tally = match &prepared {
            Ok(archive) => {
                boot(workspace, series, archive).unwrap_or_else(|error| Tally::not_run(&kind, &format!("{error:#}")))
            }
            Err(error) => Tally::not_run(&kind, &format!("{error:#}")),
        };
        summary.record(kind, tally);
    }
}

fn prepare(_: &Workspace) -> Result<()> {
    if std::env::consts::ARCH != "x86_64" {
        bail!("the kernels to boot are built for x86_64 only");
    }
    if tool::find(machine::PROGRAM).is_none() {
        debian::ensure_installed(&["qemu-system-x86"], "booting other kernels")?;
    }
    Ok(())
}

fn boot(workspace: &Workspace, series: &str, archive: &std::path::Path) -> Result<Tally> {
    let kernel = kernels::obtain(&workspace.target("vm"), series)?;
    let log = workspace.target("vm").join(series).join("console.log");
    progress(format_args!("booting {} ({})", series, kernel.package));
    let archive = payload::with_modules(archive, &kernel.modules, &workspace.target("vm").join(series))?;
    let mut outcome = machine::boot(&kernel.image, kernels::cpu(series), &archive, &log)?;
    if let Outcome::DiedBeforeTests = outcome {
        progress("the kernel died before the tests began; booting once more");
        outcome = machine::boot(&kernel.image, kernels::cpu(series), &archive, &log)?;
    }
    let kind = format!("vm {series}");
    Ok(match outcome {
        Outcome::Finished(tally) => tally,
        Outcome::DiedBeforeTests => {
            Tally::failure(&kind, &format!("the kernel died twice before the tests; see {}", log.display()))
        }
        Outcome::DiedInTests(tally) => {
            let words = format!("the machine ended without a verdict; see {}", log.display());
            Tally { failed: tally.failed + Tally::failure(&kind, &words).failed, ..tally }
        }
    })
}
