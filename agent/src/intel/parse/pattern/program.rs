//! What a pattern says of a program that is executed, where that is more than its digest, its path or its name: user space
//! compares it with each exec.
//!
//! The value of such an indicator is the comparison as a pattern has it, in one spelling:
//! `process:command_line LIKE '%…%' AND process:name = '…'`.

use std::sync::Arc;

use regex::bytes::{Regex, RegexBuilder};
use regex_syntax::ParserBuilder;

use super::{Comparison, Constant, ObjectPath, Observation, Operator, Version};
use crate::intel::Observable;

/// Bytes that a compiled expression may take, and its cache again. Most need a tenth of it.
const EXPRESSION_MAX: usize = 128 << 10;

/// What of an exec is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    /// Its arguments, the program's name first, with a space between each two.
    CommandLine,
    /// The last part of its path.
    Name,
    /// Its path without that.
    Directory,
}

impl Field {
    fn of(path: &ObjectPath) -> Option<Self> {
        match (path.object.as_str(), super::reduce::keys(path).as_slice()) {
            ("process", ["command_line"]) => Some(Self::CommandLine),
            ("process" | "file", ["name"]) | ("process", ["image_ref" | "binary_ref", "name"]) => Some(Self::Name),
            ("file", ["parent_directory_ref", "path"])
            | ("process", ["image_ref" | "binary_ref", "parent_directory_ref", "path"]) => Some(Self::Directory),
            _ => None,
        }
    }
}

#[derive(Debug)]
enum Matcher {
    /// One of these.
    Any(Vec<String>),
    Expression(Regex),
}

impl Matcher {
    fn holds(&self, text: &str) -> bool {
        match self {
            Self::Any(texts) => texts.iter().any(|one| one == text),
            Self::Expression(expression) => expression.is_match(text.as_bytes()),
        }
    }
}

/// One comparison inside an AND.
#[derive(Clone, Copy)]
pub(super) struct Test<'a> {
    pub path: &'a ObjectPath,
    pub operator: Operator,
    pub constants: &'a [Constant],
}

/// Why it is not compared with execs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unfit {
    /// A property that no exec shows.
    #[error("`{0}` is nothing that an exec shows")]
    Property(String),
    /// Text is all that an exec has.
    #[error("`{0}` is compared with what is no text")]
    NoText(String),
    /// An operator that is not for texts.
    #[error("`{1}` on `{0}`")]
    Operator(String, &'static str),
    /// Look-around, back references, what is no expression.
    #[error("`{0}`: {1}")]
    Expression(String, String),
    /// It says nothing.
    #[error("`{0}` is met by every exec")]
    Everything(String),
}

/// What an exec shows.
#[derive(Clone, Debug, Default)]
pub struct Program<'a> {
    /// Its path as it was asked for, and as it is: a script's interpreter, the end of a symbolic link.
    pub paths: Vec<&'a str>,
    /// Its arguments with a space between each two; `None` where they are not known whole.
    pub command_line: Option<&'a str>,
}

/// What must hold of an exec.
#[derive(Debug)]
pub struct Condition(Vec<(Field, Matcher)>);

impl Condition {
    /// Reads what [`Observable::Process`] holds; `None` where an expression takes more than 128 KiB compiled.
    #[must_use]
    pub fn read(text: &str) -> Option<Self> {
        let Ok(Observation::One(comparison)) = super::parse(&format!("[{text}]"), Version::V21) else { return None };
        let items = match &comparison {
            Comparison::And(items) => items.as_slice(),
            one => std::slice::from_ref(one),
        };
        let tests = items.iter().map(|item| match item {
            Comparison::Test { path, operator, constants, .. } => {
                matcher(Test { path, operator: *operator, constants })
            }
            _ => None,
        });
        tests.collect::<Option<_>>().map(Self)
    }

    /// Whether an exec meets it. Name and directory must be those of one path.
    #[must_use]
    pub fn holds(&self, program: &Program<'_>) -> bool {
        let (lines, paths): (Vec<_>, Vec<_>) = self.0.iter().partition(|(field, _)| *field == Field::CommandLine);
        let is_line = |(_, matcher): &&(Field, Matcher)| program.command_line.is_some_and(|line| matcher.holds(line));
        let is_path = |path: &&str| {
            let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
            paths.iter().all(|(field, matcher)| match field {
                Field::Name => matcher.holds(name),
                _ => matcher.holds(if directory.is_empty() { "/" } else { directory }),
            })
        };
        lines.iter().all(is_line) && (paths.is_empty() || program.paths.iter().any(is_path))
    }
}

/// The command line that what [`Observable::Process`] holds stands for, if that is all that it asks for.
#[must_use]
pub fn command_line(text: &str) -> Option<String> {
    match super::parse(&format!("[{text}]"), Version::V21) {
        Ok(Observation::One(Comparison::Test { path, operator: Operator::Equal, constants, .. })) => {
            match (Field::of(&path)?, constants.as_slice()) {
                (Field::CommandLine, [Constant::Text(line)]) => Some(line.clone()),
                _ => None,
            }
        }
        _ => None,
    }
}

