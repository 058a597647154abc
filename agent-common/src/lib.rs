//! What both halves of Cordon must agree on, byte for byte: the records that the kernel half writes ([`wire`]),
//! the indicator images that it reads ([`image`]), the canonical form of what is looked up ([`canon`]) and every size
//! that appears in either ([`limits`]).
//!
//! The crate is `no_std`, allocates nothing and knows neither aya nor serde, so the very lookup code that runs in the
//! kernel is tested on the host.
#![no_std]
#![forbid(unsafe_code)]

pub mod canon;
pub mod image;
pub mod limits;
pub mod stream;
pub mod wire;

/// The version of everything in this crate that is visible across the kernel boundary: wire records, image layout and
/// map keys. `abi.txt` pictures them; a change there without a change here fails `cargo xtask check`.
pub const ABI_VERSION: u32 = 5;
