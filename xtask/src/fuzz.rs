//! `cargo xtask fuzz`: every parser of untrusted bytes against what nobody thought of. Each target is a file in fuzz/targets.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::tool::{self, progress};
use crate::workspace::Workspace;

/// cargo-fuzz's version.
const VERSION: &str = "0.13.2";
/// Bytes of an input: long enough for a bundle, short enough to be tried often.
const MAX_LEN: u32 = 16 << 10;
/// An input that takes longer, in seconds, or more memory, in MiB, is a finding.
const SLOWEST: u32 = 10;
const LARGEST: u32 = 1024;

/// What to fuzz, and for how long.
#[derive(clap::Args)]
pub struct Arguments {
    /// Only these targets
    targets: Vec<String>,
    /// For each target
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u32,
}

/// Runs the targets one after the other; a finding is kept in target/fuzz and fails the verb at once.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let program = cargo_fuzz(workspace)?;
    let known = targets(workspace)?;
    let wanted = if arguments.targets.is_empty() { &known } else { &arguments.targets };
    for target in wanted {
        if !known.contains(target) {
            bail!("there is no fuzz target `{target}`; there are {}", known.join(", "));
        }
        progress(format_args!("fuzzing: {target} for {} s", arguments.seconds));
        let corpus = workspace.target("fuzz/corpus").join(target);
        let findings = workspace.target("fuzz/findings").join(target);
        for folder in [&corpus, &findings] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        let mut command = Command::new(&program);
        command.args(["run", "--fuzz-dir"]).arg(workspace.path("fuzz"));
        command.arg("--target-dir").arg(workspace.target("fuzz/build")).arg(target).arg(&corpus);
        command.args(seeds(workspace, target)).arg("--").arg(format!("-max_total_time={}", arguments.seconds));
        command.arg(format!("-max_len={MAX_LEN}")).arg(format!("-timeout={SLOWEST}"));
        command.arg(format!("-rss_limit_mb={LARGEST}")).arg(format!("-artifact_prefix={}/", findings.display()));
        // The compiler keeps its instrumentation for nightly versions unless it is told that it may stand in for one.
        command.args(["-print_final_stats=1", "-verbosity=0"]).env("RUSTC_BOOTSTRAP", "1");
        tool::run(command.current_dir(workspace.root()), &format!("fuzzing {target}"))?;
    }
    Ok(())
}

fn targets(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.path("fuzz/targets");
    let files = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let mut names: Vec<String> =
        files.flatten().filter_map(|file| Some(file.path().file_stem()?.to_string_lossy().into_owned())).collect();
    names.sort();
    Ok(names)
}

/// The committed seeds of a target; intelligence also starts from the fixtures of the tests.
fn seeds(workspace: &Workspace, target: &str) -> Vec<PathBuf> {
    let mut folders = vec![workspace.path("fuzz/seeds").join(target)];
    if target == "intelligence" {
        folders.push(workspace.path("agent/tests/data/feeds"));
    }
    folders.retain(|folder| folder.is_dir());
    folders
}

fn cargo_fuzz(workspace: &Workspace) -> Result<PathBuf> {
    tool::installed(workspace, "cargo-fuzz", VERSION)
}
