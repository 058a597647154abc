//! `cordon fleet`: the fleet as the message bus knows it.

mod findings;
mod init;
pub(super) mod order;
mod rollout;
mod status;

use std::future::Future;
use std::path::PathBuf;

use anyhow::Context;

use super::Exit;
use crate::fleet::{self, Bus};
use crate::settings::bus::{Connection, ConnectionFile};
use crate::settings::{Places, Settings};

/// `cordon fleet`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Init(init::Args),
    Status(status::Args),
    Findings(Box<findings::Args>),
    Rollout(rollout::Args),
}

/// How the bus is reached.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct OnBus {
    /// A file with the keys of `[bus]`; the settings of this host unless given
    #[arg(long, value_name = "FILE")]
    bus: Option<PathBuf>,
}

impl OnBus {
    fn connection(&self, places: &Places) -> anyhow::Result<Connection> {
        let Some(path) = &self.bus else {
            let missing = "give --bus FILE with the keys of `[bus]`, or set `[bus]` in the settings";
            return Settings::load(places)?.bus.context(missing);
        };
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let file: ConnectionFile = toml::from_str(&text).with_context(|| path.display().to_string())?;
        file.meaning(|path| path).map_err(|why| anyhow::anyhow!("{}: {why}", path.display()))
    }

    /// Connects, once.
    pub(super) async fn connect(&self, places: &Places) -> anyhow::Result<Bus> {
        Ok(Bus::connect(&self.connection(places)?).await?)
    }
}

/// Runs a verb of `cordon fleet`.
///
/// # Errors
/// The bus cannot be reached, or does not do what is asked.
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    match &args.verb {
        Verb::Init(args) => wait(init::run(args, places)),
        Verb::Status(args) => wait(status::run(args, places)),
        Verb::Rollout(args) => wait(rollout::run(args, places)),
        Verb::Findings(args) => findings::run(args, places),
    }
}

/// Runs what speaks to the bus.
pub(super) fn wait<T>(done: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(done)
}

/// What an error of the bus means to the caller.
pub(super) const fn exit_of(error: &fleet::Error) -> Exit {
    match error {
        fleet::Error::Older { .. } => Exit::Invalid,
        _ => Exit::Failed,
    }
}
