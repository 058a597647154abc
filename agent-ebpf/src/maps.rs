//! Every map: key, value, who writes, how many, why. Names have at most 15 characters, the kernel's limit.

use agent_common::image::Block;
use agent_common::limits::{
    EXECS_RING_BYTES, FILE_DIGESTS as FILES, FOLDS as FOLD_COUNT, HIT_COUNTERS, HITS_RING_BYTES,
    STREAMS as STREAM_COUNT,
};
use agent_common::wire::{Config, Counter, ExecRecord, FileDigests, FileKey, Fold, FoldKey, HitKey, NameConfig};
use aya_ebpf::bindings::{BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};
use aya_ebpf::btf_maps::{Array, ArrayOfMaps, HashMap, LruHashMap, PerCpuArray, RingBuf};
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

/// What the last segment with a listed name came to, by socket cookie: its sequence number, and above it a verdict. A
/// segment that was dropped is sent again and again, and is one hit all the same.
#[btf_map]
pub static STREAMS: LruHashMap<u64, u64, { STREAM_COUNT as usize }> = LruHashMap::new();

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

/// Digests by file. User space writes them, and the IMA hook what it had to compute.
#[btf_map]
pub static FILE_DIGESTS: LruHashMap<FileKey, FileDigests, { FILES as usize }> = LruHashMap::new();

/// Hits, network and exec. Nothing else, so that telemetry cannot push out a hit.
#[btf_map]
pub static HITS: RingBuf<(), { HITS_RING_BYTES as usize }> = RingBuf::new();

/// Every exec, when the configuration asks for it.
#[btf_map]
pub static EXECS: RingBuf<ExecRecord, { EXECS_RING_BYTES as usize }> = RingBuf::new();
