//! A MISP warning list, and every kind of value asked of it.
#![no_main]

use agent::intel::normalise;
use agent::policy::WarningList;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(list) = WarningList::parse("fuzz.json", bytes) else { return };
    for text in ["192.0.2.1", "192.0.2.0/24", "2001:db8::1", "2001:db8::/32", "192.0.2.1:443", "a.example"] {
        let value = normalise::address(text)
            .or_else(|_| normalise::endpoint(text))
            .or_else(|_| normalise::domain(text))
            .expect("a value in normal form");
        let _ = list.matches(&value);
        let _ = list.inside(&value);
    }
});
