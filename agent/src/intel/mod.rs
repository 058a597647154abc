//! Intelligence in: source → parse → normalise → [`Indicator`].

pub mod indicator;

pub use indicator::{
    Attribution, Indicator, Name, Observable, Origin, Path, Place, SkipReason, Skipped, Tlp, TlpOrigin,
};