/// The value of an AND of comparisons.
pub(super) fn value(tests: &[Test<'_>]) -> Result<Observable, Unfit> {
    let mut text = String::new();
    for test in tests {
        check(*test)?;
        if !text.is_empty() {
            text.push_str(" AND ");
        }
        let constants: Vec<String> = test.constants.iter().filter_map(quoted).collect();
        let constants = constants.join(", ");
        let constants = if test.operator == Operator::In { format!("({constants})") } else { constants };
        text.push_str(&format!("{} {} {constants}", test.path, test.operator.text()));
    }
    Ok(Observable::Process(Arc::from(text)))
}

/// The directory and the name that an AND of the two compares with: together a path.
pub(super) fn directory_and_name<'a>(tests: &[Test<'a>]) -> Option<(&'a str, &'a str)> {
    let [one, other] = tests else { return None };
    let text = |test: &Test<'a>| match test {
        Test { operator: Operator::Equal, constants: [Constant::Text(text)], .. } => Some(text.as_str()),
        _ => None,
    };
    match (Field::of(one.path)?, Field::of(other.path)?) {
        (Field::Directory, Field::Name) => Some((text(one)?, text(other)?)),
        (Field::Name, Field::Directory) => Some((text(other)?, text(one)?)),
        _ => None,
    }
}

fn quoted(constant: &Constant) -> Option<String> {
    let Constant::Text(text) = constant else { return None };
    Some(format!("'{}'", text.replace('\\', "\\\\").replace('\'', "\\'")))
}

/// What is compared, and with which texts or expression.
enum Asked {
    Any(Vec<String>),
    Expression(String),
}

fn asked(test: Test<'_>) -> Result<(Field, Asked), Unfit> {
    let field = Field::of(test.path).ok_or_else(|| Unfit::Property(test.path.to_string()))?;
    let text_of = |constant: &Constant| match constant {
        Constant::Text(text) => Ok(text.clone()),
        _ => Err(Unfit::NoText(test.path.to_string())),
    };
    let mut texts = test.constants.iter().map(text_of).collect::<Result<Vec<_>, _>>()?;
    let asked = match (test.operator, texts.first()) {
        (Operator::Equal | Operator::In, Some(_)) => {
            if field == Field::Directory {
                texts.iter_mut().for_each(|text| text.truncate(text.trim_end_matches('/').len().max(1)));
            }
            Asked::Any(texts)
        }
        (Operator::Like, Some(text)) => Asked::Expression(like(text)),
        (Operator::Matches, Some(text)) => Asked::Expression(text.clone()),
        (operator, _) => return Err(Unfit::Operator(test.path.to_string(), operator.text())),
    };
    Ok((field, asked))
}

/// Reads an expression without compiling it: a pattern may hold very many.
fn check(test: Test<'_>) -> Result<(), Unfit> {
    let (_, Asked::Expression(expression)) = asked(test)? else { return Ok(()) };
    let said = || match test.constants.first() {
        Some(Constant::Text(text)) => text.chars().take(100).collect::<String>(),
        _ => String::new(),
    };
    let parser = ParserBuilder::new().unicode(false).utf8(false).dot_matches_new_line(true).build().parse(&expression);
    match parser.map(|parsed| parsed.properties().minimum_len()) {
        Ok(Some(0)) => Err(Unfit::Everything(said())),
        Ok(_) => Ok(()),
        Err(error) => Err(Unfit::Expression(said(), last_line(&error.to_string()).to_owned())),
    }
}

fn matcher(test: Test<'_>) -> Option<(Field, Matcher)> {
    let (field, asked) = asked(test).ok()?;
    let expression = match asked {
        Asked::Any(texts) => return Some((field, Matcher::Any(texts))),
        Asked::Expression(expression) => expression,
    };
    // As PCRE without its Unicode flag reads them, which is what STIX asks for: `\w` is ASCII.
    let compiled = RegexBuilder::new(&expression)
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(EXPRESSION_MAX)
        .dfa_size_limit(EXPRESSION_MAX)
        .build();
    Some((field, Matcher::Expression(compiled.ok()?)))
}

/// The message of an expression that cannot be compiled ends with what is wrong.
fn last_line(message: &str) -> &str {
    message.lines().last().unwrap_or_default().trim()
}

/// `LIKE` as a regular expression: `%` stands for any text, `_` for one character.
fn like(text: &str) -> String {
    let mut expression = String::from("^");
    for character in text.chars() {
        match character {
            '%' => expression.push_str(".*"),
            // A character of UTF-8, whatever its bytes.
            '_' => expression.push_str(r"(?:[\x00-\x7f]|[\xc2-\xf4][\x80-\xbf]{1,3})"),
            other => expression.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    expression.push('$');
    expression
}
