//! bpf(2) where aya stops: maps that are mapped into memory, maps in maps by id, link updates, typed hash tables.
//!
//! `union bpf_attr` is written as bytes at the offsets of `include/uapi/linux/bpf.h`; they are ABI and never move.

use std::ffi::CString;
use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use agent_common::image::Block;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use super::Error;

const MAP_CREATE: libc::c_long = 0;
const MAP_LOOKUP_ELEM: libc::c_long = 1;
const MAP_UPDATE_ELEM: libc::c_long = 2;
const MAP_DELETE_ELEM: libc::c_long = 3;
const MAP_GET_NEXT_KEY: libc::c_long = 4;
const OBJ_PIN: libc::c_long = 6;
const OBJ_GET: libc::c_long = 7;
const MAP_GET_FD_BY_ID: libc::c_long = 14;
const OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const MAP_FREEZE: libc::c_long = 22;
const LINK_CREATE: libc::c_long = 28;
const LINK_UPDATE: libc::c_long = 29;

const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_ARRAY: u32 = 2;
/// `BPF_F_NO_PREALLOC`.
const NO_PREALLOC: u32 = 1;
/// `BPF_F_MMAPABLE | BPF_F_INNER_MAP`: what the template of `GENERATIONS` has, and the kernel compares.
const IMAGE_FLAGS: u32 = 0x400 | 0x1000;

/// `union bpf_attr`, as long as the commands used here need.
#[derive(Clone, Copy)]
#[repr(C, align(8))]
pub(super) struct Attr([u8; 128]);

impl Attr {
    pub(super) fn new() -> Self {
        Self([0; 128])
    }

    pub(super) fn put(mut self, offset: usize, bytes: &[u8]) -> Self {
        for (to, from) in self.0.iter_mut().skip(offset).zip(bytes) {
            *to = *from;
        }
        self
    }

    pub(super) fn u32(self, offset: usize, value: u32) -> Self {
        self.put(offset, &value.to_ne_bytes())
    }

    pub(super) fn u64(self, offset: usize, value: u64) -> Self {
        self.put(offset, &value.to_ne_bytes())
    }

    pub(super) fn fd(self, offset: usize, fd: BorrowedFd<'_>) -> Self {
        self.put(offset, &fd.as_raw_fd().to_ne_bytes())
    }

    /// # Safety
    /// Every address put into the attribute is valid for what `command` reads or writes there.
    pub(super) unsafe fn call(mut self, command: libc::c_long) -> io::Result<libc::c_long> {
        // SAFETY: the attribute is 128 live bytes and the kernel takes the length it is told; what it points to is the
        // caller's promise.
        let result = unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), self.0.len()) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
    }

    /// # Safety
    /// As [`Attr::call`], and `command` returns a file descriptor.
    pub(super) unsafe fn open(self, command: libc::c_long) -> io::Result<OwnedFd> {
        // SAFETY: the caller's promise.
        let descriptor = unsafe { self.call(command) }?;
        // SAFETY: the kernel has just opened it for this call and nobody else knows it.
        RawFd::try_from(descriptor).map(|raw| unsafe { OwnedFd::from_raw_fd(raw) }).map_err(io::Error::other)
    }
}

pub(super) fn address<T: ?Sized>(value: &T) -> u64 {
    std::ptr::from_ref(value).cast::<u8>() as u64
}

pub(super) fn address_mut<T: ?Sized>(value: &mut T) -> u64 {
    std::ptr::from_mut(value).cast::<u8>() as u64
}

fn path_string(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(io::Error::other)
}

pub(super) fn create(kind: u32, key: u32, value: u32, entries: u32, flags: u32, name: &str) -> io::Result<OwnedFd> {
    let attr = Attr::new().u32(0, kind).u32(4, key).u32(8, value).u32(12, entries).u32(16, flags);
    // SAFETY: BPF_MAP_CREATE follows no address; the name (15 bytes at most, NUL after it) is part of the attribute.
    unsafe { attr.put(28, name.as_bytes().get(..name.len().min(15)).unwrap_or_default()).open(MAP_CREATE) }
}

