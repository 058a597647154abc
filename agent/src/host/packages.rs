//! What dpkg installed. It records the MD5 of each file (`/var/lib/dpkg/info/*.md5sums`) and no other digest.
//!
//! A file that has its recorded MD5 is what was installed: to make another with the same MD5 takes a second preimage, which
//! nobody can make. So its SHA-1 and SHA-256, learnt by reading it once, are those of what was installed, and stay so. A file that
//! was changed has another MD5 and is never learnt.

use std::collections::{HashMap, HashSet};
use std::fmt::Write as _;
use std::fs;
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::digest::{Algorithms, DigestCache};

/// Where dpkg records what it installed.
pub const DPKG_INFO: &str = "/var/lib/dpkg/info";
/// First line of the file of what was learnt.
const HEADER: &str = "cordon-own-files-1";

/// A digest of a file's contents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ContentDigest {
    /// MD5.
    Md5([u8; 16]),
    /// SHA-1.
    Sha1([u8; 20]),
    /// SHA-256.
    Sha256([u8; 32]),
}

/// A file as dpkg recorded it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// Where it was installed.
    pub path: PathBuf,
    /// What it contained.
    pub md5: [u8; 16],
}

/// SHA-1 and SHA-256 of a file that has its recorded MD5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Learnt {
    /// As recorded.
    pub md5: [u8; 16],
    /// As read.
    pub sha1: [u8; 20],
    /// As read.
    pub sha256: [u8; 32],
}

/// The files of installed packages.
#[derive(Debug)]
pub struct Packages {
    info: PathBuf,
    store: PathBuf,
    learnt: HashMap<[u8; 16], Learnt>,
}

impl Packages {
    /// What is recorded below `info`, and what was learnt and saved to `store` before. Without either nothing is known.
    #[must_use]
    pub fn open(info: PathBuf, store: PathBuf) -> Self {
        let learnt = load(&store).unwrap_or_default();
        Self { info, store, learnt }
    }

    /// When packages were last installed or removed; `None` where there is no dpkg.
    #[must_use]
    pub fn changed(&self) -> Option<(i64, i64)> {
        fs::metadata(&self.info).ok().map(|metadata| (metadata.mtime(), metadata.mtime_nsec()))
    }

    /// Which of these digests are of installed files, with the path of one.
    ///
    /// # Errors
    /// dpkg's records cannot be read.
    pub fn installed(&self, wanted: &HashSet<ContentDigest>) -> io::Result<Vec<(ContentDigest, String)>> {
        let mut found = Vec::new();
        self.each(|path, md5| {
            let learnt = self.learnt.get(&md5);
            let others = learnt
                .into_iter()
                .flat_map(|known| [ContentDigest::Sha1(known.sha1), ContentDigest::Sha256(known.sha256)]);
            let own = std::iter::once(ContentDigest::Md5(md5)).chain(others).filter(|digest| wanted.contains(digest));
            found.extend(own.map(|digest| (digest, format!("/{path}"))));
        })?;
        Ok(found)
    }

    /// Installed programs whose SHA-1 and SHA-256 are not known.
    ///
    /// # Errors
    /// dpkg's records cannot be read.
    pub fn unlearnt(&self) -> io::Result<Vec<Recorded>> {
        let mut found = Vec::new();
        self.each(|path, md5| {
            if self.learnt.contains_key(&md5) {
                return;
            }
            let path = Path::new("/").join(path);
            let is_program = fs::symlink_metadata(&path).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0);
            if is_program {
                found.push(Recorded { path, md5 });
            }
        })?;
        Ok(found)
    }

    /// Takes in what was learnt; how much of it is new.
    pub fn learn(&mut self, files: impl IntoIterator<Item = Learnt>) -> usize {
        let before = self.learnt.len();
        self.learnt.extend(files.into_iter().map(|file| (file.md5, file)));
        self.learnt.len() - before
    }

    /// Saves what was learnt, atomically, so that the next start need not read every program again.
    ///
    /// # Errors
    /// It cannot be written; the old file is then untouched.
    pub fn save(&self) -> io::Result<()> {
        let mut text = format!("{HEADER}\n");
        for Learnt { md5, sha1, sha256 } in self.learnt.values() {
            for (digest, end) in [(&md5[..], ' '), (&sha1[..], ' '), (&sha256[..], '\n')] {
                digest.iter().try_for_each(|byte| write!(text, "{byte:02x}")).map_err(io::Error::other)?;
                text.push(end);
            }
        }
        let beside = self.store.with_extension("new");
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, &self.store)
    }

    /// Calls `each` with the path, without its leading slash, and the MD5 of each file.
    fn each(&self, mut each: impl FnMut(&str, [u8; 16])) -> io::Result<()> {
        let entries = match fs::read_dir(&self.info) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        };
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_none_or(|extension| extension != "md5sums") {
                continue;
            }
            let mut reader = BufReader::new(fs::File::open(&path)?);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line)? > 0 {
                // md5sum(1): the digest, two spaces, the path.
                if let Ok(text) = std::str::from_utf8(&line)
                    && let Some((md5, path)) = text.trim_end_matches('\n').split_once("  ")
                    && let Some(md5) = hex(md5)
                {
                    each(path, md5);
                }
                line.clear();
            }
        }
        Ok(())
    }
}

impl Recorded {
    /// Reads the file; `None` if it is not what was installed, or cannot be read.
    #[must_use]
    pub fn read(&self, digests: &DigestCache) -> Option<Learnt> {
        let read = digests.digest_path(&self.path, Algorithms { sha1: true, md5: true }).ok()?.digests;
        (read.md5 == self.md5).then_some(Learnt { md5: read.md5, sha1: read.sha1, sha256: read.sha256 })
    }
}

/// A file of another form, or one that others could have written, teaches nothing.
fn load(store: &Path) -> Option<HashMap<[u8; 16], Learnt>> {
    let metadata = fs::metadata(store).ok()?;
    let this_user = fs::metadata("/proc/self").ok()?.uid();
    if (metadata.uid() != 0 && metadata.uid() != this_user) || metadata.mode() & 0o022 != 0 {
        return None;
    }
    let text = fs::read_to_string(store).ok()?;
    let mut lines = text.lines();
    if lines.next() != Some(HEADER) {
        return None;
    }
    let parse = |line: &str| {
        let mut words = line.split(' ');
        let learnt = Learnt { md5: hex(words.next()?)?, sha1: hex(words.next()?)?, sha256: hex(words.next()?)? };
        words.next().is_none().then_some((learnt.md5, learnt))
    };
    lines.map(parse).collect()
}

fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    let mut bytes = [0; N];
    if pairs.len() != N {
        return None;
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16).map(|value| value as u8);
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests;
