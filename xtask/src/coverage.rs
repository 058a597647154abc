//! `cargo xtask coverage`: `cordon selftest` in each kernel series, and docs/coverage.md from what it found.

use std::collections::BTreeMap;
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
const TEST: &str = "nothing_passes_that_the_hooks_in_force_should_stop";
const MARK: &str = "SELFTEST ";

const HEAD: &str = "# What is closed on which kernel

Written by `cargo xtask coverage`, which runs `cordon selftest` in Debian's kernels under emulation. Run `cordon selftest` for what is closed on
your own host.

- **blocked**: stopped and recorded, by the hook named
- **reported**: gets through, and a record says so
- open: gets through; the reason is below the table
- not run: this kernel cannot do it at all
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
}

/// Boots each series and writes the page.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    if !arguments.keep {
        ebpf::run(workspace)?;
        let mut summary = Summary::default();
        let wanted = vm::Arguments {
            series: arguments.series.clone(),
            test: vec!["end_to_end".into()],
            rest: vec![TEST.into()],
        };
        vm::test(workspace, &wanted, &mut summary);
        if summary.total().failed > 0 {
            bail!("the self-test failed:\n{summary}");
        }
    }
    let documents = arguments.series.iter().map(|series| document(workspace, series)).collect::<Result<Vec<_>>>()?;
    fs::write(workspace.path(PAGE), page(&documents)?).with_context(|| format!("cannot write {PAGE}"))?;
    progress(format_args!("wrote {PAGE}"));
    Ok(())
}

/// What the self-test said in the last boot of a series.
fn document(workspace: &Workspace, series: &str) -> Result<Value> {
    let log = workspace.target("vm").join(series).join("console.log");
    let text = fs::read(&log).with_context(|| format!("cannot read {}", log.display()))?;
    let text = String::from_utf8_lossy(&text);
    let found = text.lines().find_map(|line| line.split_once(MARK)).map(|(_, document)| document.trim());
    let found = found.with_context(|| format!("{} has no self-test in it", log.display()))?;
    serde_json::from_str(found).with_context(|| format!("the self-test in {}", log.display()))
}

fn page(documents: &[Value]) -> Result<String> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut rows: Vec<(String, Vec<String>)> = Vec::new();
    for (place, document) in documents.iter().enumerate() {
        let techniques = document["techniques"].as_array().context("a self-test without techniques")?;
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
    let kernels = documents.iter().map(|document| text(&document["kernel"])).collect::<Vec<_>>();
    let mut page = format!("{HEAD}\n| technique | {} |\n|---|{}\n", kernels.join(" | "), "---|".repeat(kernels.len()));
    for (what, cells) in rows {
        page.push_str(&format!("| {what} | {} |\n", cells.join(" | ")));
    }
    let mut reasons: Vec<(String, usize)> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, number)| *number);
    page.push('\n');
    for (reason, number) in reasons {
        page.push_str(&format!("[{number}] {reason}  \n"));
    }
    Ok(page)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_kernel_is_a_column_and_each_reason_is_said_once() {
        let technique = |name: &str, outcome: &str, detail: &str| json!({"technique": name, "what": name, "outcome": outcome, "enforced_by": "hook", "detail": detail});
        let document = |kernel: &str, outcome: &str| json!({"kernel": kernel, "techniques": [technique("one", "blocked", "EPERM"), technique("two", outcome, "no hook")]});
        let page = page(&[document("6.1", "missed"), document("6.12", "missed")]).unwrap();
        assert!(page.contains("| technique | 6.1 | 6.12 |"), "{page}");
        assert!(page.contains("| one (`one`) | **blocked** hook | **blocked** hook |"), "{page}");
        assert!(page.contains("| two (`two`) | open [1] | open [1] |"), "{page}");
        assert!(page.ends_with("\n[1] no hook  \n"), "{page}");
    }
}
