//! The cache on disk, so that a restart does not read every program again.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use agent_common::wire::{FileDigests, FileKey};
use sha2::{Digest, Sha256};
use zerocopy::{FromBytes, IntoBytes};

use super::DigestCache;

/// Changes with the layout of the records.
const MAGIC: &[u8; 16] = b"cordon-digests-1";
const BOOT_ID_LEN: usize = 36;
const RECORD: usize = size_of::<FileKey>() + size_of::<FileDigests>();
const CHECKSUM: usize = 32;
/// Beyond what any cache holds; a larger file is not ours.
const MAX_BYTES: u64 = 256 << 20;

/// Why a cache file is not used. The cache then starts empty, which costs time and nothing else.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be read or written.
    #[error("hash cache {path}: {source}")]
    Io {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others could have written it.
    #[error("hash cache {path} can be written by others than this user; remove it or `chmod go-w` it")]
    Writable {
        /// Which.
        path: PathBuf,
    },
    /// It is not a cache file of this version, or damaged.
    #[error("hash cache {path} is damaged or of another version; it is replaced at the next save")]
    Damaged {
        /// Which.
        path: PathBuf,
    },
}

impl DigestCache {
    /// Takes in what [`DigestCache::save`] wrote and returns how many files that were. A file that is not there adds none.
    ///
    /// # Errors
    /// It cannot be read, others could have written it, or it is damaged; nothing is taken in then.
    pub fn load(&self, path: &Path) -> Result<usize, StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
            Err(error) => return Err(io(error)),
        };
        let metadata = file.metadata().map_err(io)?;
        let this_user = fs::metadata("/proc/self").map_err(io)?.uid();
        if metadata.uid() != this_user || metadata.mode() & 0o022 != 0 {
            return Err(StoreError::Writable { path: path.to_owned() });
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(io)?;
        let records = decode(&bytes, &boot_id()).ok_or_else(|| StoreError::Damaged { path: path.to_owned() })?;
        let mut entries = self.entries();
        for (key, digests) in &records {
            entries.put(*key, *digests);
        }
        Ok(records.len())
    }

    /// Writes all that is remembered, atomically: a reader finds the old file or the new one.
    ///
    /// # Errors
    /// It cannot be written; the old file is then untouched.
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let bytes = encode(&self.all(), &boot_id());
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let beside = path.with_file_name(name);
        let write = || {
            // Removed first: the mode is only set on a file that is made here.
            if let Err(error) = fs::remove_file(&beside)
                && error.kind() != io::ErrorKind::NotFound
            {
                return Err(error);
            }
            let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            fs::rename(&beside, path)
        };
        write().map_err(io)
    }
}

/// Least recently used first, so that loading into a smaller cache keeps the most recent.
fn encode(entries: &[(FileKey, FileDigests)], boot_id: &[u8; BOOT_ID_LEN]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(MAGIC.len() + BOOT_ID_LEN + entries.len() * RECORD + CHECKSUM);
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(boot_id);
    for (key, digests) in entries.iter().rev() {
        bytes.extend_from_slice(key.as_bytes());
        bytes.extend_from_slice(digests.as_bytes());
    }
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum);
    bytes
}

fn decode(bytes: &[u8], boot_id: &[u8; BOOT_ID_LEN]) -> Option<Vec<(FileKey, FileDigests)>> {
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM)?)?;
    if Sha256::digest(body).as_slice() != checksum {
        return None;
    }
    let body = body.strip_prefix(MAGIC)?;
    let (written_at, body) = body.split_at_checked(BOOT_ID_LEN)?;
    let (records, []) = body.as_chunks::<RECORD>() else { return None };
    let mut entries = Vec::with_capacity(records.len());
    for record in records {
        let (key, rest) = FileKey::read_from_prefix(record).ok()?;
        let digests = FileDigests::read_from_bytes(rest).ok()?;
        // An anonymous device number (major 0) is given out anew at each boot.
        if key.device >> 20 != 0 || written_at == boot_id {
            entries.push((key, digests));
        }
    }
    Some(entries)
}

/// `/proc/sys/kernel/random/boot_id`; zeros where it cannot be read, which makes every anonymous device unknown.
fn boot_id() -> [u8; BOOT_ID_LEN] {
    let text = fs::read("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    text.first_chunk::<BOOT_ID_LEN>().copied().unwrap_or([0; BOOT_ID_LEN])
}

#[cfg(test)]
mod tests;
