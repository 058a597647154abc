//! How [`View`] looks (pure): made for 80 columns and 24 rows, and larger with more of both.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Clear, Paragraph, Wrap};
use serde_json::Value;

use super::view::{Mode, Panel, View};
use crate::attribute::Finding;
use crate::attribute::finding::Verdict;
use crate::cli::log::show;
use crate::cli::table::{Cut, Tone, fit, printable, sparkline};
use crate::control::Effect;
use crate::report::summary::Row;

/// Columns of a time and of a verdict with its count.
const TIME: usize = 8;
const VERDICT: usize = 16;

/// Draws everything.
pub(super) fn draw(frame: &mut Frame<'_>, view: &View, is_coloured: bool) {
    let style = Styles { is_coloured };
    let area = frame.area();
    // The lists of tops get a third of what the fixed lines leave.
    let tops = (area.height.saturating_sub(8) / 3).max(3);
    let [head, rate, top_area, hits_area, prompt] = Layout::vertical([
        Constraint::Length(2),
        Constraint::Length(2),
        Constraint::Length(tops + 1),
        Constraint::Fill(1),
        Constraint::Length(1),
    ])
    .areas(area);
    frame.render_widget(Paragraph::new(header(view, style)), head);
    frame.render_widget(Paragraph::new(rate_line(view, usize::from(rate.width))), rate);
    let columns: [Rect; 3] =
        Layout::horizontal([Constraint::Fill(9), Constraint::Fill(8), Constraint::Fill(7)]).spacing(2).areas(top_area);
    for ((panel, title), area) in
        [(Panel::Indicators, "INDICATORS"), (Panel::Programs, "PROGRAMS"), (Panel::Actors, "ACTORS")]
            .into_iter()
            .zip(columns)
    {
        frame.render_widget(Paragraph::new(top_list(view, panel, title, area, style)), area);
    }
    frame.render_widget(Paragraph::new(hits(view, hits_area, style)), hits_area);
    frame.render_widget(Paragraph::new(prompt_line(view, style)), prompt);
    if let Mode::Reading { lines, top } = &view.mode {
        reading(frame, lines, *top, style);
    }
}

/// Colours, where there may be any.
#[derive(Clone, Copy)]
struct Styles {
    is_coloured: bool,
}

impl Styles {
    fn of(self, tone: Tone) -> Style {
        let style = Style::new();
        let coloured = |colour| if self.is_coloured { style.fg(colour) } else { style };
        match tone {
            Tone::Plain => style,
            Tone::Bad => coloured(Color::Red),
            Tone::Warning => coloured(Color::Yellow),
            Tone::Good => coloured(Color::Green),
            Tone::Notice => coloured(Color::Cyan),
            Tone::Faint => style.add_modifier(Modifier::DIM),
            Tone::Heading => style.add_modifier(Modifier::BOLD),
        }
    }

    fn span(self, tone: Tone, text: impl Into<String>) -> Span<'static> {
        Span::styled(text.into(), self.of(tone))
    }
}

/// Mode, generation, faults and losses: always there.
fn header(view: &View, style: Styles) -> Vec<Line<'static>> {
    let status = &view.status;
    let mode = text(&status["mode"]);
    let mode_tone = if mode == "enforce" { Tone::Good } else { Tone::Notice };
    let faults = status["faults"].as_array().map_or(&[][..], Vec::as_slice);
    let lost = lost(status);
    let counted = |tone, count: u64| if count == 0 { Tone::Plain } else { tone };
    let mut first = vec![
        style.span(Tone::Heading, "cordon "),
        style.span(mode_tone, mode),
        Span::raw(format!(
            "  generation {}  values {}  ",
            text(&status["generation"]),
            text(&status["tables"]["entries"])
        )),
        style.span(counted(Tone::Bad, faults.len() as u64), format!("faults {}", faults.len())),
        Span::raw("  "),
        style.span(counted(Tone::Bad, lost), format!("lost {lost}")),
    ];
    if view.lost > 0 {
        first.push(style.span(Tone::Bad, format!(" ({} new)", view.lost)));
    }
    let second = match (&view.silence, faults.first()) {
        (Some(why), _) => style.span(Tone::Bad, printable(why).into_owned()),
        (None, Some(fault)) => style.span(
            Tone::Bad,
            format!(
                "{} {} {}: {}",
                text(&fault["number"]),
                text(&fault["title"]),
                text(&fault["subject"]),
                text(&fault["detail"])
            ),
        ),
        (None, None) => {
            let (counters, hits) = (&status["counters"], &status["hits"]);
            Span::raw(format!(
                "kernel: blocked {}, reported {}; this generation: {} hits, {} recorded",
                text(&counters["blocked"]),
                text(&counters["reported"]),
                text(&hits["counted"]),
                text(&hits["recorded"])
            ))
        }
    };
    vec![Line::from(first), Line::from(second)]
}

