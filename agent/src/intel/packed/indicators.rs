//! A row of packed indicators.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Bytes, Damaged, Reader, attribution, is_far, put_number, put_text, value};
use crate::intel::{Attribution, Indicator, Observable, Origin, Place, Tlp, TlpOrigin};

/// Begins what indicators share; every indicator begins with a byte that has [`RECORD`].
const CONTEXT: u8 = 0;
const RECORD: u8 = 0x80;
/// Superseded by a later version: passed over.
const DEAD: u8 = 0x01;
const ID: u8 = 0x02;
const NAME: u8 = 0x04;
/// A second byte says which of the rarer properties it has.
const MORE: u8 = 0x08;
/// Its place is an object, not a line.
const OBJECT: u8 = 0x10;
/// And that object's id is its own.
const OWN_OBJECT: u8 = 0x20;
/// Not exactly one value.
const COUNTED: u8 = 0x40;

const CONFIDENCE: u8 = 0x01;
const MARKED: u8 = 0x02;
const FROM: u8 = 0x04;
const UNTIL: u8 = 0x08;
const MODIFIED: u8 = 0x10;
const REFERENCES: u8 = 0x20;

const TLPS: [Tlp; 5] = [Tlp::Clear, Tlp::Green, Tlp::Amber, Tlp::AmberStrict, Tlp::Red];
const ORIGINS: [TlpOrigin; 3] = [TlpOrigin::Own, TlpOrigin::Report, TlpOrigin::SourceDefault];

/// Contexts remembered while packing; when there are more they are stated again.
const CONTEXTS: usize = 4096;
/// Bytes of one row, so that a position is a `u32`, whatever comes last.
const FULL: usize = 3 << 30;
/// Read at once of what lies elsewhere: most indicators are shorter.
const WINDOW: u64 = 256;

/// Where the bytes are.
#[derive(Clone, Debug)]
enum Store {
    Here(Vec<u8>),
    Elsewhere(Arc<dyn Bytes>),
}

/// What indicators share, as it was last stated.
#[derive(Clone, Debug)]
struct Stated {
    at: usize,
    length: usize,
    /// Kept, so that no other is at the same address.
    _shared: (Arc<str>, Arc<Attribution>),
}

/// The indicators of one source, packed.
#[derive(Clone, Debug)]
pub struct Indicators {
    store: Store,
    live: usize,
    is_dated: bool,
    /// The marking of those that have none.
    unmarked: Option<Tlp>,
    stated: HashMap<(usize, usize), Stated>,
}

impl Default for Indicators {
    fn default() -> Self {
        Self { store: Store::Here(Vec::new()), live: 0, is_dated: false, unmarked: None, stated: HashMap::new() }
    }
}

