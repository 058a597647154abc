//! Tokens → [`Observation`], by recursive descent with caps on depth and number.

use super::lexer::{Placed, Token, column, tokens};
use super::{
    Comparison, Constant, MAX_DEPTH, MAX_NODES, ObjectPath, Observation, Operator, PatternError, PatternFault,
    Qualifier, Step,
};

const KEYWORDS: [&str; 17] = [
    "AND",
    "OR",
    "NOT",
    "FOLLOWEDBY",
    "LIKE",
    "MATCHES",
    "ISSUPERSET",
    "ISSUBSET",
    "EXISTS",
    "LAST",
    "IN",
    "START",
    "STOP",
    "SECONDS",
    "WITHIN",
    "REPEATS",
    "TIMES",
];

struct Parser<'a> {
    text: &'a str,
    tokens: Vec<Placed>,
    position: usize,
    depth: usize,
    nodes: usize,
}

type Result<T> = std::result::Result<T, PatternError>;

/// Reads a pattern.
///
/// # Errors
/// Where and why the grammar of STIX 2.1 §9 refuses it, or a cap that it exceeds.
pub fn parse(text: &str) -> Result<Observation> {
    let mut parser = Parser { text, tokens: tokens(text)?, position: 0, depth: 0, nodes: 0 };
    let observation = parser.followed_by()?;
    match parser.peek() {
        None => Ok(observation),
        Some(_) => Err(parser.expected("the end of the pattern")),
    }
}

fn one_or(mut items: Vec<Observation>, many: fn(Vec<Observation>) -> Observation) -> Option<Observation> {
    if items.len() > 1 { Some(many(items)) } else { items.pop() }
}

fn one_or_comparison(mut items: Vec<Comparison>, many: fn(Vec<Comparison>) -> Comparison) -> Option<Comparison> {
    if items.len() > 1 { Some(many(items)) } else { items.pop() }
}

