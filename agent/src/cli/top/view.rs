//! What `cordon top` knows, and what keys and news do to it (pure).

use jiff::Timestamp;
use jiff::tz::TimeZone;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use serde_json::Value;

use super::feed::News;
use super::recent::{self, Recent, Sums};
use crate::attribute::Finding;
use crate::cli::explain;
use crate::control::{Effect, LocalRule, Request};
use crate::journal::Followed;

/// Journal entries that are held back at most while paused; the oldest go first, and the pause then ends with a gap.
const HELD: usize = recent::KEPT;

/// What is to be done after a key.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Nothing but drawing.
    Nothing,
    /// End.
    Quit,
    /// Ask the agent.
    Ask(Request),
}

/// The lists, in the order of Tab.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Panel {
    /// Top indicators.
    Indicators,
    /// Top programs.
    Programs,
    /// Top actors.
    Actors,
    /// Hits as they come.
    Hits,
}

impl Panel {
    pub(super) const ALL: [Self; 4] = [Self::Indicators, Self::Programs, Self::Actors, Self::Hits];
}

/// What keys are about.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// The lists.
    Watching,
    /// The filter that is being typed; the one before is in [`View::filter`].
    Filtering(String),
    /// Whether to add this rule.
    Confirming(LocalRule),
    /// A text over the lists, from which line on.
    Reading { lines: Vec<String>, top: usize },
}

/// All that is shown.
pub(super) struct View {
    /// As the agent last said.
    pub(super) status: Value,
    /// Why it says nothing now.
    pub(super) silence: Option<String>,
    pub(super) recent: Recent,
    pub(super) sums: Sums,
    /// Hits known not to be recorded, since this view began.
    pub(super) lost: u64,
    pub(super) filter: String,
    pub(super) mode: Mode,
    pub(super) focus: Panel,
    /// The row in each panel, in the order of [`Panel::ALL`].
    pub(super) rows: [usize; 4],
    /// What came since the pause began; `None` when there is none.
    pub(super) held: Option<Vec<Followed>>,
    /// What came of the last request.
    pub(super) said: Option<String>,
    pub(super) zone: TimeZone,
    now: Timestamp,
    has_changed: bool,
}

impl View {
    pub(super) fn new(status: Value, zone: TimeZone, now: Timestamp) -> Self {
        let mut view = Self {
            status,
            silence: None,
            recent: Recent::default(),
            sums: Sums::default(),
            lost: 0,
            filter: String::new(),
            mode: Mode::Watching,
            focus: Panel::Hits,
            rows: [0; 4],
            held: None,
            said: None,
            zone,
            now,
            has_changed: true,
        };
        view.sum();
        view
    }

    /// From when on records are of interest.
    pub(super) fn since(&self) -> Timestamp {
        recent::since(self.now)
    }

    /// Takes in records, oldest first.
    pub(super) fn take(&mut self, findings: Vec<Finding>) {
        findings.into_iter().for_each(|finding| self.recent.take(finding));
        self.sum();
    }

    pub(super) const fn has_changed(&self) -> bool {
        self.has_changed
    }

    pub(super) const fn was_drawn(&mut self) {
        self.has_changed = false;
    }

    pub(super) const fn change(&mut self) {
        self.has_changed = true;
    }

