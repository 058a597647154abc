//! Where intelligence comes from: reading files and directories. The only part of `intel` that does input and output.

mod files;
mod kept;
mod remote;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use url::Url;

pub use files::{FileError, MAX_DEPTH, MAX_FILES, read};
pub use kept::Kept;
pub use remote::{Feed, Remote, Share};

use super::parse::{Columns, Format, Parsed, Reading, ToIds};
use super::taxii::Address;
use super::{Action, Inbound, Indicator, Skipped, Tlp, TlpOrigin};
use crate::http::Access;

/// A length of time as settings write it: `90d`, `12h`, `2w 3d`. A day has 24 hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Age(SignedDuration);

impl Age {
    /// As a duration: more than 0.
    #[must_use]
    pub const fn duration(self) -> SignedDuration {
        self.0
    }

    /// The same, for what takes no sign.
    #[must_use]
    pub fn unsigned(self) -> Duration {
        self.0.unsigned_abs()
    }
}

impl FromStr for Age {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("`{text}` is no length of time above 0, such as `90d`, `12h` or `2w`");
        let span: jiff::Span = text.parse().map_err(|_| wrong())?;
        let duration = span.to_duration(jiff::SpanRelativeTo::days_are_24_hours()).map_err(|_| wrong())?;
        if duration > SignedDuration::ZERO { Ok(Self(duration)) } else { Err(wrong()) }
    }
}

impl fmt::Display for Age {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DAY: i64 = 24 * 60 * 60;
        match self.0.as_secs() {
            seconds if seconds % DAY == 0 => write!(f, "{}d", seconds / DAY),
            seconds if seconds % 3600 == 0 => write!(f, "{}h", seconds / 3600),
            seconds => write!(f, "{seconds}s"),
        }
    }
}

impl<'de> Deserialize<'de> for Age {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl Serialize for Age {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// One `[[source]]` of the settings.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// Its name: in a record `indicator.source`, and the rule `feeds.<name>`.
    pub name: String,
    /// A file, or a directory of which every file below is read. For what is fetched it is where that is kept.
    #[serde(default)]
    pub path: PathBuf,
    /// How it is written.
    #[serde(default)]
    pub format: Format,
    /// What is done with what it lists.
    #[serde(default)]
    pub action: Action,
    /// What is done when a listed address connects to this host; as `action` unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inbound: Option<Inbound>,
    /// Also use loopback, private, documentation and other reserved addresses.
    #[serde(default)]
    pub allow_reserved: bool,
    /// Indicators of a lower confidence are skipped; those without one are used. 0..=100.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "confidence")]
    pub min_confidence: Option<u8>,
    /// Indicators whose latest version is older are expired.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age: Option<Age>,
    /// The marking of what the publisher does not mark.
    #[serde(default = "amber")]
    pub default_tlp: Tlp,
    /// What is done with MISP attributes that their publisher does not call indicators.
    #[serde(default)]
    pub to_ids: ToIds,
    /// Which column of its CSV files holds what.
    #[serde(default)]
    pub csv: Columns,
    /// What of it goes out as sightings.
    #[serde(default)]
    pub share: Share,
    /// A file to fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<Url>,
    /// A TAXII collection to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taxii: Option<Address>,
    /// A MISP feed to fetch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misp: Option<Feed>,
    /// How its server is reached.
    #[serde(default)]
    pub access: Access,
    /// Between two fetches; an hour unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interval: Option<Age>,
    /// For one fetch in all; five minutes unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<Age>,
    /// Bytes of one fetch in all, after decompression; 256 MiB unless said otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_bytes: Option<u64>,
    /// After this long without a fetch that succeeded, what it lists is reported, not blocked; never unless said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_after: Option<Age>,
}

const fn amber() -> Tlp {
    Tlp::Amber
}

fn confidence<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u8>, D::Error> {
    let value = u8::deserialize(deserializer)?;
    if value <= 100 { Ok(Some(value)) } else { Err(serde::de::Error::custom("min_confidence is 0 to 100")) }
}

impl Source {
    /// A source with the defaults of the settings.
    #[must_use]
    pub fn new(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            path: path.into(),
            format: Format::AUTO,
            action: Action::Block,
            inbound: None,
            allow_reserved: false,
            min_confidence: None,
            max_age: None,
            default_tlp: Tlp::Amber,
            to_ids: ToIds::Honour,
            csv: Columns::default(),
            share: Share::Sightings,
            url: None,
            taxii: None,
            misp: None,
            access: Access::default(),
            interval: None,
            timeout: None,
            max_bytes: None,
            stale_after: None,
        }
    }

