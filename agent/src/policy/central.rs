//! A verified bundle → the policy in force: whether this host takes it, and which of its rules decides.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::document::{BUNDLED, Document, DocumentError, Mode, Rule, RuleAction};
use super::order::{Disobeyed, Obeyed, SignedOrder};
use super::which::Facts;
use crate::bundle::{Bundle, Verified};
use crate::intel::{Action, Inbound, Observable, Source};

/// Whose policy a host takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enrolment {
    /// The organisation.
    pub tenant: String,
    /// The group of hosts.
    pub group: String,
}

/// The latest policy that a host took: nothing below it is taken again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Its serial.
    pub serial: u64,
    /// [`Bundle::sha256`].
    pub sha256: String,
}

/// Why a host does not take a policy that is signed as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refused {
    /// It is none, or asks for what this version cannot do.
    #[error("not a policy for this agent: {0}")]
    Document(#[from] DocumentError),
    /// It is another organisation's.
    #[error("wrong tenant: it is for `{said}`, this host is enrolled with `{own}`")]
    Tenant {
        /// In the policy.
        said: String,
        /// In the settings.
        own: String,
    },
    /// It is for other hosts.
    #[error("wrong group: it is for `{said}`, this host is in `{own}`")]
    Group {
        /// In the policy.
        said: String,
        /// In the settings.
        own: String,
    },
    /// It is older than the one that was taken before.
    #[error(
        "rollback: serial {said}, this host has taken {taken}; `cordon policy rollback` signs old contents with a new serial"
    )]
    Rollback {
        /// In the policy.
        said: u64,
        /// Before.
        taken: u64,
    },
    /// Its serial belongs to another one.
    #[error("serial {0} was used before for another policy; sign it with a higher one")]
    SerialReused(u64),
    /// It is for later.
    #[error("not yet valid: valid_from {0}")]
    NotYetValid(Timestamp),
    /// It is over before it was ever taken.
    #[error("expired: valid_until {0}; sign another one")]
    Expired(Timestamp),
    /// A file that it names is not signed with it.
    #[error("mixed: it names the file `{0}`, which is not signed with it")]
    FileMissing(String),
}

impl Refused {
    /// A name for the reason that never changes.
    #[must_use]
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Document(DocumentError::Requirement(_)) => "unknown_requirement",
            Self::Document(_) => "invalid",
            Self::Tenant { .. } => "wrong_tenant",
            Self::Group { .. } => "wrong_group",
            Self::Rollback { .. } => "rollback",
            Self::SerialReused(_) => "serial_reused",
            Self::NotYetValid(_) => "not_yet_valid",
            Self::Expired(_) => "expired",
            Self::FileMissing(_) => "mixed",
        }
    }
}

/// A policy that this host has taken.
#[derive(Clone, Debug)]
pub struct Central {
    document: Document,
    sha256: String,
    sources: Vec<Source>,
    /// The most that it may ask for: `Report` once its lease is over on a host that asks for that.
    at_most: Action,
    /// `policy.NAME` of each rule.
    names: Vec<Arc<str>>,
}

impl Central {
    /// The policy that a bundle holds, if this host takes it: made out of nothing but what was verified. `standing` is the
    /// latest that it took before.
    ///
    /// # Errors
    /// Why not.
    pub fn accept(
        bundle: &Verified<Bundle>,
        enrolment: &Enrolment,
        standing: Option<&Standing>,
        now: Timestamp,
    ) -> Result<Self, Refused> {
        let bundle = bundle.get();
        let document = Document::parse(&bundle.policy)?;
        if document.tenant != enrolment.tenant {
            return Err(Refused::Tenant { said: document.tenant, own: enrolment.tenant.clone() });
        }
        if document.group != enrolment.group {
            return Err(Refused::Group { said: document.group, own: enrolment.group.clone() });
        }
        let is_known = standing.is_some_and(|standing| standing.sha256 == bundle.sha256);
        match standing.map(|standing| standing.serial) {
            Some(taken) if document.serial < taken => return Err(Refused::Rollback { said: document.serial, taken }),
            Some(taken) if document.serial == taken && !is_known => return Err(Refused::SerialReused(taken)),
            _ => {}
        }
        if let Some(from) = document.valid_from.filter(|from| *from > now) {
            return Err(Refused::NotYetValid(from));
        }
        // One that was taken while it was valid stays in force: it is stale, not off.
        if let Some(until) = document.valid_until.filter(|until| *until <= now && !is_known) {
            return Err(Refused::Expired(until));
        }
        let mut sources = Vec::new();
        for one in &document.intelligence {
            let file = bundle.file(&one.file).ok_or_else(|| Refused::FileMissing(one.file.clone()))?;
            sources.push(one.source(file));
        }
        let names = document.rule.iter().map(|rule| Arc::from(format!("policy.{}", rule.name))).collect();
        Ok(Self { document, sha256: bundle.sha256.clone(), sources, at_most: Action::Block, names })
    }

