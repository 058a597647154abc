//! One packed indicator, and what it shares with others.

use std::sync::Arc;

use jiff::Timestamp;

use super::{Indicators, Reader, attribution, put_number, put_text, value};
use crate::intel::{Attribution, Indicator, Observable, Origin, Place, Tlp, TlpOrigin};

/// Begins what indicators share; every indicator begins with a byte that has [`RECORD`].
pub(super) const CONTEXT: u8 = 0;
const RECORD: u8 = 0x80;
/// Superseded by a later version: passed over.
pub(super) const DEAD: u8 = 0x01;
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

pub(super) fn put_head(bytes: &mut Vec<u8>, indicator: &Indicator, context: usize) {
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

/// The file, and who and what.
pub(super) fn read_context(bytes: &[u8], at: usize) -> Option<(Arc<str>, Arc<Attribution>)> {
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
    pub(super) context: usize,
    references: Option<Reader<'a>>,
    count: usize,
    start: usize,
    values: Reader<'a>,
}

impl<'a> View<'a> {
    /// Reads the one at `start`, which is `at` in its row.
    pub(super) fn read(bytes: &'a [u8], start: usize, at: u32, unmarked: Option<Tlp>) -> Option<Self> {
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

    /// Its values, each with the place by which `Held::value` and `Held::get` find it.
    pub fn values(&self) -> impl Iterator<Item = (u32, Observable)> + use<'a> {
        let (mut reader, at, start) = (self.values, self.at, self.start);
        (0..self.count).map_while(move |_| {
            let place = at + (reader.at - start) as u32;
            reader.number()?;
            Some((place, value::get(&mut reader)?))
        })
    }

    /// Where the next one begins.
    pub(super) fn end(&self) -> Option<usize> {
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

    /// Its effective marking.
    #[must_use]
    pub fn tlp(&self) -> Option<Tlp> {
        self.tlp.map(|(tlp, _)| tlp)
    }

    /// Who and what it stands for, given the row that it is in.
    #[must_use]
    pub fn attribution(&self, indicators: &Indicators) -> Option<Arc<Attribution>> {
        let context = (self.at as usize).checked_sub(self.context)?;
        read_context(indicators.bytes(), context).map(|(_, attribution)| attribution)
    }

    fn place(&self) -> Place {
        self.object.map_or(Place::Line(self.line), |object| Place::Object(Arc::from(object)))
    }

    pub(super) fn indicator(&self, file: Arc<str>, attribution: Arc<Attribution>) -> Option<Indicator> {
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