/// Hits that the agent counted as not recorded since it started.
fn lost(status: &Value) -> u64 {
    let counters = status["losses"].as_object().into_iter().flatten();
    counters.filter(|(name, _)| name.starts_with("journal.lost.")).filter_map(|(_, count)| count.as_u64()).sum()
}

fn rate_line(view: &View, width: usize) -> Line<'static> {
    let hits: u64 = view.sums.rate.iter().sum();
    let now = view.sums.rate.last().copied().unwrap_or(0);
    let of = if view.recent.is_full() { "of the latest 5000 records" } else { "in the last hour" };
    let words = format!(" {now}/min, {hits} {of}");
    let room = width.saturating_sub(words.chars().count() + 1);
    let skipped = view.sums.rate.len().saturating_sub(room);
    Line::from(format!("{}{words}", sparkline(view.sums.rate.get(skipped..).unwrap_or_default())))
}

fn top_list(view: &View, panel: Panel, title: &str, area: Rect, style: Styles) -> Vec<Line<'static>> {
    let (width, height) = (usize::from(area.width), usize::from(area.height).saturating_sub(1));
    let rows = view.sums.tops.get(panel as usize).map_or(&[][..], Vec::as_slice);
    let chosen = (view.focus == panel).then(|| view.row(panel));
    let first = chosen.map_or(0, |row| (row + 1).saturating_sub(height));
    let digits = rows.first().map_or(4, |row| row.tally.hits().to_string().len().max(4));
    let name_width = width.saturating_sub(digits + 1);
    let mut lines = vec![
        style.span(title_tone(view, panel), format!("{} {:>digits$}", fit(title, name_width, Cut::End), "HITS")).into(),
    ];
    for (index, row) in rows.iter().enumerate().skip(first).take(height) {
        let line =
            format!("{} {:>digits$}", fit(&name(row, panel, name_width), name_width, Cut::Middle), row.tally.hits());
        lines.push(marked(line.into(), chosen == Some(index)));
    }
    lines
}

/// A program by the last part of its path where all of it has no room.
fn name(row: &Row, panel: Panel, width: usize) -> String {
    let name = row.name.as_deref().unwrap_or("-");
    match name.rsplit_once('/') {
        Some((_, last)) if panel == Panel::Programs && name.chars().count() > width => last.to_owned(),
        _ => name.to_owned(),
    }
}

fn title_tone(view: &View, panel: Panel) -> Tone {
    if view.focus == panel { Tone::Heading } else { Tone::Faint }
}

fn marked(line: Line<'static>, is_chosen: bool) -> Line<'static> {
    if is_chosen { line.style(Modifier::REVERSED) } else { line }
}

fn hits(view: &View, area: Rect, style: Styles) -> Vec<Line<'static>> {
    let (width, height) = (usize::from(area.width), usize::from(area.height).saturating_sub(1));
    let chosen = (view.focus == Panel::Hits).then(|| view.row(Panel::Hits));
    let first = chosen.map_or(0, |row| (row + 1).saturating_sub(height));
    let mut title = "HITS, newest first".to_owned();
    if !view.filter.is_empty() {
        title.push_str(&format!("  filter: {}", printable(&view.filter)));
    }
    let mut heading = vec![style.span(title_tone(view, Panel::Hits), title)];
    if let Some(held) = &view.held {
        heading.push(style.span(Tone::Warning, format!("  paused, {} held back", held.len())));
    }
    let mut lines = vec![Line::from(heading)];
    for (index, finding) in view.recent.matching(&view.filter).enumerate().skip(first).take(height) {
        lines.push(marked(hit(finding, view, width, style), chosen == Some(index)));
    }
    if lines.len() == 1 {
        let text =
            if view.filter.is_empty() { "none in the last hour" } else { "none that the filter finds; Esc clears it" };
        lines.push(style.span(Tone::Faint, text).into());
    }
    lines
}

