//! A generation's provenance as a file: what a hit of it needs to be named, whatever became of its sources since.
//!
//! [`MAGIC`], the length of the [`Contents`] as a `u32`, they themselves as JSON, and the parts that they say the places of;
//! all of it in [pages](super::pages).

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::sync::Arc;

use agent_common::image::{self, Blocks, SipHasher13};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::pages::{PageWriter, Pages};
use super::provenance::Provenance;
use crate::intel::packed::{Bytes, Damaged, Held, HeldSkips, Numbers, Part, Stored};
use crate::intel::{Action, Inbound, SkipReason, Skips, Tlp};
use crate::policy::{RuledValues, Terms};

/// Ends with the version of the form.
const MAGIC: [u8; 8] = *b"cordon\0\x01";
/// Bytes of the contents, far more than any has.
const CONTENTS_MAX: u32 = 1 << 30;

/// Which generation of all that ever were: numbers alone may repeat when a state directory is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Its number.
    pub generation: u32,
    /// Follows from the secret seed of its image, and says nothing about that.
    pub mark: u64,
}

impl Identity {
    /// The identity of an image.
    ///
    /// # Errors
    /// It is of another version, or damaged.
    pub fn of<B: Blocks + ?Sized>(image: &B) -> Result<Self, image::Damaged> {
        let (generation, seed) = (image::generation(image)?, image::seed(image)?);
        let mut hasher = SipHasher13::new(seed.0, seed.1);
        hasher.write(u64::from(generation));
        Ok(Self { generation, mark: hasher.finish() })
    }
}

/// Where a part is: its first byte behind the contents, and its length.
type Place = (u64, u64);

#[derive(Serialize, Deserialize)]
struct Set {
    place: Place,
    live: usize,
    is_dated: bool,
    unmarked: Option<Tlp>,
}

#[derive(Serialize, Deserialize)]
struct Under {
    set: u32,
    source: Arc<str>,
    rule: Arc<str>,
    action: Action,
    inbound: Inbound,
    max_age: Option<SignedDuration>,
    #[serde(default)]
    is_trial: bool,
    #[serde(default)]
    until: Option<Timestamp>,
}

/// What the file holds, and where.
#[derive(Serialize, Deserialize)]
struct Contents {
    identity: Identity,
    before: Option<Identity>,
    /// Of the organisation's policy that it was made under.
    #[serde(default)]
    serial: Option<u64>,
    sets: Vec<Set>,
    terms: Vec<Under>,
    places: Place,
    under: Place,
    members: Place,
    entries: Place,
    skips: Vec<(Place, BTreeMap<SkipReason, u64>)>,
}

/// Gives out places, one behind the other.
#[derive(Default)]
struct Places(u64);

impl Places {
    fn take(&mut self, length: usize) -> Place {
        let at = self.0;
        self.0 += length as u64;
        (at, length as u64)
    }

    fn numbers(&mut self, numbers: &Numbers) -> Place {
        self.take(size_of_val(numbers.here()))
    }
}

/// A generation as it is kept.
#[derive(Debug)]
pub struct KeptGeneration {
    /// Which it is.
    pub identity: Identity,
    /// The one before it.
    pub before: Option<Identity>,
    /// The serial of the organisation's policy that it was made under.
    pub serial: Option<u64>,
    /// Whose intelligence its entries are.
    pub provenance: Provenance,
    /// What was skipped, in the order in which it was given.
    pub skips: Vec<HeldSkips>,
}

