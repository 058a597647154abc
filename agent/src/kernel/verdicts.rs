//! The verdict on a file as the exec hooks would give it, for the exec guard: a process of its own that has only the pins.

use std::path::Path;

use agent_common::image::{self, Action, Block, Damaged, DigestKind, Hit, Space};
use agent_common::wire::{Config, FileDigests, FileKey, Mode, Verdict};

use super::bpf::{self, Table};
use super::publish::Generations;
use super::{Error, clock, pin};
use crate::intel::Observable;
use crate::tables::{Bearing, look_up};

/// What is listed about a file that is about to be executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExecHit {
    /// Generation of the image that says so.
    pub generation: u32,
    /// Entry in it.
    pub entry: u32,
    /// What it comes to: `Blocked`, `WouldBlock` or `Reported`.
    pub verdict: Verdict,
}

/// Image, switches and digests of a running or former daemon, found by their pins.
#[derive(Debug)]
pub struct Verdicts {
    config: Table<u32, Config>,
    generations: Generations,
    file_digests: Table<FileKey, FileDigests>,
}

/// Of which digests there are indicators.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DigestKinds {
    /// SHA-256.
    pub sha256: bool,
    /// SHA-1.
    pub sha1: bool,
    /// MD5.
    pub md5: bool,
}

impl DigestKinds {
    /// Those in an image.
    ///
    /// # Errors
    /// It is damaged.
    pub fn of(image: &[Block]) -> Result<Self, Damaged> {
        let holds = |kind| image::holds_digest(image, kind);
        Ok(Self { sha256: holds(DigestKind::Sha256)?, sha1: holds(DigestKind::Sha1)?, md5: holds(DigestKind::Md5)? })
    }

    /// Whether there are any.
    #[must_use]
    pub const fn any(self) -> bool {
        self.sha256 || self.sha1 || self.md5
    }
}

impl Verdicts {
    /// Opens the pinned maps below `pin_dir`.
    ///
    /// # Errors
    /// A map is not there or of another shape.
    pub fn open(pin_dir: &Path) -> Result<Self, Error> {
        let maps = pin::layout(pin_dir).maps;
        Ok(Self {
            config: open(&maps, "CONFIG")?,
            generations: Generations::new(open(&maps, "GENERATIONS")?, &maps),
            file_digests: open(&maps, "FILE_DIGESTS")?,
        })
    }

    /// Of which digests there are indicators, without which no file need be read, and whether there are any of paths.
    ///
    /// # Errors
    /// The image cannot be read or is damaged.
    pub fn hold(&self) -> Result<(DigestKinds, bool), Error> {
        let Some(image) = self.generations.current()? else { return Ok((DigestKinds::default(), false)) };
        let paths = image::holds(&**image, Space::Path).map_err(|_| damaged())?;
        Ok((DigestKinds::of(&image).map_err(|_| damaged())?, paths))
    }

    /// Tells the exec hooks what a file contains. Only for digests that hold as long as their stamp.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn set_digest(&self, file: FileKey, digests: &FileDigests) -> Result<(), Error> {
        self.file_digests.set(&file, digests).map_err(failed("map FILE_DIGESTS"))
    }

    /// What the weightiest entry says of the exec of a file of these contents, at `path` if that is known: the same decision
    /// as the exec hooks make. `None` when nothing is listed, an exception is, or the agent is switched off.
    ///
    /// # Errors
    /// A map cannot be read, or the image is damaged.
    pub fn judge(&self, digests: &FileDigests, path: Option<&str>) -> Result<Option<ExecHit>, Error> {
        let config = self.config.get(&0).map_err(failed("map CONFIG"))?.unwrap_or_default();
        let boot_ns = clock::boot_ns().map_err(failed("clock"))?;
        if boot_ns < config.off_until_boot_ns {
            return Ok(None);
        }
        let Some(image) = self.generations.current()? else { return Ok(None) };
        // 2106 is the last year that an expiry can name.
        let now = u32::try_from(config.wall_minus_boot_ns.saturating_add(boot_ns) / 1_000_000_000).unwrap_or(u32::MAX);
        let has = |flag: u32| digests.flags & flag != 0;
        let observables = [
            Some(Observable::Sha256(digests.sha256)),
            has(FileDigests::SHA1).then_some(Observable::Sha1(digests.sha1)),
            has(FileDigests::MD5).then_some(Observable::Md5(digests.md5)),
            path.map(|path| Observable::Path(path.into())),
        ];
        let mut best = None;
        for observable in observables.iter().flatten() {
            if let Bearing::Hit(hit) = look_up(&**image, observable, now).map_err(|_| damaged())? {
                best = Some(best.map_or(hit, |best| weightier(best, hit)));
            }
        }
        let Some(hit) = best else { return Ok(None) };
        let verdict = match hit.action {
            Action::Allow => return Ok(None),
            Action::Report => Verdict::Reported,
            Action::Block if config.mode == Mode::Enforce as u32 => Verdict::Blocked,
            Action::Block => Verdict::WouldBlock,
        };
        let generation = image.generation().map_err(|_| damaged())?;
        Ok(Some(ExecHit { generation, entry: hit.entry, verdict }))
    }
}

/// An exception ends the matter, block comes before report.
#[must_use]
pub fn weightier(one: Hit, other: Hit) -> Hit {
    let weight = |hit: &Hit| match hit.action {
        Action::Allow => 2,
        Action::Block => 1,
        Action::Report => 0,
    };
    if weight(&other) > weight(&one) { other } else { one }
}

fn open<K, V>(maps: &Path, name: &'static str) -> Result<Table<K, V>, Error>
where
    K: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout + Copy,
    V: zerocopy::FromBytes + zerocopy::IntoBytes + zerocopy::Immutable + zerocopy::KnownLayout,
{
    let path = maps.join(name);
    let map = bpf::open_pin(&path).map_err(|source| Error::Path { what: "cannot open the pin", path, source })?;
    Table::open(map, name)
}

fn failed(what: &'static str) -> impl Fn(std::io::Error) -> Error {
    move |source| Error::Bpf { what: what.to_owned(), source }
}

fn damaged() -> Error {
    failed("the current generation")(std::io::Error::other("its image is damaged"))
}
