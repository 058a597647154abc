//! The command line: one file per verb; argv → what was said → what it means.

mod completions;
mod doctor;
mod explain;
#[cfg(feature = "bus")]
mod fleet;
mod guard;
mod hunt;
mod intel;
mod log;
mod manual;
mod off;
mod pager;
mod policy;
mod report;
mod rules;
mod run;
mod selftest;
mod status;
mod table;
mod top;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::app;
use crate::bundle;
use crate::control::{self, Answer, Failure, Request};
use crate::kernel;
use crate::report::printable_lines;
use crate::settings::{self, Places};

/// What a verb's failure means to whoever called it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// Wrong usage.
    Usage = 2,
    /// Invalid settings, policy or intelligence.
    Invalid = 3,
    /// Not permitted, or not possible on this kernel.
    NotPossible = 4,
    /// No agent is running.
    NotRunning = 5,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Stops known threats on this server, and says whose intelligence named them.
#[derive(Debug, Parser)]
#[command(
    name = "cordon",
    version,
    after_help = "Exit: 0 done, 1 failed, 2 usage, 3 invalid settings, policy or intelligence, \
                  4 not permitted or not possible on this kernel, 5 no agent is running."
)]
struct Cli {
    /// A prefix for every file, so that two agents can run side by side
    #[arg(long, global = true, value_name = "DIR")]
    root: Option<PathBuf>,
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Run the agent in the foreground
    Run(run::Args),
    /// Mode, generation, sources, hooks, counters, losses and faults of the running agent
    Status(status::Args),
    /// What this kernel allows: available, fallback or impossible, why, and the fix; needs no running agent
    Doctor(doctor::Args),
    /// Try the known ways around Cordon in a sandbox of its own, and say which are closed here
    Selftest(selftest::Args),
    /// The hits
    Log(Box<log::Args>),
    /// Watch hits, and who causes them, as they come
    Top(top::Args),
    /// Write what was hit to one HTML file with pictures, which needs no network
    Report(report::Args),
    /// What would happen to a value, why, and whose intelligence says so
    Explain(explain::Args),
    Hunt(hunt::Args),
    /// Intelligence: check files, list the sources, read them again
    Intel(intel::Args),
    /// An organisation's policies: its keys, signing, verifying and showing them; needs no running agent
    Policy(policy::Args),
    /// The fleet, as the message bus knows it: its hosts, their records
    #[cfg(feature = "bus")]
    Fleet(fleet::Args),
    /// Block a value on this host, or with --fleet on all, whatever the sources say
    Block(rules::BlockArgs),
    /// Never block a value on this host, whatever the sources say
    Allow(rules::AllowArgs),
    /// Remove the local rules for a value, or with --fleet withdraw the orders about it
    Unblock(rules::UnblockArgs),
    /// Break-glass: switch enforcement off for a while, and remove every pin
    Off(off::OffArgs),
    /// End `cordon off` early
    On(off::OnArgs),
    /// Read the settings and all sources again
    Reload(run::ReloadArgs),
    /// The child process that decides about execs where the kernel allows no LSM program
    #[command(hide = true)]
    ExecGuard(guard::Args),
    /// Print the manual page
    #[command(hide = true)]
    Manual,
    /// Print what a shell completes
    #[command(hide = true)]
    Completions(completions::Args),
}

/// Runs the verb that the command line names.
pub fn main() -> ExitCode {
    kernel::give_back_large();
    let cli = Cli::parse();
    let places = Places::new(cli.root.as_deref());
    let done = match cli.verb {
        Verb::Run(args) => run::run(&args, &places),
        Verb::Reload(args) => run::reload(&args, &places),
        Verb::Status(args) => status::run(&args, &places),
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Selftest(args) => {
            if let Some(status) = selftest::attempt(&args) {
                return status;
            }
            selftest::run(&args, &places)
        }
        Verb::Log(args) => log::run(&args, &places.journal),
        Verb::Top(args) => top::run(&args, &places),
        Verb::Report(args) => report::run(&args, &places.journal),
        Verb::Explain(args) => explain::run(&args, &places),
        Verb::Hunt(args) => hunt::run(&args, &places),
        Verb::Intel(args) => intel::run(&args, &places),
        Verb::Policy(args) => policy::run(&args, &places),
        #[cfg(feature = "bus")]
        Verb::Fleet(args) => fleet::run(&args, &places),
        Verb::Block(args) => rules::block(&args, &places),
        Verb::Allow(args) => rules::allow(&args, &places),
        Verb::Unblock(args) => rules::unblock(&args, &places),
        Verb::Off(args) => off::off(&args, &places),
        Verb::On(args) => off::on(&args, &places),
        Verb::ExecGuard(args) => guard::run(&args),
        Verb::Manual => manual::run(),
        Verb::Completions(args) => completions::run(&args),
    };
    done.unwrap_or_else(|error| {
        // Servers have a say in it.
        eprintln!("cordon: {}", printable_lines(&format!("{error:#}")));
        exit_of(&error)
    })
    .into()
}

/// What an error means to the caller: the rooms' own errors say it, anything else is [`Exit::Failed`].
fn exit_of(error: &anyhow::Error) -> Exit {
    if error.downcast_ref::<settings::Error>().is_some() {
        return Exit::Invalid;
    }
    if let Some(error) = error.downcast_ref::<bundle::Error>() {
        return if matches!(error, bundle::Error::File { .. } | bundle::Error::Unreachable(_)) {
            Exit::Failed
        } else {
            Exit::Invalid
        };
    }
    let is_refused = error.is::<app::NotPermitted>() || error.is::<app::NotPossible>() || error.is::<kernel::Error>();
    if is_refused {
        return Exit::NotPossible;
    }
    match error.downcast_ref::<control::Error>() {
        Some(control::Error::NotRunning(_)) => Exit::NotRunning,
        Some(control::Error::NotPermitted(_)) => Exit::NotPossible,
        _ => Exit::Failed,
    }
}

/// Asks the running agent.
fn ask(places: &Places, request: &Request) -> anyhow::Result<Result<serde_json::Value, Exit>> {
    match control::ask(&places.socket, request)? {
        Answer::Done(document) => Ok(Ok(document)),
        Answer::Failed { failure, message } => {
            eprintln!("cordon: {message}");
            Ok(Err(match failure {
                Failure::Failed => Exit::Failed,
                Failure::Invalid => Exit::Invalid,
                Failure::NotPossible => Exit::NotPossible,
            }))
        }
    }
}
