//! What was measured, for people and for machines, and on which machine.

use std::fs;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result};
use comfy_table::{CellAlignment, Table, TableStyle};
use serde_json::{Value, json};

use crate::sample::Spread;

/// What a bench tells cargo; an error is said.
pub fn outcome(name: &str, done: Result<()>) -> ExitCode {
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("bench {name}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What SPECIFICATION.md promises of a number.
#[derive(Clone, Copy, Debug)]
pub enum Target {
    /// Not more.
    AtMost(f64),
    /// Not less.
    AtLeast(f64),
}

impl Target {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(most) => value <= most,
            Self::AtLeast(least) => value >= least,
        }
    }

    fn text(self, value: f64) -> String {
        let (sign, bound) = match self {
            Self::AtMost(most) => ('≤', most),
            Self::AtLeast(least) => ('≥', least),
        };
        format!("{sign} {}: {}", number(bound), if self.is_met(value) { "met" } else { "MISSED" })
    }
}

/// All that the benches measured.
pub struct Report {
    machine: Value,
    measurements: Vec<Value>,
    missed: usize,
    /// Title of the table that is being filled.
    current: String,
    table: Table,
}

impl Report {
    /// Looks at the machine.
    pub fn new() -> Result<Self> {
        Ok(Self {
            machine: machine()?,
            measurements: Vec::new(),
            missed: 0,
            current: String::new(),
            table: Table::new(),
        })
    }

    /// Takes one number of `title`'s table. Numbers of one table come one after another.
    pub fn measured(&mut self, title: &str, of: &str, what: &str, spread: Spread, target: Option<Target>) {
        if self.current != title {
            self.print();
            title.clone_into(&mut self.current);
            self.table.load_style(TableStyle::new());
            self.table.set_header(["", "", "median", "quartiles", "rounds", "target"]);
            for column in 2..5 {
                if let Some(column) = self.table.column_mut(column) {
                    column.set_cell_alignment(CellAlignment::Right);
                }
            }
        }
        let met = target.map(|target| target.is_met(spread.median));
        self.missed += usize::from(met == Some(false));
        self.table.add_row([
            of.to_owned(),
            what.to_owned(),
            number(spread.median),
            format!("{} … {}", number(spread.lower), number(spread.upper)),
            spread.rounds.to_string(),
            target.map_or_else(String::new, |target| target.text(spread.median)),
        ]);
        let bound = target.map(|target| match target {
            Target::AtMost(most) => json!({ "at_most": most, "met": met }),
            Target::AtLeast(least) => json!({ "at_least": least, "met": met }),
        });
        self.measurements.push(json!({ "bench": title, "of": of, "what": what, "measured": spread, "target": bound }));
    }

    fn print(&mut self) {
        if !self.current.is_empty() {
            println!("\n{}\n{}", self.current, std::mem::take(&mut self.table));
        }
        self.current.clear();
    }

    /// Prints what is left and writes `<name>.json` into `folder`.
    pub fn finish(mut self, folder: &Path, name: &str) -> Result<()> {
        self.print();
        self.machine["load_after"] = json!(load()?);
        println!("\n{}", facts(&self.machine));
        if self.missed > 0 {
            println!("{} of the targets were missed; on a busy machine look at the quartiles first", self.missed);
        }
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let path = folder.join(format!("{name}.json"));
        let document = json!({ "schema": 1, "machine": self.machine, "measurements": self.measurements });
        fs::write(&path, format!("{document:#}\n")).with_context(|| format!("cannot write {}", path.display()))?;
        println!("{}", path.display());
        Ok(())
    }
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1e5 => {
            let digits = format!("{value:.0}");
            let grouped: Vec<&str> =
                digits.as_bytes().rchunks(3).rev().filter_map(|part| str::from_utf8(part).ok()).collect();
            grouped.join(",")
        }
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.3}"),
    }
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| path.to_owned())
}

/// Load averages of 1, 5 and 15 minutes.
fn load() -> Result<String> {
    Ok(read("/proc/loadavg")?.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn machine() -> Result<Value> {
    let processors = read("/proc/cpuinfo")?;
    let model = processors.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    Ok(json!({
        "kernel": read("/proc/sys/kernel/osrelease")?.trim(),
        "cpu": model.map_or("unknown", |(_, name)| name),
        "cpus": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "date": jiff::Timestamp::now().to_string(),
        "load_before": load()?,
    }))
}

fn facts(machine: &Value) -> String {
    let fact = |name: &str| machine[name].as_str().map_or_else(|| machine[name].to_string(), str::to_owned);
    format!(
        "Linux {}, {} CPUs ({}), load {} before and {} after, {}",
        fact("kernel"),
        fact("cpus"),
        fact("cpu"),
        fact("load_before"),
        fact("load_after"),
        fact("date")
    )
}
