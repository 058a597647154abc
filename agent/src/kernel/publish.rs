//! A new generation: built beside the current one in memory that the kernel already sees, switched by one pointer.

use std::ops::Deref;
use std::os::fd::{AsFd, AsRawFd};

use agent_common::image::{self, Block};

use super::bpf::{self, Mapping};
use super::{Error, Kernel};

/// The image that decides at present, as the kernel sees it. Frozen: it never changes.
#[derive(Debug)]
pub struct MappedImage(pub(super) Mapping);

impl Deref for MappedImage {
    type Target = [Block];

    fn deref(&self) -> &[Block] {
        self.0.blocks()
    }
}

impl MappedImage {
    pub(super) fn of(map: std::os::fd::BorrowedFd<'_>) -> std::io::Result<Self> {
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
        let id = bpf::map_shape(map.as_fd()).map_err(failed("cannot read its id"))?.id;
        // The kernel waits here until no program can be using the old image.
        self.generations.set(&0, &map.as_raw_fd().cast_unsigned()).map_err(failed("cannot switch to it"))?;
        let current = self.generations.get(&0).map_err(failed("cannot read back the switch"))?;
        if current == Some(id) { Ok(()) } else { Err(Error::NotPublished { generation }) }
    }

    /// The image that decides at present: what `cordon explain` asks, and what an adopting daemon starts from.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] before the first one, or what the kernel says.
    pub fn mapped_image(&self) -> Result<MappedImage, Error> {
        let failed = |source| Error::Bpf { what: "the current generation".to_owned(), source };
        let id = self.generations.get(&0).map_err(failed)?.ok_or(Error::NoGeneration)?;
        let map = bpf::map_by_id(id).map_err(failed)?;
        let blocks = bpf::map_shape(map.as_fd()).map_err(failed)?.entries;
        Ok(MappedImage(Mapping::readable(map.as_fd(), blocks).map_err(failed)?))
    }
}
