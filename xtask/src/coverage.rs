//! `cargo xtask coverage`: `cordon selftest` in each kernel series, and docs/coverage.md from what it found; and what the
//! verifier of each went through to load the programs.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::tally::Summary;
use crate::tool::progress;
use crate::workspace::Workspace;
use crate::{ebpf, vm};

/// Where the table goes.
const PAGE: &str = "docs/coverage.md";
/// The test that runs the whole self-test, and what it prints its document behind.
const SELF_TEST: &str = "nothing_passes_that_the_hooks_in_force_should_stop";
const SELF_TEST_MARK: &str = "SELFTEST ";
/// The same for the instructions that the verifier goes through, by hook.
const VERIFIER_TEST: &str = "the_verifier_is_done_with_each_program_in_a_fraction_of_its_limit";
const VERIFIER_MARK: &str = "VERIFIED ";

const HEAD: &str = "# What is closed on which kernel

Written by `cargo xtask coverage`, which runs `cordon selftest` in Debian's kernels under emulation. Run `cordon selftest` for what is closed on
your own host.

- **blocked**: stopped and recorded, by the hook named
- **reported**: gets through, and a record says so
- open: gets through; the reason is below the table
- not run: this kernel cannot do it at all, or its package has no module for it
";

const VERIFIER_HEAD: &str = "
## What the verifier goes through

Instructions that each kernel's verifier followed to load the program of a hook, of the million that it follows at most; a test fails at 300,000, for names in
packets at 700,000.
Kernels before 5.16 do not tell.
";

/// Which kernels.
#[derive(clap::Args)]
pub struct Arguments {
    /// Kernel series
    #[arg(default_values = vm::SERIES)]
    series: Vec<String>,
    /// Take what the last runs of `cargo xtask vm` said, and boot nothing
    #[arg(long)]
    keep: bool,
    /// Write nothing; fail when the verifier goes through a tenth more than the page says
    #[arg(long)]
    check: bool,
}

/// Boots each series and writes the page.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !arguments.keep {
        ebpf::run(workspace)?;
        let mut summary = Summary::default();
        let wanted = vm::Arguments {
            series: arguments.series.clone(),
            test: vec!["kernel".into(), "end_to_end".into()],
            rest: vec![SELF_TEST.into(), VERIFIER_TEST.into()],
        };
        vm::test(workspace, &wanted, &mut summary);
        if summary.total().failed > 0 {
            bail!("the self-test or the verifier failed:\n{summary}");
        }
    }
    let consoles = arguments.series.iter().map(|series| Console::of(workspace, series)).collect::<Result<Vec<_>>>()?;
    if arguments.check {
        let blessed = fs::read_to_string(workspace.path(PAGE)).with_context(|| format!("cannot read {PAGE}"))?;
        return compare(&blessed, &consoles);
    }
    fs::write(workspace.path(PAGE), page(&consoles)?).with_context(|| format!("cannot write {PAGE}"))?;
    progress(format_args!("wrote {PAGE}"));
    Ok(())
}

/// What the last boot of a series printed.
struct Console {
    self_test: Value,
    /// Instructions by hook; nothing before Linux 5.16, which does not tell.
    verified: BTreeMap<String, u64>,
}

impl Console {
    fn of(workspace: &Workspace, series: &str) -> Result<Self> {
        let log = workspace.target("vm").join(series).join("console.log");
        let text = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
        Self::read(&String::from_utf8_lossy(&text)).with_context(|| log.display().to_string())
    }

    fn read(text: &str) -> Result<Self> {
        let behind = |mark| text.lines().find_map(|line| line.split_once(mark)).map(|(_, document)| document.trim());
        let self_test = behind(SELF_TEST_MARK).context("there is no self-test in it")?;
        let verified = behind(VERIFIER_MARK).map(serde_json::from_str).transpose().context("the verifier's counts")?;
        Ok(Self {
            self_test: serde_json::from_str(self_test).context("the self-test")?,
            verified: verified.unwrap_or_default(),
        })
    }

    fn kernel(&self) -> &str {
        self.self_test["kernel"].as_str().unwrap_or_default()
    }
}

/// The first lines of a table with one column for each kernel.
fn head(first: &str, consoles: &[Console]) -> String {
    let kernels: Vec<&str> = consoles.iter().map(Console::kernel).collect();
    format!("\n| {first} | {} |\n|---|{}\n", kernels.join(" | "), "---|".repeat(kernels.len()))
}

fn page(consoles: &[Console]) -> Result<String> {
    Ok([HEAD, &techniques(consoles)?, VERIFIER_HEAD, &verified(consoles)].concat())
}

fn verified(consoles: &[Console]) -> String {
    let hooks: BTreeSet<&String> = consoles.iter().flat_map(|console| console.verified.keys()).collect();
    let mut table = head("hook", consoles);
    for hook in hooks {
        let counts = consoles.iter().map(|console| console.verified.get(hook));
        let cells: Vec<String> = counts.map(|count| count.map_or("–".to_owned(), u64::to_string)).collect();
        table.push_str(&format!("| `{hook}` | {} |\n", cells.join(" | ")));
    }
    table
}

