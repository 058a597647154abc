//! What may be told to whom (pure). TLP is FIRST's standard, version 2.0.

use serde::{Deserialize, Serialize};

use super::{Destination, Sighting, stix};
use crate::intel::Tlp;
use crate::intel::source::Share;

/// Who can read what is sent to a destination.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Audience {
    /// Anyone.
    World,
    /// Peers and partner organisations, but not the public.
    Community,
    /// Our own organisation and its clients.
    Clients,
    /// Our own organisation.
    Organisation,
    /// Only whom the intelligence came from.
    Origin,
}

impl Audience {
    /// The strictest marking that this audience may see.
    #[must_use]
    pub const fn ceiling(self) -> Tlp {
        match self {
            Self::World => Tlp::Clear,
            Self::Community => Tlp::Green,
            Self::Clients => Tlp::Amber,
            Self::Organisation => Tlp::AmberStrict,
            Self::Origin => Tlp::Red,
        }
    }
}

/// Why a sighting is kept back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Withheld {
    /// Its marking is stricter than the destination's ceiling.
    Tlp,
    /// A source that lists the indicator is not to be told of, or no longer known.
    Share,
    /// The destination is told of other sources only.
    OtherSource,
    /// The indicator has no STIX id that a sighting could refer to, and its value is not to be passed on.
    NoId,
}

impl Withheld {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Tlp, Self::Share, Self::OtherSource, Self::NoId];

    /// As `cordon status` names it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tlp => "tlp",
            Self::Share => "share",
            Self::OtherSource => "other_source",
            Self::NoId => "no_id",
        }
    }
}

/// What may be told of a sighting: the least that any of its sources allows.
pub(super) fn share(sighting: &Sighting, share_of: impl Fn(&str) -> Share) -> Share {
    sighting.sources.iter().map(|source| share_of(source)).min().unwrap_or(Share::Nothing)
}

/// Whether `destination` is told of `sighting`, of which `share` may be told.
pub(super) fn judge(destination: &Destination, sighting: &Sighting, share: Share) -> Result<(), Withheld> {
    if share == Share::Nothing {
        return Err(Withheld::Share);
    }
    let is_of_others = !destination.sources.is_empty() && !sighting.sources.is_subset(&destination.sources);
    if is_of_others {
        return Err(Withheld::OtherSource);
    }
    if sighting.tlp > destination.ceiling.min(destination.audience.ceiling()) {
        return Err(Withheld::Tlp);
    }
    // MISP finds an attribute by its value as well.
    let needs_id = destination.to.takes_versions();
    let can_be_passed_on = share == Share::Indicators && stix::pattern(sighting).is_some();
    if needs_id && !sighting.has_stix_id() && !can_be_passed_on {
        return Err(Withheld::NoId);
    }
    Ok(())
}
