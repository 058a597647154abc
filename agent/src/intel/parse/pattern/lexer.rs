//! Pattern text → tokens.

use super::{Constant, MAX_BYTES, PatternError, PatternFault};

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    /// A name: keywords are told from property names by where they stand.
    Word(String),
    Constant(Constant),
    OpenBracket,
    CloseBracket,
    OpenParenthesis,
    CloseParenthesis,
    Colon,
    Point,
    Comma,
    Star,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Token {
    pub(super) fn describe(&self) -> String {
        match self {
            Self::Word(word) => format!("`{}`", word.chars().take(40).collect::<String>()),
            Self::Constant(Constant::Text(text)) => format!("'{}'", text.chars().take(40).collect::<String>()),
            Self::Constant(_) => "a constant".to_owned(),
            Self::OpenBracket => "`[`".to_owned(),
            Self::CloseBracket => "`]`".to_owned(),
            Self::OpenParenthesis => "`(`".to_owned(),
            Self::CloseParenthesis => "`)`".to_owned(),
            Self::Colon => "`:`".to_owned(),
            Self::Point => "`.`".to_owned(),
            Self::Comma => "`,`".to_owned(),
            Self::Star => "`*`".to_owned(),
            Self::Equal => "`=`".to_owned(),
            Self::NotEqual => "`!=`".to_owned(),
            Self::Less => "`<`".to_owned(),
            Self::LessOrEqual => "`<=`".to_owned(),
            Self::Greater => "`>`".to_owned(),
            Self::GreaterOrEqual => "`>=`".to_owned(),
        }
    }
}

/// A token and the byte at which it starts.
pub(super) type Placed = (usize, Token);

struct Lexer<'a> {
    text: &'a str,
    position: usize,
}

/// The character (from 1) at a byte offset.
pub(super) fn column(text: &str, offset: usize) -> usize {
    text.char_indices().take_while(|(position, _)| *position < offset).count() + 1
}

/// All tokens of a pattern.
pub(super) fn tokens(text: &str) -> Result<Vec<Placed>, PatternError> {
    if text.len() > MAX_BYTES {
        return Err(PatternError { column: 1, fault: PatternFault::TooLong });
    }
    let mut lexer = Lexer { text, position: 0 };
    let mut tokens = Vec::new();
    loop {
        match lexer.next() {
            Ok(Some(token)) => tokens.push(token),
            Ok(None) => return Ok(tokens),
            Err((offset, fault)) => return Err(PatternError { column: column(text, offset), fault }),
        }
    }
}

type Fault = (usize, PatternFault);

impl<'a> Lexer<'a> {
    fn rest(&self) -> &'a str {
        self.text.get(self.position..).unwrap_or_default()
    }

    fn skip_blanks(&mut self) -> Result<(), Fault> {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start();
            self.position += rest.len() - trimmed.len();
            if trimmed.starts_with("//") {
                self.position += trimmed.find(['\n', '\r']).unwrap_or(trimmed.len());
            } else if trimmed.starts_with("/*") {
                let end = trimmed.find("*/").ok_or((self.position, PatternFault::Unterminated("a comment")))?;
                self.position += end + 2;
            } else {
                return Ok(());
            }
        }
    }

    fn next(&mut self) -> Result<Option<Placed>, Fault> {
        self.skip_blanks()?;
        let start = self.position;
        let rest = self.rest();
        let Some(first) = rest.chars().next() else { return Ok(None) };
        if let Some((length, token)) = symbol(rest.as_bytes()) {
            self.position += length;
            return Ok(Some((start, token)));
        }
        let second_is = |wanted: fn(char) -> bool| rest.chars().nth(1).is_some_and(wanted);
        let token = match first {
            '\'' => Token::Constant(Constant::Text(self.quoted()?)),
            't' if rest.starts_with("t'") => Token::Constant(Constant::Timestamp(self.literal(is_timestamp)?)),
            'h' if rest.starts_with("h'") => Token::Constant(Constant::Hexadecimal(self.literal(is_hexadecimal)?)),
            'b' if rest.starts_with("b'") => Token::Constant(Constant::Base64(self.literal(is_base64)?)),
            '0'..='9' => self.number()?,
            '+' | '-' if second_is(|c| c.is_ascii_digit() || c == '.') => self.number()?,
            '.' if second_is(|c| c.is_ascii_digit()) => self.number()?,
            '.' => {
                self.position += 1;
                Token::Point
            }
            first if first.is_ascii_alphabetic() || first == '_' => {
                let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-'));
                let word = rest.get(..end.unwrap_or(rest.len())).unwrap_or_default();
                self.position += word.len();
                match word {
                    "true" => Token::Constant(Constant::Boolean(true)),
                    "false" => Token::Constant(Constant::Boolean(false)),
                    _ => Token::Word(word.to_owned()),
                }
            }
            other => return Err((start, PatternFault::Character(other))),
        };
        Ok(Some((start, token)))
    }

    /// A quoted text; `\'` and `\\` are its only escapes, and nothing else may be escaped.
    fn quoted(&mut self) -> Result<String, Fault> {
        let start = self.position;
        let mut content = String::new();
        let body = self.rest().get(1..).unwrap_or_default();
        let mut characters = body.char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '\'' => {
                    self.position = start + 1 + offset + 1;
                    return Ok(content);
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('\'' | '\\'))) => content.push(escaped),
                    Some(_) => {
                        return Err((start + 1 + offset, PatternFault::Literal("a backslash that is not doubled")));
                    }
                    None => break,
                },
                other => content.push(other),
            }
        }
        Err((start, PatternFault::Unterminated("a quoted text")))
    }

    /// What stands between the quotes of a literal with a one-letter prefix.
    fn literal(&mut self, check: fn(&str) -> Result<(), &'static str>) -> Result<String, Fault> {
        let start = self.position;
        let body = self.rest().get(2..).unwrap_or_default();
        let end = body.find('\'').ok_or((start, PatternFault::Unterminated("a quoted literal")))?;
        let content = body.get(..end).unwrap_or_default();
        check(content).map_err(|why| (start, PatternFault::Literal(why)))?;
        self.position += 2 + end + 1;
        Ok(content.to_owned())
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.position;
        let rest = self.rest();
        let sign = usize::from(rest.starts_with(['+', '-']));
        let body = rest.get(sign..).unwrap_or_default();
        let length = sign + body.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(body.len());
        let text = rest.get(..length).unwrap_or_default();
        self.position += length;
        let (whole, fraction) = text
            .trim_start_matches(['+', '-'])
            .split_once('.')
            .map_or_else(|| (text.trim_start_matches(['+', '-']), None), |(whole, fraction)| (whole, Some(fraction)));
        let is_number = match fraction {
            None => whole == "0" || !whole.starts_with('0'),
            Some(fraction) => !fraction.is_empty() && !fraction.contains('.'),
        };
        if !is_number {
            return Err((start, PatternFault::Literal("not a number")));
        }
        let text = text.trim_start_matches('+').to_owned();
        Ok(Token::Constant(if fraction.is_some() { Constant::Float(text) } else { Constant::Integer(text) }))
    }
}

