//! `[sightings]`: what is said, and what it means.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use uuid::Uuid;

use super::Places;
use crate::http::Access;
use crate::intel::Tlp;
use crate::intel::source::{Age, Source};
use crate::intel::taxii::Address;
use crate::report::sightings::{Audience, Destination, Identity, Sightings, To};

/// Between two deliveries, unless said otherwise.
const INTERVAL: Duration = Duration::from_secs(60);
/// Of one sighting, unless said otherwise.
const WINDOW: Duration = Duration::from_secs(60 * 60);

/// `[sightings]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SightingsFile {
    /// As whom this host reports.
    pub name: Option<String>,
    /// `identity--…`; made of the name unless said otherwise.
    pub id: Option<String>,
    /// `organization` unless said otherwise.
    pub class: Option<String>,
    /// An hour unless said otherwise.
    pub window: Option<Age>,
    /// `[[sightings.to]]`.
    #[serde(default)]
    pub to: Vec<DestinationFile>,
}

/// `[[sightings.to]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DestinationFile {
    /// For `cordon status`.
    pub name: String,
    /// Who can read what is sent there.
    pub audience: Audience,
    /// The strictest marking that goes there; what the audience may see unless said otherwise.
    pub max_tlp: Option<Tlp>,
    /// Only sightings of these sources.
    #[serde(default)]
    pub sources: BTreeSet<String>,
    /// Also what was observed; false unless said otherwise.
    #[serde(default)]
    pub observed_data: bool,
    /// A minute unless said otherwise.
    pub interval: Option<Age>,
    /// A collection.
    pub taxii: Option<Address>,
    /// A directory for STIX bundles.
    pub directory: Option<PathBuf>,
    /// A directory for bodies of MISP's `/sightings/add`.
    pub misp: Option<PathBuf>,
    /// How a server is reached.
    #[serde(default)]
    pub access: Access,
}

impl SightingsFile {
    /// Lays `later` over this: its keys win, its destinations are added.
    pub fn merge(&mut self, later: Self) {
        self.name = later.name.or(self.name.take());
        self.id = later.id.or(self.id.take());
        self.class = later.class.or(self.class.take());
        self.window = later.window.or(self.window.take());
        self.to.extend(later.to);
    }

    /// What it means, with these sources.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) fn meaning(self, sources: &[Source], places: &Places) -> Result<Sightings, String> {
        let shares: BTreeMap<_, _> = sources.iter().map(|source| (source.name.clone(), source.share)).collect();
        let Some(name) = self.name else {
            return Err("`sightings` needs a `name`: as whom this host reports, a pseudonym if you like".to_owned());
        };
        if let Some(id) = &self.id
            && id.strip_prefix("identity--").is_none_or(|uuid| Uuid::parse_str(uuid).is_err())
        {
            return Err(format!("`sightings.id`: `{id}` is no STIX id of an identity (identity--UUID)"));
        }
        let mut to: Vec<Destination> = Vec::with_capacity(self.to.len());
        for said in self.to {
            let name = said.name.clone();
            let destination = said.meaning(&shares, places).map_err(|why| format!("`sightings.to` `{name}`: {why}"))?;
            if to.iter().any(|other| other.name == destination.name) {
                return Err(format!("`sightings.to` `{name}` is there twice; rename one"));
            }
            to.push(destination);
        }
        let class = self.class.unwrap_or_else(|| "organization".to_owned());
        let window = self.window.map_or(WINDOW, Age::unsigned);
        Ok(Sightings { identity: Identity::new(self.id, name, class), window, to, shares })
    }
}

impl DestinationFile {
    fn meaning<T>(self, sources: &BTreeMap<String, T>, places: &Places) -> Result<Destination, String> {
        let to = match (self.taxii, self.directory, self.misp) {
            (Some(address), None, None) => To::Taxii(address),
            (None, Some(path), None) => To::Directory(places.path(path)),
            (None, None, Some(path)) => To::Misp(places.path(path)),
            _ => return Err("it has exactly one of `taxii`, `directory` and `misp`".to_owned()),
        };
        if let To::Taxii(address) = &to {
            self.access.check(&address.url).map_err(|why| format!("{}: {why}", address.url))?;
        }
        let most = self.audience.ceiling();
        let ceiling = self.max_tlp.unwrap_or(most);
        if ceiling > most {
            let said = |tlp: Tlp| serde_json::to_string(&tlp).unwrap_or_default();
            return Err(format!("this audience may see up to {}, and `max_tlp` is {}", said(most), said(ceiling)));
        }
        if self.audience == Audience::Origin && self.sources.is_empty() {
            return Err("the audience `origin` needs `sources`: those whose publisher runs this destination".to_owned());
        }
        if let Some(unknown) = self.sources.iter().find(|name| !sources.contains_key(*name)) {
            return Err(format!("there is no source `{unknown}`"));
        }
        Ok(Destination {
            name: self.name,
            audience: self.audience,
            ceiling,
            sources: self.sources,
            observed_data: self.observed_data,
            interval: self.interval.map_or(INTERVAL, Age::unsigned),
            to,
            access: self.access.relocated(|path| places.path(path)),
        })
    }
}
