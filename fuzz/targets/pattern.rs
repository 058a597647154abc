//! A STIX pattern of either version: whatever parses can be reduced to what one observation decides, in bounded memory and
//! time.
#![no_main]

use agent::intel::parse::pattern::{self, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for version in [Version::V20, Version::V21] {
        if let Ok(observation) = pattern::parse(text, version) {
            let _ = pattern::reduce(&observation);
        }
    }
});
