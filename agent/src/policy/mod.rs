//! Which indicator blocks, which reports, what is never blocked (pure; the clock is passed in).

use std::sync::Arc;

use jiff::Timestamp;

use crate::intel::{Indicator, Observable, Skipped};

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// Let pass and report.
    Report,
    /// Block.
    Block,
}

/// One value of one indicator, as the policy wants it enforced: what `tables` compiles.
#[derive(Clone, Debug)]
pub struct Ruled {
    /// The value.
    pub observable: Observable,
    /// Whose it is: the source's name in the settings.
    pub source: Arc<str>,
    /// What to do.
    pub action: Action,
    /// Until when; the kernel holds to it.
    pub expires: Option<Timestamp>,
    /// `feeds.<source>` or `local.<rule>`.
    pub rule: Arc<str>,
    /// Which indicator.
    pub indicator: Arc<Indicator>,
}

/// What the policy made of all indicators.
#[derive(Clone, Debug, Default)]
pub struct Ruling {
    /// To be compiled.
    pub ruled: Vec<Ruled>,
    /// Never blocked: compiled as `Allow` entries that win over everything broader.
    pub exceptions: Vec<Observable>,
    /// Not used, and why.
    pub skipped: Vec<Skipped>,
    /// When the ruling would next come out differently: the earliest `valid_from` ahead or expiry.
    pub next_change: Option<Timestamp>,
}
