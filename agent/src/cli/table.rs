//! What a terminal gets: width, colour, and text that cannot steer it.

use std::borrow::Cow;
use std::io::IsTerminal;

use comfy_table::{ContentArrangement, Table};

pub use crate::report::printable;

/// How text stands out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Not at all.
    Plain,
    /// What was stopped, or is broken.
    Bad,
    /// What needs a look.
    Warning,
    /// What is as it should be.
    Good,
    /// What would have happened.
    Notice,
    /// What matters less.
    Faint,
    /// A heading.
    Heading,
}

impl Tone {
    /// Parameters of the SGR sequence, ECMA-48 §8.3.117.
    const fn sgr(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Bad => "31",
            Self::Warning => "33",
            Self::Good => "32",
            Self::Notice => "36",
            Self::Faint => "2",
            Self::Heading => "1",
        }
    }
}

/// Where tables go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terminal {
    /// Columns; `None` when it is not a terminal, and nothing is then cut.
    pub width: Option<usize>,
    /// Whether it may be coloured.
    pub is_coloured: bool,
}

impl Terminal {
    /// What stdout is. Colour only on a terminal and never with `NO_COLOR` (no-color.org) or `TERM=dumb`.
    #[must_use]
    pub fn stdout() -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
        Self {
            width: is_terminal.then(|| Table::new().width().map_or(80, usize::from)),
            is_coloured: is_terminal && !is_set("NO_COLOR") && !is_dumb,
        }
    }

    /// `text` in that tone, if there is colour.
    #[must_use]
    pub fn paint<'a>(&self, tone: Tone, text: &'a str) -> Cow<'a, str> {
        if self.is_coloured && tone != Tone::Plain && !text.is_empty() {
            Cow::Owned(format!("\x1b[{}m{text}\x1b[0m", tone.sgr()))
        } else {
            Cow::Borrowed(text)
        }
    }

    /// A table with a heading and no frame, that wraps its cells to the width; the cells are made [`printable`].
    #[must_use]
    pub fn table(&self, heading: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
        let mut table = Table::new();
        table.load_style(comfy_table::TableStyle::new());
        match self.width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic);
                table.set_width(u16::try_from(width).unwrap_or(u16::MAX));
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        table.set_header(heading.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>());
        for row in rows {
            table.add_row(row.iter().map(|cell| printable(cell).into_owned()).collect::<Vec<_>>());
        }
        let mut text = String::new();
        for (number, line) in table.lines().enumerate() {
            let line = line.trim_end();
            text.push_str(&if number == 0 { self.paint(Tone::Heading, line) } else { Cow::Borrowed(line) });
            text.push('\n');
        }
        text
    }
}

/// Where text that is too long is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// In the middle, where a path or a digest says least.
    Middle,
    /// At the end.
    End,
}

/// `text`, [`printable`], in exactly `width` columns: padded, or cut with `…`.
#[must_use]
pub fn fit(text: &str, width: usize, cut: Cut) -> String {
    let text = printable(text);
    let length = text.chars().count();
    if length <= width {
        return format!("{text:<width$}");
    }
    if width == 0 {
        return String::new();
    }
    let tail = if cut == Cut::Middle { (width - 1) / 2 } else { 0 };
    text.chars().take(width - 1 - tail).chain(['…']).chain(text.chars().skip(length - tail)).collect()
}

/// One character a number, as high as its share of the largest; a space for none.
#[must_use]
pub fn sparkline(numbers: &[u64]) -> String {
    const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let most = numbers.iter().copied().max().unwrap_or(0);
    let step = |number: u64| match number {
        0 => ' ',
        // Rounded up, so that the largest alone reaches the last but for equals.
        _ => STEPS[(u128::from(number) * 8).div_ceil(u128::from(most)) as usize - 1],
    };
    numbers.iter().map(|number| step(*number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Terminal = Terminal { width: Some(40), is_coloured: false };

    #[test]
    fn text_from_outside_cannot_steer_the_terminal() {
        assert_eq!(printable("/tmp/\x1b[2Jx\u{202e}y"), "/tmp/\\u{1b}[2Jx\\u{202e}y");
        assert_eq!(printable("/usr/bin/curl"), "/usr/bin/curl");
        assert!(!PLAIN.table(&["PATH"], [vec!["\x1b[31m".to_owned()]]).contains('\x1b'));
    }

    #[test]
    fn fitted_text_has_the_width_asked_for() {
        assert_eq!(fit("abc", 5, Cut::Middle), "abc  ");
        assert_eq!(fit("abcdefghij", 5, Cut::Middle), "ab…ij");
        assert_eq!(fit("abcdefghij", 6, Cut::Middle), "abc…ij");
        assert_eq!(fit("abcdefghij", 5, Cut::End), "abcd…");
        for width in 0..12 {
            for cut in [Cut::Middle, Cut::End] {
                assert_eq!(fit("abcdéfghij", width, cut).chars().count(), width);
            }
        }
    }

    #[test]
    fn a_sparkline_is_as_long_as_its_numbers_and_as_high_as_their_share() {
        assert_eq!(sparkline(&[0, 1, 2, 3, 4, 5, 6, 7, 8]), " ▁▂▃▄▅▆▇█");
        assert_eq!(sparkline(&[0, 1, 1_000_000, u64::MAX]), " ▁▁█");
        assert_eq!(sparkline(&[0, 0]), "  ");
        assert_eq!(sparkline(&[]), "");
    }

    #[test]
    fn colour_only_where_it_may_be() {
        assert_eq!(PLAIN.paint(Tone::Bad, "x"), "x");
        assert_eq!(Terminal { is_coloured: true, ..PLAIN }.paint(Tone::Bad, "x"), "\x1b[31mx\x1b[0m");
    }

    #[test]
    fn a_table_keeps_to_the_width_or_cuts_nothing() {
        let long = "word ".repeat(30);
        let row = || [vec!["a".to_owned(), long.clone()]];
        let narrow = PLAIN.table(&["ONE", "TWO"], row());
        assert!(narrow.lines().all(|line| line.chars().count() <= 40), "{narrow}");
        let free = Terminal { width: None, is_coloured: false }.table(&["ONE", "TWO"], row());
        assert_eq!(free.lines().count(), 2, "{free}");
    }
}