impl Indicators {
    /// What [`Self::bytes`] gave, lying elsewhere.
    #[must_use]
    pub fn elsewhere(bytes: Arc<dyn Bytes>, live: usize, is_dated: bool, unmarked: Option<Tlp>) -> Self {
        Self { store: Store::Elsewhere(bytes), live, is_dated, unmarked, stated: HashMap::new() }
    }

    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.live
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.live == 0
    }

    /// Whether any says when it begins, ends or was changed.
    #[must_use]
    pub const fn is_dated(&self) -> bool {
        self.is_dated
    }

    /// The marking of those that have none.
    #[must_use]
    pub const fn unmarked(&self) -> Option<Tlp> {
        self.unmarked
    }

    /// Whether no more should be added.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.size() > FULL as u64
    }

    /// Bytes that they take.
    #[must_use]
    pub fn size(&self) -> u64 {
        match &self.store {
            Store::Here(bytes) => bytes.len() as u64,
            Store::Elsewhere(bytes) => bytes.len(),
        }
    }

    /// The packed bytes; empty when they lie elsewhere.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        match &self.store {
            Store::Here(bytes) => bytes,
            Store::Elsewhere(_) => &[],
        }
    }

    /// The same, in memory.
    ///
    /// # Errors
    /// They cannot be read from where they are.
    pub fn resident(&self) -> Result<Self, Damaged> {
        let bytes = self.window(0, self.size())?.into_owned();
        let Self { live, is_dated, unmarked, .. } = *self;
        Ok(Self { store: Store::Here(bytes), live, is_dated, unmarked, stated: HashMap::new() })
    }

    /// Marks all that have no marking of their own.
    pub fn mark_unmarked(&mut self, tlp: Tlp) {
        self.unmarked = Some(tlp);
    }

    /// Ends the packing: gives back what only that needs.
    pub fn seal(&mut self) {
        self.stated = HashMap::new();
        if let Store::Here(bytes) = &mut self.store {
            bytes.shrink_to_fit();
        }
    }

    /// Adds one; where it is.
    pub fn push(&mut self, indicator: &Indicator) -> u32 {
        self.put(indicator).0
    }

    /// Adds one; where its last value is.
    pub fn push_one(&mut self, indicator: &Indicator) -> u32 {
        self.put(indicator).1
    }

    fn put(&mut self, indicator: &Indicator) -> (u32, u32) {
        let context = self.context(&indicator.origin.file, &indicator.attribution);
        self.is_dated |= indicator.valid_from.or(indicator.valid_until).or(indicator.modified).is_some();
        self.live += 1;
        let Store::Here(bytes) = &mut self.store else { return (0, 0) };
        let start = bytes.len();
        put_head(bytes, indicator, start - context);
        let mut last = start;
        for observable in &indicator.observables {
            last = bytes.len();
            put_number(bytes, (last - start) as u64);
            value::put(bytes, observable);
        }
        (start as u32, last as u32)
    }

    /// Where what it shares with others is stated, which is done if need be.
    fn context(&mut self, file: &Arc<str>, attribution: &Arc<Attribution>) -> usize {
        let Store::Here(bytes) = &mut self.store else { return 0 };
        let identity = (file.as_ptr() as usize, Arc::as_ptr(attribution) as usize);
        if let Some(stated) = self.stated.get(&identity)
            && !is_far(bytes.len() - stated.at, stated.length)
        {
            return stated.at;
        }
        let at = bytes.len();
        let mut packed = Vec::new();
        put_text(&mut packed, file);
        attribution::put(&mut packed, attribution);
        bytes.push(CONTEXT);
        put_number(bytes, packed.len() as u64);
        bytes.extend_from_slice(&packed);
        if self.stated.len() >= CONTEXTS {
            self.stated.clear();
        }
        let shared = (Arc::clone(file), Arc::clone(attribution));
        self.stated.insert(identity, Stated { at, length: bytes.len() - at, _shared: shared });
        at
    }

    /// Passes over one from now on: a later version takes its place.
    pub fn supersede(&mut self, at: u32) {
        if let Store::Here(bytes) = &mut self.store
            && let Some(flags) = bytes.get_mut(at as usize)
            && *flags & DEAD == 0
        {
            *flags |= DEAD;
            self.live -= 1;
        }
    }

    /// Whether those of another row can be appended.
    #[must_use]
    pub fn fits(&self, other: &Self) -> bool {
        self.size() + other.size() <= u64::from(u32::MAX)
    }

    /// Takes in those of another row, which must be in memory.
    pub fn append(&mut self, mut other: Self) {
        self.is_dated |= other.is_dated;
        self.live += other.live;
        match (&mut self.store, &mut other.store) {
            (Store::Here(own), Store::Here(others)) if own.is_empty() => std::mem::swap(own, others),
            (Store::Here(own), Store::Here(others)) => own.extend_from_slice(others),
            _ => {}
        }
    }

    /// Passes over those that `wanted` refuses.
    pub fn retain(&mut self, wanted: impl Fn(&View<'_>) -> bool) {
        let refused: Vec<u32> = self.views().filter(|view| !wanted(view)).map(|view| view.at).collect();
        refused.into_iter().for_each(|at| self.supersede(at));
    }

    /// Each, without copying it; none of those that lie elsewhere.
    pub fn views(&self) -> impl Iterator<Item = View<'_>> {
        let (bytes, unmarked) = (self.bytes(), self.unmarked);
        let mut reader = Reader::new(bytes, 0);
        std::iter::from_fn(move || {
            loop {
                match *bytes.get(reader.at)? {
                    CONTEXT => {
                        reader.at += 1;
                        let length = reader.count()?;
                        reader.take(length)?;
                    }
                    flags => {
                        let view = View::read(bytes, reader.at, reader.at as u32, unmarked)?;
                        reader.at = view.end()?;
                        if flags & DEAD == 0 {
                            return Some(view);
                        }
                    }
                }
            }
        })
    }

    /// Each as a whole; none of those that lie elsewhere.
    pub fn iter(&self) -> impl Iterator<Item = Indicator> {
        let mut last: Option<(usize, Arc<str>, Arc<Attribution>)> = None;
        self.views().filter_map(move |view| {
            let at = (view.at as usize).checked_sub(view.context)?;
            if last.as_ref().is_none_or(|(known, ..)| *known != at) {
                let (file, attribution) = read_context(self.bytes(), at)?;
                last = Some((at, file, attribution));
            }
            let (_, file, attribution) = last.clone()?;
            view.indicator(file, attribution)
        })
    }

    /// The value at a place that [`View::values`] gave.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn value(&self, at: u32) -> Result<Observable, Damaged> {
        self.read(at.into(), |bytes| {
            let mut reader = Reader::new(bytes, 0);
            reader.number()?;
            value::get(&mut reader)
        })
    }

    /// The value at a place that [`View::values`] gave, and the indicator that it is of.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn get(&self, at: u32) -> Result<(Observable, Indicator), Damaged> {
        let (distance, observable) = self.read(at.into(), |bytes| {
            let mut reader = Reader::new(bytes, 0);
            Some((reader.number()?, value::get(&mut reader)?))
        })?;
        let start = u64::from(at).checked_sub(distance).ok_or(Damaged)?;
        let context = self.read(start, |bytes| Some(View::read(bytes, 0, 0, self.unmarked)?.context as u64))?;
        let (file, attribution) =
            self.read(start.checked_sub(context).ok_or(Damaged)?, |bytes| read_context(bytes, 0))?;
        let indicator = self.read(start, |bytes| {
            View::read(bytes, 0, 0, self.unmarked)?.indicator(Arc::clone(&file), Arc::clone(&attribution))
        })?;
        Ok((observable, indicator))
    }

    /// When the indicator of the value at this place begins, ends and was changed.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn dates(&self, at: u32) -> Result<Dates, Damaged> {
        let distance = self.read(at.into(), |bytes| Reader::new(bytes, 0).number())?;
        let start = u64::from(at).checked_sub(distance).ok_or(Damaged)?;
        self.read(start, |bytes| Some(View::read(bytes, 0, 0, self.unmarked)?.dates))
    }

    /// What `decode` makes of the bytes from `at` on, as many as it needs.
    fn read<T>(&self, at: u64, decode: impl Fn(&[u8]) -> Option<T>) -> Result<T, Damaged> {
        let left = self.size().checked_sub(at).ok_or(Damaged)?;
        let mut length = WINDOW.min(left);
        loop {
            let window = self.window(at, length)?;
            match decode(&window) {
                Some(decoded) => return Ok(decoded),
                None if window.len() as u64 >= left => return Err(Damaged),
                None => length = (length * 8).min(left),
            }
        }
    }

    /// At least `length` bytes from `at` on.
    fn window(&self, at: u64, length: u64) -> Result<Cow<'_, [u8]>, Damaged> {
        let start = usize::try_from(at).map_err(|_| Damaged)?;
        match &self.store {
            Store::Here(bytes) => bytes.get(start..).map(Cow::Borrowed).ok_or(Damaged),
            Store::Elsewhere(bytes) => {
                let mut window = vec![0; usize::try_from(length).map_err(|_| Damaged)?];
                bytes.read(at, &mut window)?;
                Ok(Cow::Owned(window))
            }
        }
    }
}