/// A new array of `blocks` blocks that can be mapped into memory and put into a slot of `GENERATIONS`.
pub(super) fn create_image(blocks: u32) -> io::Result<OwnedFd> {
    create(MAP_TYPE_ARRAY, 4, size_of::<Block>() as u32, blocks, IMAGE_FLAGS, "cordon_image")
}

/// A new hash table like the template of an outer map.
pub(super) fn create_hash<K, V>(entries: u32, name: &str) -> io::Result<OwnedFd> {
    create(MAP_TYPE_HASH, size_of::<K>() as u32, size_of::<V>() as u32, entries, NO_PREALLOC, name)
}

/// Forbids every change of a map by system calls. Fails with `EBUSY` while a writable mapping exists.
pub(super) fn freeze(map: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the attribute holds a descriptor and no address.
    unsafe { Attr::new().fd(0, map).call(MAP_FREEZE) }.map(drop)
}

/// Pins a map or link.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = path_string(path)?;
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    unsafe { Attr::new().u64(0, address(path.as_bytes_with_nul())).fd(8, object).call(OBJ_PIN) }.map(drop)
}

/// Opens a pinned map or link.
pub(super) fn open_pin(path: &Path) -> io::Result<OwnedFd> {
    let path = path_string(path)?;
    // SAFETY: the path is a NUL-terminated string that outlives the call.
    unsafe { Attr::new().u64(0, address(path.as_bytes_with_nul())).open(OBJ_GET) }
}

/// Opens a map by its id, which is what the slot of an outer map reads as.
pub(super) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    // SAFETY: the attribute holds an id and no address.
    unsafe { Attr::new().u32(0, id).open(MAP_GET_FD_BY_ID) }
}

/// Attaches a cgroup program; the kernel lets links stand beside the links of others.
pub(super) fn attach_cgroup(program: BorrowedFd<'_>, cgroup: BorrowedFd<'_>, attach_type: u32) -> io::Result<OwnedFd> {
    // SAFETY: the attribute holds descriptors and no address.
    unsafe { Attr::new().fd(0, program).fd(4, cgroup).u32(8, attach_type).open(LINK_CREATE) }
}

/// Attaches a tracing or LSM program to what it was loaded for.
pub(super) fn attach_tracing(program: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    // SAFETY: the attribute holds a descriptor; the name is null, as these programs want it.
    unsafe { Attr::new().fd(8, program).open(RAW_TRACEPOINT_OPEN) }
}

/// Puts another program behind a cgroup link, in one step.
pub(super) fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the attribute holds descriptors and no address.
    unsafe { Attr::new().fd(0, link).fd(4, program).call(LINK_UPDATE) }.map(drop)
}

fn info<const N: usize>(object: BorrowedFd<'_>) -> io::Result<[u8; N]> {
    let mut buffer = [0u8; N];
    let attr = Attr::new().fd(0, object).u32(4, N as u32).u64(8, address_mut(&mut buffer));
    // SAFETY: the kernel writes at most the N bytes it is told into the buffer, which outlives the call.
    unsafe { attr.call(OBJ_GET_INFO_BY_FD) }?;
    Ok(buffer)
}

fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    bytes.get(offset..offset + 4).and_then(|part| part.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

/// What `struct bpf_map_info` says of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct MapShape {
    pub(super) id: u32,
    pub(super) key: u32,
    pub(super) value: u32,
    pub(super) entries: u32,
}

/// The id and sizes of a map.
pub(super) fn map_shape(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    let info = info::<80>(map)?;
    Ok(MapShape { id: u32_at(&info, 4), key: u32_at(&info, 8), value: u32_at(&info, 12), entries: u32_at(&info, 16) })
}

/// A link's own id and its program's.
pub(super) fn link_ids(link: BorrowedFd<'_>) -> io::Result<(u32, u32)> {
    let info = info::<40>(link)?;
    Ok((u32_at(&info, 4), u32_at(&info, 8)))
}

/// Whether it is a `BPF_LINK_TYPE_CGROUP`.
pub(super) fn is_cgroup_link(link: BorrowedFd<'_>) -> bool {
    const CGROUP: u32 = 3;
    info::<40>(link).is_ok_and(|info| u32_at(&info, 0) == CGROUP)
}

