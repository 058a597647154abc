//! Every size that appears in a wire record or a map.

/// Bytes of a task's `comm`, the kernel's `TASK_COMM_LEN`.
pub const COMM_LEN: usize = 16;
/// Bytes kept of the name of a program's file where self-protection refuses it something.
pub const PROGRAM_LEN: usize = 32;
/// BPF objects of one agent: some thirty of each kind.
pub const PROTECTED: u32 = 512;
/// Distinct refusals of self-protection that wait to be told; further ones are only counted.
pub const REFUSALS: u32 = 128;
/// Bytes kept of the path given to `execve(2)`; longer paths are cut and marked.
pub const PATH_LEN: usize = 512;
/// Bytes kept of a new program's arguments, NUL-separated; longer ones are cut and marked.
pub const ARGS_LEN: usize = 1024;
/// Bytes of the ring that carries hits. Nothing else is written there, so a flood of telemetry cannot push out a hit.
pub const HITS_RING_BYTES: u32 = 4 << 20;
/// Bytes of the ring that carries every exec, for the process table.
pub const EXECS_RING_BYTES: u32 = 8 << 20;
/// Distinct `(generation, entry)` pairs whose hits are counted; hits beyond are counted in [`crate::wire::Counter`].
pub const HIT_COUNTERS: u32 = 1 << 16;
/// Distinct hits folded at a time; a hit beyond is sent unfolded.
pub const FOLDS: u32 = 1 << 14;
/// Distinct contacts between two looks of user space, which come every second; further ones are only counted.
pub const CONTACTS: u32 = 1 << 14;
/// Files whose digests the kernel remembers, least recently used first out.
pub const FILE_DIGESTS: u32 = 1 << 16;
/// Most labels of a domain that can be listed: the kernel walks that many of a name, the top-level domain first.
pub const DOMAIN_DEPTH: u32 = 16;
/// Addresses that are known to have been given for listed names, least recently used first out.
pub const LEARNED: u32 = 1 << 13;
/// Octets kept of a name: the most that one has on the wire (RFC 1035 §2.3.4), and one to make it even.
pub const NAME_LEN: usize = 256;
/// Ports of one protocol that names are looked for at.
pub const NAME_PORTS: usize = 8;
