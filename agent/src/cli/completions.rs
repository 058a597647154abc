//! `cordon completions`: what a shell completes after `cordon`, generated from the same definitions as `--help`.

use std::io::{Write, stdout};

use clap::CommandFactory;
use clap_complete::Shell;

use super::{Cli, Exit};

/// `cordon completions`
#[derive(Debug, clap::Args)]
pub struct Args {
    /// For which shell
    shell: Shell,
}

/// Prints the script for the shell.
///
/// # Errors
/// Standard output is closed.
pub fn run(args: &Args) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut visible(), "cordon", &mut script);
    stdout().lock().write_all(&script)?;
    Ok(Exit::Done)
}

/// The command line without what `--help` hides, which no shell should offer either.
fn visible() -> clap::Command {
    let whole = Cli::command();
    let shown = whole.get_subcommands().filter(|verb| !verb.is_hide_set()).cloned().collect::<Vec<_>>();
    let options = whole.get_arguments().cloned().collect::<Vec<_>>();
    clap::Command::new("cordon").version(env!("CARGO_PKG_VERSION")).args(options).subcommands(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_verb_that_help_shows_is_offered_and_no_other() {
        for verb in Cli::command().get_subcommands() {
            let is_offered = visible().find_subcommand(verb.get_name()).is_some();
            assert_eq!(is_offered, !verb.is_hide_set(), "{}", verb.get_name());
        }
    }

    #[test]
    fn options_of_the_whole_line_are_offered() {
        let mut command = visible();
        command.build();
        for option in ["root", "version", "help"] {
            assert!(command.get_arguments().any(|argument| argument.get_long() == Some(option)), "--{option}");
        }
    }
}