/// The cgroup2 id that a cgroup link is attached to; 0 when it is detached or the cgroup is gone.
pub(super) fn link_cgroup(link: BorrowedFd<'_>) -> io::Result<u64> {
    // `struct bpf_link_info`: type, id, prog_id, padding, then `cgroup.cgroup_id` at 16.
    let info = info::<40>(link)?;
    Ok(u64::from(u32_at(&info, 16)) | u64::from(u32_at(&info, 20)) << 32)
}

/// A map whose keys and values are `K` and `V`: checked once, when it is opened.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    map: OwnedFd,
    kinds: PhantomData<fn() -> (K, V)>,
}

impl<K, V> Table<K, V>
where
    K: FromBytes + IntoBytes + Immutable + KnownLayout + Copy,
    V: FromBytes + IntoBytes + Immutable + KnownLayout,
{
    /// The map called `name`, if it has this shape.
    pub(super) fn open(map: OwnedFd, name: &str) -> Result<Self, Error> {
        let shape = map_shape(std::os::fd::AsFd::as_fd(&map));
        let shape = shape.map_err(|source| Error::Bpf { what: format!("map {name}"), source })?;
        if shape.key as usize == size_of::<K>() && shape.value as usize == size_of::<V>() {
            return Ok(Self { map, kinds: PhantomData });
        }
        Err(Error::Shape {
            name: name.to_owned(),
            found: format!("{}+{}", shape.key, shape.value),
            expected: format!("{}+{}", size_of::<K>(), size_of::<V>()),
        })
    }

    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        std::os::fd::AsFd::as_fd(&self.map)
    }

    fn attr(&self, key: &K) -> Attr {
        Attr::new().fd(0, self.descriptor()).u64(8, address(key))
    }

    /// The value of a key; `None` where there is none.
    pub(super) fn get(&self, key: &K) -> io::Result<Option<V>> {
        let mut value = V::new_zeroed();
        // SAFETY: the kernel reads size_of::<K>() and writes size_of::<V>() bytes, which `open` compared with the map's
        // own sizes; V takes any bytes.
        match unsafe { self.attr(key).u64(16, address_mut(&mut value)).call(MAP_LOOKUP_ELEM) } {
            Ok(_) => Ok(Some(value)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes the value of a key.
    pub(super) fn set(&self, key: &K, value: &V) -> io::Result<()> {
        // SAFETY: the kernel reads size_of::<K>() and size_of::<V>() bytes, which `open` compared with the map's own.
        unsafe { self.attr(key).u64(16, address(value)).call(MAP_UPDATE_ELEM) }.map(drop)
    }

    /// Removes a key; whether it was there.
    pub(super) fn remove(&self, key: &K) -> io::Result<bool> {
        // SAFETY: the kernel reads size_of::<K>() bytes.
        match unsafe { self.attr(key).call(MAP_DELETE_ELEM) } {
            Ok(_) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn key_after(&self, key: Option<&K>) -> io::Result<Option<K>> {
        let mut next = K::new_zeroed();
        let after = key.map_or(0, |key| address(key));
        let attr = Attr::new().fd(0, self.descriptor()).u64(8, after).u64(16, address_mut(&mut next));
        // SAFETY: the kernel reads and writes size_of::<K>() bytes; a null key asks for the first.
        match unsafe { attr.call(MAP_GET_NEXT_KEY) } {
            Ok(_) => Ok(Some(next)),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The keys there are, at most `limit`: a key removed meanwhile makes the kernel start over, so the walk is bounded.
    pub(super) fn keys(&self, limit: u32) -> io::Result<Vec<K>> {
        let mut keys = Vec::new();
        let mut last = None;
        for _ in 0..limit {
            let Some(key) = self.key_after(last.as_ref())? else { break };
            keys.push(key);
            last = Some(key);
        }
        Ok(keys)
    }

    /// Whether there is no key.
    pub(super) fn is_empty(&self) -> io::Result<bool> {
        Ok(self.key_after(None)?.is_none())
    }
}

/// An image's array in memory.
#[derive(Debug)]
pub(super) struct Mapping {
    start: *mut Block,
    blocks: usize,
}

// SAFETY: a mapping belongs to no thread; the pointer is not shared outside the borrow rules of `blocks` and `blocks_mut`.
unsafe impl Send for Mapping {}
// SAFETY: as above; shared access only reads, and nobody writes to a mapping that is shared (see `blocks`).
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(map: BorrowedFd<'_>, blocks: u32, protection: libc::c_int) -> io::Result<Self> {
        let blocks = blocks as usize;
        let bytes = blocks.checked_mul(size_of::<Block>()).ok_or_else(|| io::Error::other("image too large"))?;
        // SAFETY: a fresh mapping at an address of the kernel's choice disturbs no other memory.
        let start =
            unsafe { libc::mmap(std::ptr::null_mut(), bytes, protection, libc::MAP_SHARED, map.as_raw_fd(), 0) };
        if start == libc::MAP_FAILED {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { start: start.cast(), blocks })
        }
    }

    /// A new image that only this process knows, to be filled.
    pub(super) fn writable(map: BorrowedFd<'_>, blocks: u32) -> io::Result<Self> {
        Self::new(map, blocks, libc::PROT_READ | libc::PROT_WRITE)
    }

    /// A frozen image.
    pub(super) fn readable(map: BorrowedFd<'_>, blocks: u32) -> io::Result<Self> {
        Self::new(map, blocks, libc::PROT_READ)
    }

    /// The blocks.
    pub(super) fn blocks(&self) -> &[Block] {
        // SAFETY: `start` is page-aligned and `blocks` long until drop. Programs never write an image, and a published
        // one is frozen, so nothing changes under the reference.
        unsafe { std::slice::from_raw_parts(self.start, self.blocks) }
    }

    /// The blocks, to be filled: only for a [`Mapping::writable`].
    pub(super) fn blocks_mut(&mut self) -> &mut [Block] {
        // SAFETY: as `blocks`; the map is not in any slot yet, so this mapping is its only user.
        unsafe { std::slice::from_raw_parts_mut(self.start, self.blocks) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range was mapped by `new` and no reference into it outlives `self`.
        unsafe { libc::munmap(self.start.cast(), self.blocks * size_of::<Block>()) };
    }
}

/// The magic number of the file system that holds `path`.
pub(super) fn file_system(path: &Path) -> io::Result<i64> {
    let path = path_string(path)?;
    let mut answer = std::mem::MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: the path is NUL-terminated and the kernel fills the struct.
    if unsafe { libc::statfs(path.as_ptr(), answer.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded, so it is filled; it was zeroed before in any case.
    Ok(unsafe { answer.assume_init() }.f_type)
}

/// Lifts the limit that maps and programs are charged to before Linux 5.11, as far as it may be lifted. Where it is too low
/// still, what is refused for it says so; later kernels charge the memory cgroup.
pub(super) fn lift_memlock_limit() {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: `limit` is live and initialised.
    if unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } != 0 {
        tracing::debug!(error = %io::Error::last_os_error(), "the limit of locked memory stays as it is");
    }
}

/// Mounts a bpf file system at its usual place if nobody has, as systemd does at boot. Where it cannot be, what needs it
/// says so.
pub(super) fn mount_bpffs() {
    let place = c"/sys/fs/bpf";
    if Path::new("/sys/fs/bpf").is_dir()
        && !file_system(Path::new("/sys/fs/bpf")).is_ok_and(|kind| kind == super::pin::BPF_FS_MAGIC)
    {
        // SAFETY: mount(2) reads three NUL-terminated strings that live for ever, and no data.
        let mounted = unsafe {
            libc::mount(
                c"bpf".as_ptr(),
                place.as_ptr(),
                c"bpf".as_ptr(),
                libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC,
                std::ptr::null(),
            )
        };
        if mounted != 0 {
            tracing::warn!(error = %io::Error::last_os_error(), "cannot mount a bpf file system at /sys/fs/bpf");
        }
    }
}