impl KeptGeneration {
    /// Writes a generation whose provenance is in memory.
    ///
    /// # Errors
    /// What `out` says.
    pub fn write(
        provenance: &Provenance,
        identity: Identity,
        before: Option<Identity>,
        serial: Option<u64>,
        skips: &[&Skips],
        out: impl Write,
    ) -> io::Result<()> {
        let RuledValues { sets, terms, places, under } = provenance.ruled();
        let sets = sets.iter().map(Held::resident).collect::<Result<Vec<_>, _>>().map_err(io::Error::other)?;
        let (members, entries) = provenance.parts();
        let mut next = Places::default();
        let contents = Contents {
            identity,
            before,
            serial,
            sets: sets
                .iter()
                .map(|set| Set {
                    place: next.take(set.bytes().len()),
                    live: set.len(),
                    is_dated: set.is_dated(),
                    unmarked: set.unmarked(),
                })
                .collect(),
            terms: terms.iter().cloned().map(Under::from).collect(),
            places: next.numbers(places),
            under: next.numbers(under),
            members: next.numbers(members),
            entries: next.numbers(entries),
            skips: skips.iter().map(|skips| (next.take(skips.bytes().len()), skips.counts().clone())).collect(),
        };
        let contents = serde_json::to_vec(&contents)?;
        let mut out = PageWriter::new(out, identity.mark);
        out.write_all(&MAGIC)?;
        out.write_all(&u32::try_from(contents.len()).map_err(io::Error::other)?.to_le_bytes())?;
        out.write_all(&contents)?;
        sets.iter().try_for_each(|set| out.write_all(set.bytes()))?;
        for numbers in [places, under, members, entries] {
            numbers.here().iter().try_for_each(|number| out.write_all(&number.to_le_bytes()))?;
        }
        skips.iter().try_for_each(|skips| out.write_all(skips.bytes()))?;
        out.finish()
    }

    /// Opens what [`Self::write`] wrote for the generation `identity`. What it holds is read when it is asked for.
    ///
    /// # Errors
    /// It is of another generation, of another version, or damaged.
    pub fn open(file: Arc<dyn Bytes>, identity: Identity) -> Result<Self, Damaged> {
        const HEAD: u64 = MAGIC.len() as u64 + 4;
        let whole: Arc<dyn Bytes> = Arc::new(Pages::new(file, identity.mark));
        let (mut magic, mut length) = ([0; 8], [0; 4]);
        whole.read(0, &mut magic)?;
        whole.read(MAGIC.len() as u64, &mut length)?;
        let length = u32::from_le_bytes(length);
        if magic != MAGIC || length > CONTENTS_MAX {
            return Err(Damaged);
        }
        let mut contents = vec![0; length as usize];
        whole.read(HEAD, &mut contents)?;
        let contents: Contents = serde_json::from_slice(&contents).map_err(|_| Damaged)?;
        if contents.identity != identity {
            return Err(Damaged);
        }
        let start = HEAD + u64::from(length);
        let part = |(at, length): Place| -> Result<Arc<dyn Bytes>, Damaged> {
            let at = at.checked_add(start).ok_or(Damaged)?;
            let is_inside = at.checked_add(length).is_some_and(|end| end <= whole.len());
            if is_inside { Ok(Arc::new(Part { whole: Arc::clone(&whole), at, length })) } else { Err(Damaged) }
        };
        let numbers = |place| part(place).map(Numbers::Elsewhere);
        let set = |Set { place, live, is_dated, unmarked }: Set| {
            Ok(Held::Elsewhere(Stored { bytes: part(place)?, live, is_dated, unmarked }))
        };
        let ruled = RuledValues {
            sets: contents.sets.into_iter().map(set).collect::<Result<_, Damaged>>()?,
            terms: contents.terms.into_iter().map(Terms::from).collect(),
            places: numbers(contents.places)?,
            under: numbers(contents.under)?,
        };
        let provenance = Provenance::new(ruled, numbers(contents.members)?, numbers(contents.entries)?);
        let skips = contents.skips.into_iter().map(|(place, counts)| Ok(HeldSkips::Elsewhere(part(place)?, counts)));
        let Contents { before, serial, .. } = contents;
        Ok(Self { identity, before, serial, provenance, skips: skips.collect::<Result<_, Damaged>>()? })
    }
}

impl From<Terms> for Under {
    fn from(Terms { set, source, rule, is_trial, action, inbound, max_age, until }: Terms) -> Self {
        Self { set, source, rule, action, inbound, max_age, is_trial, until }
    }
}

impl From<Under> for Terms {
    fn from(Under { set, source, rule, action, inbound, max_age, is_trial, until }: Under) -> Self {
        Self { set, source, rule, is_trial, action, inbound, max_age, until }
    }
}