impl Parser<'_> {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.position).map(|(_, token)| token)
    }

    fn fault(&self, fault: PatternFault) -> PatternError {
        let offset = self.tokens.get(self.position).map_or(self.text.len(), |(offset, _)| *offset);
        PatternError { column: column(self.text, offset), fault }
    }

    fn expected(&self, expected: &'static str) -> PatternError {
        let found = self.peek().map_or_else(|| "the end".to_owned(), Token::describe);
        self.fault(PatternFault::Expected { expected, found })
    }

    fn take(&mut self, token: &Token) -> bool {
        let found = self.peek() == Some(token);
        self.position += usize::from(found);
        found
    }

    fn require(&mut self, token: &Token, expected: &'static str) -> Result<()> {
        if self.take(token) { Ok(()) } else { Err(self.expected(expected)) }
    }

    fn take_word(&mut self, keyword: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Word(word)) if word == keyword);
        self.position += usize::from(found);
        found
    }

    fn enter(&mut self) -> Result<()> {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(self.fault(PatternFault::TooDeep)) } else { Ok(()) }
    }

    fn count(&mut self) -> Result<()> {
        self.nodes += 1;
        if self.nodes > MAX_NODES { Err(self.fault(PatternFault::TooMany)) } else { Ok(()) }
    }

    fn followed_by(&mut self) -> Result<Observation> {
        let mut items = vec![self.any_observation()?];
        while self.take_word("FOLLOWEDBY") {
            items.push(self.any_observation()?);
        }
        one_or(items, Observation::FollowedBy).ok_or_else(|| self.expected("an observation"))
    }

    fn any_observation(&mut self) -> Result<Observation> {
        let mut items = vec![self.all_observations()?];
        while self.take_word("OR") {
            items.push(self.all_observations()?);
        }
        one_or(items, Observation::Or).ok_or_else(|| self.expected("an observation"))
    }

    fn all_observations(&mut self) -> Result<Observation> {
        let mut items = vec![self.observation()?];
        while self.take_word("AND") {
            items.push(self.observation()?);
        }
        one_or(items, Observation::And).ok_or_else(|| self.expected("an observation"))
    }

    fn observation(&mut self) -> Result<Observation> {
        self.enter()?;
        let observation = if self.take(&Token::OpenBracket) {
            let comparison = self.any_comparison()?;
            self.require(&Token::CloseBracket, "`]`, AND or OR")?;
            Observation::One(comparison)
        } else if self.take(&Token::OpenParenthesis) {
            let inner = self.followed_by()?;
            self.require(&Token::CloseParenthesis, "`)`")?;
            inner
        } else {
            return Err(self.expected("`[` or `(`"));
        };
        self.depth -= 1;
        let mut qualifiers: Vec<Qualifier> = Vec::new();
        while let Some((name, qualifier)) = self.qualifier()? {
            let same = |other: &Qualifier| std::mem::discriminant(other) == std::mem::discriminant(&qualifier);
            if qualifiers.iter().any(same) {
                return Err(self.fault(PatternFault::Duplicate(name)));
            }
            qualifiers.push(qualifier);
        }
        Ok(if qualifiers.is_empty() { observation } else { Observation::Qualified(Box::new(observation), qualifiers) })
    }

    fn qualifier(&mut self) -> Result<Option<(&'static str, Qualifier)>> {
        if self.take_word("WITHIN") {
            let seconds = match self.peek() {
                Some(Token::Constant(Constant::Integer(seconds))) if *seconds > 0 => *seconds as f64,
                Some(Token::Constant(Constant::Float(seconds))) if *seconds > 0.0 => *seconds,
                _ => return Err(self.expected("a number of seconds above 0 after WITHIN")),
            };
            self.position += 1;
            if !self.take_word("SECONDS") {
                return Err(self.expected("SECONDS"));
            }
            return Ok(Some(("WITHIN", Qualifier::Within(seconds))));
        }
        if self.take_word("REPEATS") {
            let times = match self.peek() {
                Some(Token::Constant(Constant::Integer(times))) if *times > 0 => *times,
                _ => return Err(self.expected("a whole number above 0 after REPEATS")),
            };
            self.position += 1;
            if !self.take_word("TIMES") {
                return Err(self.expected("TIMES"));
            }
            return Ok(Some(("REPEATS", Qualifier::Repeats(times))));
        }
        if self.take_word("START") {
            let start = self.moment()?;
            if !self.take_word("STOP") {
                return Err(self.expected("STOP"));
            }
            let stop = self.moment()?;
            if stop <= start {
                return Err(self.fault(PatternFault::Literal("STOP is not after START")));
            }
            return Ok(Some(("START", Qualifier::StartStop(start, stop))));
        }
        Ok(None)
    }

    /// A time after START or STOP; STIX 2.0 §4.1.2 writes it as a plain text.
    fn moment(&mut self) -> Result<jiff::Timestamp> {
        match self.constant() {
            Ok(Constant::Timestamp(time)) => Ok(time),
            Ok(Constant::Text(text)) => {
                text.parse().map_err(|_| self.fault(PatternFault::Literal("not a timestamp (RFC 3339)")))
            }
            _ => Err(self.expected("a timestamp")),
        }
    }

    fn any_comparison(&mut self) -> Result<Comparison> {
        let mut items = vec![self.all_comparisons()?];
        while self.take_word("OR") {
            items.push(self.all_comparisons()?);
        }
        one_or_comparison(items, Comparison::Or).ok_or_else(|| self.expected("a comparison"))
    }

    fn all_comparisons(&mut self) -> Result<Comparison> {
        let mut items = vec![self.comparison()?];
        while self.take_word("AND") {
            items.push(self.comparison()?);
        }
        one_or_comparison(items, Comparison::And).ok_or_else(|| self.expected("a comparison"))
    }

    fn comparison(&mut self) -> Result<Comparison> {
        if self.take(&Token::OpenParenthesis) {
            self.enter()?;
            let inner = self.any_comparison()?;
            self.require(&Token::CloseParenthesis, "`)`, AND or OR")?;
            self.depth -= 1;
            return Ok(inner);
        }
        self.count()?;
        let before = self.take_word("NOT");
        if self.take_word("EXISTS") {
            let path = self.object_path()?;
            return Ok(Comparison::Test { path, negated: before, operator: Operator::Exists, constants: Vec::new() });
        }
        if before {
            return Err(self.expected("EXISTS after NOT"));
        }
        let path = self.object_path()?;
        let negated = self.take_word("NOT");
        let operator = self.operator()?;
        let constants = match operator {
            Operator::In => self.set()?,
            Operator::Like | Operator::Matches | Operator::IsSubset | Operator::IsSuperset => match self.constant()? {
                text @ Constant::Text(_) => vec![text],
                _ => return Err(self.expected("a quoted text")),
            },
            _ => vec![self.constant()?],
        };
        Ok(Comparison::Test { path, negated, operator, constants })
    }

    fn operator(&mut self) -> Result<Operator> {
        let operator = match self.peek() {
            Some(Token::Equal) => Operator::Equal,
            Some(Token::NotEqual) => Operator::NotEqual,
            Some(Token::Less) => Operator::Less,
            Some(Token::LessOrEqual) => Operator::LessOrEqual,
            Some(Token::Greater) => Operator::Greater,
            Some(Token::GreaterOrEqual) => Operator::GreaterOrEqual,
            Some(Token::Word(word)) => match word.as_str() {
                "IN" => Operator::In,
                "LIKE" => Operator::Like,
                "MATCHES" => Operator::Matches,
                "ISSUBSET" => Operator::IsSubset,
                "ISSUPERSET" => Operator::IsSuperset,
                _ => return Err(self.expected("an operator")),
            },
            _ => return Err(self.expected("an operator")),
        };
        self.position += 1;
        Ok(operator)
    }

    fn set(&mut self) -> Result<Vec<Constant>> {
        self.require(&Token::OpenParenthesis, "`(` after IN")?;
        let mut constants = Vec::new();
        if self.take(&Token::CloseParenthesis) {
            return Ok(constants);
        }
        loop {
            self.count()?;
            constants.push(self.constant()?);
            if !self.take(&Token::Comma) {
                self.require(&Token::CloseParenthesis, "`,` or `)`")?;
                return Ok(constants);
            }
        }
    }

    fn constant(&mut self) -> Result<Constant> {
        match self.peek() {
            Some(Token::Constant(constant)) => {
                let constant = constant.clone();
                self.position += 1;
                Ok(constant)
            }
            _ => Err(self.expected("a constant")),
        }
    }

    fn object_path(&mut self) -> Result<ObjectPath> {
        let object = match self.peek() {
            Some(Token::Word(word)) if !KEYWORDS.contains(&word.as_str()) => word.clone(),
            _ => return Err(self.expected("an object type")),
        };
        self.position += 1;
        self.require(&Token::Colon, "`:` and a property")?;
        let mut steps = vec![self.key()?];
        loop {
            if self.take(&Token::Point) {
                steps.push(self.key()?);
            } else if self.take(&Token::OpenBracket) {
                steps.push(match self.peek() {
                    Some(Token::Star) => Step::Any,
                    Some(Token::Constant(Constant::Integer(index))) => Step::Index(*index),
                    _ => return Err(self.expected("an index or `*`")),
                });
                self.position += 1;
                self.require(&Token::CloseBracket, "`]`")?;
            } else {
                return Ok(ObjectPath { object, steps });
            }
        }
    }

    fn key(&mut self) -> Result<Step> {
        let key = match self.peek() {
            Some(Token::Word(word)) if !KEYWORDS.contains(&word.as_str()) => word.clone(),
            Some(Token::Constant(Constant::Text(text))) => text.clone(),
            _ => return Err(self.expected("a property")),
        };
        self.position += 1;
        Ok(Step::Key(key))
    }
}
