//! `cordon policy`: the keys of an organisation, and the policies that it signs with them.

mod keygen;
#[cfg(feature = "bus")]
mod push;
mod rehearsal;
pub(super) mod sign;
mod verify;

use std::path::PathBuf;

use serde_json::{Value, json};

use super::Exit;
use crate::policy::Document;
use crate::policy::lint::{Oddity, lint};
use crate::settings::Places;

/// `cordon policy`
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, clap::Subcommand)]
enum Verb {
    Keygen(keygen::Args),
    Sign(sign::Args),
    Rollback(sign::RollbackArgs),
    Verify(verify::Args),
    Show(verify::ShowArgs),
    #[cfg(feature = "bus")]
    Push(push::Args),
}

/// Who signs.
#[derive(Clone, Debug, clap::Args)]
pub(super) struct Keys {
    /// The directory that `keygen` made, with the root files
    #[arg(long, value_name = "DIR")]
    keys: PathBuf,
    /// A private key, in place of all of the directory; may be given several times
    #[arg(long = "key", value_name = "FILE")]
    key: Vec<PathBuf>,
}

impl Keys {
    pub(super) fn files(&self) -> crate::bundle::KeyFiles {
        crate::bundle::KeyFiles { directory: self.keys.clone(), keys: self.key.clone() }
    }
}

/// Runs a verb of `cordon policy`.
///
/// # Errors
/// A file that cannot be read or written; what is wrong with a policy is [`Exit::Invalid`].
pub fn run(args: &Args, places: &Places) -> anyhow::Result<Exit> {
    // The library that signs and verifies asks for a runtime, for its files alone.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match &args.verb {
            Verb::Keygen(args) => keygen::run(args).await,
            Verb::Sign(args) => sign::run(args).await,
            Verb::Rollback(args) => sign::rollback(args).await,
            Verb::Verify(args) => verify::run(args, places).await,
            Verb::Show(args) => verify::show(args, places).await,
            #[cfg(feature = "bus")]
            Verb::Push(args) => push::run(args, places).await,
        }
    })
}

/// Says what was done.
fn say(document: &Value, is_json: bool, words: &str) {
    if is_json { println!("{document}") } else { println!("{words}") }
}

/// What is odd about the rules, as `--json` has it.
fn oddities(document: &Document, now: jiff::Timestamp) -> (Vec<(String, Oddity)>, Value) {
    let found = lint(document, now);
    let json =
        found.iter().map(|(rule, oddity)| json!({ "rule": rule, "is": oddity.name(), "why": oddity.to_string() }));
    let json = json.collect();
    (found, json)
}

/// Warns of what is odd.
fn warn(found: &[(String, Oddity)]) {
    for (rule, oddity) in found {
        eprintln!("cordon: rule `{rule}`: {oddity}");
    }
}
