//! Records as a segment keeps them: each compressed by itself, with a dictionary of records like it that the segment holds.
//!
//! In SQL, `packed(TEXT)` is what is kept and `unpacked(VALUE)` the text again, on each connection that [`install`] was called for. What
//! is no compressed text `unpacked` leaves as it is: it is the text itself in segments from before, and else damaged.

use std::sync::{Mutex, PoisonError};

use rusqlite::functions::FunctionFlags;
use rusqlite::types::{Value, ValueRef};
use rusqlite::{Connection, OptionalExtension as _};
use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::get_frame_content_size;

/// zstd's fastest that is meant for size: higher ones take twice the time for a tenth of the bytes.
const LEVEL: i32 = 1;
/// Bytes of a dictionary.
const DICTIONARY_BYTES: usize = 16 << 10;
/// Bytes of a record, far more than any has: who changes a file cannot make its reader run out of memory.
const MOST_BYTES: u64 = 16 << 20;
/// What records have in common, for the first segment that has none before it.
const USUAL: &str = concat!(
    r#"{"schema":1,"id":"01930000-0000-7000-8000-000000000000","time":"2026-01-01T00:00:00.000000000Z","kind":"exec","verdict":"killed","#,
    r#""enforced_by":"lsm_bprm","retro":true,"process":{"pid":1000,"ppid":1,"uid":0,"user":"root","exe":"/usr/bin/","comm":"","args":[""],"#,
    r#""sha256":"0123456789abcdef","unit":".service","container":null,"ancestors":[{"pid":1,"exe":"/usr/lib/systemd/systemd"}]},"#,
    r#""destination":null,"file":{"path":"/tmp/","sha256":""},"indicator":{"id":"indicator--","type":"sha256","value":"","source":"","#,
    r#""confidence":85,"tlp":"green","valid_until":null},"also":[],"also_more":0,"attribution":{"actors":[],"campaigns":[],"malware":[],"#,
    r#""techniques":["T1071.001"],"reports":[],"references":["https://"]},"policy":{"generation":1,"serial":null,"rule":"feeds."},"#,
    r#""count":1,"last_time":"2026-01-01T00:00:00Z"}"#,
    r#""verdict":"reported","enforced_by":"cgroup_egress","verdict":"would_block","kind":"send","kind":"accept","kind":"dns","kind":"tls","#,
    r#""kind":"connect","verdict":"blocked","enforced_by":"cgroup_connect4","destination":{"ip":"203.0.113.7","port":443,"#,
    r#""protocol":"tcp","domain":null},"file":null,"indicator":{"id":"indicator--","type":"ipv4","value":"203.0.113.0/24","source":"#,
);

/// What the dictionary of the next segment is made of: the records written last.
pub(super) struct Recent {
    text: String,
}

impl Recent {
    pub(super) fn new() -> Self {
        Self { text: USUAL.to_owned() }
    }

    /// Takes in a record that was written.
    pub(super) fn add(&mut self, record: &str) {
        if record.len() <= DICTIONARY_BYTES / 4 {
            self.text.push_str(record);
        }
        // Not with each record: moving what is left costs more than a few bytes that nobody needs.
        if self.text.len() > 8 * DICTIONARY_BYTES {
            self.text = self.dictionary().to_owned();
        }
    }

