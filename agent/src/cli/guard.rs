//! `cordon exec-guard`: the child process of the daemon.

use super::Exit;
use crate::app;

/// `cordon exec-guard`
#[derive(Debug, clap::Args)]
pub struct Args {}

/// Runs until the daemon is gone.
///
/// # Errors
/// It was not started by the daemon.
pub fn run(_: &Args) -> anyhow::Result<Exit> {
    app::guard::serve()?;
    Ok(Exit::Done)
}
