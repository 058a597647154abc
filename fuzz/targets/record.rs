//! A record of the kernel half: any bytes decode or are refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let _ = agent::event::decode(bytes);
});
