//! A STIX pattern: whatever parses can be reduced to what one observation decides, in bounded memory and time.
#![no_main]

use agent::intel::parse::pattern;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(observation) = pattern::parse(text) {
        let _ = pattern::reduce(&observation);
    }
});
