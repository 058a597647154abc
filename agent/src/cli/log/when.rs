//! Times as people write them: `2h`, `today`, `2026-11-23`, `2026-11-23T10:00`, RFC 3339.

use jiff::civil::DateTime;
use jiff::{Span, Timestamp, ZonedDateTime};

/// The moment that `text` means to somebody at `now`.
///
/// # Errors
/// It is none of the forms, or out of range; the text says which there are.
pub(super) fn parse(text: &str, now: &ZonedDateTime) -> Result<Timestamp, String> {
    let text = text.trim();
    let out_of_range = |error: jiff::Error| format!("{text:?} is out of range: {error}");
    let midnight = |zoned: ZonedDateTime| zoned.start_of_day().map(|zoned| zoned.timestamp());
    match text {
        "now" => return Ok(now.timestamp()),
        "today" => return midnight(now.clone()).map_err(out_of_range),
        "yesterday" => return now.yesterday().and_then(midnight).map_err(out_of_range),
        _ => {}
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    // A date alone is its midnight.
    if let Ok(time) = text.parse::<DateTime>() {
        return time.to_zoned_datetime(now.time_zone().clone()).map(|zoned| zoned.timestamp()).map_err(out_of_range);
    }
    let digits_first = text.starts_with(|c: char| c.is_ascii_digit());
    match text.strip_suffix(" ago").unwrap_or(text).trim_end().parse::<Span>() {
        Ok(span) if digits_first => now.checked_sub(span).map(|zoned| zoned.timestamp()).map_err(out_of_range),
        _ => Err(format!(
            "{text:?} is no time: use 10m, 2h, 3d, today, yesterday, 2026-11-23, 2026-11-23T10:00 or RFC 3339"
        )),
    }
}