    /// The same, blocking or with all that it would block only reported.
    #[must_use]
    pub fn at_most(self, at_most: Action) -> Self {
        Self { at_most, ..self }
    }

    /// What was written.
    #[must_use]
    pub const fn document(&self) -> &Document {
        &self.document
    }

    /// The serial and what tells it from all others.
    #[must_use]
    pub fn standing(&self) -> Standing {
        Standing { serial: self.document.serial, sha256: self.sha256.clone() }
    }

    /// What an order asks for, if the policy names who signed it and lets them.
    ///
    /// # Errors
    /// Why it is not obeyed.
    pub fn judge(&self, order: &SignedOrder, now: Timestamp) -> Result<Obeyed, Disobeyed> {
        let own = Enrolment { tenant: self.document.tenant.clone(), group: self.document.group.clone() };
        order.judge(&self.document.operator, &own, now)
    }

    /// The intelligence that comes with it.
    #[must_use]
    pub fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// The most that may be asked for of a source: what comes with the policy is bound as the policy is.
    #[must_use]
    pub fn most_of(&self, source: &Source) -> Action {
        if source.name.starts_with(BUNDLED) { self.at_most } else { Action::Block }
    }

    /// The rules that can match something of a source at `now`, by their numbers, and when one of them ends.
    pub(super) fn candidates(&self, source: &str, now: Timestamp) -> (Vec<usize>, Option<Timestamp>) {
        let live = |rule: &Rule| rule.until.is_none_or(|until| until > now) && rule.which.is_about(source);
        let found = self.document.rule.iter().enumerate().filter(|(_, rule)| live(rule));
        let (numbers, ends): (Vec<usize>, Vec<_>) = found.map(|(number, rule)| (number, rule.until)).unzip();
        (numbers, ends.into_iter().flatten().min())
    }

    /// The first of `candidates` that matches a value of an indicator.
    pub(super) fn first(&self, candidates: &[usize], facts: &Facts<'_>, value: &Observable) -> Option<usize> {
        let matches =
            |number: &usize| self.document.rule.get(*number).is_some_and(|rule| rule.which.matches(facts, value));
        candidates.iter().copied().find(matches)
    }

    /// What a rule decides; `None` for ignoring.
    pub(super) fn decision(&self, number: usize) -> Option<Decision> {
        let rule = self.document.rule.get(number)?;
        let action = match rule.action {
            RuleAction::Block => Action::Block,
            RuleAction::Report => Action::Report,
            RuleAction::Ignore => return None,
        };
        let is_trial = rule.mode == Some(Mode::Monitor) && self.at_most == Action::Block;
        let most = if is_trial { Action::Report } else { self.at_most };
        let inbound = rule.inbound.unwrap_or_else(|| action.into()).min(Inbound::from(most));
        let action = action.min(most);
        Some(Decision { action, inbound, until: rule.until, is_trial, name: Arc::clone(self.names.get(number)?) })
    }

    /// The name of a rule, as it stands in the document.
    pub(super) fn name(&self, number: usize) -> &str {
        self.document.rule.get(number).map_or("", |rule| rule.name.as_str())
    }
}

/// What a rule decides about what it matches.
#[derive(Clone, Debug)]
pub(super) struct Decision {
    pub(super) action: Action,
    pub(super) inbound: Inbound,
    pub(super) until: Option<Timestamp>,
    /// Whether it would block if it were not in mode `monitor`.
    pub(super) is_trial: bool,
    /// As a record has it.
    pub(super) name: Arc<str>,
}

#[cfg(test)]
mod tests;
