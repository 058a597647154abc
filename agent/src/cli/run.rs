//! `cordon run` and `cordon reload`.

use std::io::IsTerminal;
use std::path::PathBuf;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use super::{Exit, ask};
use crate::app::{self, Orders};
use crate::control::Request;
use crate::settings::{Places, Settings};

/// `cordon run`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Enforce only in this cgroup2 directory and below
    #[arg(long, value_name = "PATH")]
    pub(super) cgroup: Option<PathBuf>,
}

/// `cordon reload`
#[derive(Debug, clap::Args)]
pub struct ReloadArgs {
    /// One JSON document on standard output
    #[arg(long)]
    json: bool,
}

/// Runs the agent in the foreground.
///
/// # Errors
/// It cannot come up, or a stage failed.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    start_logging(&Settings::load(places)?.log)?;
    app::run(&Orders { places: places.clone(), cgroup: args.cgroup.clone() })?;
    Ok(Exit::Done)
}

/// To the journal when systemd runs us, which then has the fields too; to standard error otherwise.
fn start_logging(directives: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(directives)?;
    let registry = tracing_subscriber::registry().with(filter);
    if std::env::var_os("JOURNAL_STREAM").is_some() {
        registry.with(tracing_journald::layer()?).try_init()?;
    } else {
        let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        registry.with(tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour)).try_init()?;
    }
    Ok(())
}

/// Makes the running agent read its settings and all sources again.
///
/// # Errors
/// No agent is running.
pub fn reload(args: &ReloadArgs, places: &Places) -> anyhow::Result<Exit> {
    match ask(places, &Request::Reload)? {
        Ok(document) if args.json => println!("{document}"),
        Ok(document) => println!("generation {} is live", document["generation"]),
        Err(exit) => return Ok(exit),
    }
    Ok(Exit::Done)
}
