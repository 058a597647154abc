//! The pinned maps alone, for a process that judges beside the daemon.

use std::path::Path;

use agent_common::wire::{Config, FileDigests, FileKey, Mode};

use super::Error;
use super::bpf::{self, Mapping, Table};
use super::pin::layout;
use super::publish::MappedImage;

/// The pinned maps that an exec is judged with. They outlive the daemon, and so does what is said through them.
pub struct PinnedMaps {
    config: Table<u32, Config>,
    generations: Table<u32, u32>,
    file_digests: Table<FileKey, FileDigests>,
}

fn open<K, V>(pin_dir: &Path, name: &'static str) -> Result<Table<K, V>, Error>
where
    K: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout + Copy,
    V: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout,
{
    let failed = |source| Error::Bpf { what: format!("pinned map {name}"), source };
    let map = bpf::open_pin(&layout(pin_dir).maps.join(name)).map_err(failed)?;
    Table::open(map).map_err(failed)?.map_err(|shape| Error::Shape {
        name: name.to_owned(),
        found: format!("{}+{}", shape.key, shape.value),
        expected: format!("{}+{}", size_of::<K>(), size_of::<V>()),
    })
}

impl PinnedMaps {
    /// Opens what a daemon has pinned.
    ///
    /// # Errors
    /// Nothing is pinned there, or by another version.
    pub fn open(pin_dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            config: open(pin_dir, "CONFIG")?,
            generations: open(pin_dir, "GENERATIONS")?,
            file_digests: open(pin_dir, "FILE_DIGESTS")?,
        })
    }

    /// Whether a `block` entry blocks now.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn enforces(&self) -> Result<bool, Error> {
        let config = self.config.get(&0).map_err(|source| Error::Bpf { what: "map CONFIG".to_owned(), source })?;
        Ok(config.is_some_and(|config| config.mode == Mode::Enforce as u32))
    }

    /// Tells the hooks a file's digests.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_digest(&self, file: FileKey, digests: &FileDigests) -> Result<(), Error> {
        let set = self.file_digests.set(&file, digests);
        set.map_err(|source| Error::Bpf { what: "map FILE_DIGESTS".to_owned(), source })
    }

    /// The image that decides at present.
    ///
    /// # Errors
    /// [`Error::NoGeneration`] before the first one, or what the kernel says.
    pub fn mapped_image(&self) -> Result<MappedImage, Error> {
        let failed = |source| Error::Bpf { what: "the current generation".to_owned(), source };
        let id = self.generations.get(&0).map_err(failed)?.ok_or(Error::NoGeneration)?;
        let map = bpf::map_by_id(id).map_err(failed)?;
        let blocks = bpf::map_shape(std::os::fd::AsFd::as_fd(&map)).map_err(failed)?.entries;
        Ok(MappedImage(Mapping::readable(std::os::fd::AsFd::as_fd(&map), blocks).map_err(failed)?))
    }
}
