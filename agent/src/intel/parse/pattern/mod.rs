//! STIX patterns (STIX 2.1 §9): text → tree → values that one observation decides.
//!
//! The whole grammar is read, so that a pattern which cannot be decided is told from one that is broken.

mod digests;
mod lexer;
mod name;
mod parser;
mod program;
mod reduce;

pub use parser::parse;
pub use program::{Condition, Program, command_line};
pub use reduce::reduce;

/// Bytes of a pattern; longer ones are refused.
pub const MAX_BYTES: usize = 4 << 20;
/// Nested brackets and parentheses; deeper ones are refused, so that no pattern exhausts the stack.
pub const MAX_DEPTH: usize = 64;
/// Comparisons and constants of one pattern.
pub const MAX_NODES: usize = 200_000;

/// Why a pattern cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at character {column} of the pattern: {fault}")]
pub struct PatternError {
    /// From 1.
    pub column: usize,
    /// What is wrong there.
    pub fault: PatternFault,
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PatternFault {
    /// Longer than [`MAX_BYTES`].
    #[error("it is longer than {MAX_BYTES} bytes")]
    TooLong,
    /// Deeper than [`MAX_DEPTH`].
    #[error("it is nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// More than [`MAX_NODES`].
    #[error("it has more than {MAX_NODES} comparisons")]
    TooMany,
    /// A character that starts no token.
    #[error("`{0}` starts nothing")]
    Character(char),
    /// A literal without its closing quote, or a comment without its end.
    #[error("{0} without an end")]
    Unterminated(&'static str),
    /// A literal of the right form with an impossible value.
    #[error("{0}")]
    Literal(&'static str),
    /// Something else than the grammar asks for.
    #[error("expected {expected}, found {found}")]
    Expected {
        /// What the grammar asks for.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A qualifier given twice.
    #[error("{0} is given twice")]
    Duplicate(&'static str),
    /// A digest of another length than its algorithm's.
    #[error("`{value}` is no {algorithm}")]
    Digest {
        /// As the pattern names it.
        algorithm: String,
        /// As the pattern gives it, cut.
        value: String,
    },
}

/// A constant (§9.2), as it is written between its quotes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Constant {
    /// `'…'`, without its escapes.
    Text(String),
    /// A whole number of any size.
    Integer(String),
    /// A number with a point.
    Float(String),
    /// `true` or `false`.
    Boolean(bool),
    /// `t'…'`
    Timestamp(String),
    /// `h'…'`
    Hexadecimal(String),
    /// `b'…'`
    Base64(String),
}

/// How a value is compared (§9.6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `=`
    Equal,
    /// `!=`
    NotEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `IN`
    In,
    /// `LIKE`
    Like,
    /// `MATCHES`
    Matches,
    /// `ISSUBSET`
    IsSubset,
    /// `ISSUPERSET`
    IsSuperset,
    /// `EXISTS`, which stands before its path and has no constant.
    Exists,
}

impl Operator {
    /// As it is written.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Equal => "=",
            Self::NotEqual => "!=",
            Self::Less => "<",
            Self::LessOrEqual => "<=",
            Self::Greater => ">",
            Self::GreaterOrEqual => ">=",
            Self::In => "IN",
            Self::Like => "LIKE",
            Self::Matches => "MATCHES",
            Self::IsSubset => "ISSUBSET",
            Self::IsSuperset => "ISSUPERSET",
            Self::Exists => "EXISTS",
        }
    }
}

/// A step of an object path after its first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// `.key` or `.'key'`
    Key(String),
    /// `[n]`
    Index(String),
    /// `[*]`
    Any,
}

/// What of an object is compared (§9.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectPath {
    /// `ipv4-addr`, `file`, …
    pub object: String,
    /// At least one key.
    pub steps: Vec<Step>,
}

impl std::fmt::Display for ObjectPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.object)?;
        for (position, step) in self.steps.iter().enumerate() {
            match step {
                Step::Key(key) => write!(f, "{}{key}", if position == 0 { ':' } else { '.' })?,
                Step::Index(index) => write!(f, "[{index}]")?,
                Step::Any => f.write_str("[*]")?,
            }
        }
        Ok(())
    }
}

/// What is said about one object (§9.6).
#[derive(Clone, Debug, PartialEq)]
pub enum Comparison {
    /// One property.
    Test {
        /// Which.
        path: ObjectPath,
        /// `NOT` stands before the operator.
        negated: bool,
        /// How.
        operator: Operator,
        /// With what: several for `IN`, none for `EXISTS`, else one.
        constants: Vec<Constant>,
    },
    /// All of them.
    And(Vec<Comparison>),
    /// Any of them.
    Or(Vec<Comparison>),
}

/// When observations count (§9.5). None of them can be decided by one observation, so their numbers are not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qualifier {
    /// `WITHIN … SECONDS`
    Within,
    /// `REPEATS … TIMES`
    Repeats,
    /// `START … STOP …`
    StartStop,
}

/// Whose grammar: 2.0 has no `EXISTS`, and lets a qualifier be given twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    /// STIX 2.0 Part 5.
    V20,
    /// STIX 2.1 §9.
    V21,
}

/// What must be observed (§9.4).
#[derive(Clone, Debug, PartialEq)]
pub enum Observation {
    /// `[…]`
    One(Comparison),
    /// All of them, in any order.
    And(Vec<Observation>),
    /// Any of them.
    Or(Vec<Observation>),
    /// All of them, in this order.
    FollowedBy(Vec<Observation>),
    /// With conditions on time and number.
    Qualified(Box<Observation>, Vec<Qualifier>),
}

#[cfg(test)]
mod tests;