    /// How its files are to be read.
    #[must_use]
    pub fn reading(&self) -> Reading {
        Reading { format: self.format, to_ids: self.to_ids, csv: self.csv.clone() }
    }
}

/// Why a source cannot be loaded. Whoever loads it keeps the set loaded before.
#[derive(Debug, thiserror::Error)]
#[error("source `{source_name}`: {error}")]
pub struct LoadError {
    /// The source's name.
    pub source_name: String,
    /// What is wrong with which file.
    #[source]
    pub error: FileError,
}

/// A file of a directory that is left out, while the others are used.
#[derive(Debug)]
pub struct Refused {
    /// Its path.
    pub file: PathBuf,
    /// Why.
    pub error: FileError,
}

/// What a source held when it was read.
#[derive(Debug)]
pub struct Load {
    /// The source.
    pub source: Source,
    /// When it was read.
    pub loaded_at: Timestamp,
    /// Files read.
    pub files: Vec<PathBuf>,
    /// Indicators in them: always `indicators.len() + skipped.len()`.
    pub read: u64,
    /// Usable as far as the format says; the policy decides further.
    pub indicators: Vec<Arc<Indicator>>,
    /// Not usable, each with its reason.
    pub skipped: Vec<Skipped>,
    /// Alternatives left out of indicators that are used.
    pub trimmed: Vec<Skipped>,
    /// Older versions of objects, within a file and between files; not in `read`.
    pub superseded: u64,
    /// Files of a directory that are left out: each is a fault.
    pub refused: Vec<Refused>,
    /// As what the files were read, and how many as each.
    pub read_as: BTreeMap<String, u64>,
}

impl Load {
    /// What the policy is given.
    #[must_use]
    pub fn supply(&self) -> (&Source, &[Arc<Indicator>]) {
        (&self.source, &self.indicators)
    }
}

/// Reads a source at the time `now`. A directory is read with all below it, in the order of names; a file in it that is no
/// known format or broken is [`Load::refused`], so that one bad file does not disarm the others; a source that is one such file
/// is an error.
///
/// # Errors
/// What is wrong, with file, line and column.
pub fn load(source: &Source, now: Timestamp) -> Result<Load, LoadError> {
    load_from(source, &source.path, now)
}

/// As [`load`], from a copy of the source at `place`; what is read says that it comes from the source's own path.
pub(super) fn load_from(source: &Source, place: &Path, now: Timestamp) -> Result<Load, LoadError> {
    let failed = |error| LoadError { source_name: source.name.clone(), error };
    let named = |file: &Path| match file.strip_prefix(place) {
        Ok(below) if !below.as_os_str().is_empty() => source.path.join(below),
        _ => source.path.clone(),
    };
    let mut parts = Vec::new();
    let mut refused = Vec::new();
    let mut files = Vec::new();
    if files::is_directory(place).map_err(failed)? {
        let below = files::below(place).map_err(failed)?;
        refused.extend(below.leads_out.into_iter().map(|file| {
            let error = FileError::LeadsOut(file.to_string_lossy().into_owned());
            Refused { file: named(&file), error }
        }));
        for file in below.files {
            let name = named(&file);
            match read(&file, &name, &source.reading()) {
                Ok(parsed) => {
                    parts.push(parsed);
                    files.push(name);
                }
                Err(FileError::Parse(error)) if error.is_companion() => {}
                Err(error) => refused.push(Refused { file: name, error }),
            }
        }
    } else {
        parts.push(read(place, &source.path, &source.reading()).map_err(failed)?);
        files.push(source.path.clone());
    }
    Ok(merge(source, now, parts, files, refused))
}

