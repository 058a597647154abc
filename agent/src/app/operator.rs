//! What this host's operator decided at run time, kept in the state directory: local rules and break-glass.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Context;
use jiff::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::control::{Effect, LocalRule};
use crate::intel::normalise;
use crate::policy;

/// The agent is switched off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Off {
    /// It switches itself on again then.
    pub until: Timestamp,
    /// For the log.
    pub reason: String,
}

/// Local rules and break-glass, each in a file of its own below the state directory.
#[derive(Debug)]
pub struct Operator {
    directory: PathBuf,
    rules: Vec<LocalRule>,
    off: Option<Off>,
}

impl Operator {
    /// Reads what was decided before.
    ///
    /// # Errors
    /// A state file cannot be read or is damaged; deciding without it would forget what the operator asked for.
    pub fn open(directory: &Path) -> anyhow::Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        Ok(Self {
            directory: directory.to_owned(),
            rules: read(&directory.join("rules.json"))?.unwrap_or_default(),
            off: read(&directory.join("off.json"))?,
        })
    }

    /// Whether the agent is switched off at `now`.
    #[must_use]
    pub fn off(&self, now: Timestamp) -> Option<&Off> {
        self.off.as_ref().filter(|off| off.until > now)
    }

    /// Switches off, or on with `None`; it holds across restarts.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn set_off(&mut self, off: Option<Off>) -> anyhow::Result<()> {
        write(&self.directory.join("off.json"), &off)?;
        self.off = off;
        Ok(())
    }

    /// Adds a rule in place of any other for the same value.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn add(&mut self, rule: LocalRule) -> anyhow::Result<()> {
        let mut rules = self.without(&rule.value);
        rules.push(rule);
        self.keep(rules)
    }

    /// Removes the rules for a value; whether there was one.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn remove(&mut self, value: &str) -> anyhow::Result<bool> {
        let rules = self.without(value);
        let removed = rules.len() < self.rules.len();
        self.keep(rules)?;
        Ok(removed)
    }

    fn without(&self, value: &str) -> Vec<LocalRule> {
        let same = |rule: &&LocalRule| rule.value != value && normalise::any(&rule.value) != normalise::any(value);
        self.rules.iter().filter(same).cloned().collect()
    }

    fn keep(&mut self, rules: Vec<LocalRule>) -> anyhow::Result<()> {
        write(&self.directory.join("rules.json"), &rules)?;
        self.rules = rules;
        Ok(())
    }

    /// The rules as the policy takes them.
    #[must_use]
    pub fn rules(&self) -> Vec<policy::LocalRule> {
        let known =
            self.rules.iter().filter_map(|rule| normalise::any(&rule.value).map(|observable| (rule, observable)));
        known
            .map(|(rule, observable)| policy::LocalRule {
                source: "local",
                name: Arc::from(rule.value.as_str()),
                observable,
                action: match rule.effect {
                    Effect::Block => policy::LocalAction::Block,
                    Effect::Allow => policy::LocalAction::Allow,
                },
                until: rule.until,
                reason: rule.reason.clone().unwrap_or_default(),
            })
            .collect()
    }

    /// A number for the next generation that no earlier one had, `least` at the least: hits are counted by it.
    ///
    /// # Errors
    /// The state directory cannot be written.
    pub fn next_generation(&self, least: u32) -> anyhow::Result<u32> {
        let path = self.directory.join("generation.json");
        let last: u32 = read(&path)?.unwrap_or_default();
        let next = last.saturating_add(1).max(least);
        write(&path, &next)?;
        Ok(next)
    }
}

pub(super) fn read<T: DeserializeOwned>(path: &Path) -> anyhow::Result<Option<T>> {
    let bytes = match fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let value = serde_json::from_slice(&bytes);
    value.with_context(|| format!("{} is damaged; mend it, or remove it to forget it", path.display()))
}

/// Whole or not at all, whatever happens meanwhile.
pub(super) fn write(path: &Path, value: &impl Serialize) -> anyhow::Result<()> {
    let replace = || -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut file = fs::File::create(&fresh)?;
        io::Write::write_all(&mut file, &serde_json::to_vec(value)?)?;
        file.sync_all()?;
        fs::rename(&fresh, path)
    };
    replace().with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(value: &str, effect: Effect) -> LocalRule {
        LocalRule { value: value.into(), effect, until: None, reason: None }
    }

    #[test]
    fn what_was_decided_is_there_after_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut operator = Operator::open(directory.path()).unwrap();
        operator.add(rule("192.0.2.1", Effect::Block)).unwrap();
        operator.add(rule("192.0.2.1/32", Effect::Allow)).unwrap();
        let off = Off { until: Timestamp::MAX, reason: "test".into() };
        operator.set_off(Some(off.clone())).unwrap();
        assert_eq!(operator.next_generation(7).unwrap(), 7);

        let mut operator = Operator::open(directory.path()).unwrap();
        assert_eq!(operator.rules().len(), 1, "one rule a value, however it is written");
        assert_eq!(operator.rules()[0].action, policy::LocalAction::Allow);
        assert_eq!(operator.off(Timestamp::UNIX_EPOCH), Some(&off));
        assert_eq!(operator.next_generation(1).unwrap(), 8);
        assert!(operator.remove("192.0.2.1").unwrap());
        assert!(!operator.remove("192.0.2.1").unwrap());
    }
}
