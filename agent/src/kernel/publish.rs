//! A new generation: built beside the current one in memory that the kernel already sees, switched by one pointer.

use std::fs;
use std::io;
use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use agent_common::image::{self, Block};

use super::bpf::{self, Mapping, Table};
use super::{Error, Kernel};

/// The image that decides at present, as the kernel sees it. Frozen: it never changes.
#[derive(Debug)]
pub struct MappedImage(Mapping);

impl Deref for MappedImage {
    type Target = [Block];

    fn deref(&self) -> &[Block] {
        self.0.blocks()
    }
}

impl MappedImage {
    fn of(map: BorrowedFd<'_>) -> io::Result<Self> {
        Ok(Self(Mapping::readable(map, bpf::map_shape(map)?.entries)?))
    }

    /// The generation in its header.
    ///
    /// # Errors
    /// The image is of another ABI version, or damaged.
    pub fn generation(&self) -> Result<u32, image::Damaged> {
        image::generation(self.0.blocks())
    }
}

/// The slot of the current image, and that image once it is known.
#[derive(Debug)]
pub(super) struct Generations {
    slot: Table<u32, u32>,
    /// Where the current image is pinned, for a successor: opening a map by its id, which is all that the slot tells, takes
    /// `CAP_SYS_ADMIN`.
    pin: PathBuf,
    /// With the id of its map.
    known: Mutex<Option<(u32, Arc<MappedImage>)>>,
    /// The id of the map that this agent published last; 0 for none. Held while it is published.
    published: Mutex<u32>,
}

impl Generations {
    /// `maps` is the directory of the pinned maps.
    pub(super) fn new(slot: Table<u32, u32>, maps: &Path) -> Self {
        Self { slot, pin: maps.join("IMAGE"), known: Mutex::default(), published: Mutex::default() }
    }

    fn open(&self, id: u32) -> io::Result<OwnedFd> {
        match bpf::open_pin(&self.pin) {
            Ok(map) if bpf::map_shape(map.as_fd())?.id == id => Ok(map),
            // The agent that published it ended before it had pinned it.
            _ => bpf::map_by_id(id),
        }
    }

    /// The image that decides at present; `None` before the first one.
    pub(super) fn current(&self) -> Result<Option<Arc<MappedImage>>, Error> {
        let failed = |source| Error::Bpf { what: "the current generation".to_owned(), source };
        let Some(id) = self.slot.get(&0).map_err(failed)?.filter(|id| *id != 0) else { return Ok(None) };
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((own, image)) = &*known
            && *own == id
        {
            return Ok(Some(Arc::clone(image)));
        }
        let map = self.open(id).map_err(failed)?;
        let image = Arc::new(MappedImage::of(map.as_fd()).map_err(failed)?);
        *known = Some((id, Arc::clone(&image)));
        Ok(Some(image))
    }

    /// Makes `map` the current image; whether it is. When this returns, no program uses the one before.
    fn switch_to(&self, map: BorrowedFd<'_>) -> io::Result<bool> {
        let id = bpf::map_shape(map)?.id;
        let image = Arc::new(MappedImage::of(map)?);
        let mut published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        self.slot.set(&0, &map.as_raw_fd().cast_unsigned())?;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) = Some((id, image));
        *published = id;
        if let Err(error) = self.keep(map) {
            tracing::warn!(%error, "the image in force is not pinned: an agent without CAP_SYS_ADMIN cannot take over from this one whole");
        }
        Ok(self.slot.get(&0)? == Some(id))
    }

    /// Puts an image in the place of the one that is pinned, in one step.
    fn keep(&self, map: BorrowedFd<'_>) -> io::Result<()> {
        let next = self.pin.with_file_name("IMAGE_NEXT");
        match fs::remove_file(&next) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => bpf::pin(map, &next)?,
        }
        fs::rename(&next, &self.pin)
    }

    /// Whether the image is the one that this agent published, if it has published any.
    pub(super) fn is_ours(&self) -> bool {
        let published = self.published.lock().unwrap_or_else(PoisonError::into_inner);
        *published == 0 || self.slot.get(&0).is_ok_and(|id| id == Some(*published))
    }
}

impl Kernel {
    /// Publishes a generation of `blocks` blocks, which `fill` writes into zeroed memory. When this returns, every decision
    /// from now on is by the new image and none by the old one, whose memory the kernel then frees off the hot path.
    ///
    /// # Errors
    /// What `fill` said, or why the kernel did not take the image; the old generation goes on deciding then.
    pub fn publish<E: std::fmt::Display>(
        &self,
        blocks: u32,
        generation: u32,
        fill: impl FnOnce(&mut [Block]) -> Result<(), E>,
    ) -> Result<(), Error> {
        let failed = |what: &'static str| {
            move |source| Error::Bpf { what: format!("generation {generation} of {blocks} blocks: {what}"), source }
        };
        let map = bpf::create_image(blocks.max(1)).map_err(failed("cannot make its map"))?;
        let mut memory = Mapping::writable(map.as_fd(), blocks.max(1)).map_err(failed("cannot map it"))?;
        fill(memory.blocks_mut()).map_err(|error| Error::Build { generation, reason: error.to_string() })?;
        if image::generation(memory.blocks()) != Ok(generation) {
            let reason = "its header does not carry its number".to_owned();
            return Err(Error::Build { generation, reason });
        }
        drop(memory);
        bpf::freeze(map.as_fd()).map_err(failed("cannot freeze it"))?;
        if self.generations.switch_to(map.as_fd()).map_err(failed("cannot switch to it"))? {
            Ok(())
        } else {
            Err(Error::NotPublished { generation })
        }
    }

    /// The image that decides at present: what `cordon explain` asks, and what an adopting daemon starts from.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] before the first one, or what the kernel says.
    pub fn mapped_image(&self) -> Result<Arc<MappedImage>, Error> {
        self.generations.current()?.ok_or(Error::NoGeneration)
    }
}