fn hit(finding: &Finding, view: &View, width: usize, style: Styles) -> Line<'static> {
    let tone = match finding.verdict {
        Verdict::Blocked | Verdict::Killed => Tone::Bad,
        Verdict::Reported => Tone::Warning,
        Verdict::WouldBlock => Tone::Notice,
    };
    let time = finding.last_time.to_zoned_datetime(view.zone.clone()).strftime("%H:%M:%S").to_string();
    let process = finding.process.as_ref().map_or_else(|| "?".to_owned(), show::process);
    let rest = width.saturating_sub(TIME + VERDICT + 2);
    let indicator = &finding.indicator;
    // As much of the indicator as there is room beside what and who.
    let shares = if rest < 80 {
        [rest - rest * 50 / 100 - 1, rest * 50 / 100, 0]
    } else {
        [rest * 34 / 100, rest * 33 / 100, rest - rest * 34 / 100 - rest * 33 / 100 - 2]
    };
    let why = format!("{} ({})", indicator.value, indicator.source);
    let columns = [(show::what(finding), Cut::Middle), (process, Cut::End), (why, Cut::Middle)];
    let columns = columns.iter().zip(shares).filter(|(_, share)| *share > 0);
    let columns: Vec<String> = columns.map(|((text, cut), share)| fit(text, share, *cut)).collect();
    vec![
        Span::raw(format!("{} ", fit(&time, TIME, Cut::End))),
        style.span(tone, fit(&show::verdict(finding), VERDICT, Cut::End)),
        Span::raw(format!(" {}", columns.join(" "))),
    ]
    .into()
}

fn prompt_line(view: &View, style: Styles) -> Line<'static> {
    match &view.mode {
        Mode::Filtering(typed) => format!("filter: {}▏  Enter applies, Esc leaves it", printable(typed)).into(),
        Mode::Confirming(rule) => {
            let verb = if rule.effect == Effect::Block { "Block" } else { "Never block" };
            style
                .span(
                    Tone::Warning,
                    format!("{verb} {} on this host until `cordon unblock`? y/N", printable(&rule.value)),
                )
                .into()
        }
        Mode::Reading { .. } => style.span(Tone::Faint, "↑↓ scroll, any other key closes").into(),
        Mode::Watching => match &view.said {
            Some(said) => style.span(Tone::Warning, printable(said).into_owned()).into(),
            None => style
                .span(Tone::Faint, "/ filter  Enter explain  b block  a allow  p pause  Tab list  ? help  q quit")
                .into(),
        },
    }
}

/// A text over the middle of the screen.
fn reading(frame: &mut Frame<'_>, lines: &[String], top: usize, style: Styles) {
    let area = frame.area();
    let (width, height) = (area.width.saturating_sub(4).min(120), area.height.saturating_sub(4));
    let inner = usize::from(width.saturating_sub(2)).max(1);
    let wanted: usize = lines.iter().map(|line| line.chars().count().div_ceil(inner).max(1)).sum();
    let height = height.min(u16::try_from(wanted + 2).unwrap_or(u16::MAX));
    let place = Rect { x: area.x + (area.width - width) / 2, y: area.y + (area.height - height) / 2, width, height };
    frame.render_widget(Clear, place);
    let text: Vec<Line<'static>> =
        lines.iter().skip(top).map(|line| Line::from(printable(line).into_owned())).collect();
    let block = Block::bordered().border_style(style.of(Tone::Faint));
    frame.render_widget(Paragraph::new(text).wrap(Wrap { trim: false }).block(block), place);
}

fn text(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => printable(text).into_owned(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests;
