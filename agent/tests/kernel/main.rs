//! The hooks, on the running kernel: each test has a cgroup and a bpf file system of its own, acts inside, and looks at
//! what the kernel did. Needs root and a build with the eBPF object; without them every test fails and says so.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod egress;
mod exec;
mod folding;
mod generations;
mod ingress;
mod integrity;
mod layers;
mod lifecycle;
mod names;
mod network;
mod protect;
mod responses;
mod sandbox;
mod socket_lsm;
mod sockets;
mod streams;
mod verdicts;
