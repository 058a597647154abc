//! A name of a DNS message as people write it.

use std::fmt::Write;

/// Labels with their lengths in the presentation form of RFC 1035 §5.1, as they were written, without the root's dot. Where a
/// pointer stands, or what was kept ends, an ellipsis says that there was more. Empty where nothing was kept.
pub(super) fn presented(written: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = written;
    loop {
        let Some((&length, after)) = rest.split_first() else {
            break if !written.is_empty() {
                text.push('…')
            };
        };
        if length == 0 {
            if text.is_empty() {
                text.push('.');
            }
            break;
        }
        if !text.is_empty() {
            text.push('.');
        }
        let Some((label, after)) = after.split_at_checked(usize::from(length)).filter(|_| length < 64) else {
            break text.push('…');
        };
        for &octet in label {
            match octet {
                b'.' | b'\\' => text.extend(['\\', char::from(octet)]),
                b'!'..=b'~' => text.push(char::from(octet)),
                // A String takes what is written to it.
                other => write!(text, "\\{other:03}").unwrap_or_default(),
            }
        }
        rest = after;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::presented;

    #[test]
    fn names_are_shown_as_they_were_written_and_what_is_missing_is_marked() {
        for (written, expected) in [
            (&b"\x03wWw\x04evil\x07Example\0"[..], "wWw.evil.Example"),
            (b"\0", "."),
            (b"\x03a.b\x02\\\x07\0", r"a\.b.\\\007"),
            (b"\x03www\xc0\x0c", "www.…"),
            (b"\x03www\x05ev", "www.…"),
            (b"\x03www", "www…"),
            (b"", ""),
        ] {
            assert_eq!(presented(written), expected);
        }
    }
}
