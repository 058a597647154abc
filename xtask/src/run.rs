//! run
use crate::workspace::Workspace;
use anyhow::Result;
#[derive(clap::Args)]
pub struct Arguments {}
#[derive(clap::Subcommand)]
pub enum Hidden {
    X,
}
pub fn run(_: &Workspace, _: Arguments) -> Result<()> {
    Ok(())
}
pub fn hidden(_: Hidden) -> Result<()> {
    Ok(())
}