impl PartialEq for Indicators {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl FromIterator<Indicator> for Indicators {
    fn from_iter<I: IntoIterator<Item = Indicator>>(indicators: I) -> Self {
        let mut packed = Self::default();
        indicators.into_iter().for_each(|indicator| {
            packed.push(&indicator);
        });
        packed
    }
}

fn put_head(bytes: &mut Vec<u8>, indicator: &Indicator, context: usize) {
    let Indicator { id, name, observables, origin, confidence, tlp, valid_from, valid_until, modified, .. } = indicator;
    let mut more = 0;
    for (bit, has) in [
        (CONFIDENCE, confidence.is_some()),
        (MARKED, tlp.is_some()),
        (FROM, valid_from.is_some()),
        (UNTIL, valid_until.is_some()),
        (MODIFIED, modified.is_some()),
        (REFERENCES, !indicator.references.is_empty()),
    ] {
        more |= if has { bit } else { 0 };
    }
    let object = match &origin.place {
        Place::Line(_) => 0,
        Place::Object(object) if id.as_ref() == Some(object) => OBJECT | OWN_OBJECT,
        Place::Object(_) => OBJECT,
    };
    let mut flags = RECORD | object;
    for (bit, has) in [(ID, id.is_some()), (NAME, name.is_some()), (MORE, more != 0), (COUNTED, observables.len() != 1)]
    {
        flags |= if has { bit } else { 0 };
    }
    bytes.push(flags);
    if more != 0 {
        bytes.push(more);
    }
    put_number(bytes, context as u64);
    match &origin.place {
        Place::Line(line) => put_number(bytes, (*line).into()),
        Place::Object(object) if flags & OWN_OBJECT == 0 => put_text(bytes, object),
        Place::Object(_) => {}
    }
    [id, name].into_iter().flatten().for_each(|text| put_text(bytes, text));
    bytes.extend(confidence);
    if let Some((tlp, origin)) = tlp {
        let number = TLPS.iter().position(|known| known == tlp).unwrap_or_default();
        bytes.push((number << 4 | ORIGINS.iter().position(|known| known == origin).unwrap_or_default()) as u8);
    }
    [valid_from, valid_until, modified].into_iter().flatten().for_each(|time| value::put_time(bytes, *time));
    if more & REFERENCES != 0 {
        attribution::put_texts(bytes, &indicator.references);
    }
    if flags & COUNTED != 0 {
        put_number(bytes, observables.len() as u64);
    }
}

fn read_context(bytes: &[u8], at: usize) -> Option<(Arc<str>, Arc<Attribution>)> {
    let mut reader = Reader::new(bytes, at);
    if reader.byte()? != CONTEXT {
        return None;
    }
    reader.number()?;
    Some((Arc::from(reader.text()?), Arc::new(attribution::get(&mut reader)?)))
}

/// When an indicator begins, ends and was changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dates {
    /// Not to be used before.
    pub valid_from: Option<Timestamp>,
    /// Not to be used from then on.
    pub valid_until: Option<Timestamp>,
    /// The publisher's latest version.
    pub modified: Option<Timestamp>,
}

