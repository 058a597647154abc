//! What an organisation wants of the hosts of one group, as it writes it: one TOML document.
//!
//! docs/policy.md has the reference of its keys, made from these types; a test holds the two together (`CORDON_BLESS=1`
//! rewrites it).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::which::Which;
use crate::intel::parse::{Format, ToIds};
use crate::intel::source::Age;
use crate::intel::{Action, Inbound, Observable, Source, Tlp, normalise};

/// Rules of one policy.
const MAX_RULES: usize = 1000;
/// Files of intelligence of one policy.
const MAX_FILES: usize = 64;

/// Whether a matching `block` indicator blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Hits are recorded as `would_block`.
    Monitor,
    /// Hits are blocked.
    Enforce,
}

impl Mode {
    /// As written in the settings.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Monitor => "monitor",
            Self::Enforce => "enforce",
        }
    }
}

/// What this version can do that a policy may rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requirement {
    /// Rules, the first that matches deciding.
    Rules,
    /// Rules in mode `monitor` beside others that block.
    RuleMode,
    /// Another action when the other end begins.
    Inbound,
    /// Intelligence that comes with the policy.
    Intelligence,
    /// Orders of the operators that the policy names.
    Orders,
}

impl Requirement {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Rules, Self::RuleMode, Self::Inbound, Self::Intelligence, Self::Orders];

    /// As a policy names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rules => "rules",
            Self::RuleMode => "rule_mode",
            Self::Inbound => "inbound",
            Self::Intelligence => "intelligence",
            Self::Orders => "orders",
        }
    }
}

/// A policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Version of this form: 1.
    pub schema: u32,
    /// The organisation. Hosts that are enrolled with another one refuse the policy.
    pub tenant: String,
    /// The group of hosts it is for. Hosts of another one refuse it.
    pub group: String,
    /// Counts up: a host that has seen one refuses any that is not higher, from 1.
    pub serial: u64,
    /// Refused before this time (RFC 3339, in quotes).
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub valid_from: Option<Timestamp>,
    /// Stale from this time on: it stays in force, and the fault C022 is raised until there is another one.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub valid_until: Option<Timestamp>,
    /// What an agent must know to take this policy: `rules`, `rule_mode`, `inbound`, `intelligence`, `orders`. One that does not refuses it.
    #[serde(default)]
    pub requires: Vec<String>,
    /// `monitor` or `enforce`, in place of what the host's settings say; they hold where this is left out.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub mode: Option<Mode>,
    /// Addresses, prefixes and domains that always pass, besides those of the host's settings.
    #[serde(default)]
    pub never_block: Vec<String>,
    /// Who may block something on all hosts at once, between two policies: `[[operator]]`. See docs/fleet.md.
    #[serde(default)]
    pub operator: Vec<Operator>,
    /// Intelligence that comes with the policy: `[[intelligence]]`.
    #[serde(default)]
    pub intelligence: Vec<Intelligence>,
    /// What becomes of which indicators: `[[rule]]`. The first that matches decides; what none matches is left to its source.
    #[serde(default)]
    pub rule: Vec<Rule>,
}

/// Somebody whose orders are obeyed, and how far.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Operator {
    /// Their name: a record's `policy.rule` is `fleet.NAME`.
    pub name: String,
    /// Their public key, as `cordon policy keygen --operator NAME` prints it (Ed25519, base64).
    pub key: String,
    /// How long an order of theirs may last: `24h`, `7d`.
    #[cfg_attr(test, schemars(with = "String"))]
    pub longest: Age,
    /// Types of values that they may block; all of them without it.
    #[serde(default)]
    pub types: Vec<String>,
}

impl Operator {
    fn check(&self) -> Result<(), DocumentError> {
        let place = || format!("operator `{}`", self.name);
        if !is_name(&self.name) {
            return Err(wrong(place(), format!("a name is {NAME}")));
        }
        if STANDARD.decode(&self.key).map_or(0, |key| key.len()) != 32 {
            return Err(wrong(place(), "`key` is not an Ed25519 public key in base64: 32 bytes, 44 characters"));
        }
        match self.types.iter().find(|name| !Observable::TYPE_NAMES.contains(&name.as_str())) {
            Some(unknown) => {
                Err(wrong(place(), format!("type `{unknown}` is none of {}", Observable::TYPE_NAMES.join(", "))))
            }
            None => Ok(()),
        }
    }
}