/// The symbol that a text starts with, and its length.
const fn symbol(text: &[u8]) -> Option<(usize, Token)> {
    Some(match text {
        [b'=', b'=', ..] => (2, Token::Equal),
        [b'!', b'=', ..] | [b'<', b'>', ..] => (2, Token::NotEqual),
        [b'<', b'=', ..] => (2, Token::LessOrEqual),
        [b'>', b'=', ..] => (2, Token::GreaterOrEqual),
        [b'=', ..] => (1, Token::Equal),
        [b'<', ..] => (1, Token::Less),
        [b'>', ..] => (1, Token::Greater),
        [b'[', ..] => (1, Token::OpenBracket),
        [b']', ..] => (1, Token::CloseBracket),
        [b'(', ..] => (1, Token::OpenParenthesis),
        [b')', ..] => (1, Token::CloseParenthesis),
        [b':', ..] => (1, Token::Colon),
        [b',', ..] => (1, Token::Comma),
        [b'*', ..] => (1, Token::Star),
        _ => return None,
    })
}

/// RFC 3339 in UTC. Whether a month has that day is not the grammar's business, and a minute may have 61 seconds.
fn is_timestamp(text: &str) -> Result<(), &'static str> {
    const FORM: &[u8] = b"dddd-dd-ddTdd:dd:dd";
    let (time, fraction) = text.split_at_checked(FORM.len()).unwrap_or((text, ""));
    let has_form = time.len() == FORM.len()
        && time.bytes().zip(FORM).all(|(byte, form)| if *form == b'd' { byte.is_ascii_digit() } else { byte == *form });
    let field = |start: usize| time.get(start..start + 2).and_then(|digits| digits.parse().ok()).unwrap_or(u8::MAX);
    let in_range = (1..=12).contains(&field(5))
        && (1..=31).contains(&field(8))
        && field(11) <= 23
        && field(14) <= 59
        && field(17) <= 60;
    let digits = fraction.strip_prefix('.').and_then(|fraction| fraction.strip_suffix('Z'));
    let ends_well = fraction == "Z"
        || digits.is_some_and(|digits| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()));
    if has_form && in_range && ends_well { Ok(()) } else { Err("not a timestamp in UTC (RFC 3339)") }
}

fn is_hexadecimal(text: &str) -> Result<(), &'static str> {
    let is_pairs = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_pairs { Ok(()) } else { Err("not an even number of hexadecimal digits") }
}

/// RFC 4648 §4, at least one group.
fn is_base64(text: &str) -> Result<(), &'static str> {
    let data = text.trim_end_matches('=');
    let is_data = data.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/'));
    let is_whole = !data.is_empty() && text.len().is_multiple_of(4) && text.len() - data.len() <= 2;
    if is_data && is_whole { Ok(()) } else { Err("not base64 (RFC 4648 §4)") }
}
