//! The initramfs: a cpio archive in the "newc" form (Documentation/driver-api/early-userspace/buffer-format.rst), written
//! here because that takes forty lines and neither root nor another program.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

use anyhow::{Context, Result, ensure};

#[cfg(test)]
mod tests;

const FILE: u32 = 0o100_000;
const FOLDER: u32 = 0o040_000;
const LINK: u32 = 0o120_000;

/// An archive in the making.
#[derive(Default)]
pub struct Archive {
    bytes: Vec<u8>,
    folders: BTreeSet<String>,
    entries: u32,
}

impl Archive {
    /// An empty folder, and those above it.
    pub fn folder(&mut self, path: &str) -> Result<()> {
        let mut above = String::new();
        for component in Path::new(path).components() {
            if let Component::Normal(part) = component {
                if !above.is_empty() {
                    above.push('/');
                }
                above.push_str(part.to_str().context("a folder's name is not UTF-8")?);
                if self.folders.insert(above.clone()) {
                    self.entry(&above.clone(), FOLDER | 0o755, &[])?;
                }
            }
        }
        Ok(())
    }

    /// A file of that content.
    pub fn file(&mut self, path: &str, mode: u32, content: &[u8]) -> Result<()> {
        self.above(path)?;
        self.entry(path.trim_start_matches('/'), FILE | mode, content)
    }

    /// A copy of a file of this machine.
    pub fn copy(&mut self, path: &str, from: &Path) -> Result<()> {
        let content = fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        let mode = fs::metadata(from).with_context(|| format!("cannot read {}", from.display()))?.permissions().mode();
        self.file(path, mode & 0o777, &content)
    }

    /// A copy of a folder of this machine with all that is in it.
    pub fn copy_folder(&mut self, path: &str, from: &Path) -> Result<()> {
        self.folder(path)?;
        for entry in fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
            let entry = entry?;
            let name = entry.file_name();
            let inner = format!("{path}/{}", name.to_str().context("a file's name is not UTF-8")?);
            if entry.file_type()?.is_dir() {
                self.copy_folder(&inner, &entry.path())?;
            } else {
                self.copy(&inner, &entry.path())?;
            }
        }
        Ok(())
    }

    /// A symbolic link.
    pub fn link(&mut self, path: &str, target: &str) -> Result<()> {
        self.above(path)?;
        self.entry(path.trim_start_matches('/'), LINK | 0o777, target.as_bytes())
    }

    /// The whole archive.
    pub fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, &[])?;
        Ok(self.bytes)
    }

    fn above(&mut self, path: &str) -> Result<()> {
        Path::new(path).parent().and_then(Path::to_str).map_or(Ok(()), |above| self.folder(above))
    }

    fn entry(&mut self, name: &str, mode: u32, content: &[u8]) -> Result<()> {
        ensure!(!name.is_empty(), "an archive entry has no name");
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too large for an initramfs"))?;
        let name_size = u32::try_from(name.len() + 1).context("a file's name is too long")?;
        self.entries += 1;
        let links = if mode & FOLDER == FOLDER { 2 } else { 1 };
        // inode, mode, uid, gid, links, mtime, size, device (2), special device (2), name, checksum
        let fields = [self.entries, mode, 0, 0, links, 0, size, 0, 0, 0, 0, name_size, 0];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }
}