/// Reads files and directories as one source, each named by the caller: any that cannot be used is an error, and so is a
/// directory of which no file can.
///
/// # Errors
/// What is wrong with the first that cannot be used.
pub fn load_all(source: &Source, paths: &[PathBuf], now: Timestamp) -> Result<Load, LoadError> {
    let mut whole: Option<Load> = None;
    for path in paths {
        let mut load = load(&Source { path: path.clone(), ..source.clone() }, now)?;
        if load.files.is_empty()
            && let Some(first) = load.refused.pop()
        {
            return Err(LoadError { source_name: source.name.clone(), error: first.error });
        }
        match &mut whole {
            None => whole = Some(load),
            Some(whole) => {
                whole.files.extend(load.files);
                whole.read += load.read;
                whole.indicators.extend(load.indicators);
                whole.skipped.extend(load.skipped);
                whole.trimmed.extend(load.trimmed);
                whole.superseded += load.superseded;
                whole.refused.extend(load.refused);
                load.read_as.into_iter().for_each(|(how, files)| *whole.read_as.entry(how).or_default() += files);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| merge(source, now, Vec::new(), Vec::new(), Vec::new())))
}

/// The newest version of each object that several files hold.
fn newest(parts: &[Parsed]) -> HashMap<Arc<str>, Option<Timestamp>> {
    let mut newest: HashMap<Arc<str>, Option<Timestamp>> = HashMap::new();
    let versions = parts.iter().flat_map(|part| {
        let used = part.indicators.iter().filter_map(|item| item.id.clone().map(|id| (id, item.modified)));
        used.chain(part.revocations.iter().map(|revocation| (Arc::clone(&revocation.id), revocation.modified)))
    });
    for (id, modified) in versions {
        let known = newest.entry(id).or_insert(modified);
        *known = (*known).max(modified);
    }
    newest
}

fn merge(source: &Source, now: Timestamp, mut parts: Vec<Parsed>, files: Vec<PathBuf>, refused: Vec<Refused>) -> Load {
    let several = parts.len() > 1;
    let newest = if several { newest(&parts) } else { HashMap::new() };
    let revoked: HashMap<Arc<str>, Option<Timestamp>> = if several {
        parts.iter().flat_map(|part| &part.revocations).map(|item| (Arc::clone(&item.id), item.modified)).collect()
    } else {
        HashMap::new()
    };
    let mut load = Load {
        source: source.clone(),
        loaded_at: now,
        files,
        read: 0,
        indicators: Vec::with_capacity(parts.iter().map(|part| part.indicators.len()).sum()),
        skipped: Vec::new(),
        trimmed: Vec::new(),
        superseded: 0,
        refused,
        read_as: BTreeMap::new(),
    };
    for part in &mut parts {
        *load.read_as.entry(std::mem::take(&mut part.read_as)).or_default() += 1;
        load.superseded += part.superseded;
        for mut indicator in part.indicators.drain(..) {
            let old = indicator.id.as_ref().is_some_and(|id| {
                newest.get(id).is_some_and(|newest| *newest > indicator.modified)
                    || revoked.get(id).is_some_and(|revoked| *revoked >= indicator.modified)
            });
            if old {
                load.superseded += 1;
                continue;
            }
            if indicator.tlp.is_none() {
                Arc::make_mut(&mut indicator).tlp = Some((source.default_tlp, TlpOrigin::SourceDefault));
            }
            load.indicators.push(indicator);
        }
        load.skipped.append(&mut part.skipped);
        load.trimmed.append(&mut part.trimmed);
    }
    load.read = (load.indicators.len() + load.skipped.len()) as u64;
    load
}

/// The path as diagnostics name it.
pub(crate) fn display(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy())
}

#[cfg(test)]
mod tests;
