//! `[network]`: what is judged of sockets besides where they go.

use serde::{Deserialize, Serialize};

/// What becomes of something that the settings judge, whatever is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// It passes, and no record is made.
    Allow,
    /// It passes, and a record is made.
    Report,
    /// It fails with `EPERM` in mode `enforce`.
    Deny,
}

/// `[network]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkFile {
    /// Look up where each packet goes; true unless said otherwise.
    pub egress: Option<bool>,
    /// Look up who connects to this host; true unless said otherwise.
    pub ingress: Option<bool>,
    /// Source routes (`IP_OPTIONS`, `IPV6_RTHDR`) that lead over no listed address; `deny` unless said otherwise.
    pub source_routes: Option<Rule>,
    /// The making of raw sockets; `allow` unless said otherwise.
    pub raw_sockets: Option<Rule>,
    /// Questions, hellos and requests whose name cannot be read; `allow` unless said otherwise.
    pub unread_names: Option<Rule>,
}

impl NetworkFile {
    /// Lays `later` over this.
    pub(super) fn merge(&mut self, later: Self) {
        self.egress = later.egress.or(self.egress);
        self.ingress = later.ingress.or(self.ingress);
        self.source_routes = later.source_routes.or(self.source_routes);
        self.raw_sockets = later.raw_sockets.or(self.raw_sockets);
        self.unread_names = later.unread_names.or(self.unread_names);
    }
}

/// What is judged of sockets besides where they go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// Whether it is looked up where each packet goes, whatever made it.
    pub egress: bool,
    /// Whether it is looked up who connects to this host.
    pub ingress: bool,
    /// Source routes that lead over no listed address.
    pub source_routes: Rule,
    /// The making of raw sockets.
    pub raw_sockets: Rule,
    /// Questions, hellos and requests whose name cannot be read.
    pub unread_names: Rule,
}

impl From<NetworkFile> for Network {
    fn from(said: NetworkFile) -> Self {
        Self {
            egress: said.egress.unwrap_or(true),
            ingress: said.ingress.unwrap_or(true),
            source_routes: said.source_routes.unwrap_or(Rule::Deny),
            raw_sockets: said.raw_sockets.unwrap_or(Rule::Allow),
            unread_names: said.unread_names.unwrap_or(Rule::Allow),
        }
    }
}