/// A file of intelligence that comes with the policy, signed with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Intelligence {
    /// Its name: the source is called `bundle.NAME` on the host, so that it cannot be taken for one of the host's own.
    pub name: String,
    /// The file, by its name beside the policy: letters, digits, `.`, `_` and `-`.
    pub file: String,
    /// How it is written; `auto` unless said otherwise. See docs/intelligence.md.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub format: Format,
    /// `block` or `report`, for what no rule matches; `block` unless said otherwise.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub action: Action,
    /// `block`, `report` or `ignore` when a listed address connects to the host; as `action` unless said otherwise.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub inbound: Option<Inbound>,
    /// Use private, loopback and documentation addresses, too.
    #[serde(default)]
    pub allow_reserved: bool,
    /// Use popular sites and the names above them, too.
    #[serde(default)]
    pub allow_popular: bool,
    /// 0 to 100: what has a lower confidence is skipped; what has none is used.
    pub min_confidence: Option<u8>,
    /// What has not changed for so long is expired: `90d`, `12h`.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub max_age: Option<Age>,
    /// The marking of what has none; `amber` unless said otherwise.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub default_tlp: Option<Tlp>,
    /// `honour` or `ignore` that MISP attributes are not called indicators; `honour` unless said otherwise.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub to_ids: ToIds,
}

impl Intelligence {
    /// The source that it is on a host, read from `path`.
    #[must_use]
    pub fn source(&self, path: impl Into<std::path::PathBuf>) -> Source {
        Source {
            format: self.format,
            action: self.action,
            inbound: self.inbound,
            allow_reserved: self.allow_reserved,
            allow_popular: self.allow_popular,
            min_confidence: self.min_confidence,
            max_age: self.max_age,
            default_tlp: self.default_tlp.unwrap_or(Tlp::Amber),
            to_ids: self.to_ids,
            ..Source::new(format!("{BUNDLED}{}", self.name), path)
        }
    }
}

/// Begins the names of sources that come with a policy.
pub const BUNDLED: &str = "bundle.";

/// What a rule does with the indicators that it matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RuleAction {
    /// Block, as far as the type of a value can be blocked.
    Block,
    /// Let pass and report.
    Report,
    /// Use it for nothing.
    Ignore,
}

/// What becomes of some indicators.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Its name: a record's `policy.rule` is `policy.NAME`.
    pub name: String,
    /// `block`, `report` or `ignore`. A URL, path or file name can be reported and never blocked.
    #[cfg_attr(test, schemars(with = "String"))]
    pub action: RuleAction,
    /// Which indicators; all of them without it.
    #[serde(default)]
    pub which: Which,
    /// Not possible yet, and refused: see "What a rule cannot say yet".
    #[serde(rename = "where")]
    pub scope: Option<Scope>,
    /// `monitor`: what the rule would block is let pass and recorded as `would_block`, while other rules block.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub mode: Option<Mode>,
    /// `block`, `report` or `ignore` when a listed address connects to the host; as `action` unless said otherwise.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub inbound: Option<Inbound>,
    /// The rule ends then (RFC 3339, in quotes), in the kernel too.
    #[cfg_attr(test, schemars(with = "Option<String>"))]
    pub until: Option<Timestamp>,
    /// Why, for whoever reads it.
    pub why: Option<String>,
}

/// Whose actions a rule is about. The kernel half does not tell them apart yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, default)]
pub struct Scope {
    /// systemd units.
    pub unit: Vec<String>,
    /// cgroup2 directories.
    pub cgroup: Vec<String>,
    /// Users.
    pub user: Vec<String>,
    /// Paths of executables.
    pub executable: Vec<String>,
}

/// Why a document is no policy.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Not TOML, an unknown key or a wrong type.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What and what to do.
        message: String,
    },
    /// It makes no sense.
    #[error("{place}: {message}")]
    Meaning {
        /// The key, or the rule.
        place: String,
        /// What and what to do.
        message: String,
    },
    /// It relies on what this version does not know.
    #[error("requires `{0}`, which this version does not know; it knows {known}: upgrade the agent", known = known())]
    Requirement(String),
}

fn known() -> String {
    Requirement::ALL.map(Requirement::name).join(", ")
}

/// Names go into records, names of rules and names of files: 1 to 64 of `a-z`, `0-9`, `-`, `_` and `.`, the first no `.`.
#[must_use]
pub fn is_name(name: &str) -> bool {
    (1..=64).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte))
}

/// Names of files of intelligence.
fn is_file_name(name: &str) -> bool {
    (1..=128).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte))
}

fn wrong(place: impl Into<String>, message: impl Into<String>) -> DocumentError {
    DocumentError::Meaning { place: place.into(), message: message.into() }
}