/// Whether each hook costs the verifier what the page says, or up to a tenth more.
fn compare(page: &str, consoles: &[Console]) -> Result<()> {
    let (_, table) = page.split_once(VERIFIER_HEAD).with_context(|| format!("{PAGE} has no counts of the verifier"))?;
    let rows = || table.lines().filter_map(|line| line.strip_prefix("| ")).map(|line| line.split(" | "));
    let head: Vec<&str> = rows().next().into_iter().flatten().collect();
    let mut grown = Vec::new();
    for console in consoles {
        let is_column = |name: &&str| series(name.trim_end_matches(" |")) == series(console.kernel());
        let column = head.iter().position(is_column);
        let column = column.with_context(|| format!("{PAGE} has no column for {}", console.kernel()))?;
        for (hook, count) in &console.verified {
            let mut row = rows().filter(|row| row.clone().next() == Some(&format!("`{hook}`")));
            let known = row.next().and_then(|mut row| row.nth(column)?.trim_end_matches(" |").parse::<u64>().ok());
            if known.is_none_or(|known| *count > known + known / 10) {
                let known = known.map_or_else(|| "nothing".to_owned(), |known| known.to_string());
                grown.push(format!("{hook} on {}: {count}, where the page says {known}", console.kernel()));
            }
        }
    }
    ensure!(
        grown.is_empty(),
        "what the verifier goes through has grown; if it must, run `cargo xtask coverage`:\n{}",
        grown.join("\n")
    );
    Ok(())
}

/// Major and minor number of a kernel's name.
fn series(kernel: &str) -> Vec<&str> {
    kernel.splitn(3, ['.', '-']).take(2).collect()
}

fn techniques(consoles: &[Console]) -> Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for (place, Console { self_test, .. }) in consoles.iter().enumerate() {
        let techniques = self_test["techniques"].as_array().context("a self-test without techniques")?;
        for technique in techniques {
            let what = format!("{} (`{}`)", text(&technique["what"]), text(&technique["technique"]));
            let next = reasons.len() + 1;
            let cell = match technique["outcome"].as_str() {
                Some("blocked") => format!("**blocked** {}", text(&technique["enforced_by"])),
                Some("reported") => format!("**reported** {}", text(&technique["enforced_by"])),
                Some("not_run") => "not run".to_owned(),
                _ => format!("open [{}]", reasons.entry(text(&technique["detail"])).or_insert(next)),
            };
            match rows.iter_mut().find(|(known, _)| *known == what) {
                Some((_, cells)) => cells.push(cell),
                None => {
                    ensure!(place == 0, "{what} was tried in some kernels only: run all with the same build");
                    rows.push((what, vec![cell]));
                }
            }
        }
    }
    let mut table = head("technique", consoles);
    for (what, cells) in rows {
        table.push_str(&format!("| {what} | {} |\n", cells.join(" | ")));
    }
    let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, number)| *number);
    table.push('\n');
    for (reason, number) in reasons {
        table.push_str(&format!("[{number}] {reason}  \n"));
    }
    Ok(table)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kernel_is_a_column_and_each_reason_is_said_once() {
        let technique = |name: &str, outcome: &str, detail: &str| json!({"technique": name, "what": name, "outcome": outcome, "enforced_by": "hook", "detail": detail});
        let console = |kernel: &str, verified: &str| {
            let techniques = [technique("one", "blocked", "EPERM"), technique("two", "missed", "no hook")];
            let self_test = json!({"kernel": kernel, "techniques": techniques});
            Console::read(&format!("boot\nSELFTEST {self_test}\r\n{verified}\n")).unwrap()
        };
        let page = page(&[console("5.10", ""), console("6.12", r#"VERIFIED {"hook":12}"#)]).unwrap();
        assert!(page.contains("| technique | 5.10 | 6.12 |"), "{page}");
        assert!(page.contains("| one (`one`) | **blocked** hook | **blocked** hook |"), "{page}");
        assert!(page.contains("| two (`two`) | open [1] | open [1] |"), "{page}");
        assert!(page.contains("\n[1] no hook  \n"), "{page}");
        assert!(page.ends_with("| `hook` | – | 12 |\n"), "{page}");
    }

    #[test]
    fn a_program_that_the_verifier_takes_longer_for_fails() {
        let console = |verified: Value| {
            let self_test = json!({"kernel": "6.12.1-amd64", "techniques": []});
            Console::read(&format!("SELFTEST {self_test}\nVERIFIED {verified}\n")).unwrap()
        };
        let other = Console::read(&format!("SELFTEST {}\n", json!({"kernel": "6.1.9", "techniques": []}))).unwrap();
        let page = page(&[other, console(json!({"one": 1000, "two": 50}))]).unwrap();
        assert!(compare(&page, &[console(json!({"one": 1100, "two": 9}))]).is_ok());
        let error = compare(&page, &[console(json!({"one": 1101, "new": 5}))]).unwrap_err().to_string();
        assert!(error.contains("one on 6.12.1-amd64: 1101, where the page says 1000"), "{error}");
        assert!(error.contains("new on 6.12.1-amd64: 5, where the page says nothing"), "{error}");
        let strange = Console { self_test: json!({"kernel": "7.3.0"}), verified: BTreeMap::new() };
        assert!(compare(&page, &[strange]).is_err());
    }
}
