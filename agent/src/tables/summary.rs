//! What was compiled, and what could not be.

use std::collections::BTreeMap;

use agent_common::image::Space;
use serde::{Deserialize, Serialize};

use super::compile::Plan;
use super::key::UnenforcedReason;
use crate::intel::Observable;

/// One kind of thing that an image holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableSummary {
    /// `ipv4`, `ipv6`, `ipv6_prefix`, `endpoint`, `digest`, `path`, `domain`; `exec` is what user space compares execs with.
    pub table: String,
    /// Distinct values, exceptions among them.
    pub entries: u64,
    /// Bytes of the image that this table alone needs.
    pub bytes: u64,
}

/// What could not be enforced for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unenforced {
    /// Why.
    pub reason: UnenforcedReason,
    /// How many values, each source's counted.
    pub count: u64,
    /// One of them.
    pub example: String,
}

/// What a generation holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// All tables, those without entries too.
    pub tables: Vec<TableSummary>,
    /// Bytes of the image in the kernel.
    pub bytes: u64,
    /// Values of indicators that share a value with another one, and so have no entry of their own.
    pub merged: u64,
    /// Values of indicators that lie inside an exception, and so are not in the image.
    pub excepted: u64,
    /// What could not be enforced, by reason.
    pub unenforced: Vec<Unenforced>,
}

/// Counts what could not be enforced.
#[derive(Debug, Default)]
pub(super) struct Losses(BTreeMap<UnenforcedReason, (u64, String)>);

impl Losses {
    /// Takes in that `times` indicators have a value that cannot be enforced.
    pub(super) fn add(&mut self, reason: UnenforcedReason, observable: &Observable, times: u64) {
        let (count, _) = self.0.entry(reason).or_insert_with(|| (0, observable.to_string()));
        *count += times;
    }
}

impl Summary {
    pub(super) fn new(plan: &Plan, watched: u64, merged: u64, excepted: u64, losses: Losses) -> Self {
        let unenforced =
            losses.0.into_iter().map(|(reason, (count, example))| Unenforced { reason, count, example }).collect();
        let watched = TableSummary { table: "exec".to_owned(), entries: watched, bytes: 0 };
        let tables = Space::ALL.into_iter().map(|space| table(plan, space)).chain([watched]).collect();
        Self { tables, bytes: plan.segments.blocks * 64, merged, excepted, unenforced }
    }

    /// Distinct values in all tables.
    #[must_use]
    pub fn entries(&self) -> u64 {
        self.tables.iter().map(|table| table.entries).sum()
    }
}

fn table(plan: &Plan, space: Space) -> TableSummary {
    let segments = &plan.segments;
    let (name, entries, blocks) = match space {
        Space::Ipv4 => {
            let exact = plan.ipv4.exact.len() as u64;
            (
                "ipv4",
                exact + plan.ipv4_prefixes,
                u64::from(segments.tables.first().map_or(segments.exact, |table| table.base) - segments.directory),
            )
        }
        Space::Ipv6Prefix => {
            let blocks = plan.ipv6.len().div_ceil(4) + plan.ipv6.len().div_ceil(16);
            ("ipv6_prefix", plan.ipv6_prefixes, blocks as u64)
        }
        Space::Ipv6 => keyed(plan, "ipv6", space),
        Space::Endpoint => keyed(plan, "endpoint", space),
        Space::Digest => keyed(plan, "digest", space),
        Space::Path => keyed(plan, "path", space),
        Space::Domain => keyed(plan, "domain", space),
    };
    TableSummary { table: name.to_owned(), entries, bytes: blocks * 64 }
}

fn keyed(plan: &Plan, name: &'static str, space: Space) -> (&'static str, u64, u64) {
    plan.segments.table(space).map_or((name, 0, 0), |table| (name, table.used.into(), table.blocks.into()))
}
