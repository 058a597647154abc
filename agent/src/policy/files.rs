//! Contents of files that nobody means to block: the empty file, and what this host's packages installed.

use std::collections::HashMap;
use std::sync::Arc;

use crate::intel::Observable;

const EMPTY_MD5: [u8; 16] =
    [0xd4, 0x1d, 0x8c, 0xd9, 0x8f, 0x00, 0xb2, 0x04, 0xe9, 0x80, 0x09, 0x98, 0xec, 0xf8, 0x42, 0x7e];
const EMPTY_SHA1: [u8; 20] = [
    0xda, 0x39, 0xa3, 0xee, 0x5e, 0x6b, 0x4b, 0x0d, 0x32, 0x55, 0xbf, 0xef, 0x95, 0x60, 0x18, 0x90, 0xaf, 0xd8, 0x07,
    0x09,
];
const EMPTY_SHA256: [u8; 32] = [
    0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae, 0x41,
    0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
];

/// Whether a value is the digest of a file without a byte.
pub(super) fn is_of_the_empty_file(value: &Observable) -> bool {
    match value {
        Observable::Md5(digest) => *digest == EMPTY_MD5,
        Observable::Sha1(digest) => *digest == EMPTY_SHA1,
        Observable::Sha256(digest) => *digest == EMPTY_SHA256,
        _ => false,
    }
}

/// Digests of files that packages of this host installed, with the path of each: as many as are listed by some source.
#[derive(Clone, Debug, Default)]
pub struct OwnFiles(HashMap<Observable, Arc<str>>);

impl OwnFiles {
    /// The path of the file that has this digest.
    #[must_use]
    pub fn path_of(&self, value: &Observable) -> Option<&str> {
        self.0.get(value).map(AsRef::as_ref)
    }
}

impl FromIterator<(Observable, Arc<str>)> for OwnFiles {
    fn from_iter<I: IntoIterator<Item = (Observable, Arc<str>)>>(files: I) -> Self {
        Self(files.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intel::normalise;

    #[test]
    fn the_empty_file_is_known_by_all_digests() {
        for value in [
            normalise::md5("d41d8cd98f00b204e9800998ecf8427e"),
            normalise::sha1("da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            normalise::sha256("e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        ] {
            assert!(is_of_the_empty_file(&value.unwrap()));
        }
        assert!(!is_of_the_empty_file(&normalise::md5(&"0".repeat(32)).unwrap()));
    }
}
