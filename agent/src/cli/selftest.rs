//! `cordon selftest`: which of the known ways around are closed on this host.

use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde::Serialize;

use super::table::{Terminal, Tone};
use super::{Exit, run};
use crate::app;
use crate::kernel::probe::kernel_release;
use crate::selftest::{Outcome, Rig, Row, Stopped, Technique, all, fire};
use crate::settings::Places;

/// Try the known ways around Cordon in a sandbox of its own, and say which are closed on this host.
#[derive(Clone, Debug, clap::Args)]
#[command(
    after_help = "Exit: 1 when something passes that the hooks in force here should stop. The sandbox has an agent, a \
                        cgroup and a network namespace of its own, documentation addresses on its loopback, and programs \
                        that only exit; an agent that runs already is not touched."
)]
pub struct Args {
    /// One JSON document
    #[arg(long)]
    json: bool,
    /// Only these techniques
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    only: Vec<String>,
    /// Print the techniques and try none
    #[arg(long)]
    list: bool,
    /// The agent under test
    #[arg(long, hide = true, requires = "cgroup")]
    agent: bool,
    #[arg(long, hide = true)]
    cgroup: Option<PathBuf>,
    /// One attempt
    #[arg(long, hide = true, requires_all = ["file", "dir"])]
    fire: Option<String>,
    #[arg(long, hide = true)]
    listed: bool,
    #[arg(long, hide = true)]
    file: Option<PathBuf>,
    #[arg(long, hide = true)]
    dir: Option<PathBuf>,
}

#[derive(Serialize)]
struct Document<'a> {
    schema: u32,
    kernel: String,
    /// Whether nothing passed that should have been stopped.
    passed: bool,
    techniques: &'a [Row],
}

/// One attempt, if that is what was asked for: its exit status is none of [`Exit`].
pub fn attempt(args: &Args) -> Option<ExitCode> {
    let (name, file, dir) = (args.fire.as_ref()?, args.file.as_ref()?, args.dir.as_ref()?);
    Some(ExitCode::from(fire(name, args.listed, file, dir)))
}

/// Tries and prints. [`Exit::Failed`] when something passes that should not.
///
/// # Errors
/// Not root, or the agent under test does not come up.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    if args.agent {
        return agent(args, places);
    }
    let techniques = chosen(&args.only)?;
    if args.list {
        return list(&techniques);
    }
    if let Some(refusal) = app::NotPermitted::of_this_process() {
        return Err(refusal.into());
    }
    let stopped = Arc::new(Stopped::default());
    stop_on_signal(&stopped)?;
    let wanted = techniques.len();
    let rig = Rig::set_up(techniques)?;
    let progress = !args.json && io::stderr().is_terminal();
    let rows = rig.run(&stopped, |row| {
        if progress {
            eprint!("\r\x1b[K{}", row.technique);
        }
    })?;
    drop(rig);
    if progress {
        eprint!("\r\x1b[K");
    }
    let passed = rows.iter().all(|row| row.as_expected) && rows.len() == wanted;
    let document = Document { schema: 1, kernel: kernel_release(), passed, techniques: &rows };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &document)?;
        writeln!(out)?;
    } else {
        out.write_all(page(&Terminal::stdout(), &document).as_bytes())?;
    }
    Ok(if passed { Exit::Done } else { Exit::Failed })
}

/// The agent under test, which must not outlive the test.
fn agent(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::TERM))?;
    run::run(&run::Args { cgroup: args.cgroup.clone() }, places)
}

/// Takes down the sandbox on SIGINT and SIGTERM instead of leaving it behind.
fn stop_on_signal(stopped: &Arc<Stopped>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let stopped = Arc::clone(stopped);
    std::thread::Builder::new().name("signals".into()).spawn(move || {
        runtime.block_on(async {
            use tokio::signal::unix::{SignalKind, signal};
            let (Ok(mut interrupt), Ok(mut terminate)) =
                (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
            else {
                return;
            };
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            stopped.stop();
        });
    })?;
    Ok(())
}

fn chosen(only: &[String]) -> anyhow::Result<Vec<&'static Technique>> {
    if let Some(unknown) = only.iter().find(|name| !all().iter().any(|technique| technique.name == **name)) {
        anyhow::bail!("no technique is called {unknown:?}; `cordon selftest --list` names them");
    }
    let is_wanted = |technique: &&Technique| only.is_empty() || only.iter().any(|name| name == technique.name);
    Ok(all().iter().filter(is_wanted).collect())
}

fn list(techniques: &[&'static Technique]) -> anyhow::Result<Exit> {
    let rows = techniques.iter().map(|technique| vec![technique.name.to_owned(), technique.what.to_owned()]);
    io::stdout().lock().write_all(Terminal::stdout().table(&["TECHNIQUE", "WHAT"], rows).as_bytes())?;
    Ok(Exit::Done)
}

const fn outcome_name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Blocked => "blocked",
        Outcome::Reported => "reported",
        Outcome::Missed => "missed",
        Outcome::NotRun => "not run",
    }
}

fn tone(row: &Row) -> Tone {
    match (row.as_expected, row.outcome) {
        (false, _) => Tone::Bad,
        (true, Outcome::Blocked) => Tone::Good,
        (true, Outcome::Reported | Outcome::Missed) => Tone::Warning,
        (true, Outcome::NotRun) => Tone::Faint,
    }
}

fn page(terminal: &Terminal, document: &Document<'_>) -> String {
    let rows = document.techniques.iter().map(|row| {
        let expected = if row.as_expected { "" } else { " (!)" };
        vec![
            row.technique.to_owned(),
            row.what.to_owned(),
            format!("{}{expected}", outcome_name(row.outcome)),
            row.enforced_by.clone().unwrap_or_default(),
            row.detail.clone(),
        ]
    });
    let table = terminal.table(&["TECHNIQUE", "WHAT", "HERE", "BY", "DETAIL"], rows);
    let mut text = format!("Linux {}\n\n{table}\n", document.kernel);
    let count = |wanted: fn(&Row) -> bool| document.techniques.iter().filter(|row| wanted(row)).count();
    let blocked = count(|row| row.outcome == Outcome::Blocked);
    let open = count(|row| matches!(row.outcome, Outcome::Missed | Outcome::Reported) && row.as_expected);
    let unexpected = count(|row| !row.as_expected);
    text.push_str(&format!(
        "{blocked} blocked, {open} open on this kernel as expected, {} not run\n",
        count(|row| row.outcome == Outcome::NotRun)
    ));
    for row in document.techniques.iter().filter(|row| !row.as_expected) {
        let line = format!("{} should be blocked here: {} {}\n", row.technique, outcome_name(row.outcome), row.detail);
        text.push_str(&terminal.paint(tone(row), &line));
    }
    if unexpected == 0 && document.passed {
        text.push_str(&terminal.paint(Tone::Good, "nothing passed that the hooks in force here should stop\n"));
    }
    text
}
