//! What no hook looks up, but user space compares each exec with: names of files, command lines, patterns of both. It only
//! ever reports: an exec is told of once it has happened.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::UnenforcedReason;
use super::summary::Losses;
use crate::intel::Observable;
use crate::intel::parse::pattern::{Condition, Program, command_line};

/// Conditions that are tried one after the other at each exec, with an expression each.
pub const MOST: usize = 512;

/// The entries of a generation that stand for what user space looks for.
#[derive(Debug, Default)]
pub struct Watch {
    names: BTreeMap<Arc<str>, u32>,
    command_lines: BTreeMap<Arc<str>, u32>,
    conditions: Vec<(Condition, u32)>,
    /// How many were read for that, which takes time too.
    tried: usize,
}

impl Watch {
    /// Whether user space looks for such values.
    pub(super) const fn is_for(observable: &Observable) -> bool {
        matches!(observable, Observable::FileName(_) | Observable::Process(_))
    }

    /// Takes in a value that `times` indicators have; whether it is looked for.
    pub(super) fn add(&mut self, observable: &Observable, entry: u32, times: u64, losses: &mut Losses) -> bool {
        let text = match observable {
            Observable::FileName(name) => {
                self.names.insert(Arc::clone(name), entry);
                return true;
            }
            Observable::Process(text) => text,
            _ => return false,
        };
        if let Some(line) = command_line(text) {
            self.command_lines.insert(Arc::from(line), entry);
            return true;
        }
        if self.tried == MOST {
            losses.add(UnenforcedReason::TooManyConditions, observable, times);
            return false;
        }
        self.tried += 1;
        let Some(condition) = Condition::read(text) else {
            losses.add(UnenforcedReason::ExpressionTooLarge, observable, times);
            return false;
        };
        self.conditions.push((condition, entry));
        true
    }

    /// How many values are looked for.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len() + self.command_lines.len() + self.conditions.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entries of all that an exec meets, each once.
    pub fn find(&self, program: &Program<'_>) -> Vec<u32> {
        let names = program.paths.iter().filter_map(|path| self.names.get(path.rsplit('/').next().unwrap_or(path)));
        let line = program.command_line.and_then(|line| self.command_lines.get(line));
        let conditions = self.conditions.iter().filter(|(condition, _)| condition.holds(program));
        let mut found: Vec<u32> = names.chain(line).copied().chain(conditions.map(|(_, entry)| *entry)).collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}
