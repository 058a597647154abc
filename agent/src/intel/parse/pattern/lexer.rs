//! Pattern text → tokens.

use jiff::Timestamp;

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
            let trimmed = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
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
        let symbols = [
            ("==", Token::Equal),
            ("!=", Token::NotEqual),
            ("<>", Token::NotEqual),
            ("<=", Token::LessOrEqual),
            (">=", Token::GreaterOrEqual),
            ("=", Token::Equal),
            ("<", Token::Less),
            (">", Token::Greater),
            ("[", Token::OpenBracket),
            ("]", Token::CloseBracket),
            ("(", Token::OpenParenthesis),
            (")", Token::CloseParenthesis),
            (":", Token::Colon),
            (",", Token::Comma),
            ("*", Token::Star),
        ];
        if let Some((symbol, token)) = symbols.into_iter().find(|(symbol, _)| rest.starts_with(symbol)) {
            self.position += symbol.len();
            return Ok(Some((start, token)));
        }
        let second_is = |wanted: fn(char) -> bool| rest.chars().nth(1).is_some_and(wanted);
        let token = match first {
            '\'' => Token::Constant(Constant::Text(self.quoted(0)?)),
            't' if rest.starts_with("t'") => self.timestamp()?,
            'h' if rest.starts_with("h'") => self.hexadecimal()?,
            'b' if rest.starts_with("b'") => self.base64()?,
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

    /// The content of a quoted literal whose prefix has `skip` bytes; `\'` and `\\` are its only escapes.
    fn quoted(&mut self, skip: usize) -> Result<String, Fault> {
        let start = self.position;
        let mut content = String::new();
        let body = self.text.get(start + skip + 1..).unwrap_or_default();
        let mut characters = body.char_indices();
        while let Some((offset, character)) = characters.next() {
            match character {
                '\'' => {
                    self.position = start + skip + 1 + offset + 1;
                    return Ok(content);
                }
                '\\' => match characters.next() {
                    Some((_, escaped @ ('\'' | '\\'))) => content.push(escaped),
                    // Publishers write \d and C:\x; the backslash is meant.
                    Some((_, other)) => content.extend(['\\', other]),
                    None => break,
                },
                other => content.push(other),
            }
        }
        Err((start, PatternFault::Unterminated("a quoted text")))
    }

    fn timestamp(&mut self) -> Result<Token, Fault> {
        let start = self.position;
        let text = self.quoted(1)?;
        // STIX 2.1 §2.16: RFC 3339, always UTC.
        let time: Option<Timestamp> = if text.ends_with('Z') { text.parse().ok() } else { None };
        let fault = (start, PatternFault::Literal("not a timestamp in UTC (RFC 3339)"));
        time.map(|time| Token::Constant(Constant::Timestamp(time))).ok_or(fault)
    }

    fn hexadecimal(&mut self) -> Result<Token, Fault> {
        let start = self.position;
        let text = self.quoted(1)?;
        let fault = (start, PatternFault::Literal("not an even number of hexadecimal digits"));
        let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
        let digits = digits.filter(|digits| digits.len() % 2 == 0).ok_or(fault)?;
        let bytes = digits.chunks_exact(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | *digit as u8));
        Ok(Token::Constant(Constant::Binary(bytes.collect())))
    }

    fn base64(&mut self) -> Result<Token, Fault> {
        let start = self.position;
        let text = self.quoted(1)?;
        decode_base64(&text)
            .map(|bytes| Token::Constant(Constant::Binary(bytes)))
            .ok_or((start, PatternFault::Literal("not base64 (RFC 4648 §4)")))
    }

    fn number(&mut self) -> Result<Token, Fault> {
        let start = self.position;
        let rest = self.rest();
        let sign = usize::from(rest.starts_with(['+', '-']));
        let body = rest.get(sign..).unwrap_or_default();
        let length = sign + body.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(body.len());
        let text = rest.get(..length).unwrap_or_default();
        self.position += length;
        let constant = if text.contains('.') {
            text.parse().ok().filter(|number: &f64| number.is_finite() && !text.ends_with('.')).map(Constant::Float)
        } else {
            let digits = text.trim_start_matches(['+', '-']);
            let leading_zero = digits.len() > 1 && digits.starts_with('0');
            text.parse().ok().filter(|_| !leading_zero).map(Constant::Integer)
        };
        constant.map(Token::Constant).ok_or((start, PatternFault::Literal("not a number of 64 bits")))
    }
}

fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let data = text.trim_end_matches('=');
    let padding = text.len() - data.len();
    if !text.len().is_multiple_of(4) || padding > 2 {
        return None;
    }
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let mut held = 0u32;
    let mut bits = 0;
    for symbol in data.bytes() {
        let value = match symbol {
            b'A'..=b'Z' => symbol - b'A',
            b'a'..=b'z' => symbol - b'a' + 26,
            b'0'..=b'9' => symbol - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        held = held << 6 | u32::from(value);
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((held >> bits) as u8);
            held &= (1 << bits) - 1;
        }
    }
    // Bits that are left must be padding, as RFC 4648 §3.5 asks of strict decoders.
    (held == 0).then_some(bytes)
}
