//! Pictures of hits over time, as SVG within the page.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{Markup, html};

use super::grouped;
use crate::report::overview::Overview;
use crate::report::summary::VERDICTS;

/// Height of the bars in the picture's own units; its width is one for each bucket, and the page stretches both.
const HEIGHT: f64 = 100.0;
/// Labels along the time.
const LABELS: usize = 5;

/// Stacked bars: hits in each bucket, by verdict. The labels are not part of the picture, so that they are readable at any width.
pub(super) fn timeline(overview: &Overview) -> Markup {
    let sums = overview.timeline.iter().map(|bucket| bucket.iter().sum());
    let top = round_up(sums.max().unwrap_or(0));
    html! {
        figure.chart {
            div.hits aria-hidden="true" { @for label in [top, top / 2, 0] { span { (short(label)) } } }
            (bars(overview, top))
            div.times aria-hidden="true" {
                @for label in 0..LABELS {
                    // The second and the fourth have no room on a phone.
                    span.wide[label % 2 == 1] { (axis_label(overview, label)) }
                }
            }
        }
    }
}

fn bars(overview: &Overview, top: u64) -> Markup {
    let described = overview.busiest().map_or_else(String::new, |(when, hits)| {
        let all = grouped(overview.total.total());
        format!("{all} hits in all; the busiest stretch begins {} with {}.", date_and_time(when), grouped(hits))
    });
    let height = |hits: u64| hits as f64 / top as f64 * HEIGHT;
    html! {
        svg viewBox={ "0 0 " (overview.timeline.len()) " " (HEIGHT) } preserveAspectRatio="none" role="img"
            aria-labelledby="timeline-title timeline-words" {
            title id="timeline-title" { "Hits over time, by verdict" }
            desc id="timeline-words" { (described) }
            @for y in [0.0, HEIGHT / 2.0, HEIGHT] { line x2=(overview.timeline.len()) y1=(y) y2=(y) {} }
            @for (index, bucket) in overview.timeline.iter().enumerate() {
                @for (verdict, below, hits) in stacked(bucket) {
                    rect class=(VERDICTS[verdict].name()) x=(number(index as f64 + 0.1)) width="0.8"
                        y=(number(HEIGHT - height(below + hits))) height=(number(height(hits).max(0.8))) {}
                }
            }
        }
    }
}

/// Index of the verdict, hits below it, its own; those without hits left out.
fn stacked(bucket: &[u64; 4]) -> Vec<(usize, u64, u64)> {
    let mut below = 0;
    let mut parts = Vec::new();
    for (verdict, &hits) in bucket.iter().enumerate().filter(|(_, hits)| **hits > 0) {
        parts.push((verdict, below, hits));
        below += hits;
    }
    parts
}

fn axis_label(overview: &Overview, label: usize) -> String {
    let window = &overview.window;
    let moment = match label + 1 {
        LABELS => window.until(),
        _ => window.start(window.buckets() * label / (LABELS - 1)),
    };
    let format = match window.until().duration_since(window.since()).as_hours() {
        0..=36 => "%H:%M",
        37..=240 => "%b %-d, %H:%M",
        _ => "%b %-d",
    };
    moment.to_zoned_datetime(TimeZone::UTC).strftime(format).to_string()
}

/// A line without axes; it repeats what the numbers beside it say, so that readers of the page's text are spared it.
pub(super) fn trend(buckets: &[u64]) -> Markup {
    let top = buckets.iter().copied().max().unwrap_or(0).max(1) as f64;
    let step = 100.0 / buckets.len().saturating_sub(1).max(1) as f64;
    let points = buckets.iter().enumerate().map(|(index, &hits)| {
        format!(
            "{}{} {}",
            if index == 0 { "M" } else { "L" },
            number(index as f64 * step),
            number(19.0 - hits as f64 / top * 18.0)
        )
    });
    html! {
        svg.trend viewBox="0 0 100 20" preserveAspectRatio="none" aria-hidden="true" focusable="false" {
            path d=(points.collect::<Vec<_>>().join(" ")) {}
        }
    }
}

/// As short as a tenth of a unit allows.
fn number(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map_or_else(|| text.clone(), str::to_owned)
}

/// The next even number that reads well on an axis: 2, 4 or 10 times a power of ten.
fn round_up(value: u64) -> u64 {
    let mut step = 1_u64;
    loop {
        for factor in [2, 4, 10] {
            let rounded = step.saturating_mul(factor);
            if rounded >= value {
                return rounded;
            }
        }
        step = step.saturating_mul(10);
    }
}

/// `1500` as `1.5k`.
fn short(value: u64) -> String {
    let (scaled, suffix) = match value {
        0..1_000 => return value.to_string(),
        1_000..1_000_000 => (value as f64 / 1e3, "k"),
        1_000_000..1_000_000_000 => (value as f64 / 1e6, "M"),
        _ => (value as f64 / 1e9, "G"),
    };
    format!("{}{suffix}", number(scaled))
}

/// `2026-11-23 19:05` in UTC.
pub(super) fn date_and_time(time: Timestamp) -> String {
    time.to_zoned_datetime(TimeZone::UTC).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_number_that_can_be_halved_and_read() {
        for (value, top) in [(0, 2), (1, 2), (3, 4), (5, 10), (11, 20), (39, 40), (41, 100), (1234, 2000)] {
            assert_eq!(round_up(value), top, "{value}");
        }
        assert_eq!(round_up(u64::MAX), u64::MAX);
        assert_eq!(
            ["0", "999", "1k", "1.5k", "20M"],
            [0, 999, 1000, 1500, 20_000_000].map(short).each_ref().map(String::as_str)
        );
    }

    #[test]
    fn parts_of_a_bar_stand_on_each_other() {
        assert_eq!(stacked(&[5, 0, 2, 1]), [(0, 0, 5), (2, 5, 2), (3, 7, 1)]);
    }
}
