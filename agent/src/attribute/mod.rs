//! Observation and provenance → [`Finding`] (pure).

pub mod finding;

pub use finding::Finding;
