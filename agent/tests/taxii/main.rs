//! Against real TAXII servers, installed from PyPI and started on loopback by the test.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;
mod python;
