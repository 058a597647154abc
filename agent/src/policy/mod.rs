//! Which indicator blocks, which reports, what is never blocked (pure; the clock is passed in).

use jiff::Timestamp;

pub use crate::intel::{Action, Inbound};
use crate::intel::{Observable, Skips};

pub mod benign;
mod central;
pub mod document;
mod files;
pub mod lint;
mod names;
pub mod order;
pub mod reserved;
mod rule;
mod ruled;
pub mod rules;
pub mod which;

pub use benign::{NeverBlock, WarningList, WarningListError, observable};
pub use central::{Central, Enrolment, Refused, Standing};
pub use document::{Document, Mode, is_name};
pub use files::OwnFiles;
pub use names::Popular;
pub use order::{Disobeyed, Obeyed, Order, SignedOrder};
pub use rule::{Supply, rule};
pub use ruled::{Ruled, RuledValues, Terms};
pub use rules::{LocalAction, LocalRule, Rules};

/// How many indicators came out how: each is in exactly one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Outcome {
    /// At least one value blocks.
    pub block: u64,
    /// None blocks, at least one is reported.
    pub report: u64,
    /// No value is left.
    pub skipped: u64,
}

/// What the policy made of all indicators.
#[derive(Clone, Debug, Default)]
pub struct Ruling {
    /// Of the indicators handed in; what the parsers skipped before is not in it.
    pub outcome: Outcome,
    /// The same for each [`Supply`], in their order.
    pub by_supply: Vec<Outcome>,
    /// Values left out of indicators of which other values are used, and why.
    pub trimmed: Skips,
    /// To be compiled.
    pub ruled: RuledValues,
    /// Never blocked: compiled as `Allow` entries that win over everything broader.
    pub exceptions: Vec<Observable>,
    /// Not used, and why.
    pub skipped: Skips,
    /// When the ruling would next come out differently: the earliest `valid_from` ahead or expiry.
    pub next_change: Option<Timestamp>,
}
