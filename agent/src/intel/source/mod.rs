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

use super::packed::View;
use super::parse::{Columns, Format, Parsed, Reading, ToIds};
use super::taxii::Address;
use super::{Action, Inbound, Indicators, Skips, Tlp};
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
    /// Also use popular sites and the names above them.
    #[serde(default)]
    pub allow_popular: bool,
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
            allow_popular: false,
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
    pub indicators: Arc<Indicators>,
    /// Not usable, each with its reason.
    pub skipped: Skips,
    /// Alternatives left out of indicators that are used.
    pub trimmed: Skips,
    /// Older versions of objects, within a file and between files; not in `read`.
    pub superseded: u64,
    /// Files of a directory that are left out: each is a fault.
    pub refused: Vec<Refused>,
    /// As what the files were read, and how many as each.
    pub read_as: BTreeMap<String, u64>,
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
    let mut merge = Merge::of(source, now);
    let mut refused = Vec::new();
    if files::is_directory(place).map_err(failed)? {
        let below = files::below(place).map_err(failed)?;
        refused.extend(below.leads_out.into_iter().map(|file| {
            let error = FileError::LeadsOut(file.to_string_lossy().into_owned());
            Refused { file: named(&file), error }
        }));
        for file in below.files {
            let name = named(&file);
            match read(&file, &name, &source.reading()) {
                Ok(parsed) => merge.add(name, parsed).map_err(failed)?,
                Err(FileError::Parse(error)) if error.is_companion() => {}
                Err(error) => refused.push(Refused { file: name, error }),
            }
        }
    } else {
        let parsed = read(place, &source.path, &source.reading()).map_err(failed)?;
        merge.add(source.path.clone(), parsed).map_err(failed)?;
    }
    Ok(merge.finish(refused))
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
                join(&mut whole.indicators, Arc::unwrap_or_clone(load.indicators), path)
                    .map_err(|error| LoadError { source_name: source.name.clone(), error })?;
                whole.skipped.append(&load.skipped);
                whole.trimmed.append(&load.trimmed);
                whole.superseded += load.superseded;
                whole.refused.extend(load.refused);
                load.read_as.into_iter().for_each(|(how, files)| *whole.read_as.entry(how).or_default() += files);
            }
        }
    }
    Ok(whole.unwrap_or_else(|| Merge::of(source, now).finish(Vec::new())))
}

/// What the files of a source say, one after the other.
struct Merge {
    load: Load,
    /// The revoked ones of all files, each with its newest version.
    revoked: HashMap<Arc<str>, Option<Timestamp>>,
}

impl Merge {
    fn of(source: &Source, now: Timestamp) -> Self {
        let load = Load {
            source: source.clone(),
            loaded_at: now,
            files: Vec::new(),
            read: 0,
            indicators: Arc::default(),
            skipped: Skips::default(),
            trimmed: Skips::default(),
            superseded: 0,
            refused: Vec::new(),
            read_as: BTreeMap::new(),
        };
        Self { load, revoked: HashMap::new() }
    }

    fn add(&mut self, file: PathBuf, part: Parsed) -> Result<(), FileError> {
        join(&mut self.load.indicators, part.indicators, &file)?;
        self.load.files.push(file);
        *self.load.read_as.entry(part.read_as).or_default() += 1;
        self.load.superseded += part.superseded;
        self.load.skipped.append(&part.skipped);
        self.load.trimmed.append(&part.trimmed);
        for revocation in part.revocations {
            let known = self.revoked.entry(revocation.id).or_insert(revocation.modified);
            *known = (*known).max(revocation.modified);
        }
        Ok(())
    }

    fn finish(self, refused: Vec<Refused>) -> Load {
        let Self { mut load, revoked } = self;
        let indicators = Arc::make_mut(&mut load.indicators);
        if load.files.len() > 1 {
            let all = indicators.len();
            supersede(indicators, &revoked);
            load.superseded += (all - indicators.len()) as u64;
        }
        indicators.mark_unmarked(load.source.default_tlp);
        indicators.seal();
        load.skipped.seal();
        load.trimmed.seal();
        load.read = (load.indicators.len() + load.skipped.len()) as u64;
        Load { refused, ..load }
    }
}

/// Takes the indicators of one more file into those of its source.
fn join(whole: &mut Arc<Indicators>, part: Indicators, file: &Path) -> Result<(), FileError> {
    let whole = Arc::make_mut(whole);
    if whole.fits(&part) {
        whole.append(part);
        return Ok(());
    }
    let path = file.to_string_lossy().into_owned();
    Err(FileError::TooMany { path, limit: u32::MAX as usize, what: "bytes of packed indicators with those before" })
}

/// Keeps the newest version of each object that several files hold, and none that a newer version revokes.
fn supersede(indicators: &mut Indicators, revoked: &HashMap<Arc<str>, Option<Timestamp>>) {
    let mut newest: HashMap<&str, Option<Timestamp>> = HashMap::new();
    for view in indicators.views() {
        if let Some(id) = view.id {
            let known = newest.entry(id).or_insert(view.dates.modified);
            *known = (*known).max(view.dates.modified);
        }
    }
    let is_old = |view: &View<'_>| {
        view.id.is_some_and(|id| {
            let modified = view.dates.modified;
            newest.get(id).is_some_and(|newest| *newest > modified)
                || revoked.get(id).is_some_and(|revoked| *revoked >= modified)
        })
    };
    let old: Vec<u32> = indicators.views().filter(is_old).map(|view| view.at).collect();
    old.into_iter().for_each(|at| indicators.supersede(at));
}

/// The path as diagnostics name it.
pub(crate) fn display(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy())
}

#[cfg(test)]
mod tests;