/// One indicator where it lies.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Where it is.
    pub at: u32,
    /// The publisher's id.
    pub id: Option<&'a str>,
    /// 0..=100.
    pub confidence: Option<u8>,
    /// Its times.
    pub dates: Dates,
    name: Option<&'a str>,
    line: u32,
    object: Option<&'a str>,
    tlp: Option<(Tlp, TlpOrigin)>,
    /// How far back its context lies.
    context: usize,
    references: Option<Reader<'a>>,
    count: usize,
    start: usize,
    values: Reader<'a>,
}

impl<'a> View<'a> {
    /// Reads the one at `start`, which is `at` in its row.
    fn read(bytes: &'a [u8], start: usize, at: u32, unmarked: Option<Tlp>) -> Option<Self> {
        let mut reader = Reader::new(bytes, start);
        let flags = reader.byte().filter(|flags| flags & RECORD != 0)?;
        let more = if flags & MORE != 0 { reader.byte()? } else { 0 };
        let context = reader.count()?;
        let line = if flags & OBJECT == 0 { u32::try_from(reader.number()?).ok()? } else { 0 };
        let other = if flags & (OBJECT | OWN_OBJECT) == OBJECT { Some(reader.text()?) } else { None };
        let id = if flags & ID != 0 { Some(reader.text()?) } else { None };
        let name = if flags & NAME != 0 { Some(reader.text()?) } else { None };
        let confidence = if more & CONFIDENCE != 0 { Some(reader.byte()?) } else { None };
        let tlp = if more & MARKED != 0 {
            let byte = usize::from(reader.byte()?);
            Some((*TLPS.get(byte >> 4)?, *ORIGINS.get(byte & 15)?))
        } else {
            unmarked.map(|tlp| (tlp, TlpOrigin::SourceDefault))
        };
        let mut time = |bit| if more & bit != 0 { value::get_time(&mut reader).map(Some) } else { Some(None) };
        let dates = Dates { valid_from: time(FROM)?, valid_until: time(UNTIL)?, modified: time(MODIFIED)? };
        let references = (more & REFERENCES != 0).then_some(reader);
        if references.is_some() {
            for _ in 0..reader.count()? {
                reader.text()?;
            }
        }
        let count = if flags & COUNTED != 0 { reader.count()? } else { 1 };
        let object = if flags & OWN_OBJECT != 0 { id } else { other };
        Some(Self {
            at,
            id,
            confidence,
            dates,
            name,
            line,
            object,
            tlp,
            context,
            references,
            count,
            start,
            values: reader,
        })
    }

