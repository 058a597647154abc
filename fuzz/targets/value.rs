//! One value as publishers write it: refanged and normalised, and what is normal stays as it is.
#![no_main]

use agent::intel::normalise;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let plain = normalise::refang(text);
    for normalise in [
        normalise::address,
        normalise::endpoint,
        normalise::domain,
        normalise::url,
        normalise::path,
        normalise::file_name,
        normalise::sha256,
        normalise::sha1,
        normalise::md5,
    ] {
        if let Ok(value) = normalise(&plain) {
            let again = normalise(&value.to_string());
            assert_eq!(again.as_ref(), Ok(&value), "of {plain:?}");
        }
    }
    let _ = normalise::url_host(&plain);
});
