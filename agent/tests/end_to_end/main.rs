//! The whole agent through the real kernel: act, see the block, see the record with the right reason; and a control case that passes.
//!
//! Needs root and cgroup2; without them every test fails and says so. `cargo xtask test` runs these.

#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod bad_input;
#[path = "../fleet/cable.rs"]
mod cable;
mod disk_full;
mod documents;
mod exec;
mod fetch;
mod fleet;
mod flows;
mod hindsight;
mod hunt;
mod intelligence;
mod lifecycle;
mod metrics;
mod names;
#[path = "../fleet/server.rs"]
mod nats;
mod network;
#[path = "../policy/organisation.rs"]
#[expect(dead_code, reason = "the tests of the command line use all of it")]
mod organisation;
#[path = "../python/mod.rs"]
mod packages;
mod policy;
mod protect;
#[path = "../taxii/python.rs"]
mod python;
mod real;
mod sandbox;
mod selftest;
#[path = "../policy/served.rs"]
mod served;
mod sharing;
#[expect(unused_imports, reason = "the kernel tests use all of it")]
#[path = "../kernel/sockets.rs"]
mod sockets;
mod web;
