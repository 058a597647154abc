//! Intelligence in: source → parse → normalise → [`Indicator`].

pub mod fetch;
pub mod indicator;
pub mod normalise;
pub mod packed;
pub mod parse;
pub mod source;
pub mod taxii;

pub use indicator::{
    Action, Attribution, Inbound, Indicator, Name, Observable, Origin, Path, Place, SkipReason, Skipped, Tlp, TlpOrigin,
};
pub use packed::{Indicators, Skips};
pub use source::{Load, LoadError, Source};

/// An example bundle in the idioms of real publishers: documentation addresses, a fictional actor. Its SHA-256 indicator is
/// [`EXAMPLE_SHA256`], which a demonstration replaces by the digest of a program of its own.
pub const EXAMPLE: &str = include_str!("example.json");

/// The only SHA-256 value in [`EXAMPLE`].
pub const EXAMPLE_SHA256: &str = "5f2d7c0e9a4b186d3c8e1f7052b9a6d4e8c3075b1d9f4a62e70c8b35d1f69a2e";