    /// The clock goes on: the lists are about another hour once a minute has passed.
    pub(super) fn tick(&mut self, now: Timestamp) {
        let is_new_minute = self.now.as_second().div_euclid(60) != now.as_second().div_euclid(60);
        self.now = now;
        if is_new_minute && self.held.is_none() {
            self.sum();
        }
    }

    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Journal(followed) => match &mut self.held {
                Some(held) => {
                    held.extend(followed);
                    let beyond = held.len().saturating_sub(HELD);
                    held.drain(..beyond);
                }
                None => self.follow(followed),
            },
            News::Status(Ok(status)) if self.silence.is_none() && status == self.status => return,
            News::Status(Ok(status)) => (self.status, self.silence) = (status, None),
            News::Status(Err(why)) => self.silence = Some(why),
            News::Unread(why) => self.said = Some(why),
            News::Answer(request, answer) => self.answer(&request, answer),
        }
        self.has_changed = true;
    }

    fn follow(&mut self, followed: Vec<Followed>) {
        for item in followed {
            match item {
                Followed::Record(finding) => self.recent.take(*finding),
                Followed::Loss(loss) => self.lost = self.lost.saturating_add(loss.count),
            }
        }
        self.sum();
    }

    fn answer(&mut self, request: &Request, answer: Result<Value, String>) {
        match (request, answer) {
            (Request::Explain { .. }, Ok(document)) => {
                self.said = None;
                self.mode = Mode::Reading { lines: explain::lines(&document), top: 0 };
            }
            (Request::AddRule { rule }, Ok(document)) => {
                let done = if rule.effect == Effect::Block { "blocked" } else { "allowed" };
                self.said = Some(format!("{} is {done}: generation {} is live", rule.value, document["generation"]));
            }
            (_, Ok(_)) => {}
            (_, Err(why)) => self.said = Some(why),
        }
    }

    fn sum(&mut self) {
        self.sums = self.recent.sums(&self.filter, self.now);
        self.has_changed = true;
    }

    /// Rows of a list.
    pub(super) fn length(&self, panel: Panel) -> usize {
        match panel {
            Panel::Hits => self.recent.matching(&self.filter).count(),
            panel => self.sums.tops[panel as usize].len(),
        }
    }

    /// The row that keys are about.
    pub(super) fn row(&self, panel: Panel) -> usize {
        self.rows[panel as usize].min(self.length(panel).saturating_sub(1))
    }

    /// The value that Enter, `b` and `a` are about: none of an actor, and of a program only its path.
    fn chosen(&self) -> Option<String> {
        let row = self.row(self.focus);
        let named = |panel: Panel| self.sums.tops[panel as usize].get(row)?.name.clone();
        match self.focus {
            Panel::Indicators => named(Panel::Indicators),
            Panel::Programs => named(Panel::Programs).filter(|path| path.starts_with('/')),
            Panel::Actors => None,
            Panel::Hits => Some(self.recent.matching(&self.filter).nth(row)?.indicator.value.clone()),
        }
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        self.has_changed = true;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return match key.code {
                KeyCode::Char('c') => Wish::Quit,
                _ => Wish::Nothing,
            };
        }
        match std::mem::replace(&mut self.mode, Mode::Watching) {
            Mode::Watching => self.press_watching(key.code),
            Mode::Filtering(typed) => self.press_filtering(key.code, typed),
            Mode::Confirming(rule) => match key.code {
                KeyCode::Char('y' | 'Y') => {
                    self.said = Some("the agent is asked …".to_owned());
                    Wish::Ask(Request::AddRule { rule })
                }
                _ => Wish::Nothing,
            },
            Mode::Reading { lines, top } => {
                let top = match key.code {
                    KeyCode::Down | KeyCode::Char('j') => (top + 1).min(lines.len().saturating_sub(1)),
                    KeyCode::Up | KeyCode::Char('k') => top.saturating_sub(1),
                    KeyCode::PageDown | KeyCode::Char(' ') => (top + 10).min(lines.len().saturating_sub(1)),
                    KeyCode::PageUp => top.saturating_sub(10),
                    _ => return Wish::Nothing,
                };
                self.mode = Mode::Reading { lines, top };
                Wish::Nothing
            }
        }
    }

    fn press_watching(&mut self, key: KeyCode) -> Wish {
        match key {
            KeyCode::Char('q') => return Wish::Quit,
            KeyCode::Char('/') => self.mode = Mode::Filtering(self.filter.clone()),
            KeyCode::Char('?' | 'h') => self.mode = Mode::Reading { lines: help(), top: 0 },
            KeyCode::Char('p' | ' ') => self.pause(),
            KeyCode::Char('b') => self.confirm(Effect::Block),
            KeyCode::Char('a') => self.confirm(Effect::Allow),
            KeyCode::Enter => return self.enter(),
            KeyCode::Esc => {
                self.said = None;
                self.set_filter(String::new());
            }
            KeyCode::Tab | KeyCode::Right => self.focus = Panel::ALL[(self.focus as usize + 1) % Panel::ALL.len()],
            KeyCode::BackTab | KeyCode::Left => self.focus = Panel::ALL[(self.focus as usize + 3) % Panel::ALL.len()],
            KeyCode::Down | KeyCode::Char('j') => self.go(1),
            KeyCode::Up | KeyCode::Char('k') => self.go(-1),
            KeyCode::PageDown => self.go(10),
            KeyCode::PageUp => self.go(-10),
            KeyCode::Home => self.rows[self.focus as usize] = 0,
            _ => {}
        }
        Wish::Nothing
    }

    fn go(&mut self, rows: isize) {
        let last = self.length(self.focus).saturating_sub(1);
        self.rows[self.focus as usize] = self.row(self.focus).saturating_add_signed(rows).min(last);
    }

    fn enter(&mut self) -> Wish {
        let actor = || self.sums.tops[Panel::Actors as usize].get(self.row(Panel::Actors))?.name.clone();
        if self.focus == Panel::Actors {
            if let Some(actor) = actor() {
                self.set_filter(actor);
            }
            return Wish::Nothing;
        }
        self.chosen().map_or(Wish::Nothing, |value| Wish::Ask(Request::Explain { value }))
    }

    fn confirm(&mut self, effect: Effect) {
        match self.chosen() {
            Some(value) => {
                let reason = Some("cordon top".to_owned());
                self.mode = Mode::Confirming(LocalRule { value, effect, until: None, reason });
            }
            None => self.said = Some("choose an indicator, a hit or a program that has a path".to_owned()),
        }
    }

    fn pause(&mut self) {
        match self.held.take() {
            None => self.held = Some(Vec::new()),
            Some(held) => self.follow(held),
        }
    }

    fn press_filtering(&mut self, key: KeyCode, mut typed: String) -> Wish {
        match key {
            KeyCode::Enter => {
                self.set_filter(typed);
                return Wish::Nothing;
            }
            KeyCode::Esc => return Wish::Nothing,
            KeyCode::Backspace => {
                typed.pop();
            }
            KeyCode::Char(character) => typed.push(character),
            _ => {}
        }
        self.mode = Mode::Filtering(typed);
        Wish::Nothing
    }

    fn set_filter(&mut self, filter: String) {
        if self.filter != filter {
            self.filter = filter;
            self.rows = [0; 4];
            self.sum();
        }
    }
}

fn help() -> Vec<String> {
    [
        "Tab ←→     the next list, the one before",
        "↑↓ j k     a row up or down; PgUp, PgDn ten",
        "/          filter: value, source, actor, program, user, destination, verdict",
        "Enter      explain the value; of an actor, show its hits only",
        "b  a       block or allow the value on this host, after asking; `cordon unblock` undoes both",
        "p          pause, and go on with what came meanwhile",
        "Esc        clear the filter",
        "q          quit",
        "",
        "lost: hits that are counted as not recorded since the agent started",
        "faults: what is broken; `cordon status` shows all of them, docs/faults.md what to do",
    ]
    .map(str::to_owned)
    .to_vec()
}
