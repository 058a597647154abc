//! Against real TAXII servers, installed from PyPI and started on loopback by the test.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod client;
mod opentaxii;
#[path = "../python/mod.rs"]
mod packages;
mod python;
mod sightings;
