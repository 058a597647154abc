//! A policy document: it is only read once it is signed, but `cordon policy show` reads any.
#![no_main]

use agent::policy::Document;
use agent::policy::lint::lint;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(document) = Document::parse(text) {
        let _ = lint(&document, Timestamp::UNIX_EPOCH);
        let _ = document.passing().count();
    }
});
