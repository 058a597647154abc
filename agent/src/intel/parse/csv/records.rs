//! Bytes → records, as they come: RFC 4180, with what publishers make of it (comment lines, blanks before a quote, bare LF).

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::super::MAX_LINE_BYTES;

/// A record or a comment line, whole.
pub(super) enum Found<'a> {
    /// Its fields, without their quotes and the blanks around them.
    Record(Vec<&'a str>),
    /// A line behind `#`.
    Comment(&'a str),
    /// A record that is not UTF-8.
    Encoding,
}

/// Why the rest cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// Longer than [`MAX_LINE_BYTES`].
    TooLong,
    /// A quote that nothing closes.
    OpenQuote,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Before the first byte of a field that is no blank.
    FieldStart,
    Field,
    Quoted,
    /// Behind a quote that closes its field, unless it is doubled.
    Closed,
    Comment,
}

/// Cuts a stream into records, each of which it holds whole and no more than that.
pub(super) struct Records {
    delimiter: u8,
    parser: Reader,
    place: Place,
    record: Vec<u8>,
    fields: Vec<u8>,
    /// The line, from 1, on which the record in hand starts, and the one being read.
    pub(super) line: u32,
    current: u32,
}

impl Records {
    pub(super) fn new(delimiter: u8) -> Self {
        Self {
            delimiter,
            parser: ReaderBuilder::new().delimiter(delimiter).build(),
            place: Place::FieldStart,
            record: Vec::new(),
            fields: Vec::new(),
            line: 1,
            current: 1,
        }
    }

    /// Takes the next piece and hands on what is whole.
    pub(super) fn push<E: From<Broken>>(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(u32, Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        for &byte in piece {
            if byte == b'\n' && self.place != Place::Quoted {
                self.end(&mut each)?;
                continue;
            }
            self.current += u32::from(byte == b'\n');
            self.place = match (self.place, byte) {
                (Place::FieldStart, b'#') if self.record.is_empty() => Place::Comment,
                // A blank before a quote would make the quote part of the field.
                (Place::FieldStart, b' ') => continue,
                (Place::FieldStart, b'"') => Place::Quoted,
                (Place::Quoted, b'"') => Place::Closed,
                (Place::Closed, b'"') => Place::Quoted,
                (Place::Field | Place::FieldStart | Place::Closed, byte) if byte == self.delimiter => Place::FieldStart,
                (Place::FieldStart | Place::Closed, _) => Place::Field,
                (place, _) => place,
            };
            if self.record.len() >= MAX_LINE_BYTES {
                return Err(Broken::TooLong.into());
            }
            self.record.push(byte);
        }
        Ok(())
    }

    /// Ends the stream.
    pub(super) fn finish<E: From<Broken>>(
        &mut self,
        mut each: impl FnMut(u32, Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if self.place == Place::Quoted { Err(Broken::OpenQuote.into()) } else { self.end(&mut each) }
    }

    fn end<E>(&mut self, each: &mut impl FnMut(u32, Found<'_>) -> Result<(), E>) -> Result<(), E> {
        let (line, place) = (self.line, self.place);
        self.current += 1;
        (self.line, self.place) = (self.current, Place::FieldStart);
        let mut record = std::mem::take(&mut self.record);
        let result = self.hand_on(line, place, record.trim_ascii_end(), each);
        record.clear();
        self.record = record;
        result
    }

    fn hand_on<E>(
        &mut self,
        line: u32,
        place: Place,
        record: &[u8],
        each: &mut impl FnMut(u32, Found<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        if record.is_empty() {
            return Ok(());
        }
        if std::str::from_utf8(record).is_err() {
            return each(line, Found::Encoding);
        }
        if place == Place::Comment {
            let text = std::str::from_utf8(record).unwrap_or_default();
            return each(line, Found::Comment(text.trim_start_matches('#').trim()));
        }
        // No field is longer than its record, and no record has more fields than bytes and one.
        self.fields.resize(record.len() + 1, 0);
        let mut ends = vec![0; record.len() + 1];
        self.parser.reset();
        let (_, _, written, mut count) = self.parser.read_record(record, &mut self.fields, &mut ends);
        let rest = self.fields.get_mut(written..).unwrap_or_default();
        let (result, _, _, more) = self.parser.read_record(&[], rest, ends.get_mut(count..).unwrap_or_default());
        count += if result == ReadRecordResult::Record { more } else { 0 };
        let mut start = 0;
        let mut fields = Vec::with_capacity(count);
        for &end in ends.iter().take(count) {
            let field = self.fields.get(start..end).unwrap_or_default();
            fields.push(std::str::from_utf8(field).unwrap_or_default().trim());
            start = end;
        }
        each(line, Found::Record(fields))
    }
}
