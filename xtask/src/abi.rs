//! `cargo xtask abi`: what the kernel half and the agent share has a number and a blessed picture.

use std::fs;

use anyhow::{Context, Result, bail};

use crate::tool;
use crate::workspace::Workspace;

#[cfg(test)]
mod tests;

const PICTURE: &str = "agent-common/abi.txt";

/// What to do about a picture that differs.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Accept the layout as it is now, which takes a new ABI_VERSION if there is a blessed one already
    #[arg(long)]
    bless: bool,
}

/// Compares the picture of the sources with the blessed one.
pub fn run(workspace: &Workspace, arguments: &Arguments) -> Result<()> {
    let mut cargo = tool::cargo();
    cargo.args(["run", "--quiet", "--locked", "--package", "agent-common", "--example", "abi"]);
    let picture = tool::output(cargo.current_dir(workspace.root()), "drawing the picture of agent-common")?;
    let path = workspace.path(PICTURE);
    let blessed = fs::read_to_string(&path).ok();
    match judge(&picture, blessed.as_deref(), arguments.bless)? {
        Judgement::Same => Ok(()),
        Judgement::Write => {
            fs::write(&path, picture).with_context(|| format!("cannot write {PICTURE}"))?;
            tool::progress(format_args!("blessed {PICTURE}"));
            Ok(())
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Judgement {
    Same,
    Write,
}

fn judge(picture: &str, blessed: Option<&str>, bless: bool) -> Result<Judgement> {
    let Some(blessed) = blessed else {
        if bless {
            return Ok(Judgement::Write);
        }
        bail!("{PICTURE} is missing: run `cargo xtask abi --bless` and commit it");
    };
    if blessed == picture {
        return Ok(Judgement::Same);
    }
    let (now, then) = (version(picture)?, version(blessed)?);
    let change = first_difference(blessed, picture);
    if now <= then {
        bail!(
            "what the kernel shares with the agent changed ({change}) and ABI_VERSION is still {now}: \
             set it to {} in agent-common/src/lib.rs, then run `cargo xtask abi --bless`",
            then + 1
        );
    }
    if bless {
        return Ok(Judgement::Write);
    }
    bail!("ABI_VERSION is {now} and {PICTURE} shows {then} ({change}): run `cargo xtask abi --bless` and commit it")
}

fn version(picture: &str) -> Result<u32> {
    picture
        .lines()
        .find_map(|line| line.strip_prefix("ABI_VERSION "))
        .and_then(|number| number.trim().parse().ok())
        .with_context(|| format!("{PICTURE} has no line `ABI_VERSION n`"))
}

fn first_difference(blessed: &str, picture: &str) -> String {
    let (mut old, mut new) = (blessed.lines(), picture.lines());
    loop {
        match (old.next(), new.next()) {
            (old, new) if old == new && old.is_some() => {}
            (old, new) => {
                return format!("was `{}`, is `{}`", old.unwrap_or("nothing").trim(), new.unwrap_or("nothing").trim());
            }
        }
    }
}