    /// Its values, each with the place by which [`Indicators::value`] and [`Indicators::get`] find it.
    pub fn values(&self) -> impl Iterator<Item = (u32, Observable)> + use<'a> {
        let (mut reader, at, start) = (self.values, self.at, self.start);
        (0..self.count).map_while(move |_| {
            let place = at + (reader.at - start) as u32;
            reader.number()?;
            Some((place, value::get(&mut reader)?))
        })
    }

    /// Where the next one begins.
    fn end(&self) -> Option<usize> {
        let mut reader = self.values;
        for _ in 0..self.count {
            reader.number()?;
            value::skip(&mut reader)?;
        }
        Some(reader.at)
    }

    /// Where it was read, given a part of the row from its start on.
    #[must_use]
    pub fn origin(&self, indicators: &Indicators) -> Option<Origin> {
        let context = (self.at as usize).checked_sub(self.context)?;
        let mut reader = Reader::new(indicators.bytes(), context + 1);
        reader.number()?;
        Some(Origin { file: Arc::from(reader.text()?), place: self.place() })
    }

    fn place(&self) -> Place {
        self.object.map_or(Place::Line(self.line), |object| Place::Object(Arc::from(object)))
    }

    fn indicator(&self, file: Arc<str>, attribution: Arc<Attribution>) -> Option<Indicator> {
        let references = match self.references {
            Some(mut reader) => attribution::texts(&mut reader)?,
            None => Vec::new(),
        };
        let observables: Vec<Observable> = self.values().map(|(_, value)| value).collect();
        let Dates { valid_from, valid_until, modified } = self.dates;
        (observables.len() == self.count).then(|| Indicator {
            id: self.id.map(Arc::from),
            name: self.name.map(Arc::from),
            observables,
            origin: Origin { file, place: self.place() },
            confidence: self.confidence,
            tlp: self.tlp,
            valid_from,
            valid_until,
            modified,
            attribution,
            references,
        })
    }
}
