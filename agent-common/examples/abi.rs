//! Prints the size, alignment and offsets of everything that crosses the kernel boundary, for `abi.txt`.
//!
//! A type whose listed fields do not fill it (a hole, or a field that this list forgot) does not compile.

use agent_common::image::{Action, Block, CHAIN_MAX, DigestKind, Space, layout, table};
use agent_common::wire::{
    Attempt, Behaviour, Config, Contact, ContactKey, Counter, DomainRecord, ExecRecord, FileDigests, FileKey,
    FileStamp, Fold, FoldKey, Header, HitKey, Hook, Learned, LearnedKey, Mode, NameConfig, NameForm, NetworkRecord,
    ObjectKey, ObjectKind, Process, Protection, RecordKind, Refusal, RefusalKey, SocketMemory, TICK_NS, Verdict,
};
use agent_common::{ABI_VERSION, limits};

macro_rules! records {
    ($($record:ident { $($field:ident: $kind:ty),+ $(,)? })+) => {$(
        const _: () = assert!(
            0 $(+ size_of::<$kind>())+ == size_of::<$record>(),
            concat!(stringify!($record), " has a hole, or a field that this list lacks")
        );
        println!("{} size {} align {}", stringify!($record), size_of::<$record>(), align_of::<$record>());
        $(
            const _: fn(&$record) -> &$kind = |record| &record.$field;
            println!("    {:4} {} {}", std::mem::offset_of!($record, $field), stringify!($field), size_of::<$kind>());
        )+
    )+};
}

macro_rules! values {
    ($($name:ident { $($variant:ident),+ $(,)? })+) => {$(
        // A variant that this list lacks makes the match fail to compile.
        const _: fn($name) -> usize = |value| match value { $($name::$variant => 0,)+ };
        println!("{} size {}", stringify!($name), size_of::<$name>());
        $(println!("    {:4} {}", $name::$variant as u32, stringify!($variant));)+
    )+};
}

macro_rules! constants {
    ($($name:path),+ $(,)?) => {$(
        println!("{} {}", stringify!($name), $name);
    )+};
}

fn main() {
    println!("ABI_VERSION {ABI_VERSION}");
    constants();
    records();
    values();
    println!("Block size {}", size_of::<Block>());
}

fn constants() {
    constants!(
        limits::COMM_LEN,
        limits::PATH_LEN,
        limits::ARGS_LEN,
        limits::HITS_RING_BYTES,
        limits::EXECS_RING_BYTES,
        limits::HIT_COUNTERS,
        limits::FOLDS,
        limits::CONTACTS,
        limits::FILE_DIGESTS,
        limits::DOMAIN_DEPTH,
        limits::LEARNED,
        limits::NAME_LEN,
        limits::NAME_PORTS,
        limits::PROGRAM_LEN,
        limits::PROTECTED,
        limits::REFUSALS,
        TICK_NS,
        Header::NO_ENTRY,
        ExecRecord::DIGEST,
        ExecRecord::PATH_CUT,
        ExecRecord::ARGS_CUT,
        ExecRecord::SHA1,
        ExecRecord::MD5,
        ExecRecord::MIN_LEN,
        FileDigests::SHA1,
        FileDigests::MD5,
        SocketMemory::INBOUND,
        SocketMemory::ASKED,
        CHAIN_MAX,
        layout::HEADER,
        layout::SPACES_HEADER,
        layout::CLASSES,
        layout::IDENTITY,
        layout::GENERATION,
        layout::SEED,
        layout::DIRECTORY,
        layout::EXACT,
        layout::RUNS,
        layout::CLASS_INDEX,
        layout::IPV6_STARTS,
        layout::IPV6_RUNS,
        layout::DOMAIN_LABELS,
        layout::DIGEST_KINDS,
        layout::NO_DIRECTORY,
        layout::ROOTED,
        layout::DIRECT,
        layout::TOPS,
        layout::TOP_LOW,
        layout::TOP_HIGH,
        layout::TOP_STARTS,
        layout::TOP_BASES,
        layout::TOP_FORM,
        layout::PLAIN,
        layout::LEAF_BASE,
        layout::ENTRIES_MAX,
        table::TAG,
        table::MOVED,
    );
}

