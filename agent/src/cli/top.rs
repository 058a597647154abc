//! `cordon top`: hits as they come, on a terminal. Pure parts: [`view`] is what is known and what keys do, [`draw`] how it looks.

mod draw;
mod feed;
mod recent;
mod view;

use std::io::{self, IsTerminal as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::TryRecvError;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::{Timestamp, ZonedDateTime};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyEventKind};
use signal_hook::consts::{SIGHUP, SIGTERM};

use super::table::Terminal;
use super::{Exit, ask, log};
use crate::control::Request;
use crate::journal::{Order, Query, Reader};
use crate::settings::Places;
use feed::Feed;
use view::{View, Wish};

/// Between two drawings at the least: four a second are enough to watch and few enough for a slow line.
const FRAME: Duration = Duration::from_millis(250);

/// Watch hits, and who causes them, as they come
#[derive(Debug, clap::Args)]
#[command(after_help = "Keys: / filter, Tab and arrows move, Enter explains, b blocks and a allows after asking, \
                        p pauses, ? helps, q quits.")]
pub struct Args {}

/// Shows hits until `q` is pressed or a signal ends it; the terminal is then as it was, after a panic too.
///
/// # Errors
/// No agent is running, or the terminal cannot be used.
pub fn run(_: &Args, places: &Places) -> anyhow::Result<Exit> {
    if !io::stdout().is_terminal() || !io::stdin().is_terminal() {
        eprintln!("cordon top: it needs a terminal; `cordon log -f` is for pipes and files");
        return Ok(Exit::Usage);
    }
    let status = match ask(places, &Request::Status)? {
        Ok(status) => status,
        Err(exit) => return Ok(exit),
    };
    let now = Timestamp::now();
    let mut view = View::new(status, ZonedDateTime::now().time_zone().clone(), now);
    // The end is noted before what is there is read, so that nothing falls in between.
    let newest =
        Query { since: Some(view.since()), limit: Some(recent::KEPT), order: Order::NewestFirst, ..Query::default() };
    let opened = Reader::open(&places.journal).and_then(|reader| {
        let follow = reader.follow(&Query::default())?;
        Ok((reader.records(&newest).collect::<Result<Vec<_>, _>>()?, follow))
    });
    let (mut records, follow) = match opened {
        Ok(opened) => opened,
        Err(error) => return Ok(log::explain("top", &error)),
    };
    records.sort_by_key(|finding| finding.last_time);
    view.take(records);
    let ended = Arc::new(AtomicBool::new(false));
    for signal in [SIGTERM, SIGHUP] {
        signal_hook::flag::register(signal, Arc::clone(&ended)).context("cannot take signals")?;
    }
    let feed = Feed::start(places.socket.clone(), follow)?;
    on_screen(|terminal| watch(terminal, &mut view, &feed, &ended))?;
    Ok(Exit::Done)
}

/// Lends the terminal to `show`, and gives it back as it was: ratatui's hook does so when anything panics.
fn on_screen(show: impl FnOnce(&mut DefaultTerminal) -> io::Result<()>) -> anyhow::Result<()> {
    let mut terminal = ratatui::try_init().context("cannot use the terminal")?;
    let shown = show(&mut terminal);
    ratatui::try_restore().context("cannot give the terminal back; `reset` does")?;
    shown.context("cannot use the terminal")
}

fn watch(terminal: &mut DefaultTerminal, view: &mut View, feed: &Feed, ended: &AtomicBool) -> io::Result<()> {
    let is_coloured = Terminal::stdout().is_coloured;
    let mut drawn: Option<Instant> = None;
    while !ended.load(Ordering::Relaxed) {
        let is_due = drawn.is_none_or(|drawn| drawn.elapsed() >= FRAME);
        if is_due && view.has_changed() {
            terminal.draw(|frame| draw::draw(frame, view, is_coloured))?;
            view.was_drawn();
            drawn = Some(Instant::now());
        }
        let wait = drawn.map_or(FRAME, |drawn| FRAME.saturating_sub(drawn.elapsed())).max(Duration::from_millis(20));
        if event::poll(if view.has_changed() { wait } else { FRAME })? {
            match event::read()? {
                Event::Key(key) if key.kind != KeyEventKind::Release => match view.press(key) {
                    Wish::Nothing => {}
                    Wish::Quit => return Ok(()),
                    Wish::Ask(request) => feed.ask(request),
                },
                // Drawn again at the new size.
                Event::Resize(..) => view.change(),
                _ => {}
            }
        }
        loop {
            match feed.next() {
                Ok(news) => view.hear(news),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Err(io::Error::other("its own threads have ended")),
            }
        }
        view.tick(Timestamp::now());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
