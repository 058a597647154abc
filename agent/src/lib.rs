//! Cordon: the host agent that stops known threats.
//!
//! # Layout
//! The rooms in the order in which things flow:
//! - [`settings`]: one TOML file, validated once
//! - [`http`]: asking servers, with caps, retries and TLS
//! - [`intel`]: sources → [`intel::Indicator`]
//! - [`bundle`]: a signed repository → [`bundle::Verified`]
//! - [`fleet`]: the message bus: policies down, records and heartbeats up
//! - [`policy`]: which indicator blocks, which reports, what is never blocked
//! - [`tables`]: indicators and policy → image and provenance
//! - [`kernel`]: probe, load, attach, pin, publish, read rings: the only user of aya and of raw system calls
//! - [`event`]: bytes → [`event::Event`]
//! - [`host`]: the only reader of `/proc`, cgroupfs, passwd and files to hash
//! - [`enrich`]: event and host → [`enrich::Observation`]
//! - [`attribute`]: observation and provenance → [`attribute::Finding`]
//! - [`journal`]: the local log
//! - [`report`]: journal → JSON, OCSF, ECS, a page for people; journald and sightings out
//! - [`health`]: counters, faults, liveness; a leaf that all may use
//! - [`control`]: the Unix socket between the daemon and the CLI
//! - [`selftest`]: the known ways around, each tried in a sandbox
//! - [`app`]: the only file that knows all rooms
//! - [`cli`]: one file per verb

pub mod app;
pub mod attribute;
pub mod bundle;
pub mod cli;
pub mod control;
pub mod enrich;
pub mod event;
#[cfg(feature = "bus")]
pub mod fleet;
pub mod health;
pub mod host;
pub mod http;
pub mod intel;
pub mod journal;
pub mod kernel;
pub mod policy;
pub mod report;
pub mod selftest;
pub mod settings;
pub mod tables;
