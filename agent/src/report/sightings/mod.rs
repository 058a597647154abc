//! Sightings out: what was hit here, told to those who may know (STIX 2.1 §4.14 sightings, MISP sightings).
//!
//! [`Spool`] folds the journal's records into one sighting for each indicator and window, on disk; [`deliver()`] takes what is
//! due to one destination. Both read the journal alone, at their own pace: nothing here can hold up a verdict.

mod deliver;
mod misp;
mod sharing;
mod spool;
mod stix;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::http::Access;
use crate::intel::Tlp;
use crate::intel::source::Share;
use crate::intel::taxii::Address;

pub use deliver::{Delivered, Error, deliver};
pub use sharing::{Audience, Withheld};
pub use spool::{Spool, SpoolError, Standing};

/// Of the ids that we make (RFC 9562 §5.5); any other than the one of STIX's own ids (STIX 2.1 §2.9).
const NAMESPACE: Uuid = Uuid::from_u128(0x8f6e_3a0c_51d2_4b7e_9d44_0c1b_6a7f_2e95);

/// What is told, and to whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sightings {
    /// As whom.
    pub identity: Identity,
    /// Hits on one indicator within this time are one sighting.
    pub window: Duration,
    /// To whom; nothing is done while there is nobody.
    pub to: Vec<Destination>,
    /// What may be told of each source, by its name; of others nothing.
    pub shares: BTreeMap<String, Share>,
}

/// As whom we report: a pseudonym if that is wanted, and the same for all hosts of an organisation if it shall be one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `identity--…`
    pub id: String,
    /// As receivers see it.
    pub name: String,
    /// A value of STIX 2.1's open vocabulary `identity-class-ov`.
    pub class: String,
}

impl Identity {
    /// Where no id is given it follows from the name, so that all hosts with that name are one.
    #[must_use]
    pub fn new(id: Option<String>, name: String, class: String) -> Self {
        let made = || format!("identity--{}", Uuid::new_v5(&NAMESPACE, format!("identity {class} {name}").as_bytes()));
        Self { id: id.unwrap_or_else(made), name, class }
    }
}

/// Who is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// For `cordon status`.
    pub name: String,
    /// Who can read what is sent there.
    pub audience: Audience,
    /// The strictest marking that goes there.
    pub ceiling: Tlp,
    /// Only of these sources; of all if empty.
    pub sources: BTreeSet<String>,
    /// Also tell the address or file that was observed.
    pub observed_data: bool,
    /// Between two deliveries.
    pub interval: Duration,
    /// Where.
    pub to: To,
    /// How a server is reached.
    pub access: Access,
}

/// Where sightings go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// A collection that can be written.
    Taxii(Address),
    /// STIX bundles as files.
    Directory(PathBuf),
    /// Bodies for MISP's `/sightings/add` as files.
    Misp(PathBuf),
}

impl To {
    /// Whether a sighting can be corrected by sending a newer version; where not, it is sent when its window is over.
    const fn takes_versions(&self) -> bool {
        !matches!(self, Self::Misp(_))
    }
}

/// The hits on one indicator within one window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sighting {
    /// Its row in the spool.
    number: i64,
    /// The publisher's id, or `<source>:<value>` where there is none.
    pub indicator: String,
    /// A name of [`crate::intel::Observable::TYPE_NAMES`].
    pub kind: String,
    /// Canonical value.
    pub value: String,
    /// Every source that lists it.
    pub sources: BTreeSet<String>,
    /// The strictest marking of any of them.
    pub tlp: Tlp,
    /// When its window begins.
    pub window: Timestamp,
    /// Hits.
    pub count: u64,
    /// The first.
    pub first: Timestamp,
    /// The latest.
    pub last: Timestamp,
    /// When it was begun.
    pub created: Timestamp,
    /// Its version: later each time the count grows.
    pub modified: Timestamp,
    /// What was seen on this host, the first few.
    pub observed: BTreeSet<Observed>,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Observed {
    /// A destination address.
    Address(std::net::IpAddr),
    /// The domain that led to it.
    Domain(String),
    /// SHA-256 of a file, hexadecimal.
    Sha256(String),
}

impl Sighting {
    /// Whether the publisher gave the indicator an id of STIX.
    fn has_stix_id(&self) -> bool {
        self.indicator.strip_prefix("indicator--").is_some_and(|uuid| Uuid::parse_str(uuid).is_ok())
    }
}
