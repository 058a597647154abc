//! Text that cannot steer what shows it (pure).

use std::borrow::Cow;
use std::fmt::Write as _;

/// Text from outside, with what could steer a terminal or turn its direction spelled out: a path or an argument is chosen by
/// whoever is being watched.
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    spelled_out(text, steers)
}

/// The same for text of several lines.
#[must_use]
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    spelled_out(text, |c| c != '\n' && steers(c))
}

/// Controls, and what turns the direction of text (Unicode annex 9).
fn steers(c: char) -> bool {
    c.is_control() || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn spelled_out(text: &str, steers: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&steers) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if steers(c) {
            // Writing to a string cannot fail.
            let _infallible = write!(safe, "\\u{{{:x}}}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}
