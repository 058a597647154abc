//! `cordon manual`: the manual page, generated from the same definitions as `--help`.

use std::io::stdout;

use clap::CommandFactory;

use super::{Cli, Exit};

/// Prints the page in roff.
///
/// # Errors
/// Standard output is closed.
pub fn run() -> anyhow::Result<Exit> {
    let mut output = stdout().lock();
    let command = Cli::command();
    let page = clap_mangen::Man::new(command.clone());
    page.render(&mut output)?;
    for verb in command.get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let title = format!("cordon-{}", verb.get_name());
        clap_mangen::Man::new(verb.clone()).title(&title).render(&mut output)?;
        for part in verb.get_subcommands() {
            let title = format!("{title}-{}", part.get_name());
            clap_mangen::Man::new(part.clone()).title(title).render(&mut output)?;
        }
    }
    Ok(Exit::Done)
}
