//! A STIX pattern of either version: whatever parses can be reduced to what one observation decides, in bounded memory and
//! time, and what it asks of a program reads back.
#![no_main]

use agent::intel::Observable;
use agent::intel::parse::pattern::{self, Condition, Program, Version};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    for version in [Version::V20, Version::V21] {
        if let Ok(observation) = pattern::parse(text, version) {
            for value in pattern::reduce(&observation).observables {
                if let Observable::Process(text) = value {
                    let again = pattern::parse(&format!("[{text}]"), Version::V21).expect("it is a comparison");
                    assert_eq!(pattern::reduce(&again).observables, [Observable::Process(text.clone())]);
                    if let Some(condition) = Condition::read(&text) {
                        let _ = condition.holds(&Program { paths: vec!["/bin/sh"], command_line: Some("sh -c x") });
                    }
                }
            }
        }
    }
});