    /// The newest of it, from the start of a character on.
    pub(super) fn dictionary(&self) -> &str {
        let from = self.text.len().saturating_sub(DICTIONARY_BYTES);
        let from = (from..=self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(0);
        &self.text[from..]
    }
}

/// The dictionary of a segment; `None` for one from before records were compressed.
fn dictionary_of(connection: &Connection) -> rusqlite::Result<Option<Vec<u8>>> {
    let has_one = "SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'dictionary'";
    if !connection.prepare(has_one)?.exists([])? {
        return Ok(None);
    }
    connection.query_row("SELECT content FROM dictionary", [], |row| row.get(0)).optional()
}

/// Makes `packed` and `unpacked` known to a connection, whose segment has its tables.
pub(super) fn install(connection: &Connection) -> rusqlite::Result<()> {
    let dictionary = dictionary_of(connection)?.unwrap_or_default();
    let failed = |error: std::io::Error| rusqlite::Error::UserFunctionError(error.into());
    // SQLite calls the functions of a connection one at a time, but does not say so to the compiler.
    let packer = Mutex::new(Compressor::with_dictionary(LEVEL, &dictionary).map_err(failed)?);
    let unpacker = Mutex::new(Decompressor::with_dictionary(&dictionary).map_err(failed)?);
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC | FunctionFlags::SQLITE_INNOCUOUS;
    connection.create_scalar_function("packed", 1, flags, move |context| {
        let text = context.get_raw(0).as_bytes()?;
        let mut packer = packer.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(Value::Blob(packer.compress(text).map_err(failed)?))
    })?;
    connection.create_scalar_function("unpacked", 1, flags, move |context| {
        let unpacked = match context.get_raw(0) {
            ValueRef::Blob(packed) => unpack(packed, &mut unpacker.lock().unwrap_or_else(PoisonError::into_inner)),
            _ => None,
        };
        unpacked.map_or_else(|| context.get(0), |text| Ok(Value::Text(text)))
    })
}

/// `None` for what was not compressed with the dictionary, or is not as it was.
fn unpack(packed: &[u8], unpacker: &mut Decompressor<'_>) -> Option<String> {
    let bytes = get_frame_content_size(packed).ok().flatten().filter(|bytes| *bytes <= MOST_BYTES)?;
    let text = unpacker.decompress(packed, usize::try_from(bytes).ok()?).ok()?;
    String::from_utf8(text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(dictionary: &str) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE dictionary (content BLOB NOT NULL)").unwrap();
        connection.execute("INSERT INTO dictionary VALUES (?1)", [dictionary.as_bytes()]).unwrap();
        install(&connection).unwrap();
        connection
    }

    fn packed(connection: &Connection, text: &str) -> Vec<u8> {
        connection.query_row("SELECT packed(?1)", [text], |row| row.get(0)).unwrap()
    }

    #[test]
    fn a_record_comes_back_as_it_was_and_one_like_it_is_small() {
        let mut recent = Recent::new();
        let record =
            |n: u32| USUAL.replace("pid\":1000", &format!("pid\":{n}")).replace("/tmp/", &format!("/srv/bücher/{n}"));
        (0..200).for_each(|n| recent.add(&record(n)));
        let dictionary = recent.dictionary();
        assert!(dictionary.len() <= DICTIONARY_BYTES && dictionary.len() > DICTIONARY_BYTES - 4);
        let connection = segment(dictionary);
        let text = record(7_777);
        let kept = packed(&connection, &text);
        assert!(kept.len() * 10 < text.len(), "{} of {} bytes", kept.len(), text.len());
        let again: String = connection.query_row("SELECT unpacked(?1)", [kept], |row| row.get(0)).unwrap();
        assert_eq!(again, text);
    }

    #[test]
    fn what_is_no_compressed_text_stays_as_it_is() {
        let connection = segment("x");
        let text: String = connection.query_row("SELECT unpacked('{}')", [], |row| row.get(0)).unwrap();
        assert_eq!(text, "{}");
        let mut cut = packed(&connection, USUAL);
        cut.truncate(cut.len() - 3);
        // A frame that says it is of 1 GiB: RFC 8878, section 3.1.1, with a content size of four bytes.
        let huge = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x40, 1, 0, 0];
        for damaged in [&cut[..], &huge[..], b"", b"not zstd"] {
            let left: Vec<u8> = connection.query_row("SELECT unpacked(?1)", [damaged], |row| row.get(0)).unwrap();
            assert_eq!(left, damaged);
        }
    }
}
