//! What the operator decided, beside the sources.

use std::sync::Arc;

use jiff::Timestamp;

use super::benign::{NeverBlock, WarningList};
use super::central::Central;
use super::files::OwnFiles;
use crate::intel::Observable;

/// What a local rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LocalAction {
    /// Never block it, whoever lists it.
    Allow,
    /// Report it.
    Report,
    /// Block it.
    Block,
}

/// A rule of the operator's own (`cordon block`, `cordon allow`).
#[derive(Clone, Debug)]
pub struct LocalRule {
    /// Where it came from: `local` or `fleet`.
    pub source: &'static str,
    /// Its name; a record says `SOURCE.NAME`.
    pub name: Arc<str>,
    /// What it is about. A path, file name or URL can only be reported, never blocked.
    pub observable: Observable,
    /// What it does.
    pub action: LocalAction,
    /// Until when; `None` for ever.
    pub until: Option<Timestamp>,
    /// Why, in the operator's words.
    pub reason: String,
}

/// What is decided beside the sources: who is never blocked, how broad a prefix may be, local rules.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Never blocked, whoever lists it: resolvers, gateways, own control endpoints, the operator's list.
    pub never_block: NeverBlock,
    /// MISP warning lists: an indicator on one is skipped as `benign`.
    pub warning_lists: Vec<WarningList>,
    /// Local rules; one that blocks wins over all that follows and over warning lists, never over `never_block`.
    pub local: Vec<LocalRule>,
    /// The organisation's policy, whose rules come after the local ones and before what a source says of itself.
    pub central: Option<Arc<Central>>,
    /// The shortest IPv4 prefix accepted from a source: 0..=32.
    pub min_prefix_v4: u8,
    /// The shortest IPv6 prefix accepted from a source: 0..=128.
    pub min_prefix_v6: u8,
    /// Whether sources may name popular sites and the names above them.
    pub allow_popular_domains: bool,
    /// What packages of this host installed: never blocked by a source.
    pub own_files: OwnFiles,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            never_block: NeverBlock::default(),
            warning_lists: Vec::new(),
            local: Vec::new(),
            central: None,
            min_prefix_v4: 8,
            min_prefix_v6: 19,
            allow_popular_domains: false,
            own_files: OwnFiles::default(),
        }
    }
}