fn records() {
    records! {
        Config {
            wall_minus_boot_ns: u64, scope_cgroup_id: u64, scope_level: u32, mode: u32, off_until_boot_ns: u64,
            send_execs: u32, judge_at_exec: u32, source_routes: u32, raw_sockets: u32, unread_names: u32, reserved: u32,
        }
        Process {
            start_boot_ns: u64, cgroup_id: u64, pid: u32, tid: u32, ppid: u32, uid: u32, gid: u32, loginuid: u32,
            comm: [u8; limits::COMM_LEN],
        }
        Header {
            boot_ns: u64, generation: u32, entry: u32, kind: u8, verdict: u8, hook: u8, reserved: [u8; 5],
            process: Process,
        }
        LearnedKey { high: u64, low: u64, start_boot_ns: u64, pid: u32, reserved: u32 }
        Learned { until_boot_ns: u64, generation: u32, entry: u32 }
        SocketMemory {
            process: Process, high: u64, low: u64, generation: u32, port: u16, verdict: u8, flags: u8,
            sent: u64, received: u64, grown_boot_ns: u64,
        }
        NetworkRecord { header: Header, address: [u8; 16], port: u16, family: u16, protocol: u16, socket_type: u16, local_port: u16, reserved: [u8; 6] }
        FileKey { device: u64, inode: u64 }
        FileStamp { size: u64, mtime_ns: u64, ctime_ns: u64 }
        FileDigests { stamp: FileStamp, sha256: [u8; 32], sha1: [u8; 20], md5: [u8; 16], flags: u32 }
        ExecRecord {
            header: Header, file: FileKey, stamp: FileStamp, sha256: [u8; 32], flags: u32, path_len: u16, args_len: u16,
            path: [u8; limits::PATH_LEN], args: [u8; limits::ARGS_LEN],
        }
        DomainRecord {
            header: Header, address: [u8; 16], port: u16, family: u16, protocol: u16, query_type: u16, form: u8,
            reserved: [u8; 5], name_len: u16, name: [u8; limits::NAME_LEN],
        }
        NameConfig {
            dns_ports: [u16; limits::NAME_PORTS], tls_ports: [u16; limits::NAME_PORTS],
            http_ports: [u16; limits::NAME_PORTS],
        }
        ContactKey { start_boot_ns: u64, high: u64, low: u64, pid: u32, port: u16, protocol: u16 }
        Contact { count: u64, first_boot_ns: u64, last_boot_ns: u64 }
        HitKey { generation: u32, entry: u32 }
        FoldKey {
            start_boot_ns: u64, destination: u64, generation: u32, entry: u32, pid: u32, port: u16, hook: u8, verdict: u8,
        }
        Fold { repeats: u64, first_boot_ns: u64, last_boot_ns: u64 }
        Protection {
            program: u64, seed: [u64; 2], program_device: u64, pins_device: u64, pins_inode: u64, agent_start_ticks: u64,
            agent_pid: u32, host_mounts: u32,
        }
        ObjectKey { kind: u32, id: u32 }
        RefusalKey { start_boot_ns: u64, pid: u32, attempt: u32 }
        Refusal {
            count: u64, uid: u32, ppid: u32, comm: [u8; limits::COMM_LEN], program: [u8; limits::PROGRAM_LEN],
        }
    }
}

fn values() {
    values! {
        Mode { Monitor, Enforce }
        RecordKind { Network, Exec, Domain }
        NameForm { Labels, Text }
        Behaviour { SourceRoute, RawSocket, UnreadName }
        Verdict { Passed, Blocked, Killed, Reported, WouldBlock }
        Hook {
            Connect4, Connect6, Sendmsg4, Sendmsg6, SchedProcessExec, BprmCheck, BprmCheckIma, FanotifyOpenExec, Scan, Setsockopt, Egress, SockCreate, SocketConnect, SocketSendmsg, SocketCreate, Ingress, LiveFlow, EgressDns, EgressTls, EgressHttp, IngressDns, MmapFile, SelfProtection,
        }
        Counter {
            NetworkJudged, ExecJudged, Blocked, Reported, NoImage, HitRingFull, ExecRingFull, HitCounterFull, FoldsFull,
            DigestUnknown, KillFailed, ImageDamaged, NamesJudged, NamesUnread, NamesEncrypted,
            ProtectionRefused, ContactsFull,
        }
        Action { Allow, Report, Block }
        DigestKind { Md5, Sha1, Sha256 }
        ObjectKind { Map, Program, Link }
        Attempt { RemovePin, Unmount, OpenMap, OpenProgram, OpenLink, ChangeLink, Signal, Trace, Limit }
        Space { Ipv4, Ipv6, Ipv6Prefix, Endpoint, Digest, Path, Domain }
    }
}
