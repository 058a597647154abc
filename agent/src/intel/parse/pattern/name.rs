//! `LIKE` and `MATCHES` on a domain name, where they say as much as a name does: itself, or all that is below it.

/// What may stand before a name in a regular expression for it: nothing, or anything that ends
/// with a dot. An optional part without `^` is none of them: any letters may then come before the name.
const BEFORE: [&str; 14] = [
    "^",
    r"(^|\.)",
    r"(?:^|\.)",
    r"(\.|^)",
    r"(?:\.|^)",
    r"^(.*\.)?",
    r"^(?:.*\.)?",
    r"^(.+\.)?",
    r"^(?:.+\.)?",
    r"^.*\.",
    r"^.+\.",
    r".*\.",
    r".+\.",
    r"\.",
];

/// The name that `LIKE` stands for: one without wildcards, alone or behind `%.`; `_` is one, too (STIX 2.1 §9.6.1).
pub(super) fn like(text: &str) -> Option<&str> {
    let name = text.strip_prefix("%.").unwrap_or(text);
    (!name.contains(['%', '_'])).then_some(name)
}

/// The name that `MATCHES` stands for: it is spelled out up to the end, and what may come before it is one of [`BEFORE`].
pub(super) fn matches(expression: &str) -> Option<String> {
    let expression = expression.strip_prefix("(?i)").unwrap_or(expression).strip_suffix('$')?;
    BEFORE.iter().filter_map(|before| expression.strip_prefix(before)).find_map(literal)
}

/// A regular expression that nothing but one name satisfies; a dot that is not escaped stands for any character.
fn literal(expression: &str) -> Option<String> {
    let mut name = String::with_capacity(expression.len());
    let mut characters = expression.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => name.push(characters.next().filter(|escaped| matches!(escaped, '.' | '-'))?),
            '-' => name.push('-'),
            letter if letter.is_alphanumeric() => name.push(letter),
            _ => return None,
        }
    }
    Some(name)
}
