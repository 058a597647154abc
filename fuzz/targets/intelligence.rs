//! A file of any format, as `format = "auto"` reads it: nothing panics, every item is counted once, what comes out is in
//! normal form, and a text says the same however it is cut into pieces.
#![no_main]

use std::sync::Arc;

use agent::intel::normalise;
use agent::intel::parse::{self, Opened, Parsed, Reading};
use agent::intel::{Indicator, Observable};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let file: Arc<str> = Arc::from("fuzz");
    let reading = Reading::default();
    let Ok(parsed) = parse::parse(&reading, &file, bytes) else { return };
    assert_eq!(parsed.read, (parsed.indicators.len() + parsed.skipped.len()) as u64);
    parsed.indicators.iter().for_each(|indicator| is_normal(&indicator));
    if let Ok(Opened::Text(mut text)) = parse::open(&reading, &file, bytes) {
        for piece in bytes.chunks(7) {
            text.push(piece).expect("it was read whole");
        }
        assert_eq!(values(&text.finish().expect("it was read whole")), values(&parsed));
    }
});

fn values(parsed: &Parsed) -> Vec<Vec<Observable>> {
    parsed.indicators.iter().map(|indicator| indicator.observables).collect()
}

/// Reading what was printed gives what was printed.
fn is_normal(indicator: &Indicator) {
    assert!(!indicator.observables.is_empty(), "{indicator:?}");
    for observable in &indicator.observables {
        let text = observable.to_string();
        let again = match observable {
            Observable::Ipv4(_) | Observable::Ipv4Prefix(_) | Observable::Ipv6(_) | Observable::Ipv6Prefix(_) => {
                normalise::address(&text)
            }
            Observable::Endpoint(..) => normalise::endpoint(&text),
            Observable::Domain(_) => normalise::domain(&text),
            _ => continue,
        };
        assert_eq!(again.as_ref(), Ok(observable));
    }
}
