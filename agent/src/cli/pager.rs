//! Text for people that is longer than the screen goes through their pager.

use std::io::{self, IsTerminal as _, Write};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;

use signal_hook::consts::SIGINT;

/// What pages where `PAGER` says nothing.
const LESS: &str = "less";
/// For `less` where `LESS` says nothing, as git and systemd have it: nothing to page for one screen, colours, the text stays.
const OPTIONS: &str = "FRX";

/// Standard output, through a pager as soon as there is more than fits the screen.
pub struct Paged {
    /// What is written so far and fits.
    held: Vec<u8>,
    /// Lines of the screen; `None` once it is decided where everything goes.
    rows: Option<usize>,
    pager: Option<Child>,
}

impl Paged {
    /// Pages where standard output is a terminal.
    #[must_use]
    pub fn new() -> Self {
        let rows = (io::stdout().is_terminal() && command().is_some()).then(rows).flatten();
        Self { held: Vec::new(), rows, pager: None }
    }

    /// Waits for the pager to be closed.
    ///
    /// # Errors
    /// Standard output cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.write_out()?;
        if let Some(mut pager) = self.pager.take() {
            drop(pager.stdin.take());
            pager.wait()?;
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        let held = std::mem::take(&mut self.held);
        match self.pager.as_mut().and_then(|pager| pager.stdin.as_mut()) {
            Some(pager) => pager.write_all(&held),
            None => io::stdout().write_all(&held).and_then(|()| io::stdout().flush()),
        }
    }
}

impl Write for Paged {
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(text);
        match self.rows {
            // The last line of the screen is the shell's.
            Some(rows) if self.held.iter().filter(|byte| **byte == b'\n').count() >= rows => {
                self.rows = None;
                // Without a pager it is as if none had been asked for.
                self.pager = command().and_then(|mut command| command.stdin(Stdio::piped()).spawn().ok());
                if self.pager.is_some() {
                    // The pager takes Ctrl-C for itself; ended by it, this would leave the pager to fight the shell for keys.
                    signal_hook::flag::register(SIGINT, Arc::default())?;
                }
                self.write_out()?;
            }
            Some(_) => {}
            None => self.write_out()?,
        }
        Ok(text.len())
    }

    /// What fits the screen waits for [`Paged::finish`].
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// `PAGER`, by the shell as everywhere; `None` where it is empty or `cat`.
fn command() -> Option<Command> {
    let pager = std::env::var("PAGER").unwrap_or_else(|_| LESS.to_owned());
    let pager = pager.trim();
    if pager.is_empty() || pager == "cat" {
        return None;
    }
    let mut command = Command::new("sh");
    command.arg("-c").arg(pager);
    if std::env::var_os("LESS").is_none() {
        command.env("LESS", OPTIONS);
    }
    // Whoever may read the log as root need not get a shell from less.
    command.env("LESSSECURE", "1");
    Some(command)
}

fn rows() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_row)).filter(|rows| *rows > 0)
}
