//! Every map: key, value, who writes, how many, why. Names have at most 15 characters, the kernel's limit.

use core::ffi::c_void;
use core::ptr::{from_ref, null, null_mut};

use agent_common::image::Block;
use agent_common::limits::{
    CONTACTS as CONTACT_COUNT, EXECS_RING_BYTES, FILE_DIGESTS as FILES, FOLDS as FOLD_COUNT, HIT_COUNTERS,
    HITS_RING_BYTES, LEARNED as LEARNED_COUNT, PROTECTED as OBJECTS, REFUSALS as REFUSAL_COUNT,
};
use agent_common::wire::{
    Config, Contact, ContactKey, Counter, ExecRecord, FileDigests, FileKey, Fold, FoldKey, HitKey, Learned, LearnedKey,
    NameConfig, ObjectKey, Protection, Refusal, RefusalKey, SocketMemory,
};
use aya_ebpf::bindings::bpf_map_type::BPF_MAP_TYPE_SK_STORAGE;
use aya_ebpf::bindings::{
    BPF_F_CLONE, BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, BPF_SK_STORAGE_GET_F_CREATE,
};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, RingBuf};
use aya_ebpf::helpers::generated::bpf_sk_storage_get;
use aya_ebpf::macros::btf_map;

/// One image: template only, the real ones have any number of blocks.
pub type Image = Array<Block, 4, { (BPF_F_MMAPABLE | BPF_F_INNER_MAP) as usize }>;
/// A [`Fold`] as the template names it: before 6.2 the kernel holds a table whose value is a structure of the object's BTF
/// to be unlike every table that user space makes without BTF (`bpf_map_meta_equal` and `timer_off`).
pub type FoldWords = [u64; size_of::<Fold>() / 8];
/// One second's folds: template of what user space puts into [`FOLDS`].
pub type Folds = HashMap<FoldKey, FoldWords, { FOLD_COUNT as usize }, { BPF_F_NO_PREALLOC as usize }>;

/// The current image in its only slot. User space replaces it; a program reads it once per decision.
#[btf_map]
pub static GENERATIONS: ArrayOfMaps<Image, 1> = ArrayOfMaps::new();

/// The one [`Config`]; written by user space.
#[btf_map]
pub static CONFIG: Array<Config, 1> = Array::new();

/// The one [`NameConfig`]; written by user space.
#[btf_map]
pub static NAME_CONFIG: Array<NameConfig, 1> = Array::new();

/// Addresses that responses gave for listed names; written here.
#[btf_map]
pub static LEARNED: LruHashMap<LearnedKey, Learned, { LEARNED_COUNT as usize }> = LruHashMap::new();

/// When the last of [`LEARNED`] is stale, in nanoseconds since boot; 0 while nothing was learned, as on most hosts.
#[btf_map]
pub static LEARNED_UNTIL: Array<u64, 1> = Array::new();

/// Counts by [`Counter`]; written here, never reset.
#[btf_map]
pub static COUNTERS: PerCpuArray<u64, { Counter::COUNT as usize }> = PerCpuArray::new();

/// Hits by generation and entry: the truth that events are compared with. User space removes old generations.
#[btf_map]
pub static HIT_COUNTS: HashMap<HitKey, u64, { HIT_COUNTERS as usize }, { BPF_F_NO_PREALLOC as usize }> = HashMap::new();

/// The current folds in its only slot. User space swaps in an empty table and reads the old one when no program can still
/// add to it, which is what makes the sum exact.
#[btf_map]
pub static FOLDS: ArrayOfMaps<Folds, 1> = ArrayOfMaps::new();

/// A [`Contact`] as [`FoldWords`] is a fold.
pub type ContactWords = [u64; size_of::<Contact>() / 8];

/// Who reached what since user space last looked, which takes them out.
#[btf_map]
pub static CONTACTS: HashMap<ContactKey, ContactWords, { CONTACT_COUNT as usize }, { BPF_F_NO_PREALLOC as usize }> =
    HashMap::new();

/// Digests by file. User space writes them, and the IMA hook what it had to compute.
#[btf_map]
pub static FILE_DIGESTS: LruHashMap<FileKey, FileDigests, { FILES as usize }> = LruHashMap::new();

/// What the hooks remember of each socket, gone with it. What a listening socket has, those that it accepts begin with.
#[btf_map]
pub static SOCKETS: SocketStorage<SocketMemory> = SocketStorage::new();

/// The one [`Protection`]; written by user space.
#[btf_map]
pub static PROTECTION: Array<Protection, 1> = Array::new();

/// The BPF objects that are Cordon's; written by user space.
#[btf_map]
pub static PROTECTED: HashMap<ObjectKey, u32, { OBJECTS as usize }> = HashMap::new();

/// What self-protection refused, until user space has told it.
#[btf_map]
pub static REFUSALS: HashMap<RefusalKey, Refusal, { REFUSAL_COUNT as usize }> = HashMap::new();

/// Hits, network and exec. Nothing else, so that telemetry cannot push out a hit.
#[btf_map]
pub static HITS: RingBuf<(), { HITS_RING_BYTES as usize }> = RingBuf::new();

/// Every exec, when the configuration asks for it.
#[btf_map]
pub static EXECS: RingBuf<ExecRecord, { EXECS_RING_BYTES as usize }> = RingBuf::new();

/// Storage of sockets as BTF describes a map: aya's own type has no room for `BPF_F_CLONE`.
#[repr(C)]
pub struct SocketStorage<T> {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE as usize],
    key: *const i32,
    value: *const T,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; (BPF_F_NO_PREALLOC | BPF_F_CLONE) as usize],
}

// SAFETY: the fields are never followed: the loader puts a map in this place.
unsafe impl<T> Sync for SocketStorage<T> {}

impl<T> SocketStorage<T> {
    const fn new() -> Self {
        Self { r#type: null(), key: null(), value: null(), max_entries: null(), map_flags: null() }
    }

    /// What is remembered of a socket, zeros where there was nothing; null when there is no memory.
    ///
    /// # Safety
    /// `socket` is what the kernel takes for one in this program: its context, or a full socket.
    #[inline(always)]
    pub unsafe fn get(&self, socket: *mut c_void) -> *mut T {
        let (map, create) = (from_ref(self).cast_mut().cast(), u64::from(BPF_SK_STORAGE_GET_F_CREATE));
        // SAFETY: the loader replaces the address by the map; the verifier checks the socket.
        unsafe { bpf_sk_storage_get(map, socket, null_mut(), create).cast() }
    }

    /// As [`SocketStorage::get`], with `first` in place of zeros.
    ///
    /// # Safety
    /// As [`SocketStorage::get`].
    #[inline(always)]
    pub unsafe fn get_or(&self, socket: *mut c_void, first: &mut T) -> *mut T {
        let (map, create) = (from_ref(self).cast_mut().cast(), u64::from(BPF_SK_STORAGE_GET_F_CREATE));
        // SAFETY: as in `get`; the kernel reads one value from `first`.
        unsafe { bpf_sk_storage_get(map, socket, (&raw mut *first).cast(), create).cast() }
    }
}
