//! What user space tells the kernel half, and what the kernel half counts.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Whether a matching `block` indicator blocks.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Hits are recorded as `would_block`.
    Monitor = 0,
    /// Hits are blocked.
    Enforce = 1,
}

/// The one element of the `CONFIG` array.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
pub struct Config {
    /// Wall clock minus `bpf_ktime_get_boot_ns`, nanoseconds; what makes an expiry comparable in the kernel. It is
    /// refreshed as long as the daemon lives; a dead daemon leaves the last value.
    pub wall_minus_boot_ns: u64,
    /// cgroup2 id that exec hooks are narrowed to; 0 for the whole host.
    pub scope_cgroup_id: u64,
    /// Least level of that cgroup, the root being 0: from here on `bpf_get_current_ancestor_cgroup_id` is asked.
    pub scope_level: u32,
    /// A [`Mode`].
    pub mode: u32,
    /// Nanoseconds since boot until which the whole agent is switched off (break-glass); 0 for not. Kept in the kernel so
    /// that it ends by itself, whoever is alive.
    pub off_until_boot_ns: u64,
    /// 1 to send every exec to the `EXECS` ring, 0 for hits only.
    pub send_execs: u32,
    /// 1 when `sched_process_exec` judges and kills; 0 when an LSM hook judged the exec before it, so that none is judged
    /// twice.
    pub judge_at_exec: u32,
    /// What a source route comes to that leads over no listed address: an [`crate::image::Action`].
    pub source_routes: u32,
    /// What the making of a raw socket comes to: an [`crate::image::Action`].
    pub raw_sockets: u32,
    /// What a question, hello or request comes to whose name cannot be read: an [`crate::image::Action`].
    pub unread_names: u32,
    /// Zero.
    pub reserved: u32,
}

/// Index of a per-CPU `u64` in `COUNTERS`. Whatever cannot be delivered is counted here by reason.
#[repr(u32)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connects and sends judged.
    NetworkJudged = 0,
    /// Execs judged.
    ExecJudged = 1,
    /// Hits blocked or killed.
    Blocked = 2,
    /// Hits reported or let pass in monitor mode.
    Reported = 3,
    /// Operations let pass because no image was loaded.
    NoImage = 4,
    /// Hit records lost because the `HITS` ring was full.
    HitRingFull = 5,
    /// Exec records lost because the `EXECS` ring was full.
    ExecRingFull = 6,
    /// Hits whose counter could not be created, `HIT_COUNTERS` being full.
    HitCounterFull = 7,
    /// Hits sent unfolded because `FOLDS` was full.
    FoldsFull = 8,
    /// Execs of files whose digest was not known at the hook.
    DigestUnknown = 9,
    /// `bpf_send_signal` failed.
    KillFailed = 10,
    /// The image was damaged: a block out of range.
    ImageDamaged = 11,
    /// Names of packets looked up.
    NamesJudged = 12,
    /// Packets in which a name was to be looked for and could not be read.
    NamesUnread = 13,
    /// TLS ClientHellos that hide the name that counts (Encrypted Client Hello).
    NamesEncrypted = 14,
    /// What self-protection refused.
    ProtectionRefused = 15,
    /// Contacts that are not kept because `CONTACTS` was full.
    ContactsFull = 16,
}

impl Counter {
    /// How many there are.
    pub const COUNT: u32 = 17;
    /// All of them with their names as `cordon status` prints them.
    pub const ALL: [(Self, &'static str); Self::COUNT as usize] = [
        (Self::NetworkJudged, "network_judged"),
        (Self::ExecJudged, "exec_judged"),
        (Self::Blocked, "blocked"),
        (Self::Reported, "reported"),
        (Self::NoImage, "no_image"),
        (Self::HitRingFull, "hit_ring_full"),
        (Self::ExecRingFull, "exec_ring_full"),
        (Self::HitCounterFull, "hit_counter_full"),
        (Self::FoldsFull, "folds_full"),
        (Self::DigestUnknown, "digest_unknown"),
        (Self::KillFailed, "kill_failed"),
        (Self::ImageDamaged, "image_damaged"),
        (Self::NamesJudged, "names_judged"),
        (Self::NamesUnread, "names_unread"),
        (Self::NamesEncrypted, "names_encrypted"),
        (Self::ProtectionRefused, "protection_refused"),
        (Self::ContactsFull, "contacts_full"),
    ];
}
