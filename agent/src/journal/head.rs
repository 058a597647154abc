//! Where the chain ends, in a file of its own: whoever removes the newest records, or whole segments, cannot do it unseen.

use std::fs::{self, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::chain::Hash;

/// Name of the file in the journal's directory.
const FILE: &str = "head";
/// Bytes of the file, spaces at the end included: longer than any head, so that one write replaces all of it.
const LENGTH: usize = 255;

/// The newest entry that was on disk when this was written, and from which segment on none was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The oldest segment that the writer keeps.
    pub(super) oldest: u64,
    /// The segment of the entry.
    pub(super) sequence: u64,
    /// The entry in that segment; 0 for the one it begins with.
    pub(super) revision: i64,
    /// The entry's hash.
    #[serde(with = "hexadecimal")]
    pub(super) hash: Hash,
}

impl Head {
    /// `None` where there is none.
    pub(super) fn read(dir: &Path) -> io::Result<Option<Self>> {
        match fs::read(dir.join(FILE)) {
            Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Not synced: what a power cut leaves is older, and what is older is still in the chain.
    pub(super) fn write(&self, dir: &Path) -> io::Result<()> {
        let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o640).open(dir.join(FILE))?;
        let text = format!("{:<width$}\n", serde_json::to_string(self)?, width = LENGTH - 1);
        file.write_all_at(text.as_bytes(), 0)
    }
}

mod hexadecimal {
    use serde::de::{Deserialize as _, Error as _};
    use serde::{Deserializer, Serializer};

    use super::Hash;
    use crate::intel::Observable;

    pub(super) fn serialize<S: Serializer>(hash: &Hash, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&Observable::Sha256(*hash))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Hash, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut hash = Hash::default();
        let digits = text.as_bytes();
        if digits.len() != 2 * hash.len() {
            return Err(D::Error::custom("a hash has 64 digits"));
        }
        for (byte, pair) in hash.iter_mut().zip(digits.chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(D::Error::custom)?;
            *byte = u8::from_str_radix(pair, 16).map_err(D::Error::custom)?;
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_whatever_was_there_before() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Head::read(dir.path()).unwrap(), None);
        for revision in [i64::MAX, 1] {
            let head = Head { oldest: u64::MAX, sequence: u64::MAX, revision, hash: [0xa5; 32] };
            head.write(dir.path()).unwrap();
            assert_eq!(Head::read(dir.path()).unwrap(), Some(head));
        }
        fs::write(dir.path().join(FILE), b"{}").unwrap();
        assert!(Head::read(dir.path()).is_err());
    }
}
