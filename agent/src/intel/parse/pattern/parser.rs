//! Tokens → [`Observation`], by recursive descent with caps on depth and number.

use super::lexer::{Placed, Token, column, tokens};
use super::{
    Comparison, Constant, MAX_DEPTH, MAX_NODES, ObjectPath, Observation, Operator, PatternError, PatternFault,
    Qualifier, Step, Version, digests,
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
    version: Version,
}

type Result<T> = std::result::Result<T, PatternError>;

/// Reads a pattern.
///
/// # Errors
/// Where and why the grammar refuses it, or a cap that it exceeds.
pub fn parse(text: &str, version: Version) -> Result<Observation> {
    // A comment in front is the one thing that its grammar allows and the reference validator does not.
    if !text.trim_start_matches(|c: char| c == '(' || c.is_whitespace()).starts_with('[') {
        let fault = PatternFault::Expected { expected: "`[` or `(`", found: "something else".to_owned() };
        return Err(PatternError { column: 1, fault });
    }
    let mut parser = Parser { text, tokens: tokens(text)?, position: 0, depth: 0, nodes: 0, version };
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
        let is_simple = self.take(&Token::OpenBracket);
        let observation = if is_simple {
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
            // §9.5 forbids it only right behind the brackets: a group may be qualified like its members.
            if is_simple && self.version == Version::V21 && qualifiers.contains(&qualifier) {
                return Err(self.fault(PatternFault::Duplicate(name)));
            }
            qualifiers.push(qualifier);
        }
        Ok(if qualifiers.is_empty() { observation } else { Observation::Qualified(Box::new(observation), qualifiers) })
    }

    fn qualifier(&mut self) -> Result<Option<(&'static str, Qualifier)>> {
        if self.take_word("WITHIN") {
            self.positive("a number of seconds after WITHIN", true)?;
            self.require_word("SECONDS")?;
            return Ok(Some(("WITHIN", Qualifier::Within)));
        }
        if self.take_word("REPEATS") {
            self.positive("a whole number after REPEATS", false)?;
            self.require_word("TIMES")?;
            return Ok(Some(("REPEATS", Qualifier::Repeats)));
        }
        if self.take_word("START") {
            self.moment()?;
            self.require_word("STOP")?;
            self.moment()?;
            return Ok(Some(("START", Qualifier::StartStop)));
        }
        Ok(None)
    }

    fn require_word(&mut self, keyword: &'static str) -> Result<()> {
        if self.take_word(keyword) { Ok(()) } else { Err(self.expected(keyword)) }
    }

    /// A number without a minus.
    fn positive(&mut self, expected: &'static str, may_be_float: bool) -> Result<()> {
        let is_positive = match self.peek() {
            Some(Token::Constant(Constant::Integer(number))) => !number.starts_with('-'),
            Some(Token::Constant(Constant::Float(number))) => may_be_float && !number.starts_with('-'),
            _ => false,
        };
        self.position += usize::from(is_positive);
        if is_positive { Ok(()) } else { Err(self.expected(expected)) }
    }

    /// A time after START or STOP.
    fn moment(&mut self) -> Result<()> {
        self.constant("a timestamp", |constant| matches!(constant, Constant::Timestamp(_))).map(drop)
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
        if self.version == Version::V21 && self.take_word("EXISTS") {
            let path = self.object_path()?;
            return Ok(Comparison::Test { path, negated: before, operator: Operator::Exists, constants: Vec::new() });
        }
        if before {
            return Err(self.expected("EXISTS after NOT"));
        }
        let start = self.position;
        let path = self.object_path()?;
        let negated = self.take_word("NOT");
        let operator = self.operator()?;
        let constants = match operator {
            Operator::In => self.set()?,
            Operator::Like | Operator::Matches | Operator::IsSubset | Operator::IsSuperset => {
                vec![self.constant("a quoted text", |constant| matches!(constant, Constant::Text(_)))?]
            }
            Operator::Equal | Operator::NotEqual => vec![self.constant("a constant", |_| true)?],
            _ => {
                let has_order = |constant: &Constant| !matches!(constant, Constant::Boolean(_));
                vec![self.constant("a constant that has an order", has_order)?]
            }
        };
        digests::check(&path, operator, &constants).map_err(|fault| {
            let offset = self.tokens.get(start).map_or(self.text.len(), |(offset, _)| *offset);
            PatternError { column: column(self.text, offset), fault }
        })?;
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
            constants.push(self.constant("a constant", |_| true)?);
            if !self.take(&Token::Comma) {
                self.require(&Token::CloseParenthesis, "`,` or `)`")?;
                return Ok(constants);
            }
        }
    }

    fn constant(&mut self, expected: &'static str, fits: fn(&Constant) -> bool) -> Result<Constant> {
        match self.peek() {
            Some(Token::Constant(constant)) if fits(constant) => {
                let constant = constant.clone();
                self.position += 1;
                Ok(constant)
            }
            _ => Err(self.expected(expected)),
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
                    Some(Token::Constant(Constant::Integer(index))) => Step::Index(index.clone()),
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
            // A name with a hyphen is quoted, unless it is an object's type.
            Some(Token::Word(word)) if !KEYWORDS.contains(&word.as_str()) && !word.contains('-') => word.clone(),
            Some(Token::Constant(Constant::Text(text))) => text.clone(),
            _ => return Err(self.expected("a property (in quotes if it has a hyphen)")),
        };
        self.position += 1;
        Ok(Step::Key(key))
    }
}