impl Document {
    /// Reads and checks a document.
    ///
    /// # Errors
    /// What is wrong, where, and what to do.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        // Before anything else: a later form has keys that are not known here.
        if let Some(unknown) =
            required(text).into_iter().find(|name| Requirement::ALL.iter().all(|one| one.name() != name))
        {
            return Err(DocumentError::Requirement(unknown));
        }
        let document: Self = toml::from_str(text).map_err(|error| {
            let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
            let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
            let line = before.matches('\n').count() + 1;
            DocumentError::Syntax { line, column, message: error.message().trim().to_owned() }
        })?;
        document.check()?;
        Ok(document)
    }

    fn check(&self) -> Result<(), DocumentError> {
        if self.schema != 1 {
            return Err(wrong("schema", format!("{} is not known; this version knows 1", self.schema)));
        }
        for (key, name) in [("tenant", &self.tenant), ("group", &self.group)] {
            if !is_name(name) {
                return Err(wrong(key, format!("`{name}`: a name is {NAME}")));
            }
        }
        if self.serial == 0 {
            return Err(wrong("serial", "it counts from 1"));
        }
        if let (Some(from), Some(until)) = (self.valid_from, self.valid_until)
            && from >= until
        {
            return Err(wrong("valid_until", "it is not after valid_from"));
        }
        for value in &self.never_block {
            passes(value).ok_or_else(|| wrong("never_block", format!("`{value}` is no address, prefix or domain")))?;
        }
        for (index, operator) in self.operator.iter().enumerate() {
            operator.check()?;
            let mut before = self.operator.iter().take(index);
            if before.any(|other| other.name == operator.name || other.key == operator.key) {
                let place = format!("operator `{}`", operator.name);
                return Err(wrong(place, "their name or their key is there twice"));
            }
        }
        self.check_intelligence()?;
        if self.rule.len() > MAX_RULES {
            return Err(wrong("rule", format!("{} rules, the limit is {MAX_RULES}", self.rule.len())));
        }
        for (index, rule) in self.rule.iter().enumerate() {
            rule.check()?;
            if self.rule.iter().take(index).any(|other| other.name == rule.name) {
                return Err(wrong(format!("rule `{}`", rule.name), "it is there twice; rename one"));
            }
        }
        Ok(())
    }

    fn check_intelligence(&self) -> Result<(), DocumentError> {
        if self.intelligence.len() > MAX_FILES {
            let message = format!("{} files, the limit is {MAX_FILES}", self.intelligence.len());
            return Err(wrong("intelligence", message));
        }
        for (index, one) in self.intelligence.iter().enumerate() {
            let place = || format!("intelligence `{}`", one.name);
            if !is_name(&one.name) || one.name.len() > 64 - BUNDLED.len() {
                return Err(wrong(place(), format!("a name is {NAME}")));
            }
            if !is_file_name(&one.file) {
                let message = format!("file `{}`: the name of a file beside the policy, not a path", one.file);
                return Err(wrong(place(), message));
            }
            if one.min_confidence.is_some_and(|least| least > 100) {
                return Err(wrong(place(), "min_confidence is 0 to 100"));
            }
            let before = self.intelligence.iter().take(index);
            if before.into_iter().any(|other| other.name == one.name || other.file == one.file) {
                return Err(wrong(place(), "its name or its file is there twice"));
            }
        }
        Ok(())
    }

    /// The values that always pass.
    pub fn passing(&self) -> impl Iterator<Item = Observable> {
        self.never_block.iter().filter_map(|value| passes(value))
    }
}

const NAME: &str = "1 to 64 of a-z, 0-9, `-`, `_` and `.`, and does not start with `.`";

/// An address, prefix or domain.
fn passes(value: &str) -> Option<Observable> {
    normalise::address(value).or_else(|_| normalise::domain(value)).ok()
}

/// What a document requires, as far as it is TOML at all.
fn required(text: &str) -> Vec<String> {
    let table = text.parse::<toml::Table>().unwrap_or_default();
    let names = table.get("requires").and_then(toml::Value::as_array).into_iter().flatten();
    names.filter_map(|name| name.as_str().map(str::to_owned)).collect()
}

impl Rule {
    fn check(&self) -> Result<(), DocumentError> {
        let wrong = |message: String| Err(wrong(format!("rule `{}`", self.name), message));
        if !is_name(&self.name) {
            return wrong(format!("a name is {NAME}"));
        }
        if let Some(scope) = &self.scope {
            return wrong(scope.refusal());
        }
        if self.mode.is_some() && (self.action != RuleAction::Block || self.inbound.is_some()) {
            return wrong(
                "`mode` says what becomes of blocking: it goes with action `block` and without `inbound`".to_owned(),
            );
        }
        if self.action == RuleAction::Ignore && self.inbound.is_some() {
            return wrong("what is ignored is so either way: leave `inbound` out".to_owned());
        }
        self.which.check().or_else(wrong)
    }
}

impl Scope {
    /// Why it cannot be enforced.
    fn refusal(&self) -> String {
        let said =
            [("unit", &self.unit), ("cgroup", &self.cgroup), ("user", &self.user), ("executable", &self.executable)];
        let said: Vec<&str> = said.iter().filter(|(_, names)| !names.is_empty()).map(|(key, _)| *key).collect();
        let said = if said.is_empty() { "nothing".to_owned() } else { said.join(", ") };
        format!(
            "`where` ({said}) cannot be enforced: the kernel half judges what is done, not yet who does it, and a rule that it \
             did not hold to would block or let pass the wrong programs. Leave `where` out; `cgroup` of the host's settings \
             narrows all of an agent to one cgroup"
        )
    }
}

#[cfg(test)]
mod tests;
